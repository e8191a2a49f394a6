"""Makes the next item of an iteration while the one before is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, none of which is None, each made in another thread while the caller uses the one
    before: it pays where the caller waits for a server."""
    left = iter(items)
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming = pool.submit(next, left, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, left, None)
            yield item
