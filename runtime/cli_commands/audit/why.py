"""`ludoteca audit why`: which events made a figure."""

import asyncio
import json as standard_json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.moments import position_at
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from eventstore.postgres_log import PostgresLog
    from queries.audit.why import Event, Step, Why


def why(
    figure: Annotated[
        str,
        typer.Argument(
            metavar="ID.FIELD",
            help="The key of a read model's row, a dot, and one of its fields. The parts of a key"
            ' are joined by "/"; what is inside of lists and objects follows after dots.',
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The read model, where the id is a key in several."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="POSITION|TIME", help="A past moment; by default, the log's end."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the events that made a figure: how each moved it, and what caused it, back to the
    request.

    The row is folded from its streams once more. A ledger account may be fed by any stream, so that
    the whole log is read for it.

    [bold]Examples[/bold]
      ludoteca audit why 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1.total_cents
      ludoteca audit why PLATFORM_REVENUE/USD.balance_cents --as-of 2026-01-31T23:59:59Z
      ludoteca audit why 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1.lines.0.quantity --model orders
    """
    settings = opening.quiet_settings()

    async def explain() -> "Why":
        async with opening.log(settings) as log:
            return await _explained(log, figure, model, as_of)

    found = asyncio.run(explain())
    if json:
        console.print_json(found)
    else:
        for line in _lines(found):
            console.say(line)


async def _explained(
    log: "PostgresLog", figure: str, model: str | None, as_of: str | None
) -> "Why":
    """The first reading of ID.FIELD that has an answer: an id may contain dots, too."""
    from queries.audit.why import Unanswerable
    from queries.audit.why import why as explain

    position = None if as_of is None else await position_at(log, as_of)
    refusal: Unanswerable | None = None
    for row_id, field in _readings(figure):
        try:
            return await explain(log, row_id, field, model=model, position=position)
        except Unanswerable as error:
            refusal = refusal or error
    if refusal is None:
        raise Failure(f"{figure} is not ID.FIELD: there is no dot in it", Code.USAGE)
    raise refusal


def _readings(figure: str) -> Iterator[tuple[str, str]]:
    """What may be the id, and what the field."""
    parts = figure.split(".")
    for number in range(1, len(parts)):
        row_id, field = ".".join(parts[:number]), ".".join(parts[number:])
        if row_id and field:
            yield row_id, field


def _lines(found: "Why") -> Iterator[str]:
    there = "" if found.exists else "; the row was removed"
    yield (
        f"{found.model} {found.key}: {found.field} = {_text(found.value)}"
        f" as of position {found.position}{there}"
    )
    if found.left_out:
        yield f"({found.left_out} earlier changes are not shown)"
    for step in found.steps:
        yield ""
        yield from _step(step)
    for stop in found.stopped_by:
        yield ""
        yield (
            f"position {stop.position}  {stop.name} cannot be applied, and with it all that follows"
            f" in stream {stop.stream_id}: {stop.error}"
        )


def _step(step: "Step") -> Iterator[str]:
    yield f"{_text(step.before)} → {_text(step.after)}"
    yield f"  {_event(step.event)}"
    if step.amended_at is not None:
        yield f"  read as it was amended at position {step.amended_at}"
    for cause in step.causes:
        yield f"  because of {_event(cause)}"
    origin = step.causes[-1] if step.causes else step.event
    yield f"  by {origin.actor}" + (
        f", request {origin.correlation_id}" if origin.correlation_id else ""
    )


def _event(event: "Event") -> str:
    return (
        f"position {event.position}  {event.occurred_at:%Y-%m-%d %H:%M:%S}Z  {event.name}"
        f"  ({event.stream_id})"
    )


def _text(value: object) -> str:
    return "nothing" if value is None else standard_json.dumps(value, ensure_ascii=False)
