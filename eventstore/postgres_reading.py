"""Reads the log on PostgreSQL: events by position and by stream, and the versions of streams."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from copy import copy
from itertools import islice
from operator import itemgetter
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from eventstore.amendments import Amendments, KnownAmendments
from eventstore.codec import Codec
from eventstore.decoding import Raw, Unreadable, amended, decode, persons_in, raw_rows
from eventstore.gathering import Gatherer
from eventstore.history import History
from eventstore.keys import PersonKeys
from eventstore.log import FIRST_EVENTS, STREAM_PAGE, Recorded
from eventstore.pages import (
    COLUMNS,
    PAGE_BYTES,
    PAYLOAD,
    SMALL_EVENT_BYTES,
    bounded,
    first_of_each,
    fitting,
    small,
)

_VERSIONS = """
SELECT s.id, coalesce((
    SELECT e.version FROM log.events e WHERE e.stream_id = s.id ORDER BY e.version DESC LIMIT 1
), 0)
FROM unnest(%s::uuid[]) AS s(id)
"""
_STREAMS_AT_ONCE = PAGE_BYTES // (FIRST_EVENTS * SMALL_EVENT_BYTES)
_FIRST_EVENTS = first_of_each(FIRST_EVENTS, share=SMALL_EVENT_BYTES)


class PostgresLogReader:
    """What one process reads of the log, and remembers of what it has read in `history`."""

    def __init__(
        self, codec: Codec, pool: AsyncConnectionPool, history: History, keys: PersonKeys
    ) -> None:
        self.codec = codec
        self.pool = pool
        self.history = history
        """What this process knows of the log; whatever keeps something derived from it registers
        there."""
        self.keys = keys
        self.amendments = KnownAmendments(pool, history)
        self._read_by: Amendments | None = None  # those of a past moment
        self._first_events = Gatherer(self._select_first_events)
        self._versions = Gatherer(self._select_versions)

    async def end_reads(self) -> None:
        """End what is being read."""
        for gatherer in (self._first_events, self._versions):
            await gatherer.close()

    async def read(
        self,
        after: int = 0,
        *,
        upto: int | None = None,
        names: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[Recorded]:
        """Events with after < position ≤ upto in order, at most `limit`; only those of `names` when
        given.

        A page of large events is shorter: at most PAGE_BYTES of payload, or one event.
        """
        return await self.decode(await self.read_raw(after, upto=upto, names=names, limit=limit))

    async def read_raw(
        self,
        after: int = 0,
        *,
        upto: int | None = None,
        names: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[Raw]:
        """As `read`, with payloads as stored."""
        return (await self._page(after, upto, names, (), limit))[0]

    async def read_page(
        self,
        after: int,
        upto: int,
        *,
        names: Sequence[str] | None = None,
        but: Sequence[str] = (),
        limit: int = 1000,
    ) -> tuple[list[Raw], int]:
        """As `read_raw`, without those of the names in `but`, and the position up to which the page
        is complete: where the next one begins."""
        rows, cut = await self._page(after, upto, names, but, limit)
        return rows, rows[-1][0].position if cut else upto

    async def _page(
        self,
        after: int,
        upto: int | None,
        names: Sequence[str] | None,
        but: Sequence[str],
        limit: int,
    ) -> tuple[list[Raw], bool]:
        """Events, and whether there may be more."""
        where, values = ["position > %s"], [after]  # type: tuple[list[str], list[Any]]
        if upto is not None:
            where, values = [*where, "position <= %s"], [*values, upto]
        if names is not None:
            where, values = [*where, "name = ANY (%s)"], [*values, list(names)]
        if but:
            where, values = [*where, "name <> ALL (%s)"], [*values, list(but)]
        return await self._bounded(" AND ".join(where), values, limit, "position")

    async def _bounded(
        self, where: str, values: list[Any], limit: int, order: str
    ) -> tuple[list[Raw], bool]:
        """At most `limit` events and PAGE_BYTES of payload, or one event; and whether there may be
        more."""
        found = await self._select(small(where, limit, order=order), [*values, limit])
        if None in [row[PAYLOAD] for row in found]:
            found = await self._select(bounded(where, order=order), [*values, limit])
        rows = fitting(found)
        return raw_rows(rows), len(rows) == limit or len(rows) < len(found)

    async def read_stream(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        limit: int | None = None,
        but: Sequence[str] = (),
    ) -> list[Recorded]:
        """A stream's events above a version, in order, none beyond position `upto`. Leaves out
        those of the names in `but`, except the stream's last event, which shows the version.

        With a `limit`, at most that many, and at most PAGE_BYTES of payload, or one event.
        """
        found = await self.read_stream_raw(
            stream_id, after_version, upto=upto, limit=limit, but=but
        )
        return await self.decode(found)

    async def read_stream_raw(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        limit: int | None = None,
        but: Sequence[str] = (),
    ) -> list[Raw]:
        """As `read_stream`, with payloads as stored."""
        return (await self._stream(stream_id, after_version, upto, limit, but))[0]

    async def read_stream_page(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        but: Sequence[str] = (),
    ) -> tuple[list[Recorded], bool]:
        """As `read_stream`, at most the next STREAM_PAGE events; and whether there may be more."""
        found, more = await self._stream(stream_id, after_version, upto, STREAM_PAGE, but)
        return await self.decode(found), more

    async def read_first_events(
        self, stream_id: UUID, after_version: int = 0, *, but: Sequence[str] = ()
    ) -> tuple[list[Recorded], bool]:
        """As `read_stream_page`, at most FIRST_EVENTS if there may be more. Those that are asked
        for at the same time are read by one statement."""
        wanted = (stream_id, after_version)
        rows = (await self._first_events.get([wanted])).get(wanted, [])
        if None in [row[PAYLOAD] for row in rows]:  # a large event
            return await self.read_stream_page(stream_id, after_version, but=but)
        found, more = raw_rows(rows), len(rows) == FIRST_EVENTS
        last = None if more or not found else found[-1]
        found = [raw for raw in found if raw[0].name not in but or raw is last]
        return await self.decode(found), more

    async def read_whole_streams(
        self, stream_ids: Iterable[UUID], *, upto: int | None = None
    ) -> AsyncIterator[list[Raw]]:
        """The events of these streams up to a position, as stored, in pages; each stream's in
        order. The first events of many are a page, and are read by one statement, with those that
        others ask for at the same time."""
        left = iter(dict.fromkeys(stream_ids))
        while some := list(islice(left, _STREAMS_AT_ONCE)):
            found = await self._first_events.get([(stream_id, 0) for stream_id in some])
            page, longer = list[Raw](), list[tuple[UUID, int]]()
            for stream_id in some:
                rows = found.get((stream_id, 0), [])
                if None in [row[PAYLOAD] for row in rows]:  # a large event
                    longer.append((stream_id, 0))
                    continue
                page += raw_rows(rows)
                if len(rows) == FIRST_EVENTS:
                    longer.append((stream_id, page[-1][0].version))
            if upto is not None:
                page = [raw for raw in page if raw[0].position <= upto]
            if page:
                yield page
            for stream_id, version in longer:
                async for page in self._rest_of(stream_id, version, upto):
                    yield page

    async def _rest_of(
        self, stream_id: UUID, version: int, upto: int | None
    ) -> AsyncIterator[list[Raw]]:
        """A stream's events above a version and up to a position, in pages."""
        page, more = await self._stream(stream_id, version, upto, STREAM_PAGE, ())
        while page:
            yield page
            if not more:
                return
            page, more = await self._stream(stream_id, page[-1][0].version, upto, STREAM_PAGE, ())

    async def _select_first_events(
        self, wanted: list[tuple[UUID, int]]
    ) -> dict[tuple[UUID, int], list[TupleRow]]:
        """The first events of streams, each above a version."""
        stream_ids, versions = zip(*wanted, strict=True)
        found: dict[tuple[UUID, int], list[TupleRow]] = defaultdict(list)
        for row in await self._select(_FIRST_EVENTS, [list(stream_ids), list(versions)]):
            found[wanted[row[-1] - 1]].append(row)
        return found

    async def _stream(
        self,
        stream_id: UUID,
        after_version: int,
        upto: int | None,
        limit: int | None,
        but: Sequence[str],
    ) -> tuple[list[Raw], bool]:
        """Events of a stream, and whether there may be more."""
        of, values = "stream_id = %s", [stream_id]  # type: tuple[str, list[Any]]
        if upto is not None:
            of, values = of + " AND position <= %s", [*values, upto]
        where, asked = f"{of} AND version > %s", [*values, after_version]
        if but:
            where += (
                " AND (name <> ALL (%s) OR version = (SELECT max(version) FROM log.events WHERE"
                f" {of}))"
            )
            asked += [list(but), *values]
        if limit is not None:
            return await self._bounded(where, asked, limit, "version")
        return (
            raw_rows(
                await self._select(
                    f"SELECT {COLUMNS} FROM log.events WHERE {where} ORDER BY version", asked
                )
            ),
            False,
        )

    async def _select(self, query: str, values: list[Any]) -> list[TupleRow]:
        async with self.pool.connection() as conn:
            cursor, generation = conn.cursor(binary=True), self.history.generation
            await cursor.execute(query.encode(), values)
            rows = await cursor.fetchall()
        if rows:
            position, event_id, *_ = max(rows, key=itemgetter(0))
            self.history.saw(position, event_id, generation)
        return rows

    async def decode(self, rows: Sequence[Raw]) -> list[Recorded]:
        """Decode payloads to events, with the keys that their persons still have. Of a past moment,
        as `decode_each`."""
        return await (self._decode(rows) if self._read_by is None else self.decode_each(rows))

    async def _decode(self, rows: Sequence[Raw]) -> list[Recorded]:
        amendments = await self.read_by()
        persons = persons_in(self.codec, amended(rows, amendments) if amendments else rows)
        keys = await self.keys.get(persons) if persons else {}
        return decode(self.codec, rows, keys, amendments)

    async def decode_each(self, rows: Sequence[Raw]) -> list[Recorded]:
        """As `decode`, with Unreadable in place of an event that cannot be decoded."""
        try:
            return await self._decode(rows)
        except psycopg.Error:
            raise
        except Exception as error:
            # invalid JSON, another shape, or a failing upcaster: find the event
            if len(rows) == 1:
                return [Recorded(rows[0][0], Unreadable(error))]
            return [recorded for row in rows for recorded in await self.decode_each([row])]

    async def decode_closed(self, rows: Sequence[Raw]) -> list[Recorded]:
        """As `decode`, without any person's key."""
        return decode(self.codec, rows, {}, await self.read_by())

    async def read_by(self) -> Amendments:
        """The amendments by which events are read."""
        return await self.amendments.current() if self._read_by is None else self._read_by

    async def as_of(self, position: int | None) -> Self:
        """The same log as a reader of a past moment: events are read by the amendments declared up
        to this position (None: by all), and those that cannot be decoded are Unreadable."""
        view, known = copy(self), await self.amendments.current()
        view._read_by = known if position is None else known.as_of(position)
        return view

    async def versions(self, stream_ids: Sequence[UUID]) -> list[int]:
        """The current versions of these streams, in the same order; 0 for one that does not
        exist."""
        found = await self._versions.get(stream_ids)
        return [found[stream_id] for stream_id in stream_ids]

    async def _select_versions(self, stream_ids: list[UUID]) -> dict[UUID, int]:
        async with self.pool.connection() as conn:
            return dict(await (await conn.execute(_VERSIONS, (stream_ids,))).fetchall())
