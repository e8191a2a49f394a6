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
from eventstore.decoding import Raw
from eventstore.history import HistoryChanged
from eventstore.log import AlreadyDone, Recorded
from eventstore.postgres_log import PostgresLog
from kit.cancellation import stop_if_cancelled
from kit.wording import described, kept

logger = logging.getLogger(__name__)

PAGE = 1_000
MAX_QUARANTINED = 1_000
"""With this many quarantined streams the reactor itself is at fault: it stops until some are
retried."""

MAX_CONCURRENT_STREAMS = 128
"""How many streams one reactor handles concurrently."""

RETRY_PAGE = 100
"""Events read at a time when a stream is retried."""

RESCAN_SECONDS = 1.0
RETRY_BACKOFF_SECONDS = (0.05, 0.2, 1.0)
"""Seconds between attempts of a failed reaction, before its stream is quarantined."""

OUTAGE_BACKOFF_SECONDS = (0.1, 5.0)
"""The first and the longest pause between attempts while a dependency of a reaction is down."""

PAGE_BARRIER_SECONDS = 0.25
"""How long reactors wait for each other at the end of a page."""

LAGGARD_POLL_SECONDS = 0.05
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
    """Create the subscription of each reactor unless it exists. It reacts to everything appended
    from now on, once a runner starts."""
    with connect(url, "ludoteca reactors") as conn:
        register(conn, reactors)


def register(conn: psycopg.Connection, reactors: Iterable[Reacts]) -> None:
    """As `register_reactors`, over a connection (autocommit)."""
    head = checkpoints.head(conn)
    for reactor in reactors:
        checkpoints.register(conn, reactor.name, 1, "", head if reactor.starts_from == "now" else 0)


