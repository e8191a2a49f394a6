"""What tests of faults stand on."""

from collections.abc import AsyncIterator

import pytest
from desk import Desk
from tallies import CODEC

from eventstore.postgres_log import PostgresLog


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """The desk of the engine's tests, in a database of its own."""
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield Desk(database, log)
