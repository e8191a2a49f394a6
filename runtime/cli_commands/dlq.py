"""`ludoteca dlq`: jobs that exhausted their attempts, in PostgreSQL or RabbitMQ."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from commands.ports.queue import DeadLetter
    from runtime.wiring.core import Core
    from runtime.wiring.work import Queues

T = TypeVar("T")

_CONTEXT = {"causation_id", "correlation_id", "traceparent"}
"""Fields of a job that only link it to the log; `show` prints them, `list` does not."""

MANY = 1_000_000
"""A limit above any number of dead letters."""

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, redrive and discard dead letters: jobs that exhausted their attempts.",
)

JobId = Annotated[UUID, typer.Argument(help="The job's id, as `list` shows it.", metavar="ID")]


@app.command(name="list")
def list_(
    limit: Annotated[
        int, typer.Option(min=1, max=opening.MANY, help="How many to list of each queue.")
    ] = 100,
    json: Json = False,
) -> None:
    """List the dead letters of all queues, with the oldest of each queue first.

    [bold]Examples[/bold]
      ludoteca dlq list
      ludoteca dlq list --json | jq -r '.[].job.id'
    """
    letters = asyncio.run(_with_queues(lambda queues: _dead(queues, limit)))
    if json:
        console.print_json(letters)
        return
    console.table(
        ("id", "queue", "kind", "about", "attempts", "died", "error"),
        [
            (
                letter.job.id,
                letter.queue,
                letter.job.kind,
                " ".join(
                    f"{name}={value}"
                    for name, value in letter.job.body.items()
                    if name not in _CONTEXT
                ),
                letter.attempts,
                f"{letter.died_at:%Y-%m-%d %H:%M:%S}" if letter.died_at else None,
                letter.error,
            )
            for letter in letters
        ],
        empty="no dead letters",
    )


@app.command()
def show(job_id: JobId) -> None:
    """Print one dead letter with all its fields.

    [bold]Example[/bold]
      ludoteca dlq show 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
    """

    async def read(queues: "Queues") -> "list[DeadLetter]":
        return [letter for letter in await _dead(queues) if letter.job.id == job_id]

    letters = asyncio.run(_with_queues(read))
    if not letters:
        raise Failure(f"there is no dead letter {job_id}")
    console.print_json(letters[0])


@app.command()
def redrive(
    ids: Annotated[
        list[UUID] | None, typer.Argument(help="Ids of the jobs, as `list` shows them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Redrive all dead letters.")] = False,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Put dead jobs back into their queues, with a fresh count of attempts.

    This is safe: a payment that was settled meanwhile is only reconciled. Exit code 1 if one of the
    ids is not, or no longer, a dead letter.

    [bold]Examples[/bold]
      ludoteca dlq redrive 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
      ludoteca dlq redrive --all
    """
    if bool(ids) == every:
        raise Failure("name what to redrive, or say --all", Code.USAGE)

    why, named = acting.reason_for(reason), _named(ids)

    async def revive() -> tuple[list[UUID], list[UUID]]:
        async with (
            _opened() as (core, queues),
            acting.recorded(core, "dead_letter.redrive", target=named, reason=why) as act,
        ):
            wanted = list(dict.fromkeys(ids or [letter.job.id for letter in await _dead(queues)]))
            done = {each for queue in queues.values() for each in await queue.redrive_all(wanted)}
            act.affected = len(done)
            return (
                [job_id for job_id in wanted if job_id in done],
                [job_id for job_id in wanted if job_id not in done],
            )

    redriven, unknown = asyncio.run(revive())
    with console.reporting():
        if json:
            console.print_json({"redriven": redriven, "not_dead": unknown})
        else:
            console.say(f"{len(redriven)} redriven")
            for job_id in unknown:
                console.note(f"there is no dead letter {job_id}")
    if unknown and not every:
        raise typer.Exit(Code.DIFFERS)


@app.command()
def discard(
    ids: Annotated[
        list[UUID] | None, typer.Argument(help="Ids of the jobs, as `list` shows them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Discard all dead letters.")] = False,
    reason: acting.Reason = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask: discard what is named.")
    ] = False,
    json: Json = False,
) -> None:
    """Delete dead jobs, which nobody does any more then. Tells first what would be left undone, and
    asks. A reason is required. What each job was about stays in the log (`audit acts`).

    Without a terminal it needs --yes; without that, it only tells. Exit code 1 if one of the ids is
    not, or no longer, a dead letter.

    [bold]Examples[/bold]
      ludoteca dlq discard 0c2f3a52-6f6c-4f5e-9a43-0d6bb2a3f7f1
      ludoteca dlq discard --all --yes --reason "mails of a test"
    """
    if bool(ids) == every:
        raise Failure("name what to discard, or say --all", Code.USAGE)
    discarded, unknown = asyncio.run(_discard(ids, reason, yes=yes))
    with console.reporting():
        if json:
            console.print_json({"discarded": discarded, "not_dead": unknown})
        else:
            console.say(f"{len(discarded)} discarded")
            for job_id in unknown:
                console.note(f"there is no dead letter {job_id}")
    if unknown:
        raise typer.Exit(Code.DIFFERS)


async def _discard(
    ids: list[UUID] | None, reason: str | None, *, yes: bool
) -> tuple[list[UUID], list[UUID]]:
    """Tell, ask, and discard. Returns what was discarded, and which ids are no dead letter."""
    from commands import dead_letters
    from queries.engine.read_models import ReadModels
    from queries.trace.undone import left_undone

    async with _opened() as (core, queues):
        letters = [each for each in await _dead(queues) if not ids or each.job.id in ids]
        undone = await left_undone(ReadModels(core.log.pool), letters)
        for each in letters:
            console.note(f"{each.job.kind} {each.job.id}: {undone[each.job.id]}")
        why = _must_discard(len(letters), reason, yes=yes) if letters else ""
        discarded = await dead_letters.discard(
            core.commands.acts, acting.operator(), why, queues.values(), letters
        )
    wanted = ids or [each.job.id for each in letters]
    return discarded, [each for each in dict.fromkeys(wanted) if each not in set(discarded)]


def _must_discard(count: int, reason: str | None, *, yes: bool) -> str:
    """The reason. Raises Failure without one, or if the operator does not want to."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure("nothing was discarded: say --yes", Code.USAGE)
    if not yes and not typer.confirm(f"Discard {count}?", err=True):
        raise Failure("nothing was discarded")
    why = acting.reason_for(reason)
    if why is None:
        raise Failure("nothing was discarded: say why, with --reason", Code.USAGE)
    return why


def _named(ids: list[UUID] | None) -> str:
    """What was named, as the record of the act has it."""
    return "all" if not ids else str(ids[0]) if len(ids) == 1 else f"{len(ids)} jobs"


@asynccontextmanager
async def _opened() -> "AsyncIterator[tuple[Core, Queues]]":
    from runtime.wiring.work import open_queues

    async with opening.core(opening.quiet_settings()) as core, open_queues(core) as queues:
        yield core, queues


async def _with_queues(work: Callable[["Queues"], Awaitable[T]]) -> T:
    async with _opened() as (_, queues):
        return await work(queues)


async def _dead(queues: "Queues", limit: int = MANY) -> "list[DeadLetter]":
    return [letter for queue in queues.values() for letter in await queue.dead_letters(limit)]
