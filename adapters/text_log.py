"""Plain text logs, one line per step, with the ids to follow a payment through both of them."""

import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line and paragraph separators, what turns the direction of writing, and what is no text."""


class FileTextLog:
    """Fulfils `commands.ports.TextLog` by a file that is appended to, line by line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = open(path, "a", buffering=1, encoding="utf-8", errors="replace", opener=_private)  # noqa: SIM115

    def write(self, step: str, **ids: object) -> None:
        """`2026-01-01T00:00:00.000Z step key=value …`, control characters escaped. A full disk stops no payment."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs = (f"{name}={_quoted(str(value))}" for name, value in ids.items())
        line = one_line(" ".join((at, step, *pairs)))
        try:
            self._file.write(line + "\n")
        except OSError:
            logging.getLogger(__name__).exception("cannot write the text log")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def one_line(text: str) -> str:
    """The text with whatever ends a line, or moves a terminal's cursor, escaped."""
    return text if text.isprintable() else _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


def _quoted(value: str) -> str:
    return repr(value) if " " in value else value


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
