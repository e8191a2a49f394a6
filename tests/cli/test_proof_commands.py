"""`ludoteca audit checkpoint`, `keys`, `prove`, `check-proof`: what the log's operator hands out,
and what others make of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from eventstore.proofs.notes import PublicKey
from tests.support.shops.commands import Ludoteca, Shop


@pytest.fixture
def signed(ludoteca: Ludoteca, shop: Shop) -> Shop:
    """A log of 300 events, with checkpoints of 290 and 300."""
    shop.list_games(290)
    assert ludoteca("audit", "checkpoint").exit_code == 0
    shop.list_games(10)
    assert ludoteca("audit", "checkpoint").exit_code == 0
    return shop


def _key(ludoteca: Ludoteca) -> str:
    return str(ludoteca.json("audit", "keys")[-1]["key"])


def _proof(ludoteca: Ludoteca, file: Path, *arguments: object) -> dict[str, Any]:
    result = ludoteca("audit", "prove", *arguments, "--output", file)
    assert result.exit_code == 0, result.output
    return dict(json.loads(file.read_text()))


def test_an_event_is_proved_and_its_proof_checked_without_the_log(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = (1, 2, 255, 256, 257, 299, 300)
    for position in positions:
        proof = _proof(ludoteca, tmp_path / f"{position}.json", position)
        assert len(proof["path"]) <= 9
    key = _key(ludoteca)
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    for position in positions:
        checked = ludoteca.json("audit", "check-proof", tmp_path / f"{position}.json", "--key", key)
        assert checked["holds"]
        assert checked["statement"].endswith(f"is at position {position}")
        assert checked["size"] == 300


def test_a_checkpoint_is_text_and_a_file_in_home(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    head = ludoteca.json("audit", "checkpoint")
    assert head["size"] == 300
    assert head["hash"] == signed.ask(
        "SELECT encode(hash, 'hex') FROM log.events WHERE position=300"
    )
    (file,) = (tmp_path / "home" / "checkpoints").glob("300-*.txt")
    assert file.read_text() == head["note"] == ludoteca("audit", "checkpoint").stdout


def test_what_no_checkpoint_has_yet_is_signed_first(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    signed.list_games(1)
    proof = _proof(ludoteca, tmp_path / "proof.json", 301)
    assert proof["checkpoint"].splitlines()[1] == "301"


def test_a_proof_leads_to_the_checkpoint_that_somebody_holds(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    key, file = _key(ludoteca), tmp_path / "proof.json"
    (held,) = (tmp_path / "home" / "checkpoints").glob("290-*.txt")
    _proof(ludoteca, file, 7, "--size", 290)
    check = ("audit", "check-proof", file, "--key", key, "--checkpoint", held)
    assert ludoteca.json(*check)["holds"]
    _proof(ludoteca, file, 7)
    assert "you hold is of 290 events" in ludoteca.json(*check, code=1)["reason"]


def test_one_checkpoint_is_proved_to_continue_another(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "proof.json"
    _proof(ludoteca, file, "--from", 290, "--to", 300)
    check = ("audit", "check-proof", file, "--key", _key(ludoteca))
    assert ludoteca.json(*check)["statement"] == "the first 290 of 300 events are the same"
    for path in (tmp_path / "home" / "checkpoints").glob("*.txt"):
        assert ludoteca.json(*check, "--checkpoint", path)["holds"]


def test_another_key_vouched_for_by_the_first_signs_from_its_rotation_on(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    old, file = _key(ludoteca), tmp_path / "proof.json"
    keys = ludoteca.json("audit", "keys", "--rotate")
    assert [(key["since"], key["until"]) for key in keys] == [(0, 300), (300, None)]
    new = keys[-1]["key"]
    assert new != old
    _proof(ludoteca, file, 5)  # by the checkpoint that both have signed
    for key in (old, new):
        assert ludoteca.json("audit", "check-proof", file, "--key", key)["holds"]
    signed.list_games(1)
    _proof(ludoteca, file, 301)
    assert ludoteca.json("audit", "check-proof", file, "--key", new)["holds"]
    refused = ludoteca.json("audit", "check-proof", file, "--key", old, code=1)
    assert "signed by another key" in refused["reason"]


def test_what_is_no_proof_is_refused(ludoteca: Ludoteca, signed: Shop, tmp_path: Path) -> None:
    file, key = tmp_path / "proof.json", _key(ludoteca)
    _proof(ludoteca, file, 7)
    whole = file.read_bytes()
    for content in (whole[:-50], b"", b"\xff", b"[" * 100_000, whole * 9000):
        file.write_bytes(content)
        result = ludoteca("audit", "check-proof", file, "--key", key)
        assert result.exit_code == 1
        assert "proof" in result.output
    assert ludoteca("audit", "check-proof", file).exit_code == 2  # without a key


def test_files_that_are_not_there_are_wrong_usage(ludoteca: Ludoteca, tmp_path: Path) -> None:
    nothing, key = tmp_path / "nofile", PublicKey("log", bytes(32))
    for arguments in (
        ("audit", "check-proof", nothing, "--key", key),
        ("audit", "check-bundle", nothing, "--key", key),
        ("audit", "check-proof", nothing, "--key", nothing),
        ("audit", "check-proof", nothing, "--key", "nonsense"),
        ("audit", "check-proof", nothing, "--key", "n" * 5000),
        ("events", "check", "--against", nothing),
    ):
        result = ludoteca(*arguments)
        said = " ".join(result.output.split())
        assert result.exit_code == 2, arguments
        assert "nofile: No such file" in said or "is neither a key" in said


REFUSED: list[tuple[tuple[object, ...], int, str]] = [
    ((), 2, "either a position"),
    ((5, "--from", 1, "--to", 2), 2, "either a position"),
    (("--from", 290), 2, "either a position"),
    ((301,), 1, "the log ends at 300"),
    ((5, "--size", 295), 1, "no signed checkpoint of 295 events; the nearest are of 290 and 300"),
    ((295, "--size", 290), 1, "does not have position 295"),
    (("--from", 290, "--to", 295), 1, "no signed checkpoint of 295 events"),
    (("--from", 300, "--to", 290), 2, "cannot be the beginning"),
]


def test_what_cannot_be_proved_is_told(ludoteca: Ludoteca, signed: Shop) -> None:
    for arguments, code, reason in REFUSED:
        result = ludoteca("audit", "prove", *arguments)
        assert result.exit_code == code, arguments
        assert reason in " ".join(result.output.split())


def test_an_empty_log_has_nothing_to_sign(ludoteca: Ludoteca, shop: Shop) -> None:
    for command in ("checkpoint", "keys"):
        result = ludoteca("audit", command)
        assert result.exit_code == 1
        assert "no event yet" in result.output


# -- a log that was changed ------------------------------------------------------------------------


def _rewrite(shop: Shop, after: int) -> None:
    """Change an event, and compute all hashes from there on anew, as one may who has the table."""
    shop.tamper(
        """
        DO $$ DECLARE h bytea; e log.events; m bytea; BEGIN
            UPDATE log.events SET actor = 'nobody' WHERE position = %s;
            SELECT hash INTO h FROM log.events WHERE position = %s;
            h := coalesce(h, decode(repeat('00', 32), 'hex'));
            FOR e IN SELECT * FROM log.events WHERE position > %s ORDER BY position LOOP
                m := convert_to('ludoteca.event.2', 'UTF8') || uuid_send(e.event_id)
                    || uuid_send(e.stream_id) || int8send(e.version)
                    || int4send(octet_length(e.name)) || textsend(e.name)
                    || int4send(octet_length(e.payload)) || e.payload
                    || int4send(octet_length(e.actor)) || textsend(e.actor)
                    || coalesce('\\x01'::bytea || uuid_send(e.correlation_id), '\\x00')
                    || coalesce('\\x01'::bytea || uuid_send(e.causation_id), '\\x00')
                    || coalesce('\\x01'::bytea || int4send(octet_length(e.traceparent))
                        || textsend(e.traceparent), '\\x00') || timestamptz_send(e.occurred_at);
                h := sha256(h || int8send(e.position) || timestamptz_send(e.recorded_at)
                    || sha256(m));
                UPDATE log.events SET hash = h WHERE position = e.position;
            END LOOP;
        END $$""".replace("%s", "{}").format(after + 1, after, after)
    )


@pytest.mark.parametrize("after", [0, 150])
def test_a_chain_rewritten_as_a_whole_is_caught_by_a_checkpoint_that_somebody_holds(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path, after: int
) -> None:
    key = _key(ludoteca)
    (held,) = (tmp_path / "home" / "checkpoints").glob("300-*.txt")
    verify = ("audit", "verify", "--checkpoint", held, "--key", key)
    assert ludoteca.json(*verify)["intact"]
    said = "it is the log of the signed checkpoint of 300 events"
    assert said in ludoteca(*verify).stdout

    _rewrite(signed, after)
    report = ludoteca.json("audit", "verify", code=1)  # by the checkpoints in the same database
    assert (report["position"], report["faults"][0]["position"]) == (300, 290)
    signed.tamper("DELETE FROM log.tree_heads")
    assert ludoteca.json("audit", "verify")["intact"]

    assert said not in ludoteca(*verify).stdout
    (fault,) = ludoteca.json(*verify, code=1)["faults"]
    assert fault["position"] == (1 if after == 0 else 300)
    assert "another" in fault["reason"]
    assert ludoteca("audit", "checkpoint").exit_code == 0  # the forger may sign
    _proof(ludoteca, tmp_path / "proof.json", 7)
    check = ("audit", "check-proof", tmp_path / "proof.json", "--key", _key(ludoteca))
    answer = ludoteca.json(*check, "--checkpoint", held, code=1)
    assert ("rewritten" if after else "another") in answer["reason"]


def test_a_log_that_was_changed_is_not_signed(ludoteca: Ludoteca, signed: Shop) -> None:
    _rewrite(signed, 150)
    signed.list_games(1)
    for command in (("checkpoint",), ("prove", 7), ("rebuild-tree",)):
        result = ludoteca("audit", *command)
        assert result.exit_code == 1, command
        assert "the log" in result.output


def test_nor_is_one_that_does_not_fit_its_chain(ludoteca: Ludoteca, signed: Shop) -> None:
    signed.list_games(3)
    signed.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 302")
    result = ludoteca("audit", "checkpoint")
    assert result.exit_code == 1
    assert "at position 302 the log is changed" in " ".join(result.output.split())


def test_an_earlier_change_that_the_shop_has_found_is_noted(
    ludoteca: Ludoteca, signed: Shop
) -> None:
    signed.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 7")
    assert ludoteca("audit", "self", "--only", "log_is_chained").exit_code == 1
    signed.list_games(1)
    noted = ludoteca("audit", "checkpoint")
    assert noted.exit_code == 0
    assert "log_is_chained is violated" in " ".join(noted.output.split())


def test_a_checkpoint_of_lost_events_is_told_as_such(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    (held,) = (tmp_path / "home" / "checkpoints").glob("300-*.txt")
    signed.tamper("DELETE FROM log.events WHERE position > 200")
    verify = ("audit", "verify", "--checkpoint", held)
    faults = ludoteca.json(*verify, code=1)["faults"]
    assert [fault["position"] for fault in faults] == [201, 290]

    signed.tamper("SELECT log.begin_epoch(1, 'restored from a backup')")
    signed.list_games(150)
    head = ludoteca.json("audit", "checkpoint")
    assert head["size"] == 350
    assert ludoteca.json("audit", "verify")["intact"]
    voids = "SELECT count(*) FROM log.tree_heads WHERE void LIKE '%%position 200%%restored%%'"
    assert signed.ask(voids) == 2
    (fault,) = ludoteca.json(*verify, code=1)["faults"]
    assert "epoch 2: restored from a backup" in fault["reason"]
    _proof(ludoteca, tmp_path / "proof.json", 250)
    key = _key(ludoteca)
    assert ludoteca.json("audit", "check-proof", tmp_path / "proof.json", "--key", key)["holds"]


def test_a_stored_tree_that_was_changed_proves_nothing_and_is_computed_anew(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    for deed in (
        "UPDATE log.tree SET hash = sha256(hash) WHERE level = 1 AND number = 0",
        "DELETE FROM log.tree",
    ):
        signed.tamper(deed)
        result = ludoteca("audit", "prove", 299)
        assert result.exit_code == 1
        assert ludoteca("audit", "rebuild-tree").exit_code == 0
        _proof(ludoteca, tmp_path / "proof.json", 299)
    signed.tamper("UPDATE log.tree SET hash = sha256(hash)")
    signed.list_games(1)
    assert ludoteca("audit", "checkpoint").exit_code == 0  # notices, and computes it anew
    _proof(ludoteca, tmp_path / "proof.json", 299)
    check = ("audit", "check-proof", tmp_path / "proof.json", "--key", _key(ludoteca))
    assert ludoteca.json(*check)["holds"]


def test_a_lost_secret_is_replaced_by_another_key(ludoteca: Ludoteca, signed: Shop) -> None:
    before = _key(ludoteca)
    signed.tamper("DELETE FROM private.secrets WHERE name LIKE 'checkpoint_key_%%'")
    signed.list_games(1)
    assert ludoteca("audit", "checkpoint").exit_code == 0
    keys = ludoteca.json("audit", "keys")
    assert [key["number"] for key in keys] == [1, 2]
    assert keys[0]["key"] == before


def test_a_checkpoint_of_another_log_or_key_is_told(
    ludoteca: Ludoteca, signed: Shop, tmp_path: Path
) -> None:
    from eventstore.proofs.notes import Checkpoint, SigningKey, sign

    stranger = SigningKey("other.example/log", b"o" * 32)
    file = tmp_path / "other.txt"
    file.write_text(sign(Checkpoint("other.example/log", 300, bytes(32)), [stranger]))
    result = ludoteca("audit", "verify", "--checkpoint", file)
    assert result.exit_code == 1
    assert "signed by another key" in result.output
    key = str(stranger.public)
    verify = ("audit", "verify", "--checkpoint", file, "--key", key)
    (fault,) = ludoteca.json(*verify, code=1)["faults"]
    assert "of another log" in fault["reason"]
    file.write_text("no checkpoint")
    assert ludoteca("audit", "verify", "--checkpoint", file).exit_code == 2
    assert ludoteca("audit", "verify", "--checkpoint", file, "--key", "x+y").exit_code == 2
