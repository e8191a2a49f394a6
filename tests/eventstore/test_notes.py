"""Signed checkpoints: the text, its signatures, and what is refused."""

from base64 import b64decode, b64encode

import pytest

from eventstore.proofs.notes import (
    BadNote,
    BadSignature,
    Checkpoint,
    PublicKey,
    SigningKey,
    parse,
    sign,
)

# Go's golang.org/x/mod/sumdb/note: the example of its documentation
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SAYING = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNED = (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)

CHECKPOINT = Checkpoint("example.com/log", 81_250, b"r" * 32)
KEY = SigningKey("example.com/log", b"s" * 32)
NOTE = sign(CHECKPOINT, [KEY])


def test_keys_and_signatures_are_those_of_other_programs() -> None:
    key = PublicKey.parse(PETER)
    assert str(key) == PETER
    signature = b64decode(SIGNED)
    assert signature[:4] == key.id
    assert key.verifies(signature[4:], SAYING)
    assert not key.verifies(signature[4:], SAYING + " ")


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    assert NOTE.startswith(f"example.com/log\n81250\n{b64encode(b'r' * 32).decode()}\n\n\u2014 ")
    note = parse(NOTE)
    assert note.checkpoint == CHECKPOINT
    assert note.signed_by([KEY.public]) == [KEY.public]


def test_other_signatures_and_lines_do_no_harm() -> None:
    another = SigningKey("witness.example", b"w" * 32)
    both = NOTE + another.line(CHECKPOINT.text)
    assert parse(both).signed_by([KEY.public]) == [KEY.public]
    assert parse(both).signed_by([another.public]) == [another.public]
    twice = parse(sign(CHECKPOINT, [KEY, KEY]))
    assert twice.signed_by([KEY.public]) == [KEY.public]
    more = SigningKey("example.com/log", b"s" * 32)
    text = CHECKPOINT.text + "an extension\n"
    extended = parse(text + "\n" + more.line(text))
    assert extended.checkpoint == CHECKPOINT
    assert extended.signed_by([KEY.public])


def test_a_changed_text_is_refused() -> None:
    for changed in (NOTE.replace("81250", "81251"), NOTE.replace("example.com/log\n", "x\n", 1)):
        with pytest.raises(BadSignature, match="does not fit"):
            parse(changed).signed_by([KEY.public])


def test_another_key_is_named() -> None:
    other = SigningKey("example.com/log", b"o" * 32).public
    with pytest.raises(BadSignature, match=f"signed by another key: by .*{KEY.public.id.hex()}"):
        parse(NOTE).signed_by([other])
    with pytest.raises(BadSignature, match="known is none"):
        parse(NOTE).signed_by([])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE[: NOTE.index("\n\n")],
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("81250", "081250"),
        NOTE.replace("81250", "-1"),
        NOTE.replace("81250", "9" * 19),
        NOTE.replace("example.com/log\n", "\n", 1),
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("cnJy", "", 1),
        NOTE + NOTE.split("\n\n")[1] * 70,
        "x" * 70_000 + NOTE,
        NOTE.replace("example", "exam\ud800ple"),
    ],
    ids=[
        *("empty", "newlines", "cut", "unsigned", "no_empty_line", "zero_first", "negative"),
        *("huge", "no_origin", "carriage_return", "hyphen", "short_root", "signatures", "long"),
        "surrogate",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+",
        PETER[:-4],
        PETER.replace("c74f", "c74e"),
        PETER.replace("P", " "),
    ],
    ids=["empty", "name", "no_key", "cut", "other_id", "space"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        PublicKey.parse(text)
