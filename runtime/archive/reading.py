"""Reads archives, and checks them against the hash chain, in several processes."""

import gzip
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import IO

import msgspec

from eventstore.database.release import RELEASE
from kit.children import end_with_parent
from kit.json_errors import JSON_ERRORS
from runtime.archive.checking import Block, Checked, Flaw, check, end_of
from runtime.archive.lines import (
    FORMAT,
    ArchivedKey,
    ArchiveFault,
    Consumer,
    End,
    Header,
    OtherLine,
    opened,
)
from runtime.output.console import Progress

BLOCK_BYTES = 1 << 20
"""How much of a file is read and checked at a time, unless one line is longer."""

MAX_LINE = 64 << 20
"""More bytes than a line can have, as an append has at most 16 MiB: what is no archive is not read
into memory."""

AHEAD = 2
"""How many blocks are read ahead for each process that checks."""

BYTES_EACH = 16 << 20
"""So much to check is worth one more process: its start takes half a second."""

_SPAWN = get_context("spawn")

Part = Checked | ArchivedKey | Consumer
"""What an archive is read as."""


class Checkers:
    """Processes that check blocks; without an executor, this process does."""

    def __init__(self, executor: Executor | None = None, ahead: int = 0) -> None:
        self._executor = executor
        self.ahead = ahead

    def submit(self, block: Block, upto: int) -> "Future[Checked | Flaw]":
        """Check a block, now or in another process."""
        if self._executor:
            return self._executor.submit(check, block, upto)
        done: Future[Checked | Flaw] = Future()
        done.set_result(check(block, upto))
        return done


