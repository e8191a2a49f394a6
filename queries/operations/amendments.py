"""For operators: a stream in quarantine with its broken event, and how events are read instead of
as they were recorded."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from eventstore.amendments import STREAM
from eventstore.consumers.quarantine import Quarantined
from eventstore.decoding import Raw
from eventstore.postgres_log import PostgresLog
from queries.audit.log import Audit, AuditEvent
from queries.operations.control import Operations


class Reading(msgspec.Struct, frozen=True):
    """How an event is read: skipped, or with this payload (personal fields as ENCRYPTED), or as it
    was recorded after all; who declared it at which position, and why."""

    position: int
    event_id: UUID
    stream_id: UUID
    name: str
    reading: Literal["as_recorded", "skip", "amend"]
    payload: dict[str, Any] | None
    reason: str
    declared_at: int
    declared_by: str
    at: datetime


class Broken(msgspec.Struct, frozen=True):
    """An event, who could not apply it, and how it is read if that was ever declared."""

    event: AuditEvent
    held_by: Sequence[Quarantined]
    reading: Reading | None


class _Said(msgspec.Struct, frozen=True):
    position: int
    event_id: UUID
    stream_id: UUID
    name: str
    reading: Literal["as_recorded", "skip", "amend"]
    reason: str
    payload: str | None = None


class AmendedEvents:
    """Looks at declarations, the events that they are about, and the quarantine."""

    def __init__(self, log: PostgresLog, audit: Audit, operations: Operations) -> None:
        self._log = log
        self._audit = audit
        self._operations = operations

    async def readings(self) -> list[Reading]:
        """How each event that was ever amended is read now, in the order of the log."""
        latest: dict[int, tuple[Raw, _Said]] = {}
        for raw in await self._log.read_stream_raw(STREAM):
            said = msgspec.json.decode(raw[1], type=_Said)
            latest[said.position] = raw, said
        return [await self._reading(raw, said) for _, (raw, said) in sorted(latest.items())]

    async def reading(self, position: int) -> Reading | None:
        """How the event at a position is read; None where nothing was declared."""
        return next((each for each in await self.readings() if each.position == position), None)

    async def _reading(self, raw: Raw, said: _Said) -> Reading:
        env = raw[0]
        payload: dict[str, Any] | None = None
        if said.payload is not None:
            (about,) = await self._log.read_raw(said.position - 1, upto=said.position)
            payload = self._audit.shown((about[0], said.payload.encode())).payload
        return Reading(
            position=said.position,
            event_id=said.event_id,
            stream_id=said.stream_id,
            name=said.name,
            reading=said.reading,
            payload=payload,
            reason=said.reason,
            declared_at=env.position,
            declared_by=env.actor,
            at=env.occurred_at,
        )

    async def position_of(self, quarantine_id: UUID) -> int | None:
        """The position of the event that a stream is in quarantine for; None when it is not."""
        held = await self._operations.quarantine(limit=1_000_000)
        return next((each.position for each in held if each.id == quarantine_id), None)

    async def broken(self, position: int) -> Broken | None:
        """The event at a position, and what became of it; None if there is no event."""
        found = await self._log.read_raw(position - 1, upto=position) if position > 0 else []
        if not found:
            return None
        held = await self._operations.quarantine(limit=1_000_000)
        return Broken(
            event=self._audit.shown(found[0]),
            held_by=[each for each in held if each.position == position],
            reading=await self.reading(position),
        )
