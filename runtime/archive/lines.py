"""The lines of an archive.

The first line is the header; then there is one for each event, in the order of the log, as it is
stored; then one for each idempotency key that was committed with these events; one for each
consumer that acts, with its position; and the last line counts them. A file whose name ends in
`.gz` is compressed.

    {"format":"ludoteca.log.1","after":0,"after_hash":"00…","position":2,"hash":"9c…",…}
    {"position":1,"event_id":"…","stream_id":"…","version":1,"name":"…","payload":{…},"hash":"4e…",…}
    {"position":2,…}
    {"once":{"key":"…","refs":"{}","position":2,…}}
    {"consumer":{"feed":"ledger.1","position":2,…}}
    {"end":{"events":2,"onces":1,"consumers":1}}
"""

import gzip
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, cast
from uuid import UUID

import msgspec

from kit.json_errors import JSON_ERRORS

FORMAT = "ludoteca.log.1"

Bigint = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")]
"""A text that PostgreSQL can store."""

Hex = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2})*\Z")]


NO_PAYLOAD = msgspec.Raw(b"null")


class Header(msgspec.Struct, frozen=True):
    """What an archive has: the events after the position `after`, where the chain had `after_hash`
    (hex), up to `position`, where it has `hash`. `release` is that of the program that wrote it,
    `kinds` the kind of stream of each name of an event that its log knew."""

    format: str
    release: int
    after: int
    after_hash: str
    position: int
    hash: str
    made_at: datetime
    kinds: Mapping[Text, Text]

    @property
    def events(self) -> int:
        """How many events the archive has."""
        return self.position - self.after


class EventLine(msgspec.Struct, gc=False, omit_defaults=True):
    """An event as the log stores it. `payload` has its very bytes; `payload_base64` has them if
    they are not one value of JSON in one line, as only a forger or another program would write."""

    position: Bigint
    event_id: UUID
    stream_id: UUID
    version: Bigint
    name: str
    recorded_at: Time
    actor: str
    hash: str
    occurred_at: Time | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None
    payload: msgspec.Raw = NO_PAYLOAD
    payload_base64: str | None = None


class ArchivedKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """An idempotency key, as `log.once` has it."""

    key: UUID
    fingerprint: Hex
    refs: str
    position: Bigint
    expires_at: Time | None = None


class Consumer(msgspec.Struct, frozen=True):
    """A consumer that acts (a reactor, the relay) and has done so up to `position`."""

    feed: Text
    projection: Text
    version: Version
    position: Bigint


class End(msgspec.Struct, frozen=True):
    """How many lines of each sort the archive has."""

    events: int
    onces: int
    consumers: int


class OtherLine(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line after the events: one of these."""

    once: ArchivedKey | None = None
    consumer: Consumer | None = None
    end: End | None = None


class ArchiveFault(Exception):
    """An archive cannot be used: the file, the line (from 1), and the position in the log, if that
    is known."""

    def __init__(
        self, path: Path, reason: str, line: int | None = None, position: int | None = None
    ) -> None:
        where = f", line {line}" if line is not None else ""
        about = f", position {position}" if position is not None else ""
        super().__init__(f"{path}{where}{about}: {reason}")
        self.path = path
        self.line = line
        self.position = position
        self.reason = reason


def stored(payload: bytes) -> tuple[msgspec.Raw, str | None]:
    """The fields `payload` and `payload_base64` of an event with this payload."""
    try:
        raw = msgspec.json.decode(payload, type=msgspec.Raw)
        if bytes(raw) == payload and b"\n" not in payload:
            return raw, None
    except JSON_ERRORS:
        pass
    return NO_PAYLOAD, b64encode(payload).decode()


def payload_of(line: EventLine) -> bytes:
    """The payload's bytes. Raises ValueError."""
    if line.payload_base64 is None:
        return bytes(line.payload)
    return b64decode(line.payload_base64, validate=True)


def opened(path: Path) -> IO[bytes]:
    """The archive's bytes, decompressed. Raises OSError."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