def usual_count(files: Iterable[Path]) -> int:
    """How many processes to check archives with: one for each core, if there is enough to do.
    Raises OSError."""
    size = sum(file.stat().st_size for file in files)
    return min(len(os.sched_getaffinity(0)), 1 + size // BYTES_EACH)


@contextmanager
def checkers(count: int) -> Iterator[Checkers]:
    """So many processes that check, until the end of the `with` block; with one, this process."""
    if count < 2:
        yield Checkers()
        return
    with ProcessPoolExecutor(count, _SPAWN, end_with_parent) as executor:
        try:
            yield Checkers(executor, AHEAD * count)
        finally:
            executor.shutdown(cancel_futures=True)


class Archive:
    """A file of events. Opening it reads the header: raises ArchiveFault, OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as file, self.decompressing():
            self.header = self._header(file.readline(MAX_LINE))

    def read(
        self, checkers: Checkers, after_time: datetime | None = None, upto: int | None = None
    ) -> Iterator[Part]:
        """The rows of the events up to a position, block by block, each checked; then their
        idempotency keys and the consumers, which have not got beyond that position.

        `after_time` is the time of the event before the first. Raises ArchiveFault at the first
        line that is wrong, after what comes before it; OSError.
        """
        limit = self.header.position if upto is None else min(upto, self.header.position)
        with opened(self.path) as file, self.decompressing():
            lines = _Lines(file)
            lines.next()  # the header
            waiting: deque[Future[Checked | Flaw]] = deque()
            fault: ArchiveFault | None = None
            for block in self._blocks(lines, after_time):
                if isinstance(block, ArchiveFault):
                    fault = block  # unless there is one in the blocks before it
                elif block.position < limit:
                    waiting.append(checkers.submit(block, limit))
                if len(waiting) > checkers.ahead:
                    yield self._sound(waiting.popleft())
            while waiting:
                yield self._sound(waiting.popleft())
            if fault:
                raise fault
            yield from self._rest(lines, limit)

    # -- lines -------------------------------------------------------------------------------------

    def _blocks(self, lines: "_Lines", time: datetime | None) -> Iterator[Block | ArchiveFault]:
        """The lines of events. Ends after what is wrong, and where the last line of a block is not
        readable: the check of that block says why."""
        left = self.header.events
        position, digest = self.header.after, bytes.fromhex(self.header.after_hash)
        while left:
            first = lines.number + 1
            data, count = lines.block(left)
            if not data.endswith(b"\n"):
                too_long = len(data) - data.rfind(b"\n") > MAX_LINE
                yield ArchiveFault(
                    self.path,
                    f"longer than {MAX_LINE:,} bytes"
                    if too_long
                    else f"cut: it ends here, and lacks {left - count:,} events",
                    first + count,
                    self.header.position - left + count + 1,
                )
                return
            block = Block(data, first, position, digest, time)
            yield block
            left -= count
            try:
                position, digest, time = end_of(block)
            except ValueError:
                return
        if (position, digest.hex()) != (self.header.position, self.header.hash):
            yield ArchiveFault(
                self.path, "not the event that the header names as the last", lines.number, position
            )

    def _rest(self, lines: "_Lines", limit: int) -> Iterator[ArchivedKey | Consumer]:
        onces = consumers = 0
        while text := lines.next():
            line = self._other(text, lines.number)
            if line.end is not None:
                if line.end != End(self.header.events, onces, consumers) or lines.next():
                    raise ArchiveFault(
                        self.path, "the end does not fit what comes before it", lines.number
                    )
                return
            if line.once is not None:
                onces += 1
                if not self.header.after < line.once.position <= self.header.position:
                    raise ArchiveFault(
                        self.path, "a key of an event that is not in the archive", lines.number
                    )
                if line.once.position <= limit:
                    yield line.once
            if line.consumer is not None:
                consumers += 1
                reached = min(line.consumer.position, limit)
                yield msgspec.structs.replace(line.consumer, position=reached)
        raise ArchiveFault(self.path, "cut: the line that ends it is missing", lines.number + 1)

    def _sound(self, future: "Future[Checked | Flaw]") -> Checked:
        found = future.result()
        if isinstance(found, Flaw):
            raise ArchiveFault(self.path, found.reason, found.line, found.position)
        return found

    def _header(self, text: bytes) -> Header:
        try:
            header = msgspec.json.decode(text, type=Header)
            hashes = [bytes.fromhex(header.after_hash), bytes.fromhex(header.hash)]
        except JSON_ERRORS as error:
            raise ArchiveFault(self.path, f"no archive of a log: {error}", 1) from None
        if header.format != FORMAT or header.release > RELEASE:
            raise ArchiveFault(
                self.path,
                f"of the format {header.format} and release {header.release}; this is release"
                f" {RELEASE}, and reads {FORMAT}: use that one",
                1,
            )
        if not 0 <= header.after <= header.position or {len(each) for each in hashes} != {32}:
            raise ArchiveFault(self.path, "the header contradicts itself", 1)
        return header

    def _other(self, text: bytes, number: int) -> OtherLine:
        try:
            line = msgspec.json.decode(text, type=OtherLine)
            if line.once is not None:
                msgspec.json.decode(line.once.refs, type=dict[str, str])
        except JSON_ERRORS as error:
            raise ArchiveFault(self.path, f"cut or changed: {error}", number) from None
        if [line.once, line.consumer, line.end].count(None) != 2:
            raise ArchiveFault(self.path, "neither a key, nor a consumer, nor the end", number)
        return line

    @contextmanager
    def decompressing(self) -> Iterator[None]:
        """Name the file that cannot be decompressed."""
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveFault(self.path, f"cut or changed: {error}") from error


class _Lines:
    """Reads a file by lines, of which `number` have been read, and by blocks of lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._data = b""  # whole lines, of which those from `_at` on were not passed on yet
        self._at = 0
        self.number = 0

    def next(self) -> bytes:
        """The next line; empty at the end."""
        self._read()
        start = self._at
        self._at = self._data.find(b"\n", start) + 1 or len(self._data)
        self.number += self._at > start
        return self._data[start : self._at]

    def block(self, most: int) -> tuple[bytes, int]:
        """The next lines, at most so many, and their number. The last one has no newline where the
        file is cut."""
        self._read()
        start = self._at
        count = self._data.count(b"\n", start)
        if count > most:
            for _ in range(most):
                self._at = self._data.index(b"\n", self._at) + 1
            count = most
        else:
            self._at = len(self._data)
        self.number += count
        return self._data[start : self._at], count

    def _read(self) -> None:
        if self._at == len(self._data):
            self._data, self._at = self._file.read(BLOCK_BYTES) + self._file.readline(MAX_LINE), 0


def verify(archives: Sequence[Archive], checkers: Checkers, progress: Progress) -> None:
    """Check archives completely, and that each begins where the one before it ends. Raises
    ArchiveFault, OSError."""
    check_joints(archives)
    start, end = archives[0].header.after, archives[-1].header.position
    time: datetime | None = None
    for archive in archives:
        for part in archive.read(checkers, time):
            if isinstance(part, Checked):
                time = part.recorded_at
                progress("events checked", part.position - start, end - start)


def check_joints(archives: Sequence[Archive]) -> None:
    """Check that each archive begins where the one before it ends. Raises ArchiveFault."""
    for before, archive in pairwise(archives):
        if (archive.header.after, archive.header.after_hash) != (
            before.header.position,
            before.header.hash,
        ):
            raise ArchiveFault(
                archive.path,
                f"it continues another log, or from another place, than where {before.path} ends:"
                f" after position {archive.header.after}, not {before.header.position}",
                1,
            )


class _When(msgspec.Struct, gc=False):
    """What tells when an event was recorded."""

    position: int
    recorded_at: datetime


def position_at(archives: Sequence[Archive], time: datetime) -> int:
    """The position of the last event that was recorded until then; the position before the
    archives' first event if there is none. Does not check the archives. Raises ArchiveFault,
    OSError."""
    decode = msgspec.json.Decoder(_When).decode
    for archive in archives:
        with opened(archive.path) as file, archive.decompressing():
            file.readline()  # the header
            for number in range(archive.header.events):
                try:
                    event = decode(file.readline(MAX_LINE))
                except JSON_ERRORS as error:
                    raise ArchiveFault(archive.path, f"no event: {error}", number + 2) from None
                if event.recorded_at > time:
                    return event.position - 1
    return archives[-1].header.position
