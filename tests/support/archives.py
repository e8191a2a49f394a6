"""An archive of a log as text, to be changed and written again."""

import json
from pathlib import Path
from typing import Any

import msgspec

from eventstore.chain import digest, link
from runtime.archive.lines import EventLine, payload_of

Line = dict[str, Any]


class ArchiveText:
    """The lines of an archive; `write` writes them again."""

    def __init__(self, path: Path) -> None:
        self.lines: list[Line] = [json.loads(line) for line in path.read_bytes().splitlines()]

    @property
    def header(self) -> Line:
        """The first line."""
        return self.lines[0]

    def event(self, position: int) -> Line:
        """The line of the event at a position."""
        return self.lines[position - int(self.header["after"])]

    def chain(self) -> None:
        """Give each event the hash that follows from the one before it, and the header the last
        one: as a forger would, or a program that is wrong."""
        previous = bytes.fromhex(self.header["after_hash"])
        for number in range(1, 1 + int(self.header["position"]) - int(self.header["after"])):
            line = msgspec.json.decode(_compact(self.lines[number]), type=EventLine)
            digested = digest(
                line.event_id,
                line.stream_id,
                line.version,
                line.name,
                payload_of(line),
                line.actor,
                line.correlation_id,
                line.causation_id,
                line.traceparent,
                line.occurred_at,
            )
            previous = link(previous, line.position, line.recorded_at, digested)
            self.lines[number]["hash"] = previous.hex()
        self.header["hash"] = previous.hex()

    def write(self, path: Path) -> Path:
        """Write the lines into a file."""
        path.write_bytes(b"".join(_compact(line) + b"\n" for line in self.lines))
        return path


def _compact(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
