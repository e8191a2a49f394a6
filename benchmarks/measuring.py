"""Samples, rounds and ratios.

Machines are noisy, so peers run in turn, round after round, and a ratio is the median of the
rounds' own ratios: a slow minute slows both of its sides.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec

Log = Callable[[str], None]


class Sample(msgspec.Struct, frozen=True):
    """One timed run: number of operations, wall seconds, latencies in seconds if measured, and CPU
    milliseconds per operation, by process, if measured."""

    count: int
    seconds: float
    latencies: Sequence[float] = ()
    cpu_ms: Mapping[str, float] = {}

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.count / self.seconds

    def quantile_ms(self, q: float) -> float:
        """A latency quantile in milliseconds. Raises ValueError without latencies."""
        if not self.latencies:
            raise ValueError("no latencies were taken")
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000


class Case(msgspec.Struct, frozen=True):
    """Something to measure; `ours` are shown in the first rows, peers below."""

    name: str
    run: Callable[[], Sample]


class Aim(msgspec.Struct, frozen=True):
    """The target relative to a peer: `at_least` times its figure, or `at_most` where less is
    better."""

    case: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None


class Ratio(msgspec.Struct, frozen=True):
    """A case's figure divided by a peer's, as the median of the rounds, and whether it meets the
    aim."""

    peer: str
    ratio: float
    aim: str = ""
    reached: bool | None = None


class Line(msgspec.Struct, frozen=True):
    """A row of the report: the median and the extremes of the rounds, and ratios to peers."""

    case: str
    unit: str
    figure: float
    lowest: float
    highest: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    ratios: Sequence[Ratio] = ()
    cpu_ms: Mapping[str, float] = {}


class Table(msgspec.Struct, frozen=True):
    """One benchmark's rows."""

    title: str
    lines: Sequence[Line]


Figure = Callable[[Sample], float]


def take_turns(cases: Sequence[Case], rounds: int, log: Log) -> dict[str, list[Sample]]:
    """Run all cases `rounds` times, one after the other in each round; every second round in
    reverse."""
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            log(f"round {number + 1} of {rounds}: {case.name}")
            samples[case.name].append(case.run())
            log(f"    {_shown(samples[case.name][-1])}")
    return samples


def _shown(sample: Sample) -> str:
    cpu = [f"{process} {ms:.2f}" for process, ms in sample.cpu_ms.items()]
    return f"{sample.rate:,.1f} per second{': CPU ms each: ' if cpu else ''}{', '.join(cpu)}"


def rate(sample: Sample) -> float:
    """Operations per second."""
    return sample.rate


def p50(sample: Sample) -> float:
    """Median latency in milliseconds."""
    return sample.quantile_ms(0.5)


def p99(sample: Sample) -> float:
    """99th percentile of the latency in milliseconds."""
    return sample.quantile_ms(0.99)


def p999(sample: Sample) -> float:
    """99.9th percentile of the latency in milliseconds."""
    return sample.quantile_ms(0.999)


def line(
    case: str,
    samples: dict[str, list[Sample]],
    aims: Sequence[Aim] = (),
    *,
    figure: Figure = rate,
    unit: str,
) -> Line:
    """The report's row of a case; skips aims for other cases."""
    values = [figure(sample) for sample in samples[case]]
    timed = all(sample.latencies for sample in samples[case])
    return Line(
        case,
        unit,
        statistics.median(values),
        min(values),
        max(values),
        statistics.median(map(p50, samples[case])) if timed else None,
        statistics.median(map(p99, samples[case])) if timed else None,
        statistics.median(map(p999, samples[case])) if timed else None,
        [
            _ratio(values, [figure(s) for s in samples[aim.peer]], aim)
            for aim in aims
            if aim.case == case
        ],
        {
            process: statistics.median(sample.cpu_ms[process] for sample in samples[case])
            for process in samples[case][0].cpu_ms
        },
    )


def _ratio(values: Sequence[float], peers: Sequence[float], aim: Aim) -> Ratio:
    ratio = statistics.median(ours / theirs for ours, theirs in zip(values, peers, strict=True))
    if aim.at_least is not None:
        return Ratio(aim.peer, ratio, f"≥ {aim.at_least:g}", ratio >= aim.at_least)
    if aim.at_most is not None:
        return Ratio(aim.peer, ratio, f"≤ {aim.at_most:g}", ratio <= aim.at_most)
    return Ratio(aim.peer, ratio)
