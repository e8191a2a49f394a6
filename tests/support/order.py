"""A pytest plugin for the order in which tests run, and for how late the longest may begin."""

import itertools
import math
import os
import time

import pytest

SOAK_UNTIL = float(os.environ.get("LUDOTECA_TEST_SOAK_UNTIL", math.inf))
"""Seconds since 1970. Tests that are marked `soak` and might last beyond it are skipped: on a slow
machine they would take the time of all others."""

MINUTES = 5
"""How long such a test may take on a slow machine, unless its mark says how many `minutes`."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the modules to the workers, long ones first: the end of the run is then of short tests,
    which are stolen one by one. Where the time is limited, those that take minutes come last. Each
    worker begins with an equal part of the list, the first with the first."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules = [list(module) for _, module in itertools.groupby(items, lambda item: item.path)]
    modules.sort(key=_shortness)
    shares = [list(itertools.chain(*modules[number::workers])) for number in range(workers)]
    sizes = [(len(items) + number) // workers for number in range(workers)]
    left = [item for share, size in zip(shares, sizes, strict=True) for item in share[size:]]
    items[:] = []
    for share, size in zip(shares, sizes, strict=True):
        lacking = max(size - len(share), 0)
        items += [*share[:size], *left[:lacking]]
        del left[:lacking]


def _shortness(module: list[pytest.Item]) -> tuple[int, float]:
    """0 for what takes minutes, 1 for what starts processes, 2 for the rest; 3 for what takes
    minutes that may be lacking. Then the longest first."""
    minutes = max(map(_minutes, module))
    if minutes:
        return 0 if math.isinf(SOAK_UNTIL) else 3, -minutes
    return 1 if module[0].path.parent.name in {"faults", "flow", "cli", "browser"} else 2, 0


def _minutes(item: pytest.Item) -> float:
    """How long it may take; 0: no time worth speaking of."""
    mark = item.get_closest_marker("soak")
    return float(mark.kwargs.get("minutes", MINUTES)) if mark else 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = _minutes(item)
    if minutes and time.time() + minutes * 60 > SOAK_UNTIL:
        pytest.skip("the time for long tests is over (LUDOTECA_TEST_SOAK_UNTIL)")
