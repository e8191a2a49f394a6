"""A shop for commands to run against, and the command itself."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.shops.commands import Ludoteca, Shop


@pytest.fixture(autouse=True)
def _only_our_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables from the environment of the test run; a new home; tables of any width."""
    kept = {"LUDOTECA_ALLOW_UNSAFE_DATABASE"}  # of the run's own server: tests/conftest.py
    for name in [name for name in os.environ if name.startswith("LUDOTECA_") and name not in kept]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LUDOTECA_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def ludoteca() -> Ludoteca:
    """Runs the command in this process."""
    return Ludoteca()


@pytest.fixture
def shop(database: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A database with the program's schema, used by the commands."""
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", database)
    return Shop(database)
