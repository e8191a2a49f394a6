"""`ludoteca sql`: run PostgreSQL's own programs on the instance's database."""

from typing import Annotated, Literal

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json
from runtime.output import console

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def sql(
    context: typer.Context,
    write: Annotated[
        bool, typer.Option("--write", help="Allow statements to change data.")
    ] = False,
    run: Annotated[
        Literal["psql", "pg_dump", "pg_restore"],
        typer.Option(help="The program to run.", metavar="PROGRAM"),
    ] = "psql",
    where: Annotated[
        bool,
        typer.Option(
            "--where", help="Only print how to connect, and where PostgreSQL's programs are."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Open psql on the instance's database, or run pg_dump or pg_restore. Options that this command
    does not know are passed on.

    Transactions are read-only to guard against mistakes, unless you pass --write. If the instance
    is not running, its embedded database is started for the duration of the command. The exit code
    is that of the program.

    [bold]Examples[/bold]
      ludoteca sql
      ludoteca sql -c 'SELECT * FROM log.epochs'
      ludoteca sql --write -f mend.sql
      ludoteca sql --run pg_dump --schema=log --format=custom --file=log.dump
      ludoteca sql --where
    """
    from adapters.postgres.programs import program
    from runtime.database import postgres_programs
    from runtime.database.instance import database_url

    settings = opening.quiet_settings()
    if where:
        dsn, programs = (
            postgres_programs.access(database_url(settings), "")[0],
            str(program("psql").parent),
        )
        if json:
            console.print_json({"dsn": dsn, "programs": programs})
        else:
            console.say(f"dsn       {dsn}\nprograms  {programs}")
        return
    with opening.database(settings) as url:
        code = postgres_programs.run(run, url, context.args, read_only=not write)
    raise typer.Exit(code)
