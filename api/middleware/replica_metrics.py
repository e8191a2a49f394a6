"""Whether standbys answer queries, and how many they have answered, for /metrics."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Standbys(Protocol):
    """What is shown of `queries.engine.replica.Replica`."""

    answered: int
    passed_on: int

    @property
    def unfit(self) -> str: ...


class ReplicaMetrics(Collector):
    """Collects what a process knows of its standbys."""

    def __init__(self, replica: Standbys) -> None:
        self._replica = replica

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "ludoteca_replica_up",
            "1 while standbys answer queries.",
            float(not self._replica.unfit),
        )
        queries = CounterMetricFamily(
            "ludoteca_replica_queries",
            "Queries that a standby might answer, by the server that did.",
            labels=("answered_by",),
        )
        queries.add_metric(("standby",), self._replica.answered)
        queries.add_metric(("primary",), self._replica.passed_on)
        yield queries
