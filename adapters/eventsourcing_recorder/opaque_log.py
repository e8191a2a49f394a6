"""The log for events that are not ours: names and payloads are stored as they are given."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from eventstore.append.pending import Pending
from eventstore.decoding import Raw
from eventstore.log import Metadata, VersionConflict
from eventstore.postgres_log import PostgresLog

ENDLESS = 2**63 - 1
"""The largest bigint: no version and no position is beyond it."""

KIND = "eventsourcing"
"""The kind of all streams. The log refuses to continue streams of the program's own kinds."""

_PREFIX = "application:"
"""Before an application's name in an event's actor."""

_ONE_STREAM = """
SELECT position, event_id, version, name, payload FROM log.events
WHERE stream_id = %s AND version > %s AND version <= %s ORDER BY version """
_LAST = """
SELECT position, event_id FROM log.events WHERE name <> %s ORDER BY position DESC LIMIT 1"""
_OWNER = "SELECT position, event_id, actor FROM log.events WHERE position = 1"


class Opaque(msgspec.Struct, frozen=True):
    """An event whose payload only its application understands."""

    stream_id: UUID
    version: int
    name: str
    payload: bytes


class OpaqueLog(PostgresLog):
    """A log whose streams begin at version 0 or 1, as their application likes. One for each
    application: `insert` says whose it is."""

    async def insert(self, application: str, events: Sequence[Opaque]) -> list[int]:
        """Append events of any streams, all or nothing. Returns their positions, in the order
        given.

        Raises as `append`: VersionConflict also unless each stream's events continue it without a
        gap.
        """
        pending = Pending(Metadata(f"{_PREFIX}{application}"), self._clock.now(), None)
        streams: dict[UUID, list[int]] = defaultdict(list)
        for n, event in enumerate(events):
            streams[event.stream_id].append(n)
        for stream_id, numbers in streams.items():
            first = events[numbers[0]].version
            if any(events[n].version != version for version, n in enumerate(numbers, first)):
                raise VersionConflict([stream_id])
            named = [(events[n].name, events[n].payload) for n in numbers]
            pending.add(stream_id, first - 1, KIND, named)
        if len(streams) > 1:
            added = list(chain.from_iterable(streams.values()))
            pending.reorder(sorted(range(len(added)), key=added.__getitem__))
        appended = await self._writer.append(pending)
        return list(range(appended.first_position, appended.position + 1))

    async def stream(
        self, stream_id: UUID, *, gt: int, lte: int, desc: bool = False, limit: int | None = None
    ) -> list[Opaque]:
        """A stream's events with gt < version ≤ lte."""
        query = _ONE_STREAM + ("DESC" if desc else "ASC") + " LIMIT %s::bigint"
        rows = await self._select(query, [stream_id, gt, lte, limit])
        return [Opaque(stream_id, *row[2:]) for row in rows]

    async def page(
        self, after: int, upto: int, *, limit: int, names: Sequence[str], but: str
    ) -> tuple[list[Raw], int]:
        """Events with after < position ≤ upto, of these names (any when empty) except one; and the
        position up to which that is complete. There are `limit` if there are so many, however
        large they are."""
        found: list[Raw] = []
        while after < upto and len(found) < limit:
            rows, after = await self.read_page(
                after, upto, names=names or None, but=[but], limit=limit - len(found)
            )
            found += rows
        return found, after

    async def last(self, but: str) -> int | None:
        """The position of the last event of another name; None when there is none."""
        rows = await self._select(_LAST, [but])
        return int(rows[0][0]) if rows else None

    async def owner(self) -> str | None:
        """The application that wrote the first event; None when the log is empty."""
        rows: list[TupleRow] = await self._select(_OWNER, [])
        return str(rows[0][2]).removeprefix(_PREFIX) if rows else None
