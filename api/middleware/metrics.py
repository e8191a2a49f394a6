"""Metrics of the gateway, for /metrics."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from itertools import chain
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.context import METHODS
from api.middleware.joined_metrics import DROPPED_LINES, JoinedMetrics
from api.middleware.request_log import LogRequest, line_of
from api.siblings import Siblings
from kit.metrics import CALL_BUCKETS, REGISTRY

UNMATCHED = "unmatched"
"""The route of a request that is for none."""


class Answered(NamedTuple):
    """How many requests were answered, how many of them with a status from 500 on, how many are
    being answered, and how many WebSockets are open."""

    all: int
    failed: int
    in_flight: int
    sockets: int


class DroppedLines(Collector):
    """Collects how many lines of the log were dropped. Each process counts its own in a file, which
    outlives it; `counts` is what these files said last, by process."""

    def __init__(self) -> None:
        self.counts: Mapping[str, int] = {}

    def collect(self) -> Iterator[Metric]:
        lines = CounterMetricFamily(
            DROPPED_LINES,
            "Log lines that were dropped because nobody read the output.",
            labels=("process",),
        )
        for process, count in self.counts.items():
            lines.add_metric((process,), count)
        yield lines


class Metrics:
    """The gateway's metrics, in a registry of their own, with those of its process; joined with
    those of the processes that share its port, if there are any."""

    def __init__(self, siblings: Siblings | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(REGISTRY)
        labels = ("method", "route", "status")
        self._requests = Counter(
            "ludoteca_http_requests", "Requests answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "ludoteca_http_request_seconds",
            "Time from a request to the end of its answer.",
            labels[:2],
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )
        self._series = cache(self._series_of)  # to look them up is most of what counting costs
        self.in_flight = Gauge(
            "ludoteca_http_requests_in_flight",
            "Requests that are being answered.",
            registry=self.registry,
        )
        self.sockets = Gauge("ludoteca_live_sockets", "Open WebSockets.", registry=self.registry)
        self.clock_ahead = Gauge(
            "ludoteca_clock_ahead_seconds",
            "By how many seconds this process's clock is ahead of the database's.",
            registry=self.registry,
        )
        self._head = Gauge(
            "ludoteca_log_head", "Position of the log's last event.", registry=self.registry
        )
        self._lag = Gauge(
            "ludoteca_projection_lag",
            "How many events a consumer is behind the log.",
            ("projection",),
            registry=self.registry,
        )
        self._lag_seconds = Gauge(
            "ludoteca_projection_lag_seconds",
            "For how long the event has been in the log that a consumer handles next.",
            ("projection",),
            registry=self.registry,
        )
        self._quarantined = Gauge(
            "ludoteca_quarantined_streams",
            "Quarantined streams.",
            ("projection",),
            registry=self.registry,
        )
        self._astray = Gauge(
            "ludoteca_projection_astray",
            "1 for a consumer that read another history of the log than the database has.",
            ("projection",),
            registry=self.registry,
        )
        self._depth = Gauge(
            "ludoteca_queue_depth",
            "Jobs that are waiting or running.",
            ("queue",),
            registry=self.registry,
        )
        self._dead = Gauge(
            "ludoteca_dead_letters",
            "Jobs that exhausted their attempts.",
            ("queue",),
            registry=self.registry,
        )
        self._oldest = Gauge(
            "ludoteca_queue_oldest_job_seconds",
            "For how long the job has been due that is due for longest.",
            ("queue",),
            registry=self.registry,
        )
        self._deadlines_due = Gauge(
            "ludoteca_deadlines_due",
            "Deadlines that have passed and were not handled yet.",
            registry=self.registry,
        )
        self._deadlines_late = Gauge(
            "ludoteca_deadlines_late_seconds",
            "How long ago the deadline passed that waits for longest to be handled.",
            registry=self.registry,
        )
        self._violations = Gauge(
            "ludoteca_invariant_violations",
            "Open findings of the shop's audit of itself.",
            ("invariant",),
            registry=self.registry,
        )
        self._audit_age = Gauge(
            "ludoteca_self_audit_age_seconds",
            "How long ago the audit has looked at every invariant.",
            ("scope",),
            registry=self.registry,
        )
        self._mirror_lag: Gauge | None = None  # of a shop without a mirror there is none
        self._dropped = DroppedLines()
        self.registry.register(self._dropped)
        self.joined = (
            JoinedMetrics(self.registry, siblings.board, siblings.number) if siblings else None
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request and record its duration. By a method that a path does not have,
        strangers would make series of their own."""
        method = method if method in METHODS else "other"
        route = UNMATCHED if status == HTTPStatus.METHOD_NOT_ALLOWED else route
        requests, times = self._series(method, route, status)
        requests.inc()
        times.observe(seconds)

    def _series_of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return (
            self._requests.labels(method, route, str(status)),
            self._seconds.labels(method, route),
        )

    def answered(self) -> "Answered":
        """What the processes that share the port have answered, and are answering."""
        own = (self._requests, self.in_flight, self.sockets)
        shown = self.joined.collect() if self.joined else chain(*(each.collect() for each in own))
        samples = {metric.name: metric.samples for metric in shown}
        totals = [
            (sample.labels["status"], sample.value)
            for sample in samples["ludoteca_http_requests"]
            if sample.name.endswith("_total")
        ]
        in_flight, sockets = (
            int(sum(sample.value for sample in samples[gauge]))
            for gauge in ("ludoteca_http_requests_in_flight", "ludoteca_live_sockets")
        )
        failed = sum(value for status, value in totals if status >= "500")
        return Answered(int(sum(value for _, value in totals)), int(failed), in_flight, sockets)

    def mirror(self, lag_seconds: float) -> None:
        """Set how long ago the mirror is known to have had all that KurrentDB had; NaN if that is
        not known."""
        self._mirror_lag = self._mirror_lag or Gauge(
            "ludoteca_mirror_lag_seconds",
            "How long ago the mirror is known to have had all that KurrentDB had.",
            registry=self.registry,
        )
        self._mirror_lag.set(lag_seconds)

    def audited(self, violations: Mapping[str, int], ages: Mapping[str, float]) -> None:
        """Set how many findings of each invariant are open, and by scope how long ago the audit
        looked at them."""
        _show(self._violations, violations)
        _show(self._audit_age, ages)

    def late(self, consumers: Mapping[str, float], queues: Mapping[str, float]) -> None:
        """Set for how many seconds what comes next waits for each consumer of the log, and for each
        queue."""
        _show(self._lag_seconds, consumers)
        _show(self._oldest, queues)

    def deadlines(self, due: float, late_seconds: float) -> None:
        """Set how many deadlines are due, and how late the latest is; NaN if that is not known."""
        self._deadlines_due.set(due)
        self._deadlines_late.set(late_seconds)

    def render(
        self,
        head: int,
        subscriptions: Mapping[str, tuple[int, int, bool]],
        queues: Mapping[str, tuple[int, int]],
        dropped: Mapping[str, int],
    ) -> bytes:
        """Return all metrics in Prometheus' text format.

        `subscriptions` maps each consumer of the log to (lag, quarantined streams, whether astray),
        `queues` each queue to (depth, dead letters), `dropped` each process to its dropped log
        lines.
        """
        self._head.set(head)
        looked_up: list[tuple[tuple[Gauge, ...], Mapping[str, tuple[int, ...]]]] = [
            ((self._lag, self._quarantined, self._astray), subscriptions),
            ((self._depth, self._dead), queues),
        ]
        for gauges, values in looked_up:
            for n, gauge in enumerate(gauges):
                _show(gauge, {name: value[n] for name, value in values.items()})
        self._dropped.counts = dropped
        return generate_latest(self.joined or self.registry)


def _show(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Have the gauge show these values, by label, and no others."""
    gauge.clear()
    for name, value in values.items():
        gauge.labels(name).set(value)


class RequestMetrics:
    """Middleware: counts, times and logs requests by route. Paths are unbounded, so they are no
    label."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: LogRequest | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, start, answered, sent = 500, time.perf_counter(), False, 0

        def count() -> None:
            nonlocal answered
            answered = True
            self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", UNMATCHED)
            seconds = time.perf_counter() - start
            self._metrics.count_request(scope["method"], route, status, seconds)
            if self._log is not None:
                line = line_of(scope, route, status, seconds, sent, datetime.now(UTC))
                if line is not None:
                    self._log(line)

        async def send_noting_status(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                if not (answered or message.get("more_body")):
                    count()  # now: there may be work to do after the answer
            elif _is_event_stream(message):
                count()  # it ends when its reader leaves, which says nothing about the shop

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            if not answered:
                count()
        return None


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
