"""`ludoteca log`: the log as a whole, into files and out of them."""

import gzip
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.files import writing

if TYPE_CHECKING:
    from runtime.archive.reading import Archive

app = typer.Typer(
    no_args_is_help=True, help="Move the log as a whole: into files, out of them, or to KurrentDB."
)

Files = Annotated[
    list[Path],
    typer.Argument(
        parser=opening.named_path,
        metavar="FILE...",
        help="Archives by `ludoteca log export`, each of which continues the one before it.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, max=64, help="How many processes check events: one for each core, if it is worth it."
    ),
]


@app.command()
def export(
    file: Annotated[
        Path,
        typer.Argument(
            parser=opening.named_path,
            metavar="FILE",
            help="The file to write; compressed if its name ends in .gz.",
        ),
    ],
    after: Annotated[
        int, typer.Option("--after", min=0, help="Only what comes after this position.")
    ] = 0,
    json: Json = False,
) -> None:
    """Write the log into a file: its events with their hashes, the idempotency keys that belong to
    them, and how far reactors and the relay are. The chain is verified on the way. Personal data is
    encrypted; the keys of persons are not in the file.

    The shop may be running: all is of one moment. The file gets its name once it is complete.

    [bold]Examples[/bold]
      ludoteca log export shop.jsonl.gz
      ludoteca log export --after 81250 more.jsonl
    """
    from eventstore.database.postgres import connect
    from runtime.archive.writing import write

    with ExitStack() as stack:
        url = stack.enter_context(opening.database(opening.quiet_settings()))
        opening.require_this_release(url)
        conn = stack.enter_context(connect(url, "ludoteca log export"))
        tell = stack.enter_context(console.progress())
        stack.enter_context(conn.transaction())
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        sink: BinaryIO = stack.enter_context(writing(file))
        if file.suffix == ".gz":
            sink = stack.enter_context(gzip.GzipFile("", "wb", 1, sink))  # type: ignore[assignment]
        header = write(conn, sink, after, tell)
    with console.reporting():
        if json:
            console.print_json(header)
        else:
            console.say(f"exported: {header.events:,} events, up to position {header.position}")
            console.say(f"hash      {header.hash}")


@app.command("import")
def import_(
    files: Files,
    upto: Annotated[
        int | None, typer.Option("--upto", min=1, help="Nothing that comes after this position.")
    ] = None,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Put archives into the log, which must end where the first of them begins: with all their
    events, or without any. Stop the shop first.

    Each event is checked: that its hash follows from the one before, that it continues its stream,
    and that its id is no other event's. What does not fit is named with its file, line and
    position, and nothing is imported. Reactors and the relay go on where they were in the shop that
    was exported. Read models are rebuilt at the next start.

    [bold]Examples[/bold]
      ludoteca log import shop.jsonl.gz
      ludoteca log import shop.jsonl.gz more.jsonl --upto 90000
    """
    from eventstore.database.postgres import connect
    from runtime.archive.loading import check_clock, check_unused, load
    from runtime.archive.reading import checkers, usual_count
    from runtime.release.migrate import migrate
    from runtime.wiring.codec import codec

    archives = _archives(files)
    with ExitStack() as stack:
        url = stack.enter_context(opening.database(opening.quiet_settings(), new=True))
        migrate(url)
        conn = stack.enter_context(connect(url, "ludoteca log import", role=""))
        check_unused(conn)
        workers = stack.enter_context(checkers(jobs or usual_count(files)))
        tell = stack.enter_context(console.progress())
        with conn.transaction():
            loaded = load(conn, archives, codec().kinds, workers, tell, upto=upto)
            check_clock(conn, archives, loaded)
    with console.reporting():
        if json:
            console.print_json(loaded)
        else:
            console.say(f"imported: {loaded.events:,} events, up to position {loaded.position}")
            console.say(f"hash      {loaded.hash}")


@app.command()
def check(files: Files, jobs: Jobs = None) -> None:
    """Check archives without a database: that the chain of their events is intact, that they are
    complete, and that each continues the one before it. If not, the exit code is 1, and file, line
    and position are named.

    [bold]Example[/bold]
      ludoteca log check shop.jsonl.gz more.jsonl
    """
    from runtime.archive.reading import checkers, usual_count, verify

    archives = _archives(files)
    with checkers(jobs or usual_count(files)) as workers, console.progress() as tell:
        verify(archives, workers, tell)
    first, last = archives[0].header, archives[-1].header
    console.say(f"intact: positions {first.after + 1} to {last.position}")
    console.say(f"hash      {last.hash}")


def _archives(files: list[Path]) -> "list[Archive]":
    from runtime.archive.reading import Archive

    return [Archive(file) for file in files]
