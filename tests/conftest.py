"""Fixtures of all tests: databases, RabbitMQ, Kafka, Elasticsearch, stripe-mock.

One PostgreSQL serves the whole run. Under pytest-xdist the controller starts it and passes its
address to the workers; otherwise the first test that needs it does.
"""

import asyncio
import functools
import logging
import os
import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import httpx._transports.default
import hypothesis
import pytest
import uvloop

from tests.support import order, stale
from tests.support.servers import log_of_record, shared

# Every httpx client loads the certificate authorities again, 30 ms of work: tests create thousands.
setattr(httpx._transports.default, "create_ssl_context", functools.cache(httpx.create_ssl_context))  # noqa: B010

# How long an example takes says how busy the machine is. Examples share the fixtures of their test.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stale-states",
        type=int,
        metavar="SEED",
        help="have every cached state be stale: tests/support/stale.py",
    )
    parser.addoption(
        "--kurrentdb",
        action="store_true",
        help="have each log in a KurrentDB: tests/support/servers/log_of_record.py",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(order)
    # the run's PostgreSQL does not wait for the disk
    os.environ["LUDOTECA_ALLOW_UNSAFE_DATABASE"] = "on"
    log_of_record.kurrentdb_everywhere = config.getoption("--kurrentdb")
    if (seed := config.getoption("--stale-states")) is not None:
        stale.install(seed)


SERVERS = {
    "postgres_url",
    "rabbitmq_virtual_host",
    "kafka_url",
    "elasticsearch_url",
    "stripe_mock_url",
}
"""The fixtures that stand for a server; tests that need one use one of these, directly or through
others."""


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a server, so that `make unit` can leave them out."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


_POSTGRES = pytest.StashKey[shared.TestPostgres]()


def _postgres(config: pytest.Config) -> shared.TestPostgres:
    if _POSTGRES not in config.stash:
        config.stash[_POSTGRES] = shared.TestPostgres()
    return config.stash[_POSTGRES]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:  # type: ignore[no-untyped-def]
    """In the controller, for each worker."""
    node.workerinput["postgres_url"] = _postgres(node.config).url


def pytest_unconfigure(config: pytest.Config) -> None:
    if _POSTGRES in config.stash:
        config.stash[_POSTGRES].stop()
        del config.stash[_POSTGRES]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Opening a home makes private whatever its process creates from then on: also what later
    tests create."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """The run's server; each test uses its own database on it."""
    worker = getattr(pytestconfig, "workerinput", None)
    return str(worker["postgres_url"]) if worker else _postgres(pytestconfig).url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """The name of the migrated database from which others are copied."""
    return shared.migrated_template(postgres_url)


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """The URL of a new database without any table."""
    url = shared.create_database(postgres_url, template="template1")
    yield url
    shared.drop_database(url)


@pytest.fixture
def database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a new database with the program's schema and no rows."""
    url = shared.create_database(postgres_url, template=postgres_template)
    with log_of_record.log_of_record(url, mirror=True):
        yield url
    shared.drop_database(url)


@pytest.fixture(scope="module")
def module_database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """A database that a module's tests share."""
    url = shared.create_database(postgres_url, template=postgres_template)
    with log_of_record.log_of_record(url, mirror=True):
        yield url
    shared.drop_database(url)


@pytest.fixture(scope="session")
def rabbitmq_virtual_host() -> Iterator[str]:
    """The name of this process' virtual host: the program's queue names are fixed, so it separates
    parallel tests."""
    shared.require_rabbitmq()
    name = shared.name_of_virtual_host()
    yield name
    shared.drop_virtual_host(name)


@pytest.fixture
def rabbitmq_url(rabbitmq_virtual_host: str) -> str:
    """The URL of an empty virtual host of RabbitMQ."""
    return shared.empty_virtual_host(rabbitmq_virtual_host)


@pytest.fixture(scope="session")
def kafka_url() -> str:
    """The URL of Kafka; use the topics of `kafka_topic` only."""
    return shared.require_kafka()


@pytest.fixture
def kafka_topic(kafka_url: str) -> Iterator[str]:
    """A topic's name, and the prefix of others'; they are deleted afterwards."""
    from tests.support.servers.kafka import delete_topics  # aiokafka is of an extra

    topic = f"test-{uuid4().hex}"
    yield topic
    asyncio.run(delete_topics(kafka_url, topic))


@pytest.fixture(scope="session")
def elasticsearch_url() -> str:
    """The URL of Elasticsearch; use names that begin with `elasticsearch_prefix` only."""
    return shared.require_elasticsearch()


@pytest.fixture
def elasticsearch_prefix(elasticsearch_url: str) -> Iterator[str]:
    """The prefix of this test's indices, which are dropped afterwards."""
    prefix = f"test-{uuid4().hex}-"
    yield prefix
    shared.drop_indices(elasticsearch_url, prefix)


@pytest.fixture(scope="session")
def stripe_mock_url() -> str:
    return shared.require_stripe_mock()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Report last which servers were missing, so that a green result is not taken for more than it
    is."""
    result = yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal and (missing := _missing_services(terminal)):
        terminal.write_line(
            f"Not tested for want of {missing}: `python3 deploy/services.py up` starts it.",
            red=True,
        )
    return result


def _missing_services(terminal: pytest.TerminalReporter) -> str:
    reasons = [
        str(report.longrepr)
        for kind in ("skipped", "error")
        for report in terminal.getreports(kind)
    ]
    names = {
        name for reason in reasons for name in re.findall(f"{shared.MISSING}([\\w-]+)", reason)
    }
    return " and ".join(sorted(names))


@pytest.fixture(autouse=True)
def _log_level_as_before() -> Iterator[None]:
    """Commands that run in this process set the log level, on which other tests depend."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the program runs on."""
    return {"uvloop": uvloop.new_event_loop}
