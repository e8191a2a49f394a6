"""Rate limits that hold for several processes together, counted in memory that they share."""

import asyncio
import fcntl
import itertools
import os
import random
import signal
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter

from api.middleware import shared_windows
from api.middleware.limits import Limiter, Rates
from api.middleware.shared_windows import SharedWindows
from api.problems import Problem
from kit.shared_memory import create_memory, map_memory

T = TypeVar("T")

FIVE, MANY = RateLimitItemPerMinute(5), RateLimitItemPerMinute(500)
LIMITS = {5, 500}


@dataclass
class Clock:
    """Both clocks: what people set, and what only goes on."""

    now: float = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def new_memory() -> Iterator[int]:
    """Memory for processes, closed at the end."""
    descriptor = create_memory(SharedWindows.size(LIMITS))
    SharedWindows.prepare(descriptor)
    yield descriptor
    os.close(descriptor)


memory, other_memory = (pytest.fixture(new_memory, name=name) for name in ("memory", "other"))


def process(memory: int) -> SharedWindows:
    return SharedWindows(memory, map_memory(memory), LIMITS)


def done(work: Coroutine[object, object, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    return asyncio.run(work)


def hit(storage: Storage, key: str = "ann", item: RateLimitItem = FIVE) -> bool:
    return done(MovingWindowRateLimiter(storage).hit(item, key))


def left(storage: Storage, key: str = "ann", item: RateLimitItem = FIVE) -> tuple[float, int]:
    stats = done(MovingWindowRateLimiter(storage).get_window_stats(item, key))
    return stats.reset_time, stats.remaining


def test_a_limit_holds_for_all_processes_together(memory: int, clock: Clock) -> None:
    here, there = process(memory), process(memory)
    assert [hit(each) for each in (here, there, here, there, here, there, here)] == [
        *[True] * 5,
        False,
        False,
    ]
    assert left(here) == left(there) == (clock.now + 60, 0)
    assert hit(there, "bob")
    clock.now += 60.1
    assert hit(there)
    assert left(here) == (clock.now + 60, 4)


async def test_it_allows_and_tells_what_the_librarys_own_storage_does(
    memory: int, clock: Clock
) -> None:
    ours = MovingWindowRateLimiter(process(memory))
    others = MovingWindowRateLimiter(MemoryStorage())
    chance = random.Random(7)
    for _ in range(5000):
        clock.now += chance.choice((0.0, 0.1, 15, 60, 70)) * chance.random()
        key = chance.choice("abc")
        assert await ours.hit(FIVE, key) == await others.hit(FIVE, key)
        told = await ours.get_window_stats(FIVE, key)
        wanted = await others.get_window_stats(FIVE, key)
        assert told.remaining == wanted.remaining
        assert told.reset_time == pytest.approx(wanted.reset_time)


def test_of_requests_at_the_same_time_no_more_are_admitted(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_windows, "LOCK_SECONDS", 30)  # on a busy machine, one may lie idle
    readers = []
    for _ in range(3):
        read, write = os.pipe()
        if os.fork() == 0:
            storage = process(memory)
            os.write(write, b"%d" % sum(hit(storage, item=MANY) for _ in range(300)))
            os._exit(0)
        os.close(write)
        readers.append(read)
    admitted = []
    for read in readers:
        with os.fdopen(read, "rb") as answer:
            admitted.append(int(answer.read()))
        os.wait()
    assert sum(admitted) == 500


def test_a_process_that_is_stopped_while_it_counts_holds_up_nobody(memory: int) -> None:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        fcntl.lockf(memory, fcntl.LOCK_EX)
        os.write(write, b".")
        signal.pause()
    os.read(read, 1)
    try:
        assert [hit(process(memory)) for _ in range(6)] == [*[True] * 5, False]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def test_with_too_many_clients_those_that_were_quiet_longest_are_forgotten(
    memory: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_windows, "TABLE_BYTES", 16 * (32 + 5 * 8))
    storage = process(memory)
    admitted = 0
    for n in range(200):
        clock.now += 0.01
        assert hit(storage, f"client {n}")
        admitted += hit(storage, "greedy")
    assert admitted == 5
    assert left(storage, "client 0")[1] == 5


def test_nobody_outside_knows_by_whom_a_client_is_forgotten(
    memory: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that get each other's rows in one memory do not in another."""
    monkeypatch.setattr(shared_windows, "TABLE_BYTES", 1000 * (32 + 5 * 8))
    known, unknown = process(memory), process(other)
    greedy = [hit(storage, "greedy") for storage in (known, unknown) for _ in range(5)]
    assert greedy == [True] * 10
    names = map(str, itertools.count())
    crowd = itertools.islice((n for n in names if _rows(known, n) == _rows(known, "greedy")), 8)
    for name in crowd:
        assert hit(known, name)
        assert hit(unknown, name)
    assert hit(known, "greedy")
    assert not hit(unknown, "greedy")


def _rows(storage: SharedWindows, name: str) -> int:
    """Where the rows are that a client may have."""
    return storage._tables[5].bucket(storage._digest(FIVE.key_for(name)))


def test_who_logged_in_at_one_process_is_known_at_the_others(memory: int, clock: Clock) -> None:
    rates = Rates(per_ip=5, writes_per_user=5, attempts_per_ip=5, attempts_per_account=5)
    here, there = (
        Limiter(rates, windows=SharedWindows(memory, map_memory(memory), {5})) for _ in range(2)
    )
    assert not done(there.is_known("ann", "192.0.2.1"))
    done(here.remember("ann", "192.0.2.1"))
    assert done(there.is_known("ann", "192.0.2.1"))
    assert not done(there.is_known("ann", "192.0.2.2"))
    clock.now += 31 * 86_400
    assert not done(there.is_known("ann", "192.0.2.1"))


async def test_the_limiter_says_what_is_left_in_all(memory: int) -> None:
    rates = Rates(per_ip=5, writes_per_user=5, attempts_per_ip=5, attempts_per_account=5)
    here, there = (
        Limiter(rates, windows=SharedWindows(memory, map_memory(memory), {5})) for _ in range(2)
    )
    told = [(await each.take("ip", "192.0.2.1")).remaining for each in (here, there, here, there)]
    assert told == [4, 3, 2, 1]
    await here.take("ip", "192.0.2.1")
    with pytest.raises(Problem) as refused:
        await there.take("ip", "192.0.2.1")
    assert refused.value.status == 429
