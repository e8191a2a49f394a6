"""The log under test. Contract tests run over every adapter: another one joins by an entry in ADAPTERS."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from eventstore.log import Log
from eventstore.postgres_log import PostgresLog
from tests.support.databases.reused_database import ReusedDatabase, reused_database
from tests.support.events.notes import CODEC

OpenLog = Callable[[], AbstractAsyncContextManager[Log]]


def _postgres(request: pytest.FixtureRequest) -> OpenLog:
    url = request.getfixturevalue("database")
    return lambda: PostgresLog.open(url, CODEC, pool_size=3)


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], OpenLog]] = {"postgres": _postgres}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.server) for name in ADAPTERS])
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    """Opens the same log as often as called: each time as another process would see it."""
    return ADAPTERS[request.param](request)


@pytest.fixture
async def log(open_log: OpenLog) -> AsyncIterator[Log]:
    async with open_log() as opened:
        yield opened


@pytest.fixture
async def postgres_log(database: str) -> AsyncIterator[PostgresLog]:
    async with PostgresLog.open(database, CODEC, pool_size=3) as opened:
        yield opened


@pytest.fixture(scope="session")
def _reused_database(postgres_url: str, postgres_template: str) -> Iterator[ReusedDatabase]:
    with reused_database(postgres_url, postgres_template) as made:
        yield made


@pytest.fixture
def database(_reused_database: ReusedDatabase) -> str:
    """The URL of a database with the program's schema and no rows."""
    _reused_database.empty()
    return _reused_database.url
