"""The hash chain: what is hashed of an event, byte by byte, and how a row's hash follows from the
previous one.

    digest = SHA-256( "ludoteca.event.2" ‖ event_id ‖ stream_id ‖ version ‖ text(name)
                      ‖ text(payload) ‖ text(actor) ‖ optional(correlation_id)
                      ‖ optional(causation_id) ‖ optional text(traceparent) ‖ occurred_at )
    hash   = SHA-256( previous hash ‖ position ‖ recorded_at ‖ digest ); the first's is 32 zeros

A row of an older release has no occurred_at; its digest begins with "ludoteca.event.1" and ends
with the traceparent.

Ids are their 16 bytes; version and position are 8 bytes big-endian; occurred_at and recorded_at are
8 bytes big-endian, microseconds since 2000-01-01 UTC (PostgreSQL's `timestamptz_send`); text is a
4-byte big-endian length and the bytes (UTF-8, or the payload as stored); an optional is one byte 0,
or one byte 1 and the value. Personal fields are hashed as ciphertext, so that forgetting a person
breaks no proof.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct, pack
from uuid import UUID

import msgspec

GENESIS = bytes(32)

WITHOUT_TIME, WITH_TIME = b"ludoteca.event.1", b"ludoteca.event.2"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_u32 = Struct(">I").pack
_u64 = Struct(">q").pack
_head = Struct(">16s 16s 16s q I").pack


def digest(
    event_id: UUID,
    stream_id: UUID,
    version: int,
    name: str,
    payload: bytes,
    actor: str,
    correlation_id: UUID | None,
    causation_id: UUID | None,
    traceparent: str | None,
    occurred_at: datetime | None,
) -> bytes:
    """The digest of an event as stored; the module's docstring specifies the encoding."""
    cause = (actor, correlation_id, causation_id, traceparent)
    return sha256(
        content(event_id, stream_id, version, name, payload, *cause, occurred_at)
    ).digest()


def content(
    event_id: UUID,
    stream_id: UUID,
    version: int,
    name: str,
    payload: bytes,
    actor: str,
    correlation_id: UUID | None,
    causation_id: UUID | None,
    traceparent: str | None,
    occurred_at: datetime | None,
) -> bytes:
    """What is hashed to the digest."""
    end = encoded_cause(*cause_in_bytes(actor, correlation_id, causation_id, traceparent))
    kind = WITHOUT_TIME
    if occurred_at is not None:
        end, kind = end + encoded_time(occurred_at), WITH_TIME
    return _content(event_id.bytes, stream_id.bytes, version, name.encode(), payload, end, kind)


def digest_of(
    event_id: bytes,
    stream_id: bytes,
    version: int,
    name: bytes,
    payload: bytes,
    end: bytes,
    kind: bytes = WITH_TIME,
) -> bytes:
    """As `digest`, from encoded parts; `end` is cause and time."""
    return sha256(_content(event_id, stream_id, version, name, payload, end, kind)).digest()


def _content(
    event_id: bytes,
    stream_id: bytes,
    version: int,
    name: bytes,
    payload: bytes,
    end: bytes,
    kind: bytes,
) -> bytes:
    head = _head(kind, event_id, stream_id, version, len(name))
    return b"".join((head, name, _u32(len(payload)), payload, end))


def place(position: int, recorded_at: datetime) -> bytes:
    """Position and time of a row, as they are hashed."""
    return _u64(position) + encoded_time(recorded_at)


Cause = tuple[bytes, bytes | None, bytes | None, bytes | None]
"""Actor, correlation id, causation id and traceparent, in bytes."""


def cause_in_bytes(
    actor: str, correlation_id: UUID | None, causation_id: UUID | None, traceparent: str | None
) -> Cause:
    return (
        actor.encode(),
        None if correlation_id is None else correlation_id.bytes,
        None if causation_id is None else causation_id.bytes,
        None if traceparent is None else traceparent.encode(),
    )


