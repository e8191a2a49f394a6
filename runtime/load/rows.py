"""Shared by all loads: reading CSV rows, reporting, running many rows concurrently, and recognising
rows that were loaded before."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid5

import msgspec

from runtime.load.csv_records import Record, Records
from runtime.wiring.core import Core

MAX_CONCURRENT_ROWS = 256
PAGE = 2_000

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done, and how much there is to do."""

T = TypeVar("T")


def no_progress(_what: str, _done: int, _all: int) -> None:
    """Progress that is not reported."""


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that cannot be read or is invalid."""

    line: int
    reason: str


class LoadReport(msgspec.Struct):
    """The outcome of each row of a file: loaded now, loaded before, refused (why, how often), or
    broken (where, why). For purchases, also the number of people, and how many rows are granted in
    the log."""

    rows: int = 0
    loaded: int = 0
    known: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    broken: list[BrokenRow] = msgspec.field(default_factory=list)
    people: int = 0
    granted: int = 0


class UnreadableFile(Exception):
    """The file is not a CSV file with the required columns."""


def read_rows(
    path: Path, columns: Sequence[str], report: LoadReport
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) for each row that has its columns. The others are added to the report,
    which counts all rows. Raises UnreadableFile, OSError."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = Records(file)
        header = _header(path, next(records, None), columns)
        for record in records:
            report.rows += 1
            if why := record.broken or _why_broken(record.values, len(header)):
                report.broken.append(BrokenRow(records.broken(why).line, why))
            else:
                yield record.line, dict(zip(header, record.values, strict=True))


def _header(path: Path, record: Record | None, columns: Sequence[str]) -> list[str]:
    """The names of the columns. Raises UnreadableFile."""
    if record is None:
        raise UnreadableFile(f"{path} is empty")
    if record.broken:
        raise UnreadableFile(f"{path} has a header that is no line of CSV: {record.broken}")
    header = [name.strip() for name in record.values]
    missing = [name for name in columns if name not in header]
    if missing:
        hint = "" if all(map(_is_text, header)) else ": it is not UTF-8 text"
        raise UnreadableFile(f"{path} lacks the column(s) {', '.join(missing)}{hint}")
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise UnreadableFile(f"{path} has the column(s) {', '.join(twice)} twice")
    return header


def _why_broken(values: Sequence[str], wanted: int) -> str | None:
    if len(values) != wanted:
        return f"{len(values)} fields instead of {wanted}"
    if not all(map(_is_text, values)):
        return "not valid UTF-8 text"
    return (
        "a NUL character, which no text may hold"
        if any("\0" in value for value in values)
        else None
    )


def _is_text(value: str) -> bool:
    """Whether the bytes were valid UTF-8."""
    return value.isascii() or not any("\udc80" <= char <= "\udcff" for char in value)


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
    """Run the command for each id whose key is not in the log yet. Returns how many keys were."""
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
        await run_concurrently([each for each in page if key(each) not in there], one)
    progress(what, len(ids), len(ids))
    return known


async def run_concurrently(items: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Run a few at a time. The first failure cancels the rest."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(MAX_CONCURRENT_ROWS, len(items))):
            group.create_task(worker())
