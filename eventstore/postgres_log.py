"""The log on PostgreSQL: reads, subscriptions, and appends through the group-commit writer."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, Self
from uuid import UUID

from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from eventstore import moments
from eventstore.append.encoding import Encoder
from eventstore.append.sender import DONE, Sender, done_of
from eventstore.append.writer import GroupCommitWriter
from eventstore.chain import ChainVerifier, Fault
from eventstore.codec import Codec
from eventstore.database.pooler import open_pool_through
from eventstore.database.postgres import AWAY, open_pool
from eventstore.database.watch import DatabaseWatch, watching
from eventstore.decoding import Raw, decode, persons_in, raw_rows
from eventstore.flight import Flight
from eventstore.gathering import Gatherer
from eventstore.head import HeadWatcher
from eventstore.history import History
from eventstore.keys import PersonKeys
from eventstore.log import (
    CLOCK_TOLERANCE,
    FIRST_EVENTS,
    STREAM_PAGE,
    Appended,
    Envelope,
    IdempotencyKey,
    IdempotencyRecord,
    Metadata,
    Recorded,
    StreamAppend,
    StreamRead,
    check_appends,
)
from eventstore.pages import (
    COLUMNS,
    PAYLOAD,
    SMALL_EVENT_BYTES,
    bounded,
    first_of_each,
    fitting,
    small,
)
from eventstore.precedence import Precedence
from kit.background import background_task
from kit.clock import SYSTEM_CLOCK, Clock

_VERSIONS = """
SELECT s.id, coalesce((
    SELECT e.version FROM log.events e WHERE e.stream_id = s.id ORDER BY e.version DESC LIMIT 1
), 0)
FROM unnest(%s::uuid[]) AS s(id)
"""
_FIRST_EVENTS = first_of_each(FIRST_EVENTS, share=SMALL_EVENT_BYTES)

_ANSWERS = """
UPDATE log.once SET answer = given.answer
FROM unnest(%s::uuid[], %s::bytea[]) AS given (key, answer),
    set_config('synchronous_commit', 'off', true)
WHERE once.key = given.key AND once.answer IS NULL
"""
"""Does not wait for the disk: an answer that is lost is built anew for a replay."""
_PURGE = """
DELETE FROM log.once WHERE expires_at < least(%s, clock_timestamp(),
    (SELECT recorded_at FROM log.events ORDER BY position DESC LIMIT 1))
