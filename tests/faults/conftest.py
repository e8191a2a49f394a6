"""Fixtures of the fault tests."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from eventstore.postgres_log import PostgresLog
from tests.support.events.tallies import CODEC
from tests.support.shops.commands import Ludoteca, Shop
from tests.support.shops.engine import Desk


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """The desk of the engine's tests, on a database of its own."""
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield Desk(database, log)


@pytest.fixture
def ludoteca(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ludoteca]:
    """Runs the command in this process, with a new home."""
    for name in [name for name in os.environ if name.startswith("LUDOTECA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LUDOTECA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUDOTECA_ALLOW_UNSAFE_DATABASE", "on")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Ludoteca()
    for number, heard in signals.items():
        signal.signal(number, heard)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def shop(database: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A database with the program's schema, used by the commands."""
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", database)
    return Shop(database)
