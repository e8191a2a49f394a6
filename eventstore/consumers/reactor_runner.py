"""Runs reactors: they follow the log as projections do, but act instead of folding.

One read of the log serves all reactors of a process. Each reactor handles the events of one stream
in order, and several streams concurrently. A checkpoint moves when everything before it is done;
after a crash the work under way is repeated, which reactors recognise. A reactor that needs longer
for a page than the others falls behind, and catches up with pages of its own.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

import psycopg

from eventstore.consumers import amended, checkpoints, histories, quarantine
from eventstore.consumers.leadership import PLANNED_ONCE, Challenger, connected
from eventstore.consumers.newer_events import NewerEvent, UnknownNames
from eventstore.consumers.reacting import MAX_QUARANTINED, Lead, Reactions, Reacts
from eventstore.database.postgres import connect, is_away
from eventstore.database.release import OutdatedRelease, require_current
from eventstore.history import HistoryChanged
from eventstore.postgres_log import PostgresLog
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

PAGE = 1_000
RESCAN_SECONDS = 1.0
PAGE_BARRIER_SECONDS = 0.25
"""How long reactors wait for each other at the end of a page."""

LAGGARD_POLL_SECONDS = 0.05
"""How often a reactor still busy with its page is checked while the others wait for events."""


def register_reactors(url: str, reactors: Iterable[Reacts]) -> None:
    """Create the subscription of each reactor unless it exists. It reacts to everything appended
    from now on, once a runner starts."""
    with connect(url, "ludoteca reactors") as conn:
        register(conn, reactors)


def register(conn: psycopg.Connection, reactors: Iterable[Reacts]) -> None:
    """As `register_reactors`, over a connection (autocommit)."""
    there = checkpoints.registered(conn)
    missing = [reactor for reactor in reactors if (reactor.name, 1) not in there]
    head = checkpoints.head(conn) if missing else 0
    for reactor in missing:
        checkpoints.register(conn, reactor.name, 1, "", head if reactor.starts_from == "now" else 0)


class ReactorRunner:
    """Leads those of the given reactors that no other process leads.

    `outcomes` and `unavailable` are exceptions that are no failures of a reaction (`Reactions`).
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
        self._reactions = Reactions(log, outcomes, unavailable)
        self._reactors = {r.name: r for r in reactors}
        wanted = log.codec.names_of({cls for r in reactors for cls in r.reactions})
        self._ignored = sorted(log.codec.kinds.keys() - set(wanted))
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
        """Lead reactors without a leader, release paused ones, and find streams to retry."""
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
                quarantined = await asyncio.to_thread(quarantine.held, conn, [name])
                if fresh is not None:
                    reactor = self._reactors[row.projection]
                    self._leads[name] = Lead(
                        reactor, self._log.codec.names_of(reactor.reactions), fresh, quarantined
                    )
        await asyncio.to_thread(self._challenger.look, conn, of_others)
        await self._take_up_amendments(conn)
        for lead in self._leads.values():
            if lead.quarantined and lead.task is None:
                lead.retry_requested = [
                    p
                    for p in await asyncio.to_thread(quarantine.held, conn, [lead.name])
                    if p.retry
                ]

    async def _take_up_amendments(self, conn: psycopg.Connection) -> None:
        """Ask for another try of streams whose event was amended. What was done stays done."""
        await asyncio.to_thread(self._unknown_names.look, conn)
        amendments = self._unknown_names.amendments
        behind = [each for each in self._leads.values() if each.amended != amendments.upto]
        if behind:
            await self._log.amendments.look()
        for lead in behind:
            positions = [each.position for each in amendments.since(lead.amended)]
            await asyncio.to_thread(_take_up, conn, lead.name, positions, amendments.upto)
            lead.amended = amendments.upto

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
                lead.start(
                    self._reactions.retry(lead, lead.retry_requested), position_after=lead.position
                )
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
            await self._advance(conn, free, start, min(head, start + PAGE))
        except NewerEvent:
            await self._save(conn)
            if len(free) == len(self._leads):
                raise  # and release the lead: a newer release continues from here
            await asyncio.sleep(seconds)
            return
        await self._save(conn)

    def _known_upto(self, conn: psycopg.Connection, start: int, end: int) -> int:
        self._unknown_names.look(conn)
        return self._unknown_names.known_upto(conn, start, end)

    async def _advance(
        self, conn: psycopg.Connection, free: Sequence[Lead], start: int, end: int
    ) -> None:
        """One page from the position of the last of the idle reactors; the others take the part
        after their own positions. Raises NewerEvent."""
        rows, end = await self._log.read_page(start, end, but=self._ignored, limit=PAGE)
        known = self._log.codec.kinds
        if any(env.name not in known for env, _ in rows):
            end = await asyncio.to_thread(self._known_upto, conn, start, end)
            rows = [raw for raw in rows if raw[0].name in known and raw[0].position <= end]
        read_by = self._log.amendments.now.upto
        page = await self._log.decode_each(rows)
        self._log.history.must_be(self._generation)
        for lead in free:
            lead.read_by = read_by
            events = [
                r for r in page if r.env.position > lead.position and r.env.name in lead.names
            ]
            if events:
                lead.start(self._reactions.react(lead, events), position_after=end)
            else:
                lead.position = max(lead.position, end)
        if tasks := [lead.task for lead in free if lead.task is not None]:
            await asyncio.wait(tasks, timeout=PAGE_BARRIER_SECONDS)
        for lead in free:
            lead.finish()

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


def _take_up(conn: psycopg.Connection, name: str, positions: Sequence[int], upto: int) -> None:
    with conn.transaction():
        amended.retry_at(conn, name, positions)
        amended.taken_up(conn, name, upto)
