"""What loads have in common: reading CSV rows, reporting, doing many at once, and knowing what was done before."""

import asyncio
import csv
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid5

import msgspec

from runtime.wiring import Core

AT_ONCE = 128
PAGE = 2_000
CSV_FIELD_LIMIT = 1_000_000

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

T = TypeVar("T")


def silent(_what: str, _done: int, _all: int) -> None:
    """Progress that nobody looks at."""


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that could not be read, or makes no sense."""

    line: int
    reason: str


class LoadReport(msgspec.Struct):
    """What became of a file's rows: loaded now, loaded before, refused (why, how often), broken (where, why).

    Of purchases also: how many people there are, and how many of the rows are granted in the log by now.
    """

    rows: int = 0
    loaded: int = 0
    known: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    broken: list[BrokenRow] = msgspec.field(default_factory=list)
    people: int = 0
    granted: int = 0


class Unreadable(Exception):
    """The file is not a CSV file with the columns needed."""


def read_rows(path: Path, columns: Sequence[str], report: LoadReport) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of each row that has its columns; the others go to the report. Raises Unreadable, OSError."""
    csv.field_size_limit(CSV_FIELD_LIMIT)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader)
        except (StopIteration, csv.Error):
            raise Unreadable(f"{path} is empty") from None
        missing = [name for name in columns if name not in header]
        if missing:
            raise Unreadable(f"{path} lacks the column(s) {', '.join(missing)}")
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                report.rows += 1
                report.broken.append(BrokenRow(line, str(error)))
                continue
            if not values:
                continue
            report.rows += 1
            if len(values) != len(header):
                report.broken.append(BrokenRow(line, f"{len(values)} fields instead of {len(header)}"))
            elif any(not _is_text(value) for value in values):
                report.broken.append(BrokenRow(line, "not valid UTF-8 text"))
            else:
                yield line, dict(zip(header, values, strict=True))


def _is_text(value: str) -> bool:
    """Whether it was valid UTF-8, without NUL, which no database text can hold."""
    return "\0" not in value and not any("\udc80" <= char <= "\udcff" for char in value)


def key_of(about: UUID) -> UUID:
    return uuid5(about, "load")


async def each_new(
    core: Core,
    ids: Sequence[UUID],
    key: Callable[[UUID], UUID],
    do: Callable[[UUID], Awaitable[None]],
    what: str,
    progress: Progress,
) -> int:
    """Do it for each id whose key is not in the log yet; returns how many were there."""
    known = done = 0

    async def one(each: UUID) -> None:
        nonlocal done
        await do(each)
        done += 1
        if done % 100 == 0:
            progress(what, known + done, len(ids))

    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        there = await core.log.done_many(map(key, page))
        known += len(there)
        await at_once([each for each in page if key(each) not in there], one)
    progress(what, len(ids), len(ids))
    return known


async def at_once(items: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """A few at a time; the first failure ends it."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(items))):
            group.create_task(worker())
