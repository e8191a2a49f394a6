"""Runs reactors: they follow the log as projections do, but act instead of folding.

One read of the log serves all reactors of a process. Each reactor handles the events of one stream
in order, and several streams concurrently. A checkpoint moves when everything before it is done;
after a crash the work under way is repeated, which reactors recognise. A reactor that needs longer
for a page than the others falls behind, and catches up with pages of its own.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Literal, Protocol
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers import checkpoints, histories
from eventstore.consumers.leadership import PLANNED_ONCE, Challenger, connected
from eventstore.consumers.newer_events import NewerEvent, UnknownNames
from eventstore.consumers.reader import Unreadable
from eventstore.database.postgres import connect, is_away
from eventstore.database.release import OutdatedRelease, require_current
from eventstore.history import HistoryChanged
from eventstore.log import AlreadyDone, Recorded
from eventstore.postgres_log import PostgresLog, Raw
from kit.cancellation import stop_if_cancelled
from kit.wording import described, kept

log = logging.getLogger(__name__)

PAGE = 1_000
MOST_PARKED = 1_000
"""With this many quarantined streams the reactor itself is at fault: it stops until some are
retried."""

AT_ONCE = 128
"""How many streams one reactor handles concurrently."""

RETRIED_PAGE = 100
"""Events read at a time when a stream is retried."""

RESCAN_SECONDS = 1.0
PATIENCE = (0.05, 0.2, 1.0)
"""Seconds between attempts of a failed reaction, before its stream is quarantined."""

OUTAGE_SECONDS = (0.1, 5.0)
"""The first and the longest pause between attempts while a dependency of a reaction is down."""

TOGETHER_SECONDS = 0.25
"""How long reactors wait for each other at the end of a page."""

LAGGARD_SECONDS = 0.05
"""How often a reactor still busy with its page is checked while the others wait for events."""


class Reacts(Protocol):
    """What the runner needs of a reactor."""

    @property
    def name(self) -> str: ...

    @property
    def reactions(self) -> "Iterable[type[msgspec.Struct]]": ...

    @property
    def starts_from(self) -> Literal["beginning", "now"]: ...

    async def react(self, recorded: Recorded) -> None: ...


def register_reactors(url: str, reactors: Iterable[Reacts]) -> None:
    """Create the feed of each reactor unless it exists. It reacts to everything appended from now
    on, once a runner starts."""
    with connect(url, "ludoteca reactors") as conn:
        register(conn, reactors)


def register(conn: psycopg.Connection, reactors: Iterable[Reacts]) -> None:
    """As `register_reactors`, over a connection (autocommit)."""
    head = checkpoints.head(conn)
    for reactor in reactors:
        checkpoints.register(conn, reactor.name, 1, "", head if reactor.starts_from == "now" else 0)


class _Led:
    """A reactor led by this process, and its current work: a page, or a retry."""

    def __init__(
        self,
        reactor: Reacts,
        names: Iterable[str],
        feed: checkpoints.FeedRow,
        parked: Iterable[checkpoints.Parked],
    ) -> None:
        self.reactor = reactor
        self.names = frozenset(names)
        self.feed = feed.feed
        self.position = self.saved = feed.position
        self.parked = {p.stream_id: p.position for p in parked}
        self.asked: list[checkpoints.Parked] = []
        self.places = asyncio.Semaphore(AT_ONCE)
        self.task: asyncio.Task[None] | None = None
        self._position_after = feed.position

    def start(self, work: Coroutine[None, None, None], *, then: int) -> None:
        """Start work that ends with the reactor at position `then`."""
        self.task = asyncio.create_task(work, name=f"reactor {self.reactor.name}")
        self._position_after = then

    def finish(self) -> None:
        """Collect completed work. Raises what it raised."""
        if self.task is not None and self.task.done():
            task = self.task
            self.task = None
            if task.cancelled():
                raise HistoryChanged(f"{self.reactor.name} was reacting to events that may be gone")
            task.result()
            self.position = self._position_after

    def forget(self) -> None:
        """Cancel work on a history that may be lost."""
        if self.task is not None:
            self.task.cancel()

    async def stop(self) -> None:
        """Cancel the work; the next leader repeats it."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class ReactorRunner:
    """Leads those of the given reactors that no other process leads.

    `outcomes` are exceptions that a reaction may properly end with (a refusal, a repeat): they are
    not retried, and refusals are recorded in consumers.refusals. `unavailable` are those that mean
    that a dependency is down, as the log may be: the reaction waits for it as long as it takes,
    while other reactors go on. After any other exception, and a few attempts, the event's stream is
    quarantined for that reactor.
    """

    def __init__(
        self,
        url: str,
        log_: PostgresLog,
        reactors: Sequence[Reacts],
        *,
        outcomes: tuple[type[Exception], ...],
        unavailable: tuple[type[Exception], ...] = (),
    ) -> None:
        self._url = url
        self._log = log_
        self._outcomes = outcomes
        self._unavailable = unavailable
        self._reactors = {r.name: r for r in reactors}
        self._names = log_.codec.names_of({cls for r in reactors for cls in r.reactions})
        self._led: dict[str, _Led] = {}
        self._challenger = Challenger()
        self._trail_at = float("-inf")  # when to record the next position
        self._astray: set[str] = set()
        self._held: set[str] = set()  # whose checkpoints somebody else holds
        self._unknown_names = UnknownNames(log_.codec)
        self._generation = 0  # of the log's history
        log_.history.when_it_changes(self._forget)

    async def run(self) -> None:
        """Run until cancelled; survives lost connections. Raises OutdatedRelease."""
        said = ""
        while True:
            stop_if_cancelled()
            try:
                async with connected(self._url, "ludoteca reactors") as conn:
                    await self._run(conn)
            except OutdatedRelease:
                raise
            except HistoryChanged as error:
                log.warning("reactors begin anew from their checkpoints: %s", error)
            except NewerEvent as error:
                if str(error) != said:
                    said = str(error)
                    log.error("reactors stand still: %s", error)
            except checkpoints.CheckpointMoved as error:
                log.warning("another process leads %s now", error)
            except Exception as error:
                if is_away(error):
                    log.warning("reactors lost their database: %s", error)
                else:
                    log.exception("reactors failed; they start again")
            finally:
                await asyncio.gather(*[led.stop() for led in self._led.values()])
                self._led.clear()
            await asyncio.sleep(RESCAN_SECONDS)

    def _forget(self) -> None:
        for led in self._led.values():
            led.forget()

    async def _run(self, conn: psycopg.Connection) -> None:
        self._generation = self._log.history.generation
        await asyncio.to_thread(conn.execute, f"SET synchronous_commit = off; {PLANNED_ONCE}")
        now = asyncio.get_running_loop().time
        while True:
            await self._scan(conn)
            scan_at = now() + RESCAN_SECONDS
            while (left := scan_at - now()) > 0:
                stop_if_cancelled()
                await self._step(conn, left)
            await self._save(conn)

    async def _scan(self, conn: psycopg.Connection) -> None:
        """Lead what nobody leads, release what is paused, and find what to retry."""
        rows = {row.feed: row for row in await asyncio.to_thread(self._registered, conn)}
        of_others: list[str] = []
        astray = {name for name, row in rows.items() if row.astray}
        for name in astray - self._astray:
            await asyncio.to_thread(histories.refuse, conn, rows[name])
        self._astray = astray
        for name, row in rows.items():
            if (row.paused or row.astray) and name in self._led:
                await self._led.pop(name).stop()
                await asyncio.to_thread(checkpoints.stop_leading, conn, name)
            elif not (row.paused or row.astray or name in self._led):
                if not await asyncio.to_thread(checkpoints.try_lead, conn, name):
                    of_others.append(name)
                    continue
                fresh = await asyncio.to_thread(checkpoints.feed, conn, name)
                parked = await asyncio.to_thread(checkpoints.parked, conn, [name])
                if fresh is not None:
                    reactor = self._reactors[row.projection]
                    self._led[name] = _Led(
                        reactor, self._log.codec.names_of(reactor.reactions), fresh, parked
                    )
        await asyncio.to_thread(self._challenger.look, conn, of_others)
        for led in self._led.values():
            if led.parked and led.task is None:
                led.asked = [
                    p
                    for p in await asyncio.to_thread(checkpoints.parked, conn, [led.feed])
                    if p.retry
                ]

    def _registered(self, conn: psycopg.Connection) -> list[checkpoints.FeedRow]:
        require_current(conn)
        register(conn, self._reactors.values())
        return [
            row
            for row in checkpoints.feeds(conn)
            if row.projection in self._reactors and not row.storage
        ]

    # -- steps -------------------------------------------------------------------------------------

    async def _step(self, conn: psycopg.Connection, seconds: float) -> None:
        """Let idle reactors react to new events, if there are any; takes at most about this many
        seconds."""
        for led in self._led.values():
            led.finish()
            if led.task is None and led.asked:
                led.start(self._retry(led, led.asked), then=led.position)
                led.asked = []
        free = [
            led for led in self._led.values() if led.task is None and len(led.parked) < MOST_PARKED
        ]
        if len(free) < len(self._led):
            seconds = min(seconds, LAGGARD_SECONDS)
        if not free:
            await asyncio.sleep(seconds)
            return
        start = min(led.position for led in free)
        try:
            async with asyncio.timeout(seconds):
                head = await self._log.watcher.beyond(start, self._generation)
        except TimeoutError:
            return
        try:
            end = await asyncio.to_thread(self._known_upto, conn, start, min(head, start + PAGE))
        except NewerEvent:
            await self._save(conn)
            if len(free) == len(self._led):
                raise  # and release the lead: a newer release goes on from here
            await asyncio.sleep(seconds)
            return
        await self._advance(free, start, end)
        await self._save(conn)

    def _known_upto(self, conn: psycopg.Connection, start: int, end: int) -> int:
        self._unknown_names.look(conn)
        return self._unknown_names.known_upto(conn, start, end)

    async def _advance(self, free: Sequence[_Led], start: int, end: int) -> None:
        """One page from the position of the last of the idle reactors; the others take the part
        after their own positions."""
        rows, end = await self._log.read_page(start, end, names=self._names, limit=PAGE)
        page = await self._decoded(rows)
        self._log.history.must_be(self._generation)
        for led in free:
            events = [r for r in page if r.env.position > led.position and r.env.name in led.names]
            if events:
                led.start(self._react(led, events), then=end)
            else:
                led.position = max(led.position, end)
        if tasks := [led.task for led in free if led.task is not None]:
            await asyncio.wait(tasks, timeout=TOGETHER_SECONDS)
        for led in free:
            led.finish()

    async def _decoded(self, rows: Sequence[Raw]) -> list[Recorded]:
        """Decode rows to events, some of which may be Unreadable."""
        try:
            return await self._log.decode(rows)
        except psycopg.Error:
            raise
        except Exception as error:
            # invalid JSON, another shape, or a failing upcaster: find the event
            if len(rows) == 1:
                return [Recorded(rows[0][0], Unreadable(error))]
            return [recorded for row in rows for recorded in await self._decoded([row])]

    async def _react(self, led: _Led, events: Sequence[Recorded]) -> None:
        by_stream: dict[UUID, list[Recorded]] = defaultdict(list)
        for recorded in events:
            by_stream[recorded.env.stream_id].append(recorded)
        async with asyncio.TaskGroup() as group:
            for of_stream in by_stream.values():
                group.create_task(self._react_in_order(led, of_stream))

    async def _react_in_order(self, led: _Led, events: Sequence[Recorded]) -> None:
        """React to events of one stream in order. After a failure the rest of the stream waits."""
        async with led.places:
            for recorded in events:
                if recorded.env.position >= led.parked.get(
                    recorded.env.stream_id, recorded.env.position + 1
                ):
                    return
                error = await self._try(led, recorded)
                if error is not None:
                    await self._park(led, recorded, error)

    async def _try(self, led: _Led, recorded: Recorded) -> Exception | None:
        """React, with a few attempts. Returns the remaining error."""
        if isinstance(recorded.event, Unreadable):
            return recorded.event.error
        for pause in (*PATIENCE, None):
            try:
                await self._outlast(led, partial(led.reactor.react, recorded))
            except self._outcomes as outcome:
                await self._note(led, recorded, outcome)
                return None
            except Exception as error:  # whatever fails, only this stream waits
                if pause is None:
                    return error
                await asyncio.sleep(pause)
            else:
                return None
        return None

    async def _outlast(self, led: _Led, act: Callable[[], Awaitable[None]]) -> None:
        """Call `act` repeatedly until none of its dependencies is down."""
        pause, longest = OUTAGE_SECONDS
        while True:
            stop_if_cancelled()
            try:
                return await act()
            except Exception as error:
                if not is_away(error) and not isinstance(error, self._unavailable):
                    raise
                log.warning("reactor %s waits for what it needs: %r", led.reactor.name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _note(self, led: _Led, recorded: Recorded, outcome: Exception) -> None:
        """Record a refusal. A repeat needs no record."""
        env = recorded.env
        log.info("reactor %s at position %s: %s", led.reactor.name, env.position, outcome)
        if not isinstance(outcome, AlreadyDone):
            code = kept(str(getattr(outcome, "code", type(outcome).__name__)))
            values = (led.feed, env.event_id, env.position, env.stream_id, code, kept(str(outcome)))
            await self._outlast(led, partial(self._write, checkpoints.NOTE_REFUSAL, values))

    async def _park(self, led: _Led, recorded: Recorded, error: Exception) -> None:
        env = recorded.env
        led.parked[env.stream_id] = env.position
        if len(led.parked) <= MOST_PARKED:
            log.warning(
                "reactor %s parks stream %s at %s: %r",
                led.reactor.name,
                env.stream_id,
                env.position,
                error,
            )
        if len(led.parked) == MOST_PARKED:
            log.error(
                "reactor %s stands still: %s streams are in quarantine",
                led.reactor.name,
                MOST_PARKED,
            )
        values = (led.feed, [env.stream_id], [env.position], [env.name], [described(error)])
        await self._outlast(led, partial(self._write, checkpoints.PARK, values))

    async def _write(self, query: str, values: tuple[object, ...]) -> None:
        async with self._log.pool.connection() as conn:
            await conn.execute(query.encode(), values)

    async def _retry(self, led: _Led, asked: Sequence[checkpoints.Parked]) -> None:
        """React again to the events of quarantined streams that an operator wants retried."""
        for parked in asked:
            led.parked.pop(parked.stream_id, None)
            version = 0
            while rows := await self._log.read_stream_raw(
                parked.stream_id, version, upto=led.position, limit=RETRIED_PAGE
            ):
                version = rows[-1][0].version
                held = [
                    row
                    for row in rows
                    if row[0].position >= parked.position and row[0].name in led.names
                ]
                await self._react_in_order(led, await self._decoded(held))
                if parked.stream_id in led.parked:
                    break
            else:
                await self._outlast(led, partial(self._write, checkpoints.RELEASE, ([parked.id],)))

    async def _save(self, conn: psycopg.Connection) -> None:
        self._log.history.must_be(self._generation)
        ahead = [led for led in self._led.values() if led.position > led.saved]
        if ahead:
            moves = [(led.feed, led.saved, led.position) for led in ahead]
            moved = await asyncio.to_thread(checkpoints.move_free, conn, moves)
            for (feed, _, position), led in zip(moves, ahead, strict=True):
                if feed in moved:
                    led.saved = position
            self._say_who_is_held({led.feed for led in ahead} - moved)
            if (now := asyncio.get_running_loop().time()) > self._trail_at:
                self._trail_at = now + histories.TRAIL_SECONDS
                await asyncio.to_thread(histories.leave_trail, conn, list(self._led))

    def _say_who_is_held(self, held: set[str]) -> None:
        """Once for each: they go on, and repeat it all should this process end."""
        for feed in held - self._held:
            log.warning("somebody holds the checkpoint of %s, which moves later", feed)
        self._held = held
