"""Makes items of an iteration in other threads while the caller uses those before.

It pays where one side waits for a server.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, none of which is None; the next is made while the caller uses the one before."""
    left = iter(items)
    with _threads(1) as pool:
        coming = pool.submit(next, left, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, left, None)
            yield item


def at_once(do: Callable[[Item], Result], items: Iterable[Item], at_most: int) -> Iterator[Result]:
    """The results of a function for each item, in order, with `at_most` calls under way. After the
    first failure, no further call begins."""
    under_way: deque[Future[Result]] = deque()
    with _threads(at_most) as pool:
        for item in items:
            under_way.append(pool.submit(do, item))
            if len(under_way) > at_most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that have ended at the end, without what has not begun."""
    pool = ThreadPoolExecutor(number, "ahead")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
