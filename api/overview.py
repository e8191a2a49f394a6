"""How the shop is right now, looked up for all who watch together."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from api import figures
from api.figures import Consumers, Jobs
from api.middleware.metrics import Metrics
from api.services import Services
from queries.operations.alerts import AlertNow

LOOK_SECONDS = 0.4
"""How often the overview is looked up while somebody watches: each change is shown within half a
second, and however many watch, the database is asked this often."""

SLOW_LOOK_SECONDS = 2.0
"""How often deadlines and findings are, which change seldom."""

RATE_SECONDS = 5.0
"""Over how long rates are counted."""


class ConsumerFigures(msgspec.Struct, frozen=True):
    """A consumer of the log: how many events it is behind, for how many seconds the next one has
    waited for it, and how many streams it has in quarantine."""

    feed: str
    lag: int
    seconds: float
    parked: int
    astray: bool


class QueueFigures(msgspec.Struct, frozen=True):
    """A queue: jobs that wait or run, for how many seconds the oldest was due, and dead letters.
    All are None while the queue does not answer."""

    queue: str
    depth: int | None
    oldest_seconds: float | None
    dead: int | None


class OpenAlert(msgspec.Struct, frozen=True):
    """An alert that is `RAISED`, or `ACKNOWLEDGED`."""

    alert_id: UUID
    name: str
    severity: str
    summary: str
    status: str
    raised_at: datetime


class Overview(msgspec.Struct, frozen=True):
    """The figures. Rates are per second over the last seconds, None until there are two looks; None
    stands also for what is not known. `requests` were answered since the API was started,
    `failed_requests` of them with a status from 500 on. `alerts` are the latest open ones."""

    at: datetime
    head: int
    events_per_second: float | None
    requests: int
    failed_requests: int
    requests_per_second: float | None
    in_flight: int
    sockets: int
    consumers: Sequence[ConsumerFigures]
    queues: Sequence[QueueFigures]
    deadlines_due: int | None
    deadlines_late_seconds: float | None
    open_findings: Mapping[str, int]
    alerts: Sequence[OpenAlert] | None

    def is_as(self, other: "Overview | None") -> bool:
        """Whether both show the same, at whatever time."""
        return other is not None and self == msgspec.structs.replace(other, at=self.at)


class _Slow(NamedTuple):
    looked_at: float
    deadlines_due: int | None
    deadlines_late_seconds: float | None
    open_findings: Mapping[str, int]


class _Counted(NamedTuple):
    """Counters at a time (of the monotonic clock)."""

    looked_at: float
    head: int
    requests: int


class Overviews:
    """Looks the overview up, at most once in LOOK_SECONDS."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._looking = asyncio.Lock()
        self._latest: Overview | None = None
        self._looked_at = -math.inf
        self._slow: _Slow | None = None
        self._counted: deque[_Counted] = deque()

    async def current(self) -> Overview:
        """The overview as of now, or of a moment ago. Raises DatabaseAway."""
        async with self._looking:
            if self._latest is None or time.monotonic() - self._looked_at >= LOOK_SECONDS:
                self._latest = await self._look()
                self._looked_at = time.monotonic()
            return self._latest

    async def following(self) -> Overview:
        """The next overview, as soon as it is due. Raises DatabaseAway."""
        await asyncio.sleep(self._looked_at + LOOK_SECONDS - time.monotonic())
        return await self.current()

    async def _look(self) -> Overview:
        services = self._services
        with services.while_there():
            consumers, alerts, jobs, slow = await asyncio.gather(
                figures.consumers(services),
                figures.open_alerts(services),
                asyncio.gather(*map(figures.jobs, services.queues)),
                self._seldom(),
            )
        answered = self._metrics.answered()
        events, requests = self._rates(_Counted(time.monotonic(), consumers.head, answered.all))
        return Overview(
            at=services.clock.now(),
            head=consumers.head,
            events_per_second=events,
            requests=answered.all,
            failed_requests=answered.failed,
            requests_per_second=requests,
            in_flight=answered.in_flight,
            sockets=answered.sockets,
            consumers=_consumers(consumers),
            queues=[
                _queue(queue.name, found)
                for queue, found in zip(services.queues, jobs, strict=True)
            ],
            deadlines_due=slow.deadlines_due,
            deadlines_late_seconds=slow.deadlines_late_seconds,
            open_findings=slow.open_findings,
            alerts=None if alerts is None else [_alert(each) for each in alerts],
        )

    async def _seldom(self) -> _Slow:
        now = time.monotonic()
        if self._slow is None or now - self._slow.looked_at >= SLOW_LOOK_SECONDS:
            due = await figures.deadlines(self._services)
            counts, _ = await figures.audited(self._services)
            known = not math.isnan(due.due)
            self._slow = _Slow(
                now,
                int(due.due) if known else None,
                due.late_seconds if known else None,
                {name: count for name, count in counts.items() if count},
            )
        return self._slow

    def _rates(self, now: _Counted) -> tuple[float | None, float | None]:
        """Events and requests per second. A counter that went back counts from there."""
        counted = self._counted
        while counted and (
            now.looked_at - counted[0].looked_at > RATE_SECONDS
            or counted[0].head > now.head
            or counted[0].requests > now.requests
        ):
            counted.popleft()
        counted.append(now)
        seconds = now.looked_at - counted[0].looked_at
        if not seconds:
            return None, None
        return (
            round((now.head - counted[0].head) / seconds, 1),
            round((now.requests - counted[0].requests) / seconds, 1),
        )


def _consumers(found: Consumers) -> list[ConsumerFigures]:
    return [
        ConsumerFigures(name, lag, round(found.late.get(name, 0.0), 1), parked, astray)
        for name, (lag, parked, astray) in found.states.items()
    ]


def _alert(found: AlertNow) -> OpenAlert:
    return OpenAlert(**{name: getattr(found, name) for name in OpenAlert.__struct_fields__})


def _queue(name: str, found: Jobs | None) -> QueueFigures:
    if found is None:
        return QueueFigures(name, None, None, None)
    return QueueFigures(name, found.depth, round(found.oldest, 1), found.dead)
