"""One event of the log, with what is known about it beside its payload."""

from collections.abc import Collection
from uuid import UUID

import msgspec

from eventstore.decoding import Raw, persons_in
from eventstore.postgres_log import PostgresLog
from kit.forgotten import ENCRYPTED
from queries.audit.log import Audit, AuditEvent


class EventDetails(msgspec.Struct, frozen=True):
    """An event: the kind of its stream, what it means, its fields that are stored encrypted, the
    `persons` that these are about, and the position of the amendment by which it is read, if there
    is one."""

    event: AuditEvent
    kind: str
    meaning: str
    personal_fields: Collection[str]
    persons: Collection[UUID]
    amended_at: int | None


async def event_at(log: PostgresLog, audit: Audit, position: int) -> EventDetails | None:
    """The event at a position; None beyond the log's end."""
    found = await log.read_raw(position - 1, upto=position)
    if not found:
        return None
    event = audit.shown(found[0])
    persons = _persons(log, found[0])
    return EventDetails(
        event,
        log.codec.kinds.get(event.name, event.name.partition(".")[0]),
        log.codec.meaning(event.name),
        [name for name, value in event.payload.items() if value == ENCRYPTED] if persons else [],
        persons,
        (await log.read_by()).declared_at(position),
    )


def _persons(log: PostgresLog, raw: Raw) -> Collection[UUID]:
    """The persons that the event is about; empty if it cannot be read."""
    try:
        return persons_in(log.codec, [raw])
    except (msgspec.MsgspecError, UnicodeError):
        return ()
