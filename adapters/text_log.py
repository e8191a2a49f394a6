"""Plain text logs, one line per step, with ids to follow a payment through both of them."""

import logging
import os
import re
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from kit.log_context import request_ids

logger = logging.getLogger(__name__)

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line and paragraph separators, bidirectional controls, and surrogates."""


class FileTextLog:
    """Implements `commands.ports.text_log.TextLog` with a file that is appended to, line by line.

    When logrotate or somebody has moved or removed the file, the next line starts a new one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._writing = threading.Lock()
        with suppress(OSError):  # create it at the start, for `tail -f`
            self._opened()

    def write(self, step: str, **ids: object) -> None:
        """Write `2026-01-01T00:00:00.000Z step key=value …`, with control characters escaped, and
        the ids of the request that led here. A full disk stops no payment."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        named = {**ids, **request_ids()}
        pairs = (f"{name}={_quoted(str(value))}" for name, value in named.items())
        line = one_line(" ".join((at, step, *pairs))) + "\n"
        try:
            with self._writing:
                os.write(self._opened(), line.encode(errors="replace"))
        except OSError as error:
            logger.error("%s lacks a line: %s", self._path, error)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        """The file that currently has the path's name."""
        if self._file is not None and not self._is_there(self._file):
            self.close()
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        return self._file

    def _is_there(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


def one_line(text: str) -> str:
    """The text with line ends and terminal controls escaped."""
    return (
        text if text.isprintable() else _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
    )


def _quoted(value: str) -> str:
    return repr(value) if " " in value else value