"""
"""What was restored from an old backup keeps its keys until it goes on: the last reactions of that
time may run again."""

RETRY_SECONDS = 0.2
"""How long a subscription waits after a lost connection before it reads again."""


class PostgresLog:
    """The log as one process sees it. Open with `async with PostgresLog.open(url, codec) as
    log`."""

    def __init__(
        self,
        url: str,
        codec: Codec,
        pool: AsyncConnectionPool,
        history: History,
        clock: Clock,
        clock_tolerance: timedelta | None,
        watch: DatabaseWatch | None = None,
    ) -> None:
        self.codec = codec
        self.pool = pool
        self._clock = clock
        self._clock_tolerance = clock_tolerance
        self.history = history
        """What this process knows of the log; whatever keeps something derived from it registers
        there."""
        history.when_it_changes(self._drain)
        self.precedence = Precedence()
        self._draining: asyncio.Task[None] | None = None
        self.keys = PersonKeys(pool)
        self._encoder = Encoder(codec, self.keys, history, clock)
        self._first_events = Gatherer(self._select_first_events)
        self._versions = Gatherer(self._select_versions)
        self._done = Gatherer(self.done_many)
        self.watch = watch
        """Knows whether the database is down; None without a watch."""
        self.watcher = HeadWatcher(url, history, watch)
        self._another_sender = partial(Sender, url, codec.kinds, history, clock_tolerance, watch)
        self._writer = GroupCommitWriter(
            url, codec.kinds, history, clock_tolerance, watch, self.precedence
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        codec: Codec,
        *,
        pool_size: int = 8,
        clock: Clock = SYSTEM_CLOCK,
        clock_tolerance: timedelta | None = CLOCK_TOLERANCE,
        watched: bool = False,
        pooler: str = "",
    ) -> AsyncIterator[Self]:
        """Connect to a migrated database; closes everything on exit. `pooler` is the URL of a
        connection pooler for its short statements, if there is one.

        `clock` says when events occur. An append is refused when the database's clock differs from
        it by more than `clock_tolerance`; None is for a clock that is not the machine's. With
        `watched`, nobody waits longer than a second for a database that is down.
        """
        history = History()
        opening = partial(open_pool_through, pooler) if pooler else partial(open_pool, url)
        async with (
            watching(url) if watched else nullcontext() as watch,
            opening(pool_size, configure=history.check, check=history.alive, watch=watch) as pool,
        ):
            log = cls(url, codec, pool, history, clock, clock_tolerance, watch)
            try:
                yield log
            finally:
                await log._writer.close()
                for gatherer in (log._first_events, log._versions, log._done):
                    await gatherer.close()
                await log.keys.close()
                await log.watcher.close()

    def _drain(self) -> None:
        """Replace all connections: older ones may lead to a replaced server."""
        self._draining = background_task(self.pool.drain(), "draining the log's pool")

    def while_there(self) -> AbstractContextManager[object]:
        """Wrap work that needs the database. With a watch, raises DatabaseAway as soon as the
        database is known to be down."""
        return nullcontext() if self.watch is None else self.watch.while_there()

    # -- appending ---------------------------------------------------------------------------------

    async def append(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata = Metadata(),
        once: IdempotencyKey | None = None,
        reads: Sequence[StreamRead] = (),
        *,
        flight: Flight | None = None,
    ) -> Appended:
        """Append to several streams, all or nothing, and only if the `reads` still hold.

        Raises VersionConflict, also when the log went back meanwhile; PredecessorFailed when the
        `flight` rests on one that failed; AlreadyDone, WrongKind, TooLarge; MissingKey when a
        person was forgotten; LogUnavailable when the database is unreachable (either nothing was
        appended, or `once` tells on the next try), including ClocksDiffer; psycopg.DataError when
        the database refuses a text; ValueError for an append without events.
        """
        if len(streams) != 1 or not streams[0].events or streams[0].expected_version < 0:
            check_appends(streams)  # the most frequent append, to one stream, needs no full check
        flight = Flight() if flight is None else flight
        flight.depart()
        try:
            pending = await self._encoder.encode(streams, metadata, once, reads, flight)
            outcome = self._writer.append(pending)
        except BaseException as error:
            flight.fail(error if isinstance(error, Exception) else None)
            raise
        return await outcome

    async def prove_writer(self, *, another: bool = False) -> None:
        """Check, without appending, that an append would be accepted: by this process's writer, or
        over a new connection.

        Raises LogUnavailable, psycopg.Error.
        """
        if not another:
            await self._writer.prove()
            return
        sender = self._another_sender()
        try:
            await sender.prove(in_earnest=True)
        finally:
            await sender.close()

    # -- reading -----------------------------------------------------------------------------------

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
        """Decode payloads to events, with the keys that their persons still have."""
        persons = persons_in(self.codec, rows)
        keys = await self.keys.get(persons) if persons else {}
        return decode(self.codec, rows, keys)

    async def versions(self, stream_ids: Sequence[UUID]) -> list[int]:
        """The current versions of these streams, in the same order; 0 for one that does not
        exist."""
        found = await self._versions.get(stream_ids)
        return [found[stream_id] for stream_id in stream_ids]

    async def _select_versions(self, stream_ids: list[UUID]) -> dict[UUID, int]:
        async with self.pool.connection() as conn:
            return dict(await (await conn.execute(_VERSIONS, (stream_ids,))).fetchall())

    async def head(self) -> int:
        """The position of the last event, 0 when there is none."""
        async with self.pool.connection() as conn:
            return await self.history.head(conn)

    async def position_at(self, moment: datetime) -> int:
        """The position of the last event that had occurred by this time, 0 when there is none."""
        async with self.pool.connection() as conn:
            return await moments.position_at(conn, moment, self._clock_tolerance)

    async def recorded_before(self, age: timedelta) -> int:
        """A position up to which everything was recorded longer ago than `age`, by both the
        database's clock and ours."""
        async with self.pool.connection() as conn:
            return await moments.recorded_before(conn, self._clock.now(), age)

    async def subscribe(
        self, after: int = 0, *, names: Sequence[str] | None = None, page: int = 1000
    ) -> AsyncGenerator[list[Recorded], None]:
        """Endless pages of events after a position: existing ones, then new ones.

        Survives lost connections. Raises LogUnavailable once the log is closed, HistoryChanged when
        it went back.
        """
        generation = self.history.generation
        while True:
            head = await self.watcher.beyond(after, generation)
            while after < head:
                try:
                    rows, end = await self.read_page(after, head, names=names, limit=page)
                    events = await self.decode(rows)
                except AWAY:
                    await asyncio.sleep(RETRY_SECONDS)
                    break  # to the watcher, which knows whether the log was closed
                after = end
                if events:
                    yield events

    # -- once-keys and proof -----------------------------------------------------------------------

    async def done(self, key: UUID) -> IdempotencyRecord | None:
        """The record of an idempotency key, if its append happened."""
        return (await self._done.get([key])).get(key)

    async def done_many(self, keys: Iterable[UUID]) -> dict[UUID, IdempotencyRecord]:
        """The records of the known keys among these."""
        async with self.pool.connection() as conn:
            return {
                row[0]: done_of(row)
                for row in await (await conn.execute(DONE, (list(keys),))).fetchall()
            }

    async def answer(self, key: UUID, answer: bytes) -> None:
        """As `Log.answer`."""
        await self.answer_many({key: answer})

    async def answer_many(self, answers: Mapping[UUID, bytes]) -> None:
        """As `answer`, for several keys."""
        async with self.pool.connection() as conn:
            await conn.execute(_ANSWERS, (list(answers), list(answers.values())))

    async def purge_expired(self) -> int:
        """Delete the idempotency keys that have expired by the database's clock, by ours and by the
        time of the last event. Returns their number."""
        async with self.pool.connection() as conn:
            return (await conn.execute(_PURGE, (self._clock.now(),))).rowcount

    async def verify(
        self, verifier: ChainVerifier, *, upto: int, page: int = 5000
    ) -> AsyncIterator[int | Fault]:
        """Walk the hash chain: yields the position reached after each page and, if there is one,
        the Fault at the end."""
        sql = bounded("position > %s AND position <= %s", "hash", "occurred_at AS stored")
        while verifier.position < upto:
            async with self.pool.connection() as conn:
                cursor = conn.cursor(binary=True)
                found = await (
                    await cursor.execute(sql.encode(), (verifier.position, upto, page))
                ).fetchall()
            rows = fitting(found)
            fault = verifier.check((Envelope(*row[:11]), *row[11:]) for row in rows)
            if fault is None and not rows:
                fault = Fault(verifier.position + 1, "removed: the log ends before this position")
            yield fault or verifier.position
            if fault:
                return
