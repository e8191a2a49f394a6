"""`ludoteca load`: real games and purchases from CSV files."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from domain.acts import ActName
    from runtime.load import LoadReport
    from runtime.wiring.core import Core

SHOWN = 20
"""How many broken rows are listed; --json lists all."""

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Load CSV files through the same commands as the API. It is safe to repeat a load that"
        " was interrupted."
    ),
)

File = Annotated[
    Path,
    typer.Argument(
        exists=True, dir_okay=False, readable=True, help="A CSV file with a header line."
    ),
]


@app.command()
def games(file: File, reason: acting.Reason = None, json: Json = False) -> None:
    """List the games of a CSV file for sale.

    Columns: title, publisher, tags, price_cents, release_date, platforms; values within a field are
    joined by |. Invalid rows are reported with their line numbers, and the others are loaded; the
    exit code is then 1.

    [bold]Example[/bold]
      ludoteca load games data/games.csv
    """
    from runtime.load import load_games

    _load(load_games, "load.games", file, reason, json)


@app.command()
def purchases(file: File, reason: acting.Reason = None, json: Json = False) -> None:
    """Let the people of a CSV file buy their games. Columns: user_id, title.

    Each person gets an account. Each purchase is ordered, paid and granted like any other, so a
    worker and the payment provider must be running. Returns when every game is in its owner's
    library.

    [bold]Example[/bold]
      ludoteca load purchases data/purchases.csv
    """
    from runtime.load import load_purchases

    _load(load_purchases, "load.purchases", file, reason, json)


def _load(
    load: "Callable[[Core, Path, console.Progress], Awaitable[LoadReport]]",
    act: "ActName",
    file: Path,
    reason: str | None,
    json: bool,
) -> None:
    import uvloop

    from runtime.processes.garbage import collect_rarely

    settings, why = opening.quiet_settings(), acting.reason_for(reason)

    async def main() -> "LoadReport":
        async with (
            opening.core(settings) as core,
            acting.recorded(core, act, target=file.name, reason=why) as done,
        ):
            with console.progress() as progress:
                report = await load(core, file, progress)
            done.affected = report.loaded
            return report

    collect_rarely()
    report = uvloop.run(main())
    with console.reporting():
        if json:
            console.print_json(report)
        else:
            _print(report)
    if report.broken:
        raise typer.Exit(Code.DIFFERS)


def _print(report: "LoadReport") -> None:
    counts = [("rows", report.rows), ("loaded", report.loaded), ("loaded before", report.known)]
    counts += [(f"refused: {code}", count) for code, count in sorted(report.refused.items())]
    counts += [("broken", len(report.broken))]
    if report.people:
        counts += [("people", report.people), ("granted", report.granted)]
    console.table(("what", "count"), counts)
    for broken in report.broken[:SHOWN]:
        console.note(f"line {broken.line}: {broken.reason}")
    if len(report.broken) > SHOWN:
        console.note(f"… and {len(report.broken) - SHOWN} more (--json lists all)")
