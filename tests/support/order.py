"""A pytest plugin for the order in which tests run."""

import itertools
import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the modules to the workers, long ones first: the end of the run is then of short tests,
    which are stolen one by one. Each worker begins with an equal part of the list, the first with
    the first."""
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


def _shortness(module: list[pytest.Item]) -> int:
    """0 for what takes minutes, 1 for what starts processes, 2 for the rest."""
    if any(item.get_closest_marker("soak") for item in module):
        return 0
    return 1 if module[0].path.parent.name in {"faults", "flow", "cli", "browser"} else 2
