"""The shop whose commands are tested."""

from collections.abc import AsyncIterator

import pytest

from tests.support.commands import Shop, open_shop


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as opened:
        yield opened
