"""How the time that something takes grows with its input."""

import gc
from collections.abc import Callable
from time import thread_time
from typing import TypeVar

T = TypeVar("T")


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times as long the work takes on an input of twice the size; of several tries the
    best."""
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
    """How many times as long the same work takes where there is a long history as where there is a
    short one."""
    gc.disable()
    try:
        return _seconds(work, many) / _seconds(work, few)
    finally:
        gc.enable()
