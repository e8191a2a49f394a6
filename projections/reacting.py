"""Runs reactors: they follow the log as projections do, but act instead of folding.

One read of the log serves all reactors of a process. Events of one stream are handled in order, streams side by side.
A checkpoint moves when all before it is done; a crash repeats what was under way, which the reactors recognise.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol
from uuid import UUID

import msgspec
import psycopg

from eventstore.log import Recorded
from eventstore.postgres_log import RUN_AS, PostgresLog
from eventstore.writer import LogUnavailable
from projections import feeds

log = logging.getLogger(__name__)

PAGE = 1_000
AT_ONCE = 128
RESCAN_SECONDS = 1.0
PATIENCE = (0.05, 0.2, 1.0)
"""Seconds between tries of a reaction that failed, before its stream is parked."""


class Reacts(Protocol):
    """What the runner asks of a reactor."""

    @property
    def name(self) -> str: ...

    @property
    def reactions(self) -> "Iterable[type[msgspec.Struct]]": ...

    @property
    def starts_from(self) -> Literal["beginning", "now"]: ...

    async def react(self, recorded: Recorded) -> None: ...


class _Led:
    """A reactor that this process leads."""

    def __init__(self, reactor: Reacts, feed: feeds.FeedRow, parked: Iterable[feeds.Parked]) -> None:
        self.reactor, self.feed, self.types = reactor, feed.feed, frozenset(reactor.reactions)
        self.position = self.saved = feed.position
        self.parked = {p.stream_id: p.position for p in parked}


class ReactorRunner:
    """Leads those of the given reactors that no other process leads.

    `outcomes` are exceptions that a reaction may well end with (a refusal, a repeat): they are noted, not retried.
    """

    def __init__(
        self, url: str, log_: PostgresLog, reactors: Sequence[Reacts], *, outcomes: tuple[type[Exception], ...]
    ) -> None:
        self._url, self._log, self._outcomes = url, log_, outcomes
        self._reactors = {r.name: r for r in reactors}
        self._names = log_.codec.names_of({cls for r in reactors for cls in r.reactions})
        self._led: dict[str, _Led] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Run until cancelled; outlives lost connections."""
        while True:
            try:
                with await asyncio.to_thread(self._connect) as conn:
                    await self._run(conn)
            except (psycopg.OperationalError, LogUnavailable) as error:
                log.warning("reactors lost their database: %s", error)
            except feeds.CheckpointMoved as error:
                log.warning("another process leads %s now", error)
            except Exception:
                log.exception("reactors failed; they start again")
            self._led.clear()
            await asyncio.sleep(RESCAN_SECONDS)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True, application_name="ludoteca reactors", options=RUN_AS)

    async def _run(self, conn: psycopg.Connection) -> None:
        await asyncio.to_thread(conn.execute, "SET synchronous_commit = off")
        while True:
            await self._scan(conn)
            scan_at = asyncio.get_running_loop().time() + RESCAN_SECONDS
            while (left := scan_at - asyncio.get_running_loop().time()) > 0:
                if not self._led:
                    await asyncio.sleep(left)
                    continue
                try:
                    async with asyncio.timeout(left):
                        head = await self._log.watcher.beyond(min(led.position for led in self._led.values()))
                except TimeoutError:
                    break
                await self._advance(conn, head)
            await self._save(conn)

    async def _scan(self, conn: psycopg.Connection) -> None:
        """Take the lead of what nobody leads; let go of what is paused; retry what was asked for."""
        head = await self._log.head()
        rows = {row.feed: row for row in await asyncio.to_thread(self._registered, conn, head)}
        for name, row in rows.items():
            if row.paused and name in self._led:
                del self._led[name]
                await asyncio.to_thread(feeds.stop_leading, conn, name)
            elif not row.paused and name not in self._led and await asyncio.to_thread(feeds.try_lead, conn, name):
                fresh = await asyncio.to_thread(feeds.feed, conn, name)
                parked = await asyncio.to_thread(feeds.parked, conn, [name])
                if fresh is not None:
                    self._led[name] = _Led(self._reactors[row.projection], fresh, parked)
        for led in self._led.values():
            if led.parked:
                await self._retry(conn, led)

    def _registered(self, conn: psycopg.Connection, head: int) -> list[feeds.FeedRow]:
        for reactor in self._reactors.values():
            start = head if reactor.starts_from == "now" else 0
            feeds.register(conn, reactor.name, 1, "", start)
        return [row for row in feeds.feeds(conn) if row.projection in self._reactors and not row.storage]

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _advance(self, conn: psycopg.Connection, head: int) -> None:
        """One page for whoever is furthest behind; all others at or before its end take part."""
        start = min(led.position for led in self._led.values())
        end = min(head, start + PAGE)
        page = await self._log.read(start, upto=end, names=self._names, limit=PAGE)
        await self._react(page)
        for led in self._led.values():
            led.position = max(led.position, end)
        if page:
            await self._save(conn)

    async def _react(self, page: Sequence[Recorded]) -> None:
        by_stream: dict[UUID, list[Recorded]] = defaultdict(list)
        for recorded in page:
            by_stream[recorded.env.stream_id].append(recorded)
        await asyncio.gather(*[self._react_in_order(events) for events in by_stream.values()])

    async def _react_in_order(self, events: Sequence[Recorded]) -> None:
        async with self._places:
            for recorded in events:
                for led in list(self._led.values()):
                    env = recorded.env
                    if env.position <= led.position or type(recorded.event) not in led.types:
                        continue
                    if env.position >= led.parked.get(env.stream_id, env.position + 1):
                        continue
                    error = await self._try(led, recorded)
                    if error is not None:
                        await self._park(led, recorded, error)

    async def _try(self, led: _Led, recorded: Recorded) -> Exception | None:
        """React, a few times if need be; returns the error that remains. A lost database is waited for, not parked."""
        for pause in (*PATIENCE, None):
            try:
                await led.reactor.react(recorded)
            except self._outcomes as outcome:
                log.info("reactor %s at position %s: %s", led.reactor.name, recorded.env.position, outcome)
                return None
            except (LogUnavailable, psycopg.OperationalError):
                raise
            except Exception as error:  # whatever a reaction meets, only its stream waits
                if pause is None:
                    return error
                await asyncio.sleep(pause)
            else:
                return None
        return None

    async def _park(self, led: _Led, recorded: Recorded, error: Exception) -> None:
        env = recorded.env
        log.warning("reactor %s parks stream %s at %s: %r", led.reactor.name, env.stream_id, env.position, error)
        led.parked[env.stream_id] = env.position
        text = f"{type(error).__name__}: {error}".replace("\0", "")
        async with self._log.pool.connection() as conn:
            await conn.execute(feeds.PARK, (led.feed, env.stream_id, env.position, env.name, text))

    async def _retry(self, conn: psycopg.Connection, led: _Led) -> None:
        """React again to the held-back events of streams that an operator asked for."""
        for parked in [p for p in await asyncio.to_thread(feeds.parked, conn, [led.feed]) if p.retry]:
            events = await self._log.read_stream(parked.stream_id, upto=led.position)
            del led.parked[parked.stream_id]
            for recorded in events:
                if recorded.env.position < parked.position or type(recorded.event) not in led.types:
                    continue
                error = await self._try(led, recorded)
                if error is not None:
                    await self._park(led, recorded, error)
                    break
            else:
                await asyncio.to_thread(feeds.release, conn, [parked.id])

    async def _save(self, conn: psycopg.Connection) -> None:
        moves = [(led.feed, led.saved, led.position) for led in self._led.values() if led.position > led.saved]
        if moves:
            await asyncio.to_thread(feeds.move, conn, moves)
            for led in self._led.values():
                led.saved = led.position
