"""What the shop sees to be wrong with itself, without a Prometheus: the conditions, and the watch
that raises an alert for each that holds for a while, and resolves it when it is over."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from commands.alerts import AlertCommands
from commands.ports.queue import WorkQueue
from domain.alerts import Seen, Severity
from kit.clock import Clock
from kit.metrics import open_circuits
from queries.engine.read_models import ReadModels
from queries.operations import alerts, findings, self_audit
from queries.operations.control import Operations, SubscriptionState
from queries.operations.deadlines import overdue

SOURCE = "ludoteca"

SELF_AUDIT_SECONDS = 3600.0
"""How long the audit may not have looked at its samples."""


class Found(msgspec.Struct, frozen=True):
    """One case of a condition: what tells it from others, and in words. `late` is how many seconds
    something may wait: it raises no alert before the watch has gone on for as long, since what came
    due while no worker ran is caught up with first."""

    labels: Mapping[str, str]
    summary: str
    late: float = 0.0


class Condition(msgspec.Struct, frozen=True):
    """Something that may be wrong. `name` is the alert's, and that of its section in
    docs/runbooks/alerts.md."""

    name: str
    severity: Severity
    look: Callable[["Sources"], Awaitable[Sequence[Found]]]


class Sources:
    """What the conditions look at. What several of them need is looked up once."""

    def __init__(
        self,
        operations: Operations,
        reads: ReadModels,
        pool: AsyncConnectionPool,
        queues: Sequence[WorkQueue],
        clock: Clock,
        late_seconds: float,
    ) -> None:
        """`late_seconds` is how late consumers, jobs and deadlines may be."""
        self.operations = operations
        self.reads = reads
        self.pool = pool
        self.queues = queues
        self.clock = clock
        self.late_seconds = late_seconds
        self._consumers: Sequence[SubscriptionState] | None = None

    async def consumers(self) -> Sequence[SubscriptionState]:
        """The consumers of the log that this release feeds."""
        if self._consumers is None:
            every = await self.operations.subscriptions()
            self._consumers = [each for each in every if each.fed]
        return self._consumers

    def again(self) -> None:
        """Forget what was looked up."""
        self._consumers = None


# -- conditions ------------------------------------------------------------------------------------


async def _late_consumers(sources: Sources) -> Sequence[Found]:
    consumers = [each for each in await sources.consumers() if not each.astray]
    ages = await sources.operations.ages([each.position for each in consumers])
    return [
        Found(
            {"consumer": each.feed},
            f"{each.projection} is more than {sources.late_seconds:.0f} s behind the log"
            f"{', as it is paused' if each.paused else ''}",
            sources.late_seconds,
        )
        for each in consumers
        if ages.get(each.position, 0.0) > sources.late_seconds
    ]


async def _astray_consumers(sources: Sources) -> Sequence[Found]:
    return [
        Found({"consumer": each.feed}, f"{each.projection} followed another history of the log")
        for each in await sources.consumers()
        if each.astray
    ]


async def _quarantined(sources: Sources) -> Sequence[Found]:
    return [
        Found({"consumer": each.feed}, f"{each.projection} has streams in quarantine")
        for each in await sources.consumers()
        if each.parked
    ]


async def _dead_letters(sources: Sources) -> Sequence[Found]:
    return [
        Found({"queue": queue.name}, f"{queue.name} has dead letters")
        for queue in sources.queues
        if await queue.dead()
    ]


async def _waiting_jobs(sources: Sources) -> Sequence[Found]:
    return [
        Found(
            {"queue": queue.name},
            f"a job of {queue.name} waits, and no worker takes it",
            sources.late_seconds,
        )
        for queue in sources.queues
        if await queue.oldest_seconds() > sources.late_seconds
    ]


async def _late_deadlines(sources: Sources) -> Sequence[Found]:
    due = await overdue(sources.reads, sources.clock.now())
    if due.late_seconds <= sources.late_seconds:
        return []
    return [Found({}, "deadlines have passed, and nobody handles them", sources.late_seconds)]


async def _violations(sources: Sources) -> Sequence[Found]:
    counts = (await findings.open_by_invariant(sources.reads)).value
    return [
        Found({"invariant": invariant}, f"the invariant {invariant} does not hold")
        for invariant in counts
    ]


async def _audit_stands(sources: Sources) -> Sequence[Found]:
    age = (await self_audit.ages(sources.pool)).get(self_audit.SAMPLE, 0.0)
    if age <= SELF_AUDIT_SECONDS:
        return []
    return [Found({}, "the audit has not looked for an hour", SELF_AUDIT_SECONDS)]


async def _servers_away(_: Sources) -> Sequence[Found]:
    """Of the servers that this process calls."""
    return [
        Found({"server": server}, f"{server} does not answer, and is left alone")
        for server in open_circuits()
    ]


CONDITIONS: Sequence[Condition] = (
    Condition("ConsumerLate", "warning", _late_consumers),
    Condition("ConsumerAstray", "critical", _astray_consumers),
    Condition("StreamsQuarantined", "warning", _quarantined),
    Condition("DeadLetters", "warning", _dead_letters),
    Condition("JobsWait", "critical", _waiting_jobs),
    Condition("DeadlinesLate", "warning", _late_deadlines),
    Condition("ServerAway", "critical", _servers_away),
    Condition("InvariantViolated", "critical", _violations),
    Condition("SelfAuditStands", "warning", _audit_stands),
)
"""What is looked at, in the order of the runbook."""


# -- the watch -------------------------------------------------------------------------------------


class AlertWatch:
    """Raises and resolves the shop's own alerts. What begins to hold, or ceases to, must have done
    so for `hold_seconds`: what comes and goes raises one alert, and not many."""

    def __init__(
        self,
        commands: AlertCommands,
        sources: Sources,
        *,
        hold_seconds: float,
        conditions: Sequence[Condition] = CONDITIONS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._sources = sources
        self._hold = hold_seconds
        self._conditions = conditions
        self._now = now
        self._began = now()
        self._since: dict[tuple[UUID, bool], float] = {}
        """By alert and whether it holds: since when it does without being raised, or is raised
        without holding."""

    async def look(self) -> Mapping[str, str]:
        """Look at all conditions once. Returns those that could not be looked at, and why. Raises
        as an append."""
        self._sources.again()
        holding: dict[UUID, Seen] = {}
        early: set[UUID] = set()
        failed: dict[str, str] = {}
        for condition in self._conditions:
            try:
                for found in await condition.look(self._sources):
                    seen = _seen(condition, found)
                    holding[seen.alert_id] = seen
                    if self._now() - self._began < found.late:
                        early.add(seen.alert_id)
            except Exception as error:  # whatever is down, the others are looked at
                failed[condition.name] = repr(error)
        known = await alerts.open_alerts(self._sources.reads, SOURCE)
        raised = {each.alert_id for each in known if each.name not in failed}
        news = {id: seen for id, seen in holding.items() if id in raised or id not in early}
        await self._take_note(news, raised)
        return failed

    async def _take_note(self, holding: Mapping[UUID, Seen], raised: set[UUID]) -> None:
        now = self._now()
        changed = [(alert_id, alert_id in holding) for alert_id in holding.keys() ^ raised]
        self._since = {each: self._since.get(each, now) for each in changed}
        for alert_id, holds in changed:
            if now - self._since[alert_id, holds] < self._hold:
                continue
            if holds:
                await self._commands.raise_alert(holding[alert_id])
            else:
                await self._commands.resolve(alert_id)


def _seen(condition: Condition, found: Found) -> Seen:
    return Seen(
        source=SOURCE,
        name=condition.name,
        labels=found.labels,
        severity=condition.severity,
        summary=found.summary,
        runbook=condition.name.lower(),
    )