class Lead:
    """A reactor led by this process, and its current work: a page, or a retry."""

    def __init__(
        self,
        reactor: Reacts,
        names: Iterable[str],
        subscription: checkpoints.Subscription,
        quarantined: Iterable[checkpoints.Quarantined],
    ) -> None:
        self.reactor = reactor
        self.names = frozenset(names)
        self.name = subscription.name
        self.position = self.saved = subscription.position
        self.quarantined = {p.stream_id: p.position for p in quarantined}
        self.retry_requested: list[checkpoints.Quarantined] = []
        self.places = asyncio.Semaphore(MAX_CONCURRENT_STREAMS)
        self.task: asyncio.Task[None] | None = None
        self._position_after = subscription.position

    def start(self, work: Coroutine[None, None, None], *, position_after: int) -> None:
        """Start work that ends with the reactor at position `then`."""
        self.task = asyncio.create_task(work, name=f"reactor {self.reactor.name}")
        self._position_after = position_after

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
        log: PostgresLog,
        reactors: Sequence[Reacts],
        *,
        outcomes: tuple[type[Exception], ...],
        unavailable: tuple[type[Exception], ...] = (),
    ) -> None:
        self._url = url
        self._log = log
        self._outcomes = outcomes
        self._unavailable = unavailable
        self._reactors = {r.name: r for r in reactors}
        self._names = log.codec.names_of({cls for r in reactors for cls in r.reactions})
        self._leads: dict[str, Lead] = {}
        self._challenger = Challenger()
        self._trail_at = float("-inf")  # when to record the next position
        self._astray: set[str] = set()
        self._held: set[str] = set()  # whose checkpoints somebody else holds
        self._unknown_names = UnknownNames(log.codec)
        self._generation = 0  # of the log's history
        log.history.when_it_changes(self._forget)

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
                logger.warning("reactors begin anew from their checkpoints: %s", error)
            except NewerEvent as error:
                if str(error) != said:
                    said = str(error)
                    logger.error("reactors stand still: %s", error)
            except checkpoints.CheckpointMoved as error:
                logger.warning("another process leads %s now", error)
            except Exception as error:
                if is_away(error):
                    logger.warning("reactors lost their database: %s", error)
                else:
                    logger.exception("reactors failed; they start again")
            finally:
                await asyncio.gather(*[lead.stop() for lead in self._leads.values()])
                self._leads.clear()
            await asyncio.sleep(RESCAN_SECONDS)

    def _forget(self) -> None:
        for lead in self._leads.values():
            lead.forget()

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
        rows = {row.name: row for row in await asyncio.to_thread(self._registered, conn)}
        of_others: list[str] = []
        astray = {name for name, row in rows.items() if row.astray}
        for name in astray - self._astray:
            await asyncio.to_thread(histories.log_astray, conn, rows[name])
        self._astray = astray
        for name, row in rows.items():
            if (row.paused or row.astray) and name in self._leads:
                await self._leads.pop(name).stop()
                await asyncio.to_thread(checkpoints.stop_leading, conn, name)
            elif not (row.paused or row.astray or name in self._leads):
                if not await asyncio.to_thread(checkpoints.try_lead, conn, name):
                    of_others.append(name)
                    continue
                fresh = await asyncio.to_thread(checkpoints.subscription, conn, name)
                quarantined = await asyncio.to_thread(checkpoints.quarantined, conn, [name])
                if fresh is not None:
                    reactor = self._reactors[row.projection]
                    self._leads[name] = Lead(
                        reactor, self._log.codec.names_of(reactor.reactions), fresh, quarantined
                    )
        await asyncio.to_thread(self._challenger.look, conn, of_others)
        for lead in self._leads.values():
            if lead.quarantined and lead.task is None:
                lead.retry_requested = [
                    p
                    for p in await asyncio.to_thread(checkpoints.quarantined, conn, [lead.name])
                    if p.retry
                ]

    def _registered(self, conn: psycopg.Connection) -> list[checkpoints.Subscription]:
        require_current(conn)
        register(conn, self._reactors.values())
        return [
            row
            for row in checkpoints.subscriptions(conn)
            if row.projection in self._reactors and not row.storage
        ]

    # -- steps -------------------------------------------------------------------------------------

    async def _step(self, conn: psycopg.Connection, seconds: float) -> None:
        """Let idle reactors react to new events, if there are any; takes at most about this many
        seconds."""
        for lead in self._leads.values():
            lead.finish()
            if lead.task is None and lead.retry_requested:
                lead.start(self._retry(lead, lead.retry_requested), position_after=lead.position)
                lead.retry_requested = []
        free = [
            lead
            for lead in self._leads.values()
            if lead.task is None and len(lead.quarantined) < MAX_QUARANTINED
        ]
        if len(free) < len(self._leads):
            seconds = min(seconds, LAGGARD_POLL_SECONDS)
        if not free:
            await asyncio.sleep(seconds)
            return
        start = min(lead.position for lead in free)
        try:
            async with asyncio.timeout(seconds):
                head = await self._log.watcher.beyond(start, self._generation)
        except TimeoutError:
            return
        try:
            end = await asyncio.to_thread(self._known_upto, conn, start, min(head, start + PAGE))
        except NewerEvent:
            await self._save(conn)
            if len(free) == len(self._leads):
                raise  # and release the lead: a newer release goes on from here
            await asyncio.sleep(seconds)
            return
        await self._advance(free, start, end)
        await self._save(conn)

    def _known_upto(self, conn: psycopg.Connection, start: int, end: int) -> int:
        self._unknown_names.look(conn)
        return self._unknown_names.known_upto(conn, start, end)

    async def _advance(self, free: Sequence[Lead], start: int, end: int) -> None:
        """One page from the position of the last of the idle reactors; the others take the part
        after their own positions."""
        rows, end = await self._log.read_page(start, end, names=self._names, limit=PAGE)
        page = await self._decoded(rows)
        self._log.history.must_be(self._generation)
        for lead in free:
            events = [
                r for r in page if r.env.position > lead.position and r.env.name in lead.names
            ]
            if events:
                lead.start(self._react(lead, events), position_after=end)
            else:
                lead.position = max(lead.position, end)
        if tasks := [lead.task for lead in free if lead.task is not None]:
            await asyncio.wait(tasks, timeout=PAGE_BARRIER_SECONDS)
        for lead in free:
            lead.finish()

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

    async def _react(self, lead: Lead, events: Sequence[Recorded]) -> None:
        by_stream: dict[UUID, list[Recorded]] = defaultdict(list)
        for recorded in events:
            by_stream[recorded.env.stream_id].append(recorded)
        async with asyncio.TaskGroup() as group:
            for of_stream in by_stream.values():
                group.create_task(self._react_in_order(lead, of_stream))

    async def _react_in_order(self, lead: Lead, events: Sequence[Recorded]) -> None:
        """React to events of one stream in order. After a failure the rest of the stream waits."""
        async with lead.places:
            for recorded in events:
                if recorded.env.position >= lead.quarantined.get(
                    recorded.env.stream_id, recorded.env.position + 1
                ):
                    return
                error = await self._try(lead, recorded)
                if error is not None:
                    await self._quarantine(lead, recorded, error)

    async def _try(self, lead: Lead, recorded: Recorded) -> Exception | None:
        """React, with a few attempts. Returns the remaining error."""
        if isinstance(recorded.event, Unreadable):
            return recorded.event.error
        for pause in (*RETRY_BACKOFF_SECONDS, None):
            try:
                await self._outlast(lead, partial(lead.reactor.react, recorded))
            except self._outcomes as outcome:
                await self._note(lead, recorded, outcome)
                return None
            except Exception as error:  # whatever fails, only this stream waits
                if pause is None:
                    return error
                await asyncio.sleep(pause)
            else:
                return None
        return None

    async def _outlast(self, lead: Lead, act: Callable[[], Awaitable[None]]) -> None:
        """Call `act` repeatedly until none of its dependencies is down."""
        pause, longest = OUTAGE_BACKOFF_SECONDS
        while True:
            stop_if_cancelled()
            try:
                return await act()
            except Exception as error:
                if not is_away(error) and not isinstance(error, self._unavailable):
                    raise
                logger.warning("reactor %s waits for what it needs: %r", lead.reactor.name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _note(self, lead: Lead, recorded: Recorded, outcome: Exception) -> None:
        """Record a refusal. A repeat needs no record."""
        env = recorded.env
        logger.info("reactor %s at position %s: %s", lead.reactor.name, env.position, outcome)
        if not isinstance(outcome, AlreadyDone):
            code = kept(str(getattr(outcome, "code", type(outcome).__name__)))
            values = (
                lead.name,
                env.event_id,
                env.position,
                env.stream_id,
                code,
                kept(str(outcome)),
            )
            await self._outlast(lead, partial(self._write, checkpoints.NOTE_REFUSAL, values))

    async def _quarantine(self, lead: Lead, recorded: Recorded, error: Exception) -> None:
        env = recorded.env
        lead.quarantined[env.stream_id] = env.position
        if len(lead.quarantined) <= MAX_QUARANTINED:
            logger.warning(
                "reactor %s parks stream %s at %s: %r",
                lead.reactor.name,
                env.stream_id,
                env.position,
                error,
            )
        if len(lead.quarantined) == MAX_QUARANTINED:
            logger.error(
                "reactor %s stands still: %s streams are in quarantine",
                lead.reactor.name,
                MAX_QUARANTINED,
            )
        values = (lead.name, [env.stream_id], [env.position], [env.name], [described(error)])
        await self._outlast(lead, partial(self._write, checkpoints.QUARANTINE, values))

    async def _write(self, query: str, values: tuple[object, ...]) -> None:
        async with self._log.pool.connection() as conn:
            await conn.execute(query.encode(), values)

    async def _retry(self, lead: Lead, retry_requested: Sequence[checkpoints.Quarantined]) -> None:
        """React again to the events of quarantined streams that an operator wants retried."""
        for quarantined in retry_requested:
            lead.quarantined.pop(quarantined.stream_id, None)
            version = 0
            while rows := await self._log.read_stream_raw(
                quarantined.stream_id, version, upto=lead.position, limit=RETRY_PAGE
            ):
                version = rows[-1][0].version
                held = [
                    row
                    for row in rows
                    if row[0].position >= quarantined.position and row[0].name in lead.names
                ]
                await self._react_in_order(lead, await self._decoded(held))
                if quarantined.stream_id in lead.quarantined:
                    break
            else:
                await self._outlast(
                    lead, partial(self._write, checkpoints.RELEASE, ([quarantined.id],))
                )

    async def _save(self, conn: psycopg.Connection) -> None:
        self._log.history.must_be(self._generation)
        ahead = [lead for lead in self._leads.values() if lead.position > lead.saved]
        if ahead:
            moves = [(lead.name, lead.saved, lead.position) for lead in ahead]
            moved = await asyncio.to_thread(checkpoints.move_free, conn, moves)
            for (subscription, _, position), lead in zip(moves, ahead, strict=True):
                if subscription in moved:
                    lead.saved = position
            self._say_who_is_held({lead.name for lead in ahead} - moved)
            if (now := asyncio.get_running_loop().time()) > self._trail_at:
                self._trail_at = now + histories.TRAIL_SECONDS
                await asyncio.to_thread(histories.leave_trail, conn, list(self._leads))

    def _say_who_is_held(self, held: set[str]) -> None:
        """Once for each: they go on, and repeat it all should this process end."""
        for subscription in held - self._held:
            logger.warning("somebody holds the checkpoint of %s, which moves later", subscription)
        self._held = held
