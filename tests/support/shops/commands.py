"""Shared by the tests of the command line: a database with events, a projector, the command."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
from typer.testing import CliRunner, Result

from domain import catalog
from domain.catalog import GameUpdated, Listing, Price
from domain.events import Event
from domain.ids import PLATFORM_ID
from eventstore.consumers.checkpoints import SUBSCRIPTIONS
from eventstore.log import Metadata, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.runner import Runner
from projections.registry import read_models
from runtime.cli import app
from runtime.wiring.codec import codec
from tests.support.tampering import tamper

PATIENCE = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Ludoteca:
    """The command, run in this process."""

    def __call__(self, *arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(
            app, [str(a) for a in arguments], input=stdin, prog_name="ludoteca"
        )

    def json(self, *arguments: object, code: int = 0) -> Any:
        """Run it with --json; returns the parsed output."""
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


class Shop:
    """A database with the program's schema."""

    def __init__(self, url: str) -> None:
        self.url = url

    def append(self, stream_id: UUID, version: int, *events: Event) -> int:
        """Append to a stream at this version; returns the last position."""

        async def append() -> int:
            async with PostgresLog.open(self.url, codec(), pool_size=2) as log:
                landed = await log.append(
                    [StreamAppend(stream_id, version, events)], Metadata("test")
                )
                return landed.position

        return asyncio.run(append())

    def list_game(self, title: str) -> UUID:
        """List a game for sale."""
        game_id = uuid4()
        price = Price("*", 1999, "USD")
        listing = Listing(sku=title, title=title, kind="DIGITAL", prices=(price,))
        self.append(game_id, 0, *catalog.create(PLATFORM_ID, listing, "ACTIVE"))
        return game_id

    def list_games(self, count: int) -> None:
        """List many games at once, each with a long description."""

        async def append() -> None:
            async with PostgresLog.open(self.url, codec(), pool_size=2) as log:
                listings = (
                    Listing(sku=str(n), title=f"Game {n}", kind="DIGITAL", description="x" * 500)
                    for n in range(count)
                )
                appends = [
                    StreamAppend(uuid4(), 0, catalog.create(PLATFORM_ID, each)) for each in listings
                ]
                await log.append(appends, Metadata("test"))

        asyncio.run(append())

    def poison(self) -> UUID:
        """Append an update of a game that was never created: no read model of games can apply
        it."""
        game_id = uuid4()
        self.append(game_id, 0, GameUpdated(title="a game out of nowhere"))
        return game_id

    def tamper(self, statement: str, *values: object) -> None:
        """Change the database as the program never does: as its owner and past its triggers."""
        tamper(self.url, statement, *values)

    def ask(self, query: str, *values: object) -> Any:
        """The first field of the first row."""
        with psycopg.connect(self.url) as conn:
            row = conn.execute(query.encode(), values).fetchone()
            return row[0] if row else None

    @contextmanager
    def projector(self) -> Iterator[None]:
        """Run a projector during the block, which begins once the read models are up to date."""
        runner = Runner(self.url, codec(), read_models())
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            until(self.in_step)
            yield
        finally:
            runner.stop()
            thread.join()

    def in_step(self) -> bool:
        """Whether every read model has read the whole log."""
        names = [registered.projection.name for registered in read_models()]
        in_step = "position >= (SELECT coalesce(max(position), 0) FROM log.events)"
        active = f"{SUBSCRIPTIONS} WHERE active AND projection = ANY (%s)"
        query = f"SELECT count(*) FROM {active} AND {in_step}"
        return bool(self.ask(query, names) == len(names))

    def project(self) -> None:
        """Bring the read models up to date."""
        with self.projector():
            pass


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the command as a process, killed at the end if it still runs."""
    running = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def stop(running: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> tuple[int, str]:
    """Stop a process by SIGTERM; returns its exit code and its standard error."""
    running.send_signal(number)
    _, errors = running.communicate(timeout=PATIENCE)
    return running.returncode, errors


def run(arguments: Sequence[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runtime.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
