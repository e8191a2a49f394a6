"""Plain text logs, one line per step, with the ids to follow a payment through both of them."""

import logging
from datetime import UTC, datetime
from pathlib import Path


class FileTextLog:
    """Fulfils `commands.ports.TextLog` by a file that is appended to, line by line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, step: str, **ids: object) -> None:
        """`2026-01-01T00:00:00.000Z step key=value …`, line breaks escaped. A full disk stops no payment."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs = " ".join(f"{name}={_quoted(str(value))}" for name, value in ids.items())
        line = f"{at} {step} {pairs}".rstrip().replace("\r", "\\r").replace("\n", "\\n")
        try:
            self._file.write(line + "\n")
        except OSError:
            logging.getLogger(__name__).exception("cannot write the text log")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _quoted(value: str) -> str:
    return repr(value) if " " in value else value
