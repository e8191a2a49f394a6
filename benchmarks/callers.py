"""Concurrent callers, as coroutines or as threads, and the streams on which they work."""

import asyncio
import bisect
import itertools
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from uuid import UUID, uuid4

import uvloop

from benchmarks.measuring import Sample

PER_STREAM = 5
ZIPF_STREAMS = 1_000
ZIPF_EXPONENT = 1.1
WARM_UP_SECONDS = 0.5

Append = Callable[[UUID, int], Awaitable[object]]
"""Appends one event: stream and version."""

Read = Callable[[UUID], Awaitable[object]]
"""Reads all events of a stream."""


def run(main: Coroutine[None, None, Sample]) -> Sample:
    """Run it on a loop as the program's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def own_streams() -> Iterator[tuple[UUID, int]]:
    """A stream and its next version, again and again: five events each, one caller's alone."""
    while True:
        stream_id = uuid4()
        for version in range(1, PER_STREAM + 1):
            yield stream_id, version


class Measured:
    """The time that counts, after a warm-up, and the operations in it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin = time.perf_counter() + WARM_UP_SECONDS
        self.end = self.begin + seconds

    def counts(self, started: float, ended: float) -> bool:
        """Whether an operation lies wholly within the time."""
        return started >= self.begin and ended <= self.end


async def append_to_own_streams(appends: Sequence[Append], seconds: float) -> Sample:
    """Each caller appends again as soon as it is answered, to streams of its own."""
    measured, latencies = Measured(seconds), list[float]()

    async def caller(append: Append) -> None:
        for stream_id, version in own_streams():
            if (started := time.perf_counter()) >= measured.end:
                return
            await append(stream_id, version)
            if measured.counts(started, now := time.perf_counter()):
                latencies.append(now - started)

    await asyncio.gather(*map(caller, appends))
    return Sample(len(latencies), seconds, latencies)


async def append_to_popular_streams(appends: Sequence[Append], seconds: float) -> Sample:
    """Each caller appends to a stream that it draws by Zipf's law: of a thousand streams, the first
    gets a sixth. Who draws the same stream takes turns, since an append names its version. Waiting
    for one's turn is part of the latency."""
    measured, latencies = Measured(seconds), list[float]()
    streams = [uuid4() for _ in range(ZIPF_STREAMS)]
    turns = [asyncio.Lock() for _ in streams]
    versions = [0 for _ in streams]
    draw = zipf(ZIPF_STREAMS, random.Random(1))

    async def caller(append: Append) -> None:
        while (started := time.perf_counter()) < measured.end:
            chosen = next(draw)
            async with turns[chosen]:
                versions[chosen] += 1
                await append(streams[chosen], versions[chosen])
            if measured.counts(started, now := time.perf_counter()):
                latencies.append(now - started)

    await asyncio.gather(*map(caller, appends))
    return Sample(len(latencies), seconds, latencies)


async def append_and_read(callers: Sequence[tuple[Append, Read]], seconds: float) -> Sample:
    """Each caller appends to a stream of its own, then reads it, in turn."""
    measured, latencies = Measured(seconds), list[float]()

    async def caller(append: Append, read: Read) -> None:
        for stream_id, version in own_streams():
            for operation in (append(stream_id, version), read(stream_id)):
                started = time.perf_counter()
                await operation
                if measured.counts(started, now := time.perf_counter()):
                    latencies.append(now - started)
            if time.perf_counter() >= measured.end:
                return

    await asyncio.gather(*(caller(append, read) for append, read in callers))
    return Sample(len(latencies), seconds, latencies)


def append_in_threads(appends: Sequence[Callable[[UUID, int], object]], seconds: float) -> Sample:
    """Each thread appends again as soon as it is answered, to streams of its own. Raises the first
    thread's error."""
    measured = Measured(seconds)
    latencies: list[list[float]] = [[] for _ in appends]
    errors: list[BaseException] = []

    def caller(append: Callable[[UUID, int], object], mine: list[float]) -> None:
        try:
            for stream_id, version in own_streams():
                if (started := time.perf_counter()) >= measured.end:
                    return
                append(stream_id, version)
                if measured.counts(started, now := time.perf_counter()):
                    mine.append(now - started)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=caller, args=pair) for pair in zip(appends, latencies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    everyone = [latency for mine in latencies for latency in mine]
    return Sample(len(everyone), seconds, everyone)


def zipf(size: int, chance: random.Random) -> Iterator[int]:
    """Draws 0 … size - 1, n with a weight of 1 / (n + 1) ** ZIPF_EXPONENT."""
    sums = list(itertools.accumulate(1 / (n + 1) ** ZIPF_EXPONENT for n in range(size)))
    while True:
        yield bisect.bisect_left(sums, chance.random() * sums[-1])
