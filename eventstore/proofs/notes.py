"""Signed checkpoints: a tree's size and root, as text that anybody can hold.

    ludoteca.log/6b1f…                          the origin: which log
    81250                                       the size of the tree: how many events
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=   its root

    — ludoteca.log/6b1f… Az3grlgtzPICa5OS8n…    a signature, of the text above the empty line

The form is that of https://c2sp.org/tlog-checkpoint, which is a https://c2sp.org/signed-note with
Ed25519 signatures. A key is written as `name+id+base64`, as Go's `note` package does.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
_DASH = "\u2014"
_LARGEST = 2**63 - 1
MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 64

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_NAME = re.compile(r"[^\s+\x00-\x1f]+")


class BadNote(ValueError):
    """The text is no signed checkpoint, or no key. The message says why."""


class BadSignature(ValueError):
    """A checkpoint is not signed by a known key. The message says why."""


class PublicKey(msgspec.Struct, frozen=True):
    """A key that signs checkpoints, as others know it: its name (the log's origin) and 32 bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell a name's keys apart; no proof of anything."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises BadNote."""
        name, _, rest = text.strip().partition("+")
        number, _, encoded = rest.partition("+")
        public = _decoded(encoded)
        if (
            public is None
            or len(public) != 33
            or public[:1] != ED25519
            or not _NAME.fullmatch(name)
        ):
            raise BadNote(
                "a key is NAME+ID+BASE64 of an Ed25519 key, as `ludoteca audit keys` prints it"
            )
        key = cls(name, public[1:])
        if key.id.hex() != number:
            raise BadNote("the key is damaged: its id does not follow from its name and bytes")
        return key

    def verifies(self, signature: bytes, text: str) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A key that signs; `seed` is its 32 secret bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(name, self._private.public_key().public_bytes_raw())

    def line(self, text: str) -> str:
        """The signature line for a text."""
        signature = self.public.id + self._private.sign(text.encode())
        return f"{_DASH} {self.public.name} {b64encode(signature).decode()}\n"


class Checkpoint(msgspec.Struct, frozen=True):
    """How large a log's tree was, and its root then."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Signature(msgspec.Struct, frozen=True):
    """A signature line: whose it claims to be, the key's id, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


class SignedText(msgspec.Struct, frozen=True):
    """A text with its signatures, none of them checked."""

    text: str
    """What was signed."""
    signatures: Sequence[Signature]

    def signed_by(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of these keys that have signed it, at least one. Raises BadSignature."""
        known = {(key.name, key.id): key for key in keys}
        found = []
        for line in self.signatures:
            key = known.get((line.name, line.key_id))
            if key is None:
                continue
            if not key.verifies(line.signature, self.text):
                raise BadSignature(
                    f"the signature of the key {key.name}+{key.id.hex()} does not fit the text:"
                    " one of them was changed"
                )
            if key not in found:
                found.append(key)
        if not found:
            by = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in self.signatures)
            wanted = ", ".join(f"{name}+{number.hex()}" for name, number in known) or "none"
            raise BadSignature(f"signed by another key: by {by}, and known is {wanted}")
        return found


class Note(SignedText, frozen=True, kw_only=True):
    """A checkpoint with its signatures; its text may have further lines behind the checkpoint's."""

    checkpoint: Checkpoint


def sign(signed: Checkpoint | str, keys: Iterable[SigningKey]) -> str:
    """The note of a checkpoint, or of another text of whole lines, signed with these keys."""
    text = signed if isinstance(signed, str) else signed.text
    return text + "\n" + "".join(key.line(text) for key in keys)


def parse_text(note: str) -> SignedText:
    """A note's text and signatures. Raises BadNote."""
    if len(note) > MAX_NOTE_BYTES:
        raise BadNote("no signed text: it is too long")
    if _FORBIDDEN.search(note):
        raise BadNote("no signed text: it has control characters, or is not Unicode")
    body, empty, lines = note.rpartition("\n\n")
    if not empty or not lines.endswith("\n"):
        raise BadNote("no signed text, or a cut one: text, an empty line, signature lines")
    return SignedText(body + "\n", signature_lines(lines))


def parse(note: str) -> Note:
    """A note's checkpoint and signatures. Raises BadNote."""
    found = parse_text(note)
    origin, size, root, *_ = [*found.text.split("\n"), "", ""][:4]
    decoded = _decoded(root)
    if not origin or not _SIZE.fullmatch(size) or int(size) > _LARGEST:
        raise BadNote("no checkpoint: its first lines are origin, size and root")
    if decoded is None or len(decoded) != 32:
        raise BadNote("no checkpoint: its third line is the root, 32 bytes in base64")
    return Note(found.text, found.signatures, checkpoint=Checkpoint(origin, int(size), decoded))


def signature_lines(text: str) -> list[Signature]:
    """The signatures of lines. Raises BadNote."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise BadNote("too many signatures")
    return [_signature(line) for line in lines]


def of_others(lines: str, name: str) -> str:
    """The signature lines that are not of this name. A witness that sent one of the log's own name
    would spoil the note. Raises BadNote."""
    if not lines:
        return ""
    kept = [line for line in lines.splitlines(keepends=True) if _signature(line[:-1]).name != name]
    return "".join(kept)


def _signature(line: str) -> Signature:
    parts = line.split(" ")
    value = _decoded(parts[2]) if len(parts) == 3 else None
    if parts[0] != _DASH or value is None or len(value) < 5 or not _is_name(parts[1]):
        raise BadNote("no signature line: a dash, the key's name, and the signature in base64")
    return Signature(parts[1], value[:4], value[4:])


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text))


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return None
