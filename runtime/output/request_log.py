"""Writes a line for each request to the process's log, many at a time."""

import asyncio
import sys
from collections.abc import Callable

import msgspec

from api.middleware.request_log import RequestLine
from runtime.settings import Settings

FLUSH_SECONDS = 0.1
"""How long lines gather. Each write wakes the thread that passes the log on."""

LOGGER = "api.requests"


class RequestLog:
    """Implements `LogRequest`, in the format of the process's log. Used from one event loop."""

    def __init__(self, settings: Settings, process: str) -> None:
        self._process = process
        self._render: Callable[[RequestLine], str] = (
            self._as_json if settings.log_format == "json" else self._for_people
        )
        self._lines: list[RequestLine] = []

    def __call__(self, line: RequestLine) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        sys.stderr.write("".join(map(self._render, lines)))

    def _as_json(self, line: RequestLine) -> str:
        fields = msgspec.to_builtins(line)
        del fields["at"]
        text = msgspec.json.encode({**fields, **self._frame(line), "event": "request"})
        return text.decode() + "\n"

    def _for_people(self, line: RequestLine) -> str:
        fields = {**msgspec.to_builtins(line), "process": self._process}
        del fields["at"]
        # none of them is a stranger's words: the server refuses a method that is no token
        pairs = " ".join(f"{name}={fields[name]}" for name in sorted(fields))
        frame = self._frame(line)
        return f"{frame['timestamp']} [info] request [{LOGGER}] {pairs}\n"

    def _frame(self, line: RequestLine) -> dict[str, str]:
        """What every line of the log has."""
        return {
            "timestamp": line.at.replace(tzinfo=None).isoformat() + "Z",
            "level": "info",
            "logger": LOGGER,
            "process": self._process,
        }
