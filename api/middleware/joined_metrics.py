"""The metrics of several API processes that share a port, as those of one program: whichever of
them is asked, it answers for all."""

from collections.abc import Callable, Iterable, Iterator, Mapping

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

_MESSAGE = msgspec.msgpack.Decoder(tuple[_Shown, _Shown])
"""What a process takes over from those before it with its number, and its own."""


def _widest(values: Iterable[float]) -> float:
    return max(values, key=abs)


_COUNTERS = frozenset(
    {"ludoteca_http_requests", "ludoteca_http_request_seconds", "ludoteca_replica_queries"}
)

_GAUGES: Mapping[str, Callable[[Iterable[float]], float]] = {
    "ludoteca_live_sockets": sum,
    "ludoteca_clock_steps": max,
    "ludoteca_clock_ahead_seconds": _widest,
    "ludoteca_replica_up": min,
}
"""How the gauges of processes become that of the program. The others, which are looked up in the
database, say the same in each process."""

_OF_EACH = "process_"
"""Begins the names of those that are shown of each process, with a label."""


class JoinedMetrics(Collector):
    """Collects what this process and the others count. A restarted process goes on from what it had
    shown before, so that no counter goes back."""

    def __init__(self, registry: CollectorRegistry, board: NoticeBoard, number: int) -> None:
        self._registry = registry
        self._board = board
        self._number = number
        self._before = _encoded(_families(board.read(number - 1)))

    def publish(self) -> None:
        """Show this process's metrics to the others. Only they take samples apart, and only when
        they are asked."""
        own = {
            metric.name: metric.samples
            for metric in self._registry.collect()
            if _is_joined(metric.name)
        }
        self._board.put(self._number - 1, msgspec.msgpack.encode((self._before, own)))

    def collect(self) -> Iterator[Metric]:
        """The program's metrics."""
        self.publish()
        shown = [self._board.read(place) for place in range(self._board.places)]
        everybody = [_families(message) for message in shown]
        alive = {
            number: families
            for number, (message, families) in enumerate(zip(shown, everybody, strict=True), 1)
            if message is not None and message.age < ALIVE_SECONDS
        }
        yield GaugeMetricFamily("ludoteca_api_processes", "API processes alive.", len(alive))
        for metric in self._registry.collect():
            name = metric.name
            if name in _COUNTERS:
                samples = _added(families.get(name, {}) for families in everybody)
            elif name in _GAUGES:
                samples = _joined([each.get(name, {}) for each in alive.values()], _GAUGES[name])
            elif name.startswith(_OF_EACH):
                samples = {
                    (sample, (*labels, ("process", f"api.{number}"))): value
                    for number, families in alive.items()
                    for (sample, labels), value in families.get(name, {}).items()
                }
            else:
                yield metric
                continue
            yield _metric_of(metric, samples)


def _is_joined(name: str) -> bool:
    return name in _COUNTERS or name in _GAUGES or name.startswith(_OF_EACH)


def _families(message: Message | None) -> Families:
    """What a process shows, with what it has taken over."""
    if message is None:
        return {}
    before, own = (
        {name: _samples(shown) for name, shown in part.items()}
        for part in _MESSAGE.decode(message.text)
    )
    return {name: _added([before.get(name, {}), samples]) for name, samples in own.items()}


def _samples(shown: Iterable[tuple[str, dict[str, str], float, object, object, object]]) -> Samples:
    return {(name, tuple(labels.items())): value for name, labels, value, *_ in shown}


def _encoded(families: Families) -> msgspec.Raw:
    """The counters, to be shown again and again."""
    counters = {
        name: [
            (sample, dict(labels), value, None, None, None)
            for (sample, labels), value in samples.items()
        ]
        for name, samples in families.items()
        if name in _COUNTERS
    }
    return msgspec.Raw(msgspec.msgpack.encode(counters))


def _added(of_processes: Iterable[Samples]) -> Samples:
    """Counters and histograms of several, added up. What was first counted when (`_created`) is
    that of the first."""
    sums: Samples = {}
    for samples in of_processes:
        for key, value in samples.items():
            if key not in sums:
                sums[key] = value
            elif key[0].endswith("_created"):
                sums[key] = min(sums[key], value)
            else:
                sums[key] += value
    return sums


def _joined(of_processes: list[Samples], join: Callable[[Iterable[float]], float]) -> Samples:
    keys = dict.fromkeys(key for samples in of_processes for key in samples)
    return {key: join([samples[key] for samples in of_processes if key in samples]) for key in keys}


def _metric_of(metric: Metric, samples: Samples) -> Metric:
    made = Metric(metric.name, metric.documentation, metric.type)
    for (name, labels), value in samples.items():
        made.add_sample(name, dict(labels), value)
    return made
