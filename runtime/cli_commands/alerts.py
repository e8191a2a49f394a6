"""`ludoteca alerts`: what is wrong, and who looks after it."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.acting import operator
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console

if TYPE_CHECKING:
    from queries.operations.alerts import AlertNow

app = typer.Typer(no_args_is_help=True, help="List alerts, and look after one.")


@app.command(name="list")
def list_(
    status: Annotated[
        Literal["open", "raised", "acknowledged", "resolved", "all"],
        typer.Option(help="Only these; `open` are those raised or acknowledged."),
    ] = "open",
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=200, help="How many at most.")
    ] = 50,
    json: Json = False,
) -> None:
    """List alerts, those raised last first. docs/runbooks/alerts.md says what each means, and what
    to do.

    [bold]Examples[/bold]
      ludoteca alerts list
      ludoteca alerts list --status all --json
    """

    async def read() -> "list[AlertNow]":
        from queries.engine.read_models import ReadModels
        from queries.operations.alerts import alerts

        async with opening.log(opening.quiet_settings()) as log:
            wanted = None if status == "all" else status.upper()
            return (await alerts(ReadModels(log.pool), status=wanted, limit=limit)).value.items

    found = asyncio.run(read())
    if json:
        console.print_json(found)
        return
    console.table(
        ("id", "alert", "severity", "status", "since", "what", "looked after by", "note"),
        [
            (
                each.alert_id,
                each.name,
                each.severity,
                each.status,
                f"{each.raised_at:%Y-%m-%d %H:%M:%S}",
                each.summary,
                each.acknowledged_by,
                each.note,
            )
            for each in found
        ],
        empty="no alerts",
    )


@app.command()
def acknowledge(
    alert_id: Annotated[UUID, typer.Argument(metavar="ID", help="The id, as `list` shows it.")],
    note: Annotated[str, typer.Option("--note", help="What others should know; recorded.")],
) -> None:
    """Say that you look after an alert. Exit code 1 if somebody does already, or it is over.

    [bold]Example[/bold]
      ludoteca alerts acknowledge 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1 --note "the disk is full"
    """
    from domain.errors import Refused

    async def work() -> None:
        async with opening.core(opening.quiet_settings()) as core:
            try:
                await core.commands.alerts.acknowledge(operator(), alert_id, note)
            except Refused as error:
                raise Failure(error.detail) from None

    asyncio.run(work())
    with console.reporting():
        console.say(f"you look after {alert_id}")
