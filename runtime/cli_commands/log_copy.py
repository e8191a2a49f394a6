"""`ludoteca log copy`: move the log between PostgreSQL and KurrentDB."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.console import Code

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
    from_url, to_url = _url(source, settings), _url(target, settings)
    kinds = (_is_kurrentdb(from_url), _is_kurrentdb(to_url))
    if kinds not in {(True, False), (False, True)}:
        raise Failure("one of the two is PostgreSQL, the other KurrentDB", Code.USAGE)
    from runtime.migrate import migrate
    from runtime.wiring.kurrentdb import copy_to_kurrentdb, copy_to_postgresql

    migrate(to_url if kinds[0] else from_url)
    work = copy_to_kurrentdb if kinds[1] else copy_to_postgresql
    with console.progress() as progress:
        verified = asyncio.run(work(from_url, to_url, progress))
    with console.reporting():
        console.say(f"copied and verified: {verified.position} events")
        console.say(f"anchor    {verified.position}:{verified.hash.hex()}")


def _url(where: str, settings: "Settings") -> str:
    from runtime.addresses import check_kurrentdb
    from runtime.instance import database_url

    if where == POSTGRESQL:
        return database_url(settings)
    if where == KURRENTDB:
        if not settings.mirrored:
            raise Failure("set LUDOTECA_KURRENTDB_URL to say where KurrentDB is", Code.USAGE)
        return settings.kurrentdb_url.get_secret_value()
    if _is_kurrentdb(where):
        try:
            check_kurrentdb(where)
        except ValueError as error:
            raise Failure(f"the URL of KurrentDB: {error}", Code.USAGE) from None
    elif not where.startswith(("postgresql://", "postgres://")):
        raise Failure(f"a log is {_WHERE}", Code.USAGE)
    return where


def _is_kurrentdb(url: str) -> bool:
    return url.startswith("kurrentdb")
