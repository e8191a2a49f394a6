"""Standard output and error that never block the program, whether or not somebody reads them.

A pipe holds 64 KB. Once nobody reads it, the next write blocks for ever. Here a thread of its own
does the writing. Lines that do not fit into its queue meanwhile are dropped, counted, and reported
as soon as lines flow again.
"""

import atexit
import contextlib
import fcntl
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

QUEUE_BYTES = 1 << 20
"""How much of each stream is queued for its reader: some thousands of lines."""

DRAIN_SECONDS = 2.0
"""How long the process, when it ends, waits for its last lines to be read."""

RETRY_SECONDS = 1.0
"""How often to try again to write a stream that cannot be written (a full disk, a reader that has
gone)."""


class LogStream(io.TextIOBase):
    """A text stream on a file descriptor, whose `write` queues whole lines and never blocks.

    `notice` makes the text that is written where lines were dropped, from their number.
    `count_dropped` is called with the number of lines dropped since its last success; if it returns
    False, the number is reported again later.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        queue_bytes: int = QUEUE_BYTES,
        count_dropped: Callable[[int], bool] = lambda _lines: True,
    ) -> None:
        self._descriptor = descriptor
        self._queue_bytes = queue_bytes
        self.count_dropped = count_dropped
        self.notice: Callable[[int], str] = lambda lines: (
            f"{lines} lines were dropped here: nobody read them\n"
        )
        self._clear()
        os.register_at_fork(after_in_child=self._clear)

    def _clear(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._begun = ""  # the incomplete line
        self._unreported = 0  # dropped, and not reported yet
        self._uncounted = 0
        self._counted_at = 0.0
        self._failing = False
        self._thread: threading.Thread | None = None

    # -- as a text stream --------------------------------------------------------------------------

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the bytes that reach the descriptor."""
        return "utf-8"

    def writable(self) -> bool:
        """Always True."""
        return True

    def fileno(self) -> int:
        """The descriptor, for others who write to it directly; their writes may block."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Queue the lines that are now complete."""
        with self._changed:
            lines, end, self._begun = (self._begun + text).rpartition("\n")
            if end:
                self._take(lines + end)
        return len(text)

    def flush(self) -> None:
        """Queue the incomplete line. Does not wait until it is written."""
        with self._changed:
            if self._begun:
                begun = self._begun
                self._begun = ""
                self._take(begun)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until everything is written; not for long, and not for a stream that cannot be
        written."""
        self.flush()
        with self._changed:
            self._changed.wait_for(
                lambda: self._failing or not (self._queue or self._unreported), seconds
            )
            self._count()

    # -- the buffer --------------------------------------------------------------------------------

    def _take(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        # one large gap instead of a gap after every line
        bound = self._queue_bytes // 2 if self._unreported else self._queue_bytes
        if self._queued + len(data) > bound:
            self._unreported += data.count(b"\n") or 1
            self._uncounted += data.count(b"\n") or 1
            if time.monotonic() > self._counted_at + RETRY_SECONDS:
                self._count()
        else:
            self._report_dropped()
            self._enqueue(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._pass_on, name="log stream", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)

    def _report_dropped(self) -> None:
        """Queue a notice of the dropped lines, in their place."""
        if self._unreported:
            self._count()
            lines = self._unreported
            self._unreported = 0
            try:
                text = self.notice(lines)
            except Exception:  # even if the notice fails, the number must be reported
                text = f"{lines} lines dropped\n"
            self._enqueue(text.encode("utf-8", "backslashreplace"))

    def _count(self) -> None:
        self._counted_at = time.monotonic()
        if self._uncounted and self.count_dropped(self._uncounted):
            self._uncounted = 0

    # -- the thread that waits for the reader ------------------------------------------------------

    def _pass_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._unreported)
                if not self._queue:
                    self._report_dropped()
                first = self._queue[0]
            self._write_all(first)
            with self._changed:
                self._queue.popleft()
                self._queued -= len(first)
                self._changed.notify_all()

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except (
                BlockingIOError
            ):  # another process that shares the terminal has made it non-blocking
                select.select([], [self._descriptor], [], RETRY_SECONDS)
            except OSError:
                self._set_failing(True)
                time.sleep(RETRY_SECONDS)
            else:
                self._set_failing(False)

    def _set_failing(self, failing: bool) -> None:
        if failing != self._failing:
            with self._changed:
                self._failing = failing
                self._changed.notify_all()


# -- this process's own ----------------------------------------------------------------------------


def install(count_file: Path) -> LogStream | None:
    """Replace stdout and stderr by streams that never block. Returns the one for stderr.

    The number of dropped lines is added to `count_file`. Returns None if another program (a test)
    has already replaced the streams.
    """
    if isinstance(sys.stderr, LogStream):
        return sys.stderr
    if sys.stderr is not sys.__stderr__ or sys.stdout is not sys.__stdout__:
        return None
    if sys.stdout is not None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    streams = LogStream(1), LogStream(2)
    for stream in streams:
        stream.count_dropped = lambda lines: add_to(count_file, lines)
        atexit.register(stream.drain)
    sys.stdout, sys.stderr = streams
    return streams[1]


def add_to(count_file: Path, number: int) -> bool:
    """Add to the number in a file that processes share. Returns False if that is not possible at
    the moment."""
    try:
        count_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(count_file, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            total = _number(file.read()) + number
            file.truncate(0)
            file.write(f"{total}\n")
    except OSError:
        return False
    return True


def counts(folder: Path) -> dict[str, int]:
    """The numbers in a folder's files, by file name."""
    found = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                found[path.name] = _number(path.read_text(encoding="ascii", errors="replace"))
    return found


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0
