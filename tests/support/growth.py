"""Measures how the time of some work grows with its input."""

import gc
from collections.abc import Callable
from time import thread_time
from typing import TypeVar

T = TypeVar("T")


def growth(work: Callable[[int], object], size: int) -> float:
    """The ratio of the time for an input of twice the size to the time for the input; the best of
    several tries."""
    work(size // 10)
    gc.disable()
    try:
        return _seconds(work, 2 * size) / _seconds(work, size)
    finally:
        gc.enable()


def _seconds(work: Callable[[T], object], size: T) -> float:
    return min(_once(work, size) for _ in range(5))


def _once(work: Callable[[T], object], size: T) -> float:
    began = thread_time()
    work(size)
    return thread_time() - began


def ratio(work: Callable[[T], object], few: T, many: T) -> float:
    """The ratio of the time of the same work with a long history to its time with a short one."""
    gc.disable()
    try:
        return _seconds(work, many) / _seconds(work, few)
    finally:
        gc.enable()
