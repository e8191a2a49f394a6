"""The log on PostgreSQL: subscriptions, keys, and appends through the group-commit writer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Self
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from eventstore import moments
from eventstore.append.encoding import Encoder
from eventstore.append.outcomes import DONE, done_of
from eventstore.append.sender import Sender
from eventstore.append.writer import GroupCommitWriter
from eventstore.chain import ChainVerifier, Fault
from eventstore.codec import Codec
from eventstore.database.pooler import open_pool_through
from eventstore.database.postgres import AWAY, open_pool
from eventstore.database.watch import DatabaseWatch, watching
from eventstore.flight import Flight
from eventstore.gathering import Gatherer
from eventstore.head import HeadWatcher
from eventstore.history import History
from eventstore.keys import PersonKeys
from eventstore.log import (
    CLOCK_TOLERANCE,
    Appended,
    IdempotencyKey,
    IdempotencyRecord,
    Metadata,
    Recorded,
    StreamAppend,
    StreamRead,
    check_appends,
)
from eventstore.postgres_reading import PostgresLogReader
from eventstore.precedence import Precedence
from eventstore.proofs.walking import PAGE, Walk, stray
from kit.background import background_task
from kit.clock import SYSTEM_CLOCK, Clock

_ANSWERS = """
UPDATE log.once SET answer = given.answer
FROM unnest(%s::uuid[], %s::bytea[]) AS given (key, answer),
    set_config('synchronous_commit', 'off', true)
WHERE once.key = given.key AND once.answer IS NULL
"""
"""Does not wait for the disk: an answer that is lost is built anew for a replay."""
EXPIRED = """expires_at < least(%s, clock_timestamp(),
    (SELECT recorded_at FROM log.events ORDER BY position DESC LIMIT 1))"""
"""What was restored from an old backup keeps its keys until it goes on: the last reactions of that
time may run again."""
_PURGE = f"DELETE FROM log.once WHERE {EXPIRED}"

RETRY_SECONDS = 0.2
"""How long a subscription waits after a lost connection before it reads again."""


class PostgresLog(PostgresLogReader):
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
        super().__init__(codec, pool, history, PersonKeys(pool))
        self._clock = clock
        self._clock_tolerance = clock_tolerance
        history.when_it_changes(self._drain)
        self.precedence = Precedence()
        self._draining: asyncio.Task[None] | None = None
        self._encoder = Encoder(codec, self.keys, history, clock)
        self._done = Gatherer(self.done_many)
        self._heads = Gatherer(self._select_head)
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
                await log.end_reads()
                await log._done.close()
                await log._heads.close()
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

    async def head(self) -> int:
        """The position of the last event, 0 when there is none."""
        return (await self._heads.get([None]))[None]

    async def _select_head(self, _: list[None]) -> dict[None, int]:
        async with self.pool.connection() as conn:
            return {None: await self.history.head(conn)}

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
        self, verifier: ChainVerifier, *, upto: int, page: int = PAGE
    ) -> AsyncIterator[int | Fault]:
        """Walk the hash chain: yields the position reached after each page and, if there is one,
        the Fault at the end."""
        async with self.pool.connection() as conn:
            if found := await stray(conn):
                yield found
                return
        walk = Walk(verifier, upto, page)
        while not walk.done:
            async with self.pool.connection() as conn:
                cursor = conn.cursor(binary=True)
                rows = await (await cursor.execute(*walk.query)).fetchall()
            fault = walk.take(rows)
            yield fault or verifier.position
            if fault:
                return
