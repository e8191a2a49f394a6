"""Output of commands: tables and JSON on stdout; notes, errors and progress on stderr, so that
pipes get data only."""

import contextlib
import enum
import io
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done, and how much there is to do."""

PLAIN_SECONDS = 5.0
"""How often progress is reported when stderr is not a terminal."""

_WIDE = 10_000
"""The width when stdout is not a terminal: nothing is wrapped."""


class Code(enum.IntEnum):
    """The meaning of a command's exit code."""

    OK = 0
    DIFFERS = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def output() -> "Console":
    """A console on stdout, as wide as stdout is."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - called where it was caught: the command ends as all do whose reader is gone

    return Output(width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line on stdout."""
    print(text)


def note(text: str) -> None:
    """Print a line on stderr, for people. If stderr cannot be written, the command goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard_output(sys.stderr)


class _BufferedOutput(io.TextIOWrapper):
    """Output that is collected before it goes to stdout."""

    def __init__(self, target: TextIO) -> None:
        self.content = io.BytesIO()
        self._target = target
        super().__init__(self.content, target.encoding, target.errors, write_through=True)

    def isatty(self) -> bool:
        return self._target.isatty()

    def fileno(self) -> int:
        return self._target.fileno()


@contextmanager
def reporting() -> Iterator[None]:
    """Print a report of what was done in the block. If stdout cannot take it, stderr gets it, and
    the exit code stays that of the work. If the reader of stdout has gone, nobody needs it."""
    before = sys.stdout
    sys.stdout = buffered = _BufferedOutput(before)
    try:
        yield
    finally:
        sys.stdout = before
        try:
            before.buffer.write(buffered.content.getvalue())
            before.flush()
        except BrokenPipeError:
            discard_output(before)
        except OSError as error:
            discard_output(before)
            note(buffered.content.getvalue().decode(buffered.encoding, "replace").rstrip())
            note(f"standard output could not take that: {error.strerror}")


def discard_output(stream: TextIO) -> None:
    """Send what is left in a stream nowhere, silently: its reader has gone, or it cannot be
    written."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def flush_or_discard(stream: TextIO) -> None:
    """Flush stdout and stderr, so that the interpreter finds nothing left to write when it ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        discard_output(stream)


def print_json(value: object) -> None:
    """Print indented JSON on stdout. Takes msgspec structs, UUIDs, times and paths."""
    import msgspec

    encoded = msgspec.json.encode(value, enc_hook=str)
    with contextlib.suppress(RecursionError):  # nested too deeply to format
        encoded = msgspec.json.format(encoded, indent=2)
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")  # UTF-8, whatever the terminal's encoding


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str = "none",
    right: Collection[str] = (),
) -> None:
    """Print a table, or the line `empty` if there are no rows. Numbers are aligned right, and so
    are columns with these headings; None is shown as a dash."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    if not cells:
        say(empty)
        return
    console = output()
    drawn = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, header_style="bold"
    )
    for number, heading in enumerate(headings):
        numeric = heading in right or all(isinstance(row[number], int | None) for row in cells)
        drawn.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        drawn.add_row(
            *(
                cell if isinstance(cell, Text) else Text("-" if cell is None else str(cell))
                for cell in row
            )
        )
    console.print(drawn, soft_wrap=False)


def verdict(good: bool, yes: str = "yes", no: str = "NO") -> "Text":
    """A cell that stands out unless all is well."""
    from rich.text import Text

    return Text(yes, "green") if good else Text(no, "bold red")


# -- progress --------------------------------------------------------------------------------------


@contextmanager
def progress(*, visible: bool = True) -> Iterator[Progress]:
    """Report on stderr how far a job is, its speed and the time left: as a bar on a terminal,
    otherwise as a line now and then."""
    if not visible:
        yield lambda _what, _done, _total: None
    elif sys.stderr.isatty():
        with _bars() as update:
            yield update
    else:
        lines = ProgressLines()
        yield lines
        lines.finish()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
    )
    from rich.progress import Progress as Bars
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f}/s" if speed else "", "dim")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        Remaining(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield update


class ProgressLines:
    """Progress without a terminal: for each stage, a line every PLAIN_SECONDS and one at the
    end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._started = self._told = 0.0
        self._done = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if what != self._stage:
            self.finish()
            self._stage = what
            self._started = now
            self._told = now
        self._done = done
        if now - self._told >= PLAIN_SECONDS:
            self._told = now
            rate = done / (now - self._started)
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            percent = f" ({100 * done // total} %)" if total else ""
            note(f"{what}: {done:,} of {total:,}{percent}, {rate:,.0f}/s{left}")

    def finish(self) -> None:
        """End the stage and print how long it took."""
        if self._stage:
            seconds = self._clock() - self._started
            note(f"{self._stage}: {self._done:,} in {seconds:,.1f} s")
            self._stage = ""
