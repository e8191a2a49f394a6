"""Proofs as files, and how they are checked without the log (docs/proofs.md)."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from eventstore import chain
from eventstore.proofs import merkle
from eventstore.proofs.notes import Checkpoint, PublicKey, parse

FORMAT: Literal["ludoteca.proof.1"] = "ludoteca.proof.1"
MAX_BYTES = 4 * 1024 * 1024
"""The most that a proof may take: an event has at most a megabyte."""

Position = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Path = Annotated[list[str], msgspec.Meta(max_length=64)]
"""Hashes in base64."""


class BadProof(ValueError):
    """A proof that does not hold, or is none. The message says why."""


class ProvenEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as the log stores it; personal fields are ciphertext. `payload` is the text of its
    JSON; `payload_base64` has its bytes where they are no text."""

    event_id: UUID
    stream_id: UUID
    version: Version
    name: str
    payload: str | None = None
    payload_base64: str | None = None
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    occurred_at: Time | None
    recorded_at: Time

    @classmethod
    def with_payload(cls, payload: bytes, **fields: object) -> "ProvenEvent":
        try:
            return cls(payload=payload.decode(), **fields)  # type: ignore[arg-type]
        except UnicodeDecodeError:
            return cls(payload_base64=b64encode(payload).decode(), **fields)  # type: ignore[arg-type]

    @property
    def bytes_of_payload(self) -> bytes:
        """Raises ValueError."""
        if self.payload is not None:
            if self.payload_base64 is not None:
                raise ValueError("it has two payloads")
            return self.payload.encode()
        return b64decode(self.payload_base64 or "", validate=True)

    def hash(self, previous: bytes, position: int) -> bytes:
        """The chain's hash of the event at a position. Raises ValueError, OverflowError."""
        digest = chain.digest(
            self.event_id,
            self.stream_id,
            self.version,
            self.name,
            self.bytes_of_payload,
            self.actor,
            self.correlation_id,
            self.causation_id,
            self.traceparent,
            self.occurred_at,
        )
        return sha256(previous + chain.place(position, self.recorded_at) + digest).digest()


class _Document(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """What holds says nothing that is not proved."""


class InclusionProof(_Document, frozen=True, tag="inclusion", kw_only=True):
    """Proves that a log has an event at a position: the event's hash follows from its fields and
    the hash before it (hex), and the path leads from it to the checkpoint's root."""

    format: Literal["ludoteca.proof.1"] = FORMAT
    position: Position
    event: ProvenEvent
    previous_hash: str
    path: Path
    checkpoint: str

    @property
    def end(self) -> str:
        """The note of the checkpoint to which it leads."""
        return self.checkpoint


class ConsistencyProof(_Document, frozen=True, tag="consistency", kw_only=True):
    """Proves that the log of the later checkpoint begins with that of the earlier one."""

    format: Literal["ludoteca.proof.1"] = FORMAT
    path: Path
    old_checkpoint: str
    checkpoint: str

    @property
    def end(self) -> str:
        """The note of the checkpoint to which it leads."""
        return self.checkpoint


Proof = InclusionProof | ConsistencyProof


class Checked(msgspec.Struct, frozen=True):
    """What a proof proves, and who signed that: the names and ids of keys."""

    statement: str
    origin: str
    size: int
    signed_by: Sequence[str]


def decode(text: bytes) -> Proof:
    """A proof from a file. Raises BadProof."""
    try:
        proof: Proof = msgspec.json.decode(text, type=Proof)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadProof(f"no proof, or a cut one: {error}") from None
    return proof


def encode(proof: Proof) -> bytes:
    """A proof as a file: a field a line."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"


def check(proof: Proof, keys: Sequence[PublicKey], held: Checkpoint | None = None) -> Checked:
    """Check a proof with the keys that sign the log's checkpoints. `held` is a checkpoint that was
    kept elsewhere: the proof must be about it. Raises BadProof, BadNote, BadSignature."""
    note = parse(proof.checkpoint)
    signers = note.signed_by(keys)
    end = note.checkpoint
    statement = check_path(proof, end, keys)
    if held is not None:
        signed = [end]
        if isinstance(proof, ConsistencyProof):
            signed.append(parse(proof.old_checkpoint).checkpoint)
        must_be_held(signed, held)
    names = [f"{key.name}+{key.id.hex()}" for key in signers]
    return Checked(statement, end.origin, end.size, names)


def check_path(proof: Proof, end: Checkpoint, keys: Sequence[PublicKey]) -> str:
    """Check that a proof leads to a checkpoint whose signature was verified. Returns what it
    proves. Raises BadProof, BadNote, BadSignature."""
    if isinstance(proof, InclusionProof):
        return _check_inclusion(proof, end)
    return _check_consistency(proof, end, keys)


def _check_inclusion(proof: InclusionProof, end: Checkpoint) -> str:
    if proof.position > end.size:
        raise BadProof(
            f"the position {proof.position} is beyond the checkpoint's {end.size} events"
        )
    previous = _bytes(proof.previous_hash, bytes.fromhex)
    try:
        row_hash = proof.event.hash(previous, proof.position)
    except (ValueError, OverflowError) as error:
        raise BadProof(f"the event cannot be hashed: {error}") from None
    if proof.position == 1 and previous != chain.GENESIS:
        raise BadProof("before the first event there is no other hash than zeros")
    index, path = proof.position - 1, _path(proof.path)
    root = merkle.root_by_inclusion(merkle.leaf_hash(row_hash), index, end.size, path)
    if root != end.root:
        raise BadProof(
            "the event is not in the log that was signed: it, its position or the path was changed"
        )
    event = proof.event
    return f"{event.name} of {event.stream_id} is at position {proof.position}"


def _check_consistency(proof: ConsistencyProof, end: Checkpoint, keys: Sequence[PublicKey]) -> str:
    note = parse(proof.old_checkpoint)
    note.signed_by(keys)
    old = note.checkpoint
    if old.origin != end.origin:
        raise BadProof(f"its checkpoints are of two logs: {old.origin} and {end.origin}")
    if not merkle.is_consistent(old.size, old.root, end.size, end.root, _path(proof.path)):
        raise BadProof(
            f"the log of {end.size} events does not begin with that of {old.size} events: the log,"
            " or the path, was changed"
        )
    return f"the first {old.size} of {end.size} events are the same"


def must_be_held(signed: Sequence[Checkpoint], held: Checkpoint) -> None:
    """Check that one of the checkpoints that something leads to is the one that was kept elsewhere.
    Raises BadProof."""
    end = signed[0]
    if held.origin != end.origin:
        raise BadProof(f"it is of another log: {end.origin}, and not {held.origin}")
    same_size = [each for each in signed if each.size == held.size]
    if not same_size:
        raise BadProof(
            f"the checkpoint that you hold is of {held.size} events, and this one of {end.size}:"
            " ask for a proof by the same one, or of the consistency of both"
        )
    if same_size[0].root != held.root:
        raise BadProof(
            f"the log was rewritten: its checkpoint of {held.size} events has another root than the"
            " one that you hold"
        )


def _path(path: Sequence[str]) -> list[bytes]:
    return [_bytes(each, lambda text: b64decode(text, validate=True)) for each in path]


def _bytes(text: str, decoded: Callable[[str], bytes]) -> bytes:
    try:
        value = decoded(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise BadProof("one of its hashes is not of 32 bytes")
    return value
