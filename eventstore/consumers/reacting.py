"""Reactions to events: in order within a stream, tried again, refused, or put into quarantine."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from eventstore.consumers import amended, checkpoints, quarantine
from eventstore.database.postgres import is_away
from eventstore.decoding import SKIPPED, Unreadable
from eventstore.history import HistoryChanged
from eventstore.log import AlreadyDone, Recorded
from eventstore.postgres_log import PostgresLog
from kit import tracing
from kit.cancellation import stop_if_cancelled
from kit.log_context import about_request
from kit.metrics import REACTION_RETRIES
from kit.wording import described, kept

logger = logging.getLogger(__name__)

MAX_QUARANTINED = 1_000
"""With this many quarantined streams the reactor itself is at fault: it stops until some are
retried."""

MAX_CONCURRENT_STREAMS = 128
"""How many streams one reactor handles concurrently."""

RETRY_PAGE = 100
"""Events read at a time when a stream is retried."""

RETRY_BACKOFF_SECONDS = (0.05, 0.2, 1.0)
"""Seconds between attempts of a failed reaction, before its stream is quarantined."""

OUTAGE_BACKOFF_SECONDS = (0.1, 5.0)
"""The first and the longest pause between attempts while a dependency of a reaction is down."""


class Reacts(Protocol):
    """What the runner needs of a reactor."""

    @property
    def name(self) -> str: ...

    @property
    def reactions(self) -> "Iterable[type[msgspec.Struct]]": ...

    @property
    def starts_from(self) -> Literal["beginning", "now"]: ...

    async def react(self, recorded: Recorded) -> None: ...


class Lead:
    """A reactor led by this process, and its current work: a page, or a retry."""

    def __init__(
        self,
        reactor: Reacts,
        names: Iterable[str],
        subscription: checkpoints.Subscription,
        quarantined: Iterable[quarantine.Quarantined],
    ) -> None:
        self.reactor = reactor
        self.names = frozenset(names)
        self.name = subscription.name
        self.position = self.saved = subscription.position
        self.amended = subscription.amended
        self.read_by = 0  # up to which amendments, at least, its present events were read
        self.quarantined = {p.stream_id: p.position for p in quarantined}
        self.retry_requested: list[quarantine.Quarantined] = []
        self.places = asyncio.Semaphore(MAX_CONCURRENT_STREAMS)
        self.task: asyncio.Task[None] | None = None
        self._position_after = subscription.position

    def start(self, work: Coroutine[None, None, None], *, position_after: int) -> None:
        """Start work that ends with the reactor at `position_after`."""
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


class Reactions:
    """Carries out the reactions of reactors that this process leads.

    `outcomes` are exceptions that a reaction may properly end with (a refusal, a repeat): they are
    not retried, and refusals are recorded in consumers.refusals. `unavailable` are those that mean
    that a dependency is down, as the log may be: the reaction waits for it as long as it takes,
    while other reactors go on. After any other exception, and a few attempts, the event's stream is
    quarantined for that reactor.
    """

    def __init__(
        self,
        log: PostgresLog,
        outcomes: tuple[type[Exception], ...],
        unavailable: tuple[type[Exception], ...],
    ) -> None:
        self._log = log
        self._outcomes = outcomes
        self._unavailable = unavailable

    async def react(self, lead: Lead, events: Sequence[Recorded]) -> None:
        """React to events in the order of each stream, to several streams at a time."""
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
                env = recorded.env
                with (
                    tracing.span(f"react {lead.reactor.name}", env.traceparent, kind="consumer"),
                    about_request(env.correlation_id, env.traceparent),
                ):
                    error = await self._try(lead, recorded)
                    tracing.describe({"event.name": env.name}, failed=error is not None)
                    if error is not None:
                        await self._quarantine(lead, recorded, error)

    async def _try(self, lead: Lead, recorded: Recorded) -> Exception | None:
        """React, with a few attempts. Returns the remaining error."""
        if isinstance(recorded.event, Unreadable):
            return recorded.event.error
        if recorded.event is SKIPPED:
            return None
        for pause in (*RETRY_BACKOFF_SECONDS, None):
            try:
                await self._outlast(lead, partial(lead.reactor.react, recorded))
            except self._outcomes as outcome:
                await self._note(lead, recorded, outcome)
                return None
            except Exception as error:  # whatever fails, only this stream waits
                if pause is None:
                    return error
                REACTION_RETRIES.labels(lead.reactor.name).inc()
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
                REACTION_RETRIES.labels(lead.reactor.name).inc()
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
        await self._outlast(lead, partial(self._write, quarantine.ADD, values))
        await self._outlast(lead, partial(self._retry_if_amended, lead, env.position))

    async def _retry_if_amended(self, lead: Lead, position: int) -> None:
        """Ask for another try of an event that was amended while it was tried: whoever took up the
        amendment did not see it in quarantine yet."""
        await self._log.amendments.look()
        since = self._log.amendments.now.since(lead.read_by)
        if any(each.position == position for each in since):
            await self._write(amended.RETRY_AT, (lead.name, [position]))

    async def _write(self, query: str, values: tuple[object, ...]) -> None:
        async with self._log.pool.connection() as conn:
            await conn.execute(query.encode(), values)

    async def retry(self, lead: Lead, retry_requested: Sequence[quarantine.Quarantined]) -> None:
        """React again to the events of quarantined streams that an operator wants retried."""
        for quarantined in retry_requested:
            lead.quarantined.pop(quarantined.stream_id, None)
            lead.read_by = self._log.amendments.now.upto
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
                await self._react_in_order(lead, await self._log.decode_each(held))
                if quarantined.stream_id in lead.quarantined:
                    break
            else:
                await self._outlast(
                    lead, partial(self._write, quarantine.RELEASE, ([quarantined.id],))
                )
