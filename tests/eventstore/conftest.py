"""The log under test. Contract tests run over every adapter; another one joins by an entry in
ADAPTERS."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import pytest

from adapters.kurrentdb.kurrent_log import KurrentLog
from eventstore.codec import Codec
from eventstore.log import Log
from eventstore.memory import Memory
from eventstore.memory_log import MemoryLog
from eventstore.postgres_log import PostgresLog
from kit.clock import Clock
from tests.support.databases.reused_database import ReusedDatabase, reused_database
from tests.support.events.notes import CODEC
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.kurrent.logs import mirrored_log
from tests.support.servers.pgbouncer import PgBouncer


class OpenLog(Protocol):
    """Opens the same log on each call, as another process would see it."""

    def __call__(self, *, clock: Clock = ...) -> AbstractAsyncContextManager[Log]: ...


def _postgres(request: pytest.FixtureRequest) -> OpenLog:
    url: str = request.getfixturevalue("database")
    return partial(PostgresLog.open, url, _codec(request), pool_size=3)


def _pooler(request: pytest.FixtureRequest) -> OpenLog:
    url: str = request.getfixturevalue("database")
    bouncer: PgBouncer = request.getfixturevalue("bouncer")
    return partial(PostgresLog.open, url, _codec(request), pool_size=3, pooler=bouncer.url)


def _memory(request: pytest.FixtureRequest) -> OpenLog:
    return partial(MemoryLog.open, _codec(request), Memory())


def _kurrent(request: pytest.FixtureRequest) -> OpenLog:
    url: str = request.getfixturevalue("database")
    kurrent: KurrentDouble = request.getfixturevalue("kurrent")
    return partial(mirrored_log, kurrent.url, url, codec=_codec(request))


def _codec(request: pytest.FixtureRequest) -> Codec:
    codec: Codec = request.getfixturevalue("codec")
    return codec


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], OpenLog]] = {
    "postgres": _postgres,
    "pooler": _pooler,
    "memory": _memory,
    "kurrent": _kurrent,
}


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=pytest.mark.server),
        pytest.param("pooler", marks=pytest.mark.server),
        "memory",
        pytest.param("kurrent", marks=pytest.mark.server),
    ]
)
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    """The log under test."""
    return ADAPTERS[request.param](request)


@pytest.fixture
def codec() -> Codec:
    """The codec of the log under test. A module may have another one."""
    return CODEC


@pytest.fixture
def kurrent() -> Iterator[KurrentDouble]:
    with KurrentDouble() as started:
        yield started


@pytest.fixture
async def log(open_log: OpenLog) -> AsyncIterator[Log]:
    async with open_log() as opened:
        yield opened


@pytest.fixture
async def kurrent_log(kurrent: KurrentDouble, database: str) -> AsyncIterator[KurrentLog]:
    async with mirrored_log(kurrent.url, database) as opened:
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


@pytest.fixture(scope="session")
def bouncer(_reused_database: ReusedDatabase) -> Iterator[PgBouncer]:
    with PgBouncer(_reused_database.url) as started:
        yield started
