from collections.abc import AsyncIterator

import pytest

from queries.engine import replica
from tests.support.shops.projected import Shop, open_shop, projecting


@pytest.fixture
async def shop(database: str) -> AsyncIterator[Shop]:
    """A shop whose projector runs."""
    async with open_shop(database) as shop, projecting(database):
        yield shop


@pytest.fixture
async def idle_shop(database: str) -> AsyncIterator[Shop]:
    """A shop without a projector."""
    async with open_shop(database) as shop:
        yield shop


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standbys are looked at often, so that tests need not wait for it."""
    monkeypatch.setattr(replica, "PAUSE_SECONDS", 0.1)
