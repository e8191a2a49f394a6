"""The desk that all tests of the engine use."""

from collections.abc import AsyncIterator, Iterator

import pytest

from eventstore.postgres_log import PostgresLog
from tests.support.databases.reused_database import ReusedDatabase, reused_database
from tests.support.events.tallies import CODEC
from tests.support.shops.engine import Desk


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield Desk(database, log)


@pytest.fixture(scope="session")
def _reused_database(postgres_url: str, postgres_template: str) -> Iterator[ReusedDatabase]:
    with reused_database(postgres_url, postgres_template) as made:
        yield made


@pytest.fixture
def database(_reused_database: ReusedDatabase) -> str:
    """The URL of a database with the program's schema and no rows."""
    _reused_database.empty()
    return _reused_database.url
