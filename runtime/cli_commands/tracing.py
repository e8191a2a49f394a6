"""`ludoteca trace`: where something is, and what it waits for."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json
from runtime.output import console

if TYPE_CHECKING:
    from queries.trace.model import Trace


def trace(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A position of the log, or the id of an order, a payment or another stream, of an"
            " event, a request (correlation id) or a trace.",
        ),
    ],
    json: Json = False,
) -> None:
    """Follow what a request set in motion through log, consumers, quarantine, jobs and deadlines,
    and say what it waits for.

    [bold]Examples[/bold]
      ludoteca trace 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
      ludoteca trace 81250 --json | jq '.waits_for[]'
    """
    found = asyncio.run(_trace(asked))
    if json:
        console.print_json(found)
    else:
        for line in _lines(found):
            console.say(line)


async def _trace(asked: str) -> "Trace":
    from commands.aggregates import ALL
    from queries.audit.log import Audit
    from queries.engine.read_models import ReadModels
    from queries.operations.control import Operations
    from queries.trace.tracing import Tracing
    from runtime.wiring.work import open_queues

    async with opening.core(opening.quiet_settings()) as core, open_queues(core) as queues:
        pool = core.log.pool
        tracing = Tracing(
            core.log, ReadModels(pool), Operations(pool), Audit(core.log, ALL), queues.values()
        )
        return await tracing.trace(asked)


def _lines(found: "Trace") -> Iterator[str]:
    for env in found.events:
        yield (
            f"{env.position:>9}  {env.occurred_at:%Y-%m-%d %H:%M:%S}Z  {env.name}"
            f"  ({env.stream_id})  by {env.actor}"
        )
    if found.left_out:
        yield f"({found.left_out} further events, which are too many, are not shown)"
    yield ""
    for stream in found.streams:
        if stream.status is not None:
            yield f"{stream.kind} {stream.stream_id}: {stream.status}"
    passed = sum(consumer.passed for consumer in found.consumers)
    yield f"{passed} of {len(found.consumers)} consumers have read it all"
    for refusal in found.refusals:
        yield (
            f"{refusal.feed} was refused at position {refusal.position} by a rule, which is final:"
            f" {refusal.code}"
        )
    yield ""
    yield "it waits for:" if found.waits_for else "it waits for nothing: it is done"
    for wait in found.waits_for:
        yield f"- {wait}"
