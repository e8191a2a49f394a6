"""`ludoteca log copy`: move the log between PostgreSQL and KurrentDB."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from runtime.settings import Settings

POSTGRESQL, KURRENTDB = "postgresql", "kurrentdb"

_WHERE = "`postgresql` or `kurrentdb`: this instance's; or a URL of one"
Source = Annotated[str, typer.Option("--from", metavar="LOG", help=f"What is copied: {_WHERE}.")]
Target = Annotated[str, typer.Option("--to", metavar="LOG", help=f"Where to: {_WHERE}.")]


def copy(source: Source, target: Target) -> None:
    """Copy the log's events and idempotency keys from PostgreSQL to KurrentDB, or back, and verify
    the copy by its hash chain. Positions, times and hashes stay the same.

    A target that has a part of the history gets the rest: so what was killed goes on when it is
    started again. One that has another history is refused. Stop the shop before the last run. The
    keys of persons are not part of the log: they stay in PostgreSQL. Exit code 1 if the histories
    differ, or the copy does.

    [bold]Examples[/bold]
      ludoteca log copy --from postgresql --to kurrentdb
      ludoteca log copy --from kurrentdb --to postgresql://shop@db.example/shop
    """
    settings = opening.quiet_settings()
    into_kurrentdb = _is_kurrentdb(target, settings)
    if _is_kurrentdb(source, settings) == into_kurrentdb:
        raise Failure("one of the two is PostgreSQL, the other KurrentDB", Code.USAGE)
    from runtime.release.migrate import migrate
    from runtime.wiring.kurrentdb import copy_to_kurrentdb, copy_to_postgresql

    with _database(source if into_kurrentdb else target, settings) as url:
        migrate(url)
        with console.progress() as progress:
            if into_kurrentdb:
                verified = asyncio.run(
                    copy_to_kurrentdb(url, _kurrentdb_url(target, settings), progress)
                )
            else:
                verified = asyncio.run(
                    copy_to_postgresql(_kurrentdb_url(source, settings), url, progress)
                )
    with console.reporting():
        console.say(f"copied and verified: {verified.position} events")
        console.say(f"anchor    {verified.position}:{verified.hash.hex()}")


def _is_kurrentdb(where: str, settings: "Settings") -> bool:
    """Whether it is KurrentDB; PostgreSQL otherwise. Raises Failure for anything else."""
    if where == KURRENTDB and not settings.mirrored:
        raise Failure("set LUDOTECA_KURRENTDB_URL to say where KurrentDB is", Code.USAGE)
    if where in {POSTGRESQL, KURRENTDB}:
        return where == KURRENTDB
    if not where.startswith(("kurrentdb://", "kurrentdb+", "postgresql://", "postgres://")):
        raise Failure(f"a log is {_WHERE}", Code.USAGE)
    return where.startswith("kurrentdb")


def _kurrentdb_url(where: str, settings: "Settings") -> str:
    from runtime.host.addresses import check_kurrentdb

    if where == KURRENTDB:
        return settings.kurrentdb
    try:
        check_kurrentdb(where)
    except ValueError as error:
        raise Failure(f"the URL of KurrentDB: {error}", Code.USAGE) from None
    from pydantic import SecretStr

    return settings.model_copy(update={"kurrentdb_url": SecretStr(where)}).kurrentdb


def _database(where: str, settings: "Settings") -> AbstractContextManager[str]:
    from runtime.database.instance import trusting

    if where == POSTGRESQL:
        return opening.database(settings, new=True)
    return nullcontext(trusting(where, settings.tls_ca))
