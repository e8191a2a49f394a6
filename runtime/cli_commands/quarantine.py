"""`ludoteca quarantine`: streams that a consumer of the log could not apply."""

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from eventstore.consumers.quarantine import Quarantined
    from queries.operations.control import Operations

MANY = 1_000_000
"""A limit above anything that people would list."""

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "List and retry streams that a consumer of the log could not apply; declare how a broken"
        " event is to be read. Other streams are not affected."
    ),
)


@app.command(name="list")
def list_(
    feed: Annotated[
        str | None,
        typer.Option(help="Only those of this consumer (a feed of `ludoteca projections list`)."),
    ] = None,
    json: Json = False,
) -> None:
    """List the streams in quarantine: whose, from which position on, and why.

    An event that cannot be applied is not skipped by itself. It and all later events of its stream
    wait here until `retry`, or until `skip` or `amend` declares how it is to be read.

    [bold]Examples[/bold]
      ludoteca quarantine list
      ludoteca quarantine list --feed orders.1 --json
    """
    settings = opening.quiet_settings()

    async def read() -> "list[Quarantined]":
        from queries.operations.control import Operations

        async with opening.pool(settings) as pool:
            operations = Operations(pool)
            if feed is not None and feed not in (
                known := {each.feed for each in await operations.subscriptions()}
            ):
                raise unknown("feed", feed, known)
            return await operations.quarantine(feed, MANY)

    found = asyncio.run(read())
    if json:
        console.print_json(found)
        return
    for stream in found:
        asked = ", a retry is asked for" if stream.retry else ""
        console.say(
            f"{stream.id}  {stream.feed}  position {stream.position}  {stream.name}\n    stream"
            f" {stream.stream_id}, attempts: {stream.attempts}, since"
            f" {stream.since:%Y-%m-%d %H:%M}{asked}\n    {stream.error}"
        )
    if not found:
        console.say("nothing is in quarantine")


@app.command()
def retry(
    ids: Annotated[
        list[UUID] | None, typer.Argument(help="Ids of what to try again, as `list` shows them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Try all streams again.")] = False,
    wait: Annotated[
        float,
        typer.Option(
            parser=opening.seconds, metavar="SECONDS", help="How long to wait for the outcome."
        ),
    ] = 10.0,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Let the consumers try again after the cause was fixed, and report the outcome. Exit code 1 if
    some streams still cannot be applied, 3 if no consumer answered in time.

    [bold]Examples[/bold]
      ludoteca quarantine retry 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
      ludoteca quarantine retry --all --wait 60
    """
    if bool(ids) == every:
        raise Failure("name what to retry, or say --all", Code.USAGE)
    settings, why = opening.quiet_settings(), acting.reason_for(reason)
    target = "all" if not ids else str(ids[0]) if len(ids) == 1 else f"{len(ids)} streams"

    async def ask() -> tuple[set[UUID], "dict[UUID, Quarantined]"]:
        from queries.operations.control import Operations

        async with opening.core(settings) as core:
            operations = Operations(core.log.pool)
            async with acting.recorded(core, "quarantine.retry", target=target, reason=why) as act:
                held = await operations.quarantine(limit=MANY)
                wanted = set(ids or [stream.id for stream in held])
                gone = {each for each in wanted if not await operations.retry(each)}
                act.affected = len(wanted - gone)
                if gone and not every:
                    raise Failure(f"not in quarantine: {', '.join(map(str, sorted(gone)))}")
            return wanted, await _outcome(operations, wanted, wait)

    wanted, left = asyncio.run(ask())
    with console.reporting():
        _tell(wanted, left, json)
    if any(not stream.retry for stream in left.values()):
        raise typer.Exit(Code.DIFFERS)
    if left and wait:
        console.note(
            "no consumer has taken the rest yet: does it run, is it paused? (`ludoteca projections"
            " list`)"
        )
        raise typer.Exit(Code.UNREACHABLE)


async def _outcome(
    operations: "Operations", wanted: Collection[UUID], wait: float
) -> "dict[UUID, Quarantined]":
    """What is still in quarantine when everything was tried, or the time is over."""
    deadline = time.monotonic() + wait
    while True:
        left = {
            stream.id: stream
            for stream in await operations.quarantine(limit=MANY)
            if stream.id in wanted
        }
        if time.monotonic() >= deadline or not any(stream.retry for stream in left.values()):
            return left
        await asyncio.sleep(0.1)


def _tell(wanted: Collection[UUID], left: "dict[UUID, Quarantined]", json: bool) -> None:
    waiting = [stream for stream in left.values() if stream.retry]
    failing = [stream for stream in left.values() if not stream.retry]
    applied = len(wanted) - len(left)
    if json:
        console.print_json({"applied": applied, "failing": failing, "waiting": waiting})
    else:
        console.say(
            f"{applied} applied, {len(failing)} failing again, {len(waiting)} waiting for their"
            " consumer"
        )
        for stream in failing:
            console.say(f"{stream.id}  {stream.feed}  position {stream.position}  {stream.error}")
