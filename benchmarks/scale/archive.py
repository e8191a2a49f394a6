"""Writes a made-up history as an archive, and puts it into a database."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec

from benchmarks.measuring import Log
from benchmarks.scale.history import History
from benchmarks.scale.recorder import Made
from eventstore.chain import GENESIS, digest, link
from eventstore.codec import Codec
from eventstore.database.postgres import connect
from eventstore.database.release import RELEASE
from runtime.archive.lines import FORMAT, Consumer, End, EventLine, Header, OtherLine, stored
from runtime.archive.loading import load
from runtime.archive.reading import Archive, checkers
from runtime.output.console import Progress
from runtime.wiring.codec import codec

ACTING = (
    "account_settling",
    "deposits",
    "fiscal_receipts",
    "forgetting",
    "ledger",
    "library_grants",
    "mail_jobs",
    "mailboxes_claimed",
    "payment_jobs",
    "people_told",
    "settlement",
    "sku_claims",
    "stock_opened",
    "webhook_jobs",
    "merchant_webhooks",
)
"""Reactors that have done all that the history has of theirs."""

HEADER_BYTES = 1 << 14
"""The room for the header, which is known last."""

PAGE = 1_000


def write(path: Path, history: History, log: Log) -> None:
    encoding, versions = codec(), dict[UUID, int]()
    position, previous = 0, GENESIS
    with path.open("wb") as sink:
        sink.write(b" " * (HEADER_BYTES - 1) + b"\n")
        for page in _pages(history):
            lines = []
            for made in page:
                position += 1
                version = versions[made.stream_id] = versions.get(made.stream_id, 0) + 1
                line, previous = _line(encoding, made, position, version, previous)
                lines.append(line)
            sink.write(b"".join(lines))
            if position % 100_000 < PAGE:
                log(f"{position:,} events written")
        consumers = [Consumer(f"{name}.1", name, 1, position) for name in ACTING]
        for other in (
            *(OtherLine(consumer=each) for each in consumers),
            OtherLine(end=End(position, 0, len(consumers))),
        ):
            sink.write(msgspec.json.encode(other) + b"\n")
        header = Header(
            FORMAT,
            RELEASE,
            0,
            GENESIS.hex(),
            position,
            previous.hex(),
            datetime.now(UTC),
            encoding.kinds,
        )
        sink.seek(0)
        sink.write(msgspec.json.encode(header).ljust(HEADER_BYTES - 1) + b"\n")


def fill(url: str, path: Path, jobs: int, progress: Progress) -> int:
    """Import an archive into an empty log, with a key for each person. Returns the end."""
    with checkers(jobs) as workers, connect(url, "ludoteca benchmark", role="") as conn:
        with conn.transaction():
            loaded = load(conn, [Archive(path)], codec().kinds, workers, progress)
        people = conn.execute(
            "SELECT stream_id FROM log.events WHERE name = 'user.registered.v1'"
        ).fetchall()
        put = "COPY private.person_keys (person_id, key) FROM STDIN"
        with conn.cursor().copy(put) as copy:
            for (person_id,) in people:
                copy.write_row((person_id, key_of(person_id)))
    return loaded.position


def key_of(person_id: UUID) -> bytes:
    """The key of a made-up person."""
    return sha256(person_id.bytes).digest()


def _pages(history: Iterable[Made]) -> Iterator[list[Made]]:
    return iter(partial(lambda made: list(islice(made, PAGE)), iter(history)), [])


def _line(
    encoding: Codec, made: Made, position: int, version: int, previous: bytes
) -> tuple[bytes, bytes]:
    """The line of an event, and its hash."""
    person = encoding.person_of(made.event, made.stream_id)
    key = None if person is None else key_of(person)
    name = made.event.NAME
    payload = encoding.encode(made.event, made.stream_id, key)
    digested = digest(
        made.event_id,
        made.stream_id,
        version,
        name,
        payload,
        made.actor,
        made.correlation_id,
        made.causation_id,
        None,
        made.at,
    )
    hash_ = link(previous, position, made.at, digested)
    line = EventLine(
        position,
        made.event_id,
        made.stream_id,
        version,
        name,
        made.at,
        made.actor,
        hash_.hex(),
        made.at,
        made.correlation_id,
        made.causation_id,
        None,
        *stored(payload),
    )
    return msgspec.json.encode(line) + b"\n", hash_