def encoded_cause(
    actor: bytes,
    correlation_id: bytes | None,
    causation_id: bytes | None,
    traceparent: bytes | None,
) -> bytes:
    """The cause as it is hashed."""
    return (
        _text(actor)
        + (b"\0" if correlation_id is None else b"\1" + correlation_id)
        + (b"\0" if causation_id is None else b"\1" + causation_id)
        + (b"\0" if traceparent is None else b"\1" + _text(traceparent))
    )


def encoded_time(at: datetime) -> bytes:
    """A time as it is hashed, which is also PostgreSQL's wire format."""
    return _u64(microseconds(at))


def link(previous: bytes, position: int, recorded_at: datetime, event_digest: bytes) -> bytes:
    """The hash of a row, from that of the previous row."""
    return link_of(previous, position, encoded_time(recorded_at), event_digest)


def link_of(previous: bytes, position: int, recorded_at: bytes, event_digest: bytes) -> bytes:
    """As `link`, from an encoded time."""
    return sha256(previous + _u64(position) + recorded_at + event_digest).digest()


def microseconds(at: datetime) -> int:
    """Microseconds since 2000-01-01 UTC, PostgreSQL's epoch."""
    return (at - _EPOCH) // _MICROSECOND


def moment(since: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + since * _MICROSECOND


def _text(value: bytes) -> bytes:
    return _u32(len(value)) + value


class Fault(msgspec.Struct, frozen=True):
    """The first position where the log differs from what was appended, and why."""

    position: int
    reason: str


StoredRow = tuple[bytes | None, bytes | None, bytes | None]
"""Of a row of the log: its place (position and recorded_at, encoded), what is hashed to the digest,
and its hash. None where a column that every event has is null."""


class ChainVerifier:
    """Walks the log from its start (or from a trusted hash) and stops at the first row that does
    not fit."""

    def __init__(
        self, position: int = 0, hash: bytes = GENESIS, recorded_at: bytes | None = None
    ) -> None:
        """Begin after a trusted row; `recorded_at` is its time, encoded."""
        self.position = position
        self.hash = hash
        self._time = recorded_at

    def check(self, rows: Sequence[StoredRow]) -> Fault | None:
        """Check the next rows. Returns the first fault, or None."""
        if not self._all_fit(rows):
            return next((fault for row in rows if (fault := self._check_one(*row))), None)
        return None

    def _all_fit(self, rows: Sequence[StoredRow]) -> bool:
        """Whether all rows fit; then they count as checked. A page at a time: for each row, no more
        is done in Python than to hash it."""
        found = self.hash
        places: list[bytes] = []
        for place, content, row_hash in rows:
            if place is None or content is None:
                return False
            found = sha256(found + place + sha256(content).digest()).digest()
            if found != row_hash:
                return False
            places.append(place)
        if not places:
            return True
        end = self.position + len(places)
        positions = pack(f">{len(places)}q", *range(self.position + 1, end + 1))
        times = [place[8:] for place in places]
        if b"".join([place[:8] for place in places]) != positions or not _ascend(self._time, times):
            return False
        self.position, self.hash, self._time = end, found, times[-1]
        return True

    def _check_one(
        self, place: bytes | None, content: bytes | None, row_hash: bytes | None
    ) -> Fault | None:
        if place is None or content is None:
            return Fault(self.position + 1, "changed: a column that every event has is null")
        position = int.from_bytes(place[:8], signed=True)
        if position <= self.position:
            return Fault(position, "inserted: there are two rows with this position")
        if position != self.position + 1:
            return Fault(self.position + 1, f"removed: the next row is {position}")
        if not _ascend(self._time, [place[8:]]):
            return Fault(position, "changed: its time is before that of the row before it")
        if row_hash != sha256(self.hash + place + sha256(content).digest()).digest():
            return Fault(
                position,
                "changed, inserted or moved: its hash does not follow from the row before it",
            )
        self.position, self.hash, self._time = position, row_hash, place[8:]
        return None


def _ascend(before: bytes | None, times: list[bytes]) -> bool:
    """Whether encoded times do not run backwards. Those before 2000 are negative, and no event's:
    as bytes they come after all others."""
    return sorted(times) == times and (before is None or before <= times[0]) and times[-1] < b"\x80"
