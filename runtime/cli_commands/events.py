"""`ludoteca events`: the log, as JSON lines."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO
from uuid import UUID

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.output import console
from runtime.output.console import Code
from runtime.output.files import writing

if TYPE_CHECKING:
    from eventstore.log import Envelope
    from eventstore.postgres_log import PostgresLog
    from runtime.events.lines import Selection

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Print the log of events as JSON lines, with personal fields as stored: encrypted. List the"
        " program's events, and compare them with an earlier release's."
    ),
)

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        help="Only events of this name or pattern, such as 'payment.*'. Repeatable.",
    ),
]
Stream = Annotated[UUID | None, typer.Option("--stream", help="Only events of this stream.")]
After = Annotated[
    int | None, typer.Option("--after", min=0, help="Only events after this position.")
]


@app.command()
def tail(
    name: Names = None,
    stream: Stream = None,
    after: After = None,
    count: Annotated[
        int,
        typer.Option(
            "--lines",
            "-n",
            min=0,
            max=opening.MANY,
            help="How many of the last events to start with.",
        ),
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", "-f", help="Keep printing new events.")
    ] = True,
) -> None:
    """Print the last events and then new ones, until Ctrl-C. With --after, start after that
    position instead of with the last events.

    [bold]Examples[/bold]
      ludoteca events tail
      ludoteca events tail --name 'payment.*' --name order.created.v1
      ludoteca events tail -n 100 --no-follow | jq .name
      ludoteca events tail --after 0 --stream 018f6d2e-7c1a-7b8e-9d55-2f0c6b1a7e10
    """

    async def main() -> None:
        from runtime.events.lines import before_last, pages

        async with opening.log(opening.quiet_settings()) as log:
            selection, head = _selection(log, name, stream), await log.head()
            position = (
                after if after is not None else await before_last(log.pool, selection, count, head)
            )
            async for page in pages(log.pool, selection, position, head):
                _write(sys.stdout.buffer, page)
                sys.stdout.buffer.flush()
            if follow:
                await _follow(log, selection, max(position, head))

    asyncio.run(main())


@app.command()
def show(
    event: Annotated[
        str, typer.Argument(help="The event's position or id.", metavar="POSITION|ID")
    ],
) -> None:
    """Print one event, by position or event id, with its hash in the chain.

    [bold]Examples[/bold]
      ludoteca events show 42
      ludoteca events show 018f6d2e-7c1a-7b8e-9d55-2f0c6b1a7e10
    """
    from runtime.events.lines import event_fields, find

    reference = _reference(event)

    async def main() -> None:
        async with opening.pool(opening.quiet_settings()) as pool:
            found = await find(pool, reference)
        if found is None:
            raise Failure(f"there is no event {event}")
        raw, digest = found
        console.print_json({**event_fields(*raw), "hash": digest.hex()})

    asyncio.run(main())


@app.command()
def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=opening.named_path,
            metavar="FILE",
            help="File to write to, instead of stdout.",
        ),
    ] = None,
    name: Names = None,
    stream: Stream = None,
    after: After = None,
) -> None:
    """Write all events up to the current end of the log, one JSON object per line. Progress goes to
    stderr.

    A file gets its name only when it is complete. A device, a FIFO or /dev/stdout is written to
    directly.

    [bold]Examples[/bold]
      ludoteca events export --output events.jsonl
      ludoteca events export --name 'order.*' | gzip > orders.jsonl.gz
      ludoteca events export --after 100000 -o more.jsonl
    """

    async def main() -> int:
        from runtime.events.lines import pages

        written, start = 0, after or 0
        async with opening.log(opening.quiet_settings()) as log:
            selection, head = _selection(log, name, stream), await log.head()
            with (
                writing(output) as sink,
                console.progress(visible=output is not None or not sys.stdout.isatty()) as tell,
            ):
                async for page in pages(log.pool, selection, start, head):
                    _write(sink, page)
                    written += len(page)
                    tell("export", page[-1][0].position - start, head - start)
        return written

    written = asyncio.run(main())
    console.note(f"{written} events" + (f" written to {output}" if output else ""))


def _selection(log: "PostgresLog", names: list[str] | None, stream: UUID | None) -> "Selection":
    from domain.events import EVENTS
    from runtime.events.lines import Selection, UnknownName, names_like

    known = log.codec.names_of(EVENTS.values())
    try:
        return Selection(names_like(names or [], known), stream)
    except UnknownName as error:
        raise unknown("event", str(error), known) from None


def _reference(text: str) -> int | UUID:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return UUID(text)
    except ValueError:
        raise Failure(f"{text} is neither a position nor an event's id", Code.USAGE) from None


async def _follow(log: "PostgresLog", selection: "Selection", position: int) -> None:
    """Print new events. Survives the loss of the database, like the watcher that it uses."""
    import psycopg

    from eventstore.postgres_log import RETRY_SECONDS
    from kit.cancellation import stop_if_cancelled
    from runtime.events.lines import pages

    while True:
        stop_if_cancelled()
        head = await log.watcher.beyond(position)
        try:
            async for page in pages(log.pool, selection, position, head):
                _write(sys.stdout.buffer, page)
                sys.stdout.buffer.flush()
                position = page[-1][0].position
            position = head
        except psycopg.OperationalError:
            await asyncio.sleep(RETRY_SECONDS)


def _write(sink: BinaryIO, page: "list[tuple[Envelope, bytes]]") -> None:
    from runtime.events.lines import event_json

    sink.write(b"".join(event_json(env, payload) + b"\n" for env, payload in page))
