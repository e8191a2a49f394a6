"""Read CSV record by record, strictly (RFC 4180). A broken line costs only itself, never the lines
after it.

An unclosed quote would make the reader take everything after it for one field. So a broken record
ends on its first line, and reading continues on the next line of the file.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

FIELD_LIMIT = 100_000
"""Characters per field. Also limits how far the end of an unclosed quote is searched for."""

_QUOTED = re.compile(r'(?<![^,])"(?:[^"]|"")*"')
"""A quoted field of an otherwise correct record."""


class Record(msgspec.Struct, frozen=True):
    """The fields of a record, the line where it begins, and what is wrong with it, if anything."""

    line: int
    values: list[str]
    broken: str | None = None


class Records:
    """The records of a file's lines. Empty lines are skipped."""

    def __init__(self, lines: Iterable[str]) -> None:
        csv.field_size_limit(FIELD_LIMIT)
        self._file = iter(lines)
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._line = 1
        """Where the record begins that was read last, or is read next."""

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        while True:
            self._line += len(self._taken)
            self._taken = []
            try:
                values = next(csv.reader(self._lines(), strict=True))
            except csv.Error as error:
                return self.broken(str(error))
            if not values:
                continue
            record = "".join(self._taken)
            if '"' in record and '"' in _QUOTED.sub("", record):  # Python's reader allows this
                return self.broken("a quote in a field that is not quoted")
            return Record(self._line, values)

    def broken(self, why: str) -> Record:
        """The last record as a broken one that consists of its first line alone. Reading continues
        on the next line."""
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        return Record(self._line, [], why)

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._again.popleft() if self._again else next(self._file, None)
            if line is None:
                return
            self._taken.append(line)
            yield line
