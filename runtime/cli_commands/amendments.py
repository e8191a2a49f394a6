"""`ludoteca quarantine show|skip|amend|withdraw|amendments`: how broken events are to be read."""

import asyncio
import json as standard_json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.acting import operator
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from commands.amendments import AmendmentCommands
    from commands.handler import CommandResult
    from queries.operations.amendments import AmendedEvents, Broken, Reading
    from runtime.wiring.core import Core

Event = Annotated[
    str,
    typer.Argument(
        metavar="ID|POSITION",
        help="What is in quarantine, as `list` shows it, or the position of any event.",
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is kept in the log with the declaration.")
]


def show(event: Event, json: Json = False) -> None:
    """Show a broken event as it was recorded, who could not apply it, and how it is read now.
    Personal fields stay encrypted.

    [bold]Examples[/bold]
      ludoteca quarantine show 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
      ludoteca quarantine show 81250 --json
    """

    async def look() -> "Broken":
        async with _opened() as (_, events):
            found = await events.broken(await _position(events, event))
            if found is None:
                raise Failure(f"the log has no event at position {event}")
            return found

    found = asyncio.run(look())
    if json:
        console.print_json(found)
        return
    console.print_json(found.event)
    for held in found.held_by:
        console.say(f"{held.feed}: {held.error}")
    if found.reading is not None:
        console.say(_line(found.reading))


def skip(event: Event, reason: ReasonOption, json: Json = False) -> None:
    """Have an event skipped by all who fold: read models, search, decisions, reactors. It stays in
    the log.

    [bold]Example[/bold]
      ludoteca quarantine skip 81250 --reason "a carrier's test, not a delivery"
    """
    _declare(event, lambda commands, position: commands.skip(operator(), position, reason), json)


def amend(
    event: Event,
    reason: ReasonOption,
    payload: Annotated[
        Path,
        typer.Option(
            help="A file with the corrected payload, JSON of the event's type; - is standard input."
        ),
    ],
    json: Json = False,
) -> None:
    """Have an event read with a corrected payload by all who fold. The original stays in the log. A
    personal field that is given as "[encrypted]", as `show` prints it, stays as it is.

    [bold]Example[/bold]
      ludoteca quarantine amend 81250 --payload corrected.json --reason "the year was 2026"
    """
    text = sys.stdin.read() if str(payload) == "-" else payload.read_text(encoding="utf-8")
    try:
        corrected = standard_json.loads(text)
    except ValueError as error:
        raise Failure(f"{payload} is not JSON: {error}", Code.USAGE) from None
    if not isinstance(corrected, dict):
        raise Failure(f"{payload} is no JSON object", Code.USAGE)
    _declare(
        event,
        lambda commands, position: commands.amend(operator(), position, corrected, reason),
        json,
    )


def withdraw(event: Event, reason: ReasonOption, json: Json = False) -> None:
    """Have an event read as it was recorded after all.

    [bold]Example[/bold]
      ludoteca quarantine withdraw 81250 --reason "the release can read it now"
    """
    _declare(
        event, lambda commands, position: commands.withdraw(operator(), position, reason), json
    )


def amendments(json: Json = False) -> None:
    """List the events for which it was declared how they are to be read.

    [bold]Example[/bold]
      ludoteca quarantine amendments
    """

    async def read() -> "list[Reading]":
        async with _opened() as (_, events):
            return await events.readings()

    found = asyncio.run(read())
    if json:
        console.print_json(found)
        return
    for reading in found:
        console.say(_line(reading))
    if not found:
        console.say("every event is read as it was recorded")


Command = Callable[["AmendmentCommands", int], Awaitable["CommandResult[None]"]]


def _declare(event: str, command: Command, json: bool) -> None:
    async def declare() -> tuple[int, int | None]:
        async with _opened() as (core, events):
            position = await _position(events, event)
            return position, (await command(core.commands.amendments, position)).position

    position, declared_at = asyncio.run(declare())
    if json:
        console.print_json({"position": position, "declared_at": declared_at})
    elif declared_at is None:
        console.say(f"the event at position {position} is read so already")
    else:
        console.say(
            f"declared at position {declared_at} how the event at position {position} is read;"
            " consumers take it up within seconds: see `ludoteca quarantine list`"
        )


@asynccontextmanager
async def _opened() -> "AsyncIterator[tuple[Core, AmendedEvents]]":
    from commands.aggregates import ALL
    from queries.audit.log import Audit
    from queries.operations.amendments import AmendedEvents
    from queries.operations.control import Operations

    async with opening.core(opening.quiet_settings()) as core:
        log = core.log
        yield core, AmendedEvents(log, Audit(log, ALL), Operations(log.pool))


async def _position(events: "AmendedEvents", event: str) -> int:
    if event.isdecimal() and len(event) < 19:
        return int(event)
    try:
        quarantine_id = UUID(event)
    except ValueError:
        raise Failure(f"{event} is neither an id nor a position", Code.USAGE) from None
    position = await events.position_of(quarantine_id)
    if position is None:
        raise Failure(f"not in quarantine: {event}")
    return position


def _line(reading: "Reading") -> str:
    return (
        f"position {reading.position}  {reading.name}  {reading.reading}, declared at"
        f" {reading.declared_at} by {reading.declared_by} ({reading.at:%Y-%m-%d %H:%M}):"
        f" {reading.reason}"
    )
