"""The metrics of several API processes that share a port, as those of one program: whichever of
them is asked, it answers for all."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kit.shared_memory import Message, NoticeBoard

PUBLISH_SECONDS = 1.0
"""How often a process shows its metrics to the others."""

ALIVE_SECONDS = 5.0
"""A process that has shown nothing for longer is taken for dead: its counters still count, its
gauges do not."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample, and its labels."""

Samples = dict[Key, float]

Families = dict[str, Samples]
"""By the name of the metric."""

_Shown = dict[str, list[tuple[str, dict[str, str], float, object, object, object]]]
"""Samples as prometheus_client has them: name, labels, value, and three that are not used."""

_MESSAGE = msgspec.msgpack.Decoder(tuple[_Shown, _Shown, _Shown])
"""The counters that a process takes over from those before it with its number, its own counters,
and its gauges."""


def _widest(values: Iterable[float]) -> float:
    return max(values, key=abs)


DROPPED_LINES = "ludoteca_dropped_log_lines"
"""A counter that each process looks up in the same files."""

_COUNTERS = frozenset({"counter", "histogram"})
"""Types of metrics that are added up, but for that one."""

_GAUGES: Mapping[str, Callable[[Iterable[float]], float]] = {
    "ludoteca_http_requests_in_flight": sum,
    "ludoteca_live_sockets": sum,
    "ludoteca_pool_connections": sum,
    "ludoteca_pool_waiting": sum,
    "ludoteca_circuit_open": max,
    "ludoteca_rebuild_progress_ratio": max,
    "ludoteca_clock_ahead_seconds": _widest,
    "ludoteca_replica_up": min,
}
"""How the gauges of processes become that of the program. The others, which are looked up, say the
same in each process."""

_OF_EACH = "process_"
"""Begins the names of those that are shown of each process, with a label."""


class JoinedMetrics(Collector):
    """Collects what this process and the others count. A restarted process goes on from what it had
    shown before, so that no counter goes back."""

    def __init__(self, registry: CollectorRegistry, board: NoticeBoard, number: int) -> None:
        self._registry = registry
        self._board = board
        self._number = number
        self._before = _encoded(_read(board.read(number - 1)).counters)

    def publish(self) -> None:
        """Show this process's metrics to the others. Only they take samples apart, and only when
        they are asked."""
        counters, gauges = {}, {}
        for metric in self._registry.collect():
            if _is_of_each(metric) or metric.name in _GAUGES:
                gauges[metric.name] = metric.samples
            elif _is_added_up(metric):
                counters[metric.name] = metric.samples
        self._board.put(self._number - 1, msgspec.msgpack.encode((self._before, counters, gauges)))

    def collect(self) -> Iterator[Metric]:
        """The program's metrics."""
        self.publish()
        shown = [self._board.read(place) for place in range(self._board.places)]
        everybody = [_read(message) for message in shown]
        alive = {
            number: each.gauges
            for number, (message, each) in enumerate(zip(shown, everybody, strict=True), 1)
            if message is not None and message.age < ALIVE_SECONDS
        }
        yield GaugeMetricFamily("ludoteca_api_processes", "API processes alive.", len(alive))
        for metric in self._registry.collect():
            name = metric.name
            if _is_of_each(metric):
                samples = {
                    (sample, (*labels, ("process", f"api.{number}"))): value
                    for number, gauges in alive.items()
                    for (sample, labels), value in gauges.get(name, {}).items()
                }
            elif name in _GAUGES:
                samples = _joined([each.get(name, {}) for each in alive.values()], _GAUGES[name])
            elif _is_added_up(metric):
                samples = _added(each.counters.get(name, {}) for each in everybody)
            else:
                yield metric
                continue
            yield _metric_of(metric, samples)


def _is_of_each(metric: Metric) -> bool:
    return metric.name.startswith(_OF_EACH)


def _is_added_up(metric: Metric) -> bool:
    return metric.type in _COUNTERS and metric.name != DROPPED_LINES


class _Read(NamedTuple):
    """What a process shows: its counters with what it has taken over, and its gauges."""

    counters: Families
    gauges: Families


def _read(message: Message | None) -> _Read:
    if message is None:
        return _Read({}, {})
    before, own, gauges = (
        {name: _samples(shown) for name, shown in part.items()}
        for part in _MESSAGE.decode(message.text)
    )
    names = dict.fromkeys([*before, *own])
    return _Read(
        {name: _added([before.get(name, {}), own.get(name, {})]) for name in names}, gauges
    )


def _samples(shown: Iterable[tuple[str, dict[str, str], float, object, object, object]]) -> Samples:
    return {(name, tuple(labels.items())): value for name, labels, value, *_ in shown}


def _encoded(counters: Families) -> msgspec.Raw:
    """Counters, to be shown again and again."""
    shown = {
        name: [
            (sample, dict(labels), value, None, None, None)
            for (sample, labels), value in samples.items()
        ]
        for name, samples in counters.items()
    }
    return msgspec.Raw(msgspec.msgpack.encode(shown))


def _added(of_processes: Iterable[Samples]) -> Samples:
    """Counters and histograms of several, added up."""
    sums: Samples = {}
    for samples in of_processes:
        for key, value in samples.items():
            sums[key] = sums.get(key, 0.0) + value
    return sums


def _joined(of_processes: list[Samples], join: Callable[[Iterable[float]], float]) -> Samples:
    keys = dict.fromkeys(key for samples in of_processes for key in samples)
    return {key: join([samples[key] for samples in of_processes if key in samples]) for key in keys}


def _metric_of(metric: Metric, samples: Samples) -> Metric:
    made = Metric(metric.name, metric.documentation, metric.type)
    for (name, labels), value in samples.items():
        made.add_sample(name, dict(labels), value)
    return made
