"""Our events as records of KurrentDB, and back: docs/kurrentdb.md has the format.

A stream of ours is a stream there, version 1 at revision 0. A record's id is the event's, its type
the event's name, its data the payload as PostgreSQL would store it. All else is in the record's
metadata, a JSON object of texts, as appends to several streams allow nothing else.
"""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from kurrentdbclient import NewRecord, RecordedEvent

from eventstore.chain import microseconds, moment
from kit.uuid7 import uuid7

PREFIX = "ludoteca-"
"""How the names of all our streams begin."""

SEALS = f"{PREFIX}seals"
"""The stream of the mirror's seals."""

ONCE = "ludoteca.once.v1"
"""The type of the record that holds an idempotency key."""

_ONCE_PREFIX = f"{PREFIX}once-"


def stream_name(stream_id: UUID) -> str:
    """The name of a stream of events."""
    return f"{PREFIX}{stream_id}"


def stream_id_of(name: str) -> UUID | None:
    """The inverse of `stream_name`; None for any other name."""
    if not name.startswith(PREFIX) or name == SEALS or name.startswith(_ONCE_PREFIX):
        return None
    try:
        return UUID(name.removeprefix(PREFIX))
    except ValueError:
        return None


def once_name(key: UUID) -> str:
    """The name of the stream that holds an idempotency key."""
    return f"{_ONCE_PREFIX}{key}"


class Copied(msgspec.Struct, frozen=True):
    """An event in KurrentDB. It is number `number`, from 0, of the `of` events of its append, which
    are in this order.

    `recorded_at` is None but for events that were copied from another log; `created`, the server's
    time, and `commit_position` are known once it is there. `occurred_at` is None for events of an
    older release.
    """

    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    payload: bytes
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    occurred_at: datetime | None
    number: int
    of: int
    recorded_at: datetime | None = None
    created: datetime | None = None
    commit_position: int = 0


class CopiedOnce(msgspec.Struct, frozen=True):
    """An idempotency key in KurrentDB, before the events of its append. `stream_id` and `version`
    are those of the append's last event, whose position is the key's.

    It may be missing: keys expire, and the server may remove what is deleted.
    """

    key: UUID
    fingerprint: bytes
    result_ids: dict[str, str]
    expires_at: datetime | None
    stream_id: UUID
    version: int
    commit_position: int = 0


class _Metadata(msgspec.Struct, omit_defaults=True):
    """Times are in microseconds since 2000-01-01 UTC; `append` is "number/of"."""

    append: str
    actor: str = ""
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None
    occurred_at: str | None = None
    recorded_at: str | None = None


class _Once(msgspec.Struct):
    fingerprint: bytes
    result_ids: dict[str, str]
    expires_at: datetime | None
    stream_id: UUID
    version: int


_encode = msgspec.json.encode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_once = msgspec.json.Decoder(_Once).decode


def event_record(event: Copied) -> NewRecord:
    """An event as a new record."""
    metadata = _Metadata(
        f"{event.number}/{event.of}",
        event.actor,
        event.correlation_id,
        event.causation_id,
        event.traceparent,
        _text(event.occurred_at),
        _text(event.recorded_at),
    )
    return NewRecord(
        stream_name(event.stream_id),
        event.name,
        event.payload,
        _encode(metadata),
        id=event.event_id,
    )


def once_record(once: CopiedOnce) -> NewRecord:
    """An idempotency key as a new record."""
    body = _Once(once.fingerprint, once.result_ids, once.expires_at, once.stream_id, once.version)
    return NewRecord(once_name(once.key), ONCE, _encode(body), id=uuid7())


def read(recorded: RecordedEvent) -> Copied | CopiedOnce | None:
    """What a record holds; None for a seal, and for what is not ours.

    Raises ValueError for a damaged record of ours (as msgspec.ValidationError, or of its own).
    """
    name = recorded.stream_name
    stream_id, is_once = stream_id_of(name), name.startswith(_ONCE_PREFIX)
    if (stream_id is None and not is_once) or recorded.is_system_event:
        return None
    if stream_id is None:
        body = _decode_once(recorded.data)
        return CopiedOnce(
            key=UUID(name.removeprefix(_ONCE_PREFIX)),
            fingerprint=body.fingerprint,
            result_ids=body.result_ids,
            expires_at=body.expires_at,
            stream_id=body.stream_id,
            version=body.version,
            commit_position=recorded.commit_position,
        )
    metadata = _decode_metadata(recorded.metadata)
    number, of = map(int, metadata.append.split("/"))
    return Copied(
        event_id=recorded.id,
        stream_id=stream_id,
        version=recorded.stream_position + 1,
        name=recorded.type,
        payload=recorded.data,
        actor=metadata.actor,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
        traceparent=metadata.traceparent,
        occurred_at=_moment(metadata.occurred_at),
        number=number,
        of=of,
        recorded_at=_moment(metadata.recorded_at),
        created=None if recorded.recorded_at is None else recorded.recorded_at.astimezone(UTC),
        commit_position=recorded.commit_position,
    )


def _text(at: datetime | None) -> str | None:
    return None if at is None else str(microseconds(at))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment(int(text))
