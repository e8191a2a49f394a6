"""What a process counts and measures, for Prometheus; docs/monitoring.md says what each metric
means.

Labels have few values (names of events, queues, servers), never an id, an address or a path: each
value costs memory here, and a series in Prometheus.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Protocol
from weakref import WeakSet

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kit import tracing

disable_created_metrics()  # type: ignore[no-untyped-call] # a further series for each

REGISTRY = CollectorRegistry()
"""All metrics of this process. Those of the gateway, of which a test may have several in one
process, are beside it (`api.middleware.metrics`)."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

BUILD_INFO = Gauge(
    "ludoteca_build_info",
    "1; the labels name the release, and the kind of process.",
    ("version", "process"),
    registry=REGISTRY,
)

CLOCK_STEPS = Counter(
    "ludoteca_clock_steps",
    "How often this process's clock stepped.",
    registry=REGISTRY,
)

# -- the log ---------------------------------------------------------------------------------------

APPENDS = Counter(
    "ludoteca_appends",
    "Appends of this process to the log, by their outcome.",
    ("outcome",),
    registry=REGISTRY,
)
APPENDED_EVENTS = Counter(
    "ludoteca_appended_events",
    "Events that this process has appended to the log.",
    ("name",),
    registry=REGISTRY,
)
APPEND_BATCH_SIZE = Histogram(
    "ludoteca_append_batch_size",
    "Appends that were sent to the database in one statement.",
    buckets=SIZE_BUCKETS,
    registry=REGISTRY,
)
APPEND_SECONDS = Histogram(
    "ludoteca_append_batch_seconds",
    "Time from sending a batch of appends until the database has committed it.",
    buckets=CALL_BUCKETS,
    registry=REGISTRY,
)
REPEATED_DECISIONS = Counter(
    "ludoteca_repeated_decisions",
    "Decisions that were made again, as others had appended first, or what they rested on failed.",
    ("reason",),
    registry=REGISTRY,
)
CACHE_LOOKUPS = Counter(
    "ludoteca_cache_lookups",
    "Look-ups in this process's caches.",
    ("cache", "result"),
    registry=REGISTRY,
)

FOLDED_EVENTS = Counter(
    "ludoteca_folded_events",
    "Events of the log that this process has moved a read model over.",
    ("projection",),
    registry=REGISTRY,
)
REBUILD_PROGRESS = Gauge(
    "ludoteca_rebuild_progress_ratio",
    "How much of the log a rebuild that this process runs has folded, from 0 to 1.",
    ("projection",),
    registry=REGISTRY,
)


@contextmanager
def rebuild_progress(projection: str | None) -> Iterator[Callable[[int, int], None]]:
    """Takes how many positions of how many a rebuild has folded, while it lasts; those of no
    projection are not shown."""

    def show(folded: int, upto: int) -> None:
        if projection is not None:
            REBUILD_PROGRESS.labels(projection).set(folded / max(upto, 1))

    show(0, 1)
    try:
        yield show
    finally:
        if projection is not None:
            REBUILD_PROGRESS.remove(projection)


# -- jobs and other servers ------------------------------------------------------------------------

JOB_SECONDS = Histogram(
    "ludoteca_job_seconds",
    "How long attempts at jobs took, by their outcome.",
    ("queue", "outcome"),
    buckets=JOB_BUCKETS,
    registry=REGISTRY,
)
CALL_SECONDS = Histogram(
    "ludoteca_call_seconds",
    "How long calls of other servers took, by their outcome.",
    ("server", "outcome"),
    buckets=CALL_BUCKETS,
    registry=REGISTRY,
)
CIRCUIT_OPEN = Gauge(
    "ludoteca_circuit_open",
    "1 while a server is left alone, as it did not answer.",
    ("server",),
    registry=REGISTRY,
)


def open_circuits() -> list[str]:
    """The servers that this process leaves alone."""
    (metric,) = CIRCUIT_OPEN.collect()
    return [sample.labels["server"] for sample in metric.samples if sample.value]


REACTION_RETRIES = Counter(
    "ludoteca_reaction_retries",
    "Reactions that were tried again, as they failed or something that they need was down.",
    ("reactor",),
    registry=REGISTRY,
)
SPANS = Counter(
    "ludoteca_spans",
    "Spans that the collector of traces has taken (sent) or not (lost).",
    ("outcome",),
    registry=REGISTRY,
)


@cache
def _events_named(name: str) -> Counter:
    return APPENDED_EVENTS.labels(name)


@cache
def _appends(outcome: str) -> Counter:
    return APPENDS.labels(outcome)


@cache
def _lookups(cache: str, result: str) -> Counter:
    return CACHE_LOOKUPS.labels(cache, result)


def count_append(names: Sequence[str]) -> None:
    """Count an append that is in the log, and its events by name."""
    _appends("appended").inc()
    for name in names:
        _events_named(name).inc()


def count_failed_append(outcome: str) -> None:
    """Count an append that is not in the log, or of which nobody knows."""
    _appends(outcome).inc()


def count_lookup(cache: str, *, hit: bool) -> None:
    """Count a look-up in a cache."""
    _lookups(cache, "hit" if hit else "miss").inc()


class TimedCall:
    """A call that comes to its end."""

    outcome = "ok"

    def answered(self, status: int) -> None:
        """Note the status of the answer, for a caller that raises nothing by it."""
        if status >= 300:
            later = status >= 500 or status in (408, 429)
            self.outcome = "failed" if later else "refused"


@contextmanager
def timed_call(server: str, *refusals: type[Exception]) -> Iterator[TimedCall]:
    """Time the call of another server in the block, count its outcome, and give it a span. By
    `refusals` a server answers properly that it does not do what it is asked."""
    started, outcome, call = time.perf_counter(), "failed", TimedCall()
    try:
        with tracing.call(server, refusals):
            yield call
        outcome = call.outcome
    except refusals:
        outcome = "refused"
        raise
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        CALL_SECONDS.labels(server, outcome).observe(time.perf_counter() - started)


# -- pools of connections --------------------------------------------------------------------------


class Pool(Protocol):
    """What is shown of a `psycopg_pool.AsyncConnectionPool`."""

    def get_stats(self) -> Mapping[str, int]: ...


class PoolMetrics(Collector):
    """Collects the use of this process's pools of database connections, all together."""

    def __init__(self) -> None:
        self.pools: WeakSet[Pool] = WeakSet()

    def collect(self) -> Iterator[Metric]:
        stats = [pool.get_stats() for pool in self.pools]
        total, free, waiting = (
            sum(each.get(name, 0) for each in stats)
            for name in ("pool_size", "pool_available", "requests_waiting")
        )
        connections = GaugeMetricFamily(
            "ludoteca_pool_connections",
            "Connections of this process's pools to the database.",
            labels=("state",),
        )
        connections.add_metric(("used",), max(total - free, 0))
        connections.add_metric(("free",), free)
        yield connections
        yield GaugeMetricFamily(
            "ludoteca_pool_waiting", "Who waits for a connection of the pools.", waiting
        )


POOLS = PoolMetrics()
REGISTRY.register(POOLS)
