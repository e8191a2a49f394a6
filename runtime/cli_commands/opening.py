"""How commands get their settings, and connect to the running instance."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands.failures import Failure
from runtime.output.console import Code

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import AsyncConnectionPool

    from eventstore.postgres_log import PostgresLog
    from runtime.settings import Settings
    from runtime.wiring.core import Core


def named_path(text: str) -> Path:
    """A path as it was typed. An empty one is refused, as Python would take it for the current
    folder."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Wrap the reading of a file that the command was given. Raises Failure if it cannot be read:
    the command was called with the wrong file."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", Code.USAGE) from None


MANY = 1_000_000
"""A limit above anything that people would list."""


def seconds(text: str) -> float:
    """A waiting time, from 0 to a day."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86_400:
        raise typer.BadParameter(f"{text!r} is no number of seconds from 0 to 86400")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def quiet_settings() -> "Settings":
    """The settings of a short command, completed with the servers of the instance in HOME. Only
    errors are logged. Raises pydantic.ValidationError, WrongMasterKey."""
    import logging

    from runtime.database.instance import with_remembered_servers
    from runtime.output.logs import configure
    from runtime.settings import Settings
    from runtime.wiring.master_key import use_master_key

    settings = with_remembered_servers(Settings())
    configure(settings, level=logging.ERROR)
    use_master_key(settings)
    return settings


def running_url(settings: "Settings") -> str:
    """The URL of the running instance's database, after checking that it has this release's tables.
    Raises NotRunning, MigrationError, OutdatedRelease."""
    from runtime.database.instance import running_database_url

    url = running_database_url(settings)
    require_this_release(url)
    return url


@contextmanager
def database(settings: "Settings", *, new: bool = False) -> Iterator[str]:
    """The URL of the instance's database. An embedded database that is not running is started for
    the duration of the block, and created first if `new`. Raises NotRunning."""
    from adapters.postgres.embedded import EmbeddedPostgres
    from runtime.database.instance import NotRunning, running_database_url
    from runtime.host.home import open_home

    with ExitStack() as stack:
        try:
            url = running_database_url(settings)
        except NotRunning:
            if not settings.embedded or not (new or (settings.home / "postgres").exists()):
                raise
            open_home(settings.home)
            url = stack.enter_context(EmbeddedPostgres(settings.home)).url
        yield url


def require_this_release(url: str) -> None:
    """Raises NotRunning if the database has not all tables of this release; MigrationError,
    OutdatedRelease."""
    from eventstore.database.migrations import missing
    from eventstore.database.postgres import connect
    from eventstore.database.release import require_current
    from runtime.database.instance import NotRunning
    from runtime.release.migrate import FOLDERS

    with connect(url, "ludoteca command", role="") as conn:
        if (due := missing(conn, FOLDERS)) is None:
            raise NotRunning(
                "the database has no tables of Ludoteca yet: start one of its processes, which"
                " makes them"
            )
        if due:
            raise NotRunning(
                f"the database is of an older release, it lacks {', '.join(due)}: start a process"
                " of this one, which migrates it"
            )
        require_current(conn)


@contextmanager
def connection(settings: "Settings") -> Iterator["psycopg.Connection"]:
    """A connection as the program's role, in autocommit mode. Raises NotRunning."""

    from eventstore.database.postgres import connect

    with connect(running_url(settings), "ludoteca command") as conn:
        yield conn


@asynccontextmanager
async def pool(settings: "Settings") -> AsyncIterator["AsyncConnectionPool"]:
    """As `connection`, for code that needs a pool."""
    from eventstore.database.postgres import open_pool

    async with open_pool(running_url(settings), 2) as opened:
        yield opened


@asynccontextmanager
async def log(settings: "Settings") -> AsyncIterator["PostgresLog"]:
    """The log. Raises NotRunning."""
    from eventstore.postgres_log import PostgresLog
    from runtime.wiring.codec import codec

    async with PostgresLog.open(running_url(settings), codec(), pool_size=2) as opened:
        yield opened


@asynccontextmanager
async def core(settings: "Settings") -> AsyncIterator["Core"]:
    """The log, and the commands over it. Raises NotRunning."""
    from runtime.wiring.core import open_core

    running_url(settings)
    async with open_core(settings) as opened:
        yield opened
