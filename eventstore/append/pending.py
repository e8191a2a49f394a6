"""An append on its way to the database: events in wire format, expectations, and the caller's
future."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from os import urandom
from uuid import UUID

import msgspec

from eventstore.append import binary_arrays as pg
from eventstore.chain import cause_in_bytes, digest_of, encoded_cause, encoded_time
from eventstore.log import (
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    Appended,
    IdempotencyKey,
    Metadata,
    StreamRead,
    TooLarge,
)
from kit.uuid7 import uuid7

PROOF_BYTES = 8192
"""Bytes: a page of PostgreSQL."""


class Pending:
    """One append: its events, its expectations, and the future its caller waits for."""

    __slots__ = (
        "_end",
        "_wire_end",
        "checks",
        "claims",
        "deadline",
        "digests",
        "event_ids",
        "future",
        "occurred_at",
        "once",
        "reads",
        "rests_on",
        "size",
        "uncertain",
        "void",
        "wires",
    )

    def __init__(
        self,
        metadata: Metadata,
        occurred_at: datetime,
        once: IdempotencyKey | None,
        reads: Sequence[StreamRead] = (),
    ) -> None:
        self.occurred_at = occurred_at
        self.once = once
        self.reads = reads
        self.event_ids: list[UUID] = []
        self.wires: list[bytes] = []  # each event as an element of an array of log.new_event_v4
        self.size = 0  # bytes of its events on the wire
        self.digests: list[bytes] = []
        self.checks: list[tuple[UUID, int, str]] = []  # stream, expected version and kind
        self.claims: list[bytes] = [] if once is None else [once.key.bytes]
        """Streams and keys that no other append of the batch may touch; bytes, as a UUID's own hash
        is slow."""
        self.rests_on: list[bytes] = [read.stream_id.bytes for read in reads] if reads else []
        """Streams that no other append of the batch may add to, but may also rest on."""
        self.uncertain = False  # an earlier try may have committed before its connection was lost
        self.void = False  # the log's history has changed since the decision
        # Cause and time are the same for all events of an append: encode them once.
        m = metadata
        cause = cause_in_bytes(m.actor, m.correlation_id, m.causation_id, m.traceparent)
        time = encoded_time(occurred_at)
        self._end = encoded_cause(*cause) + time
        self._wire_end = pg.cause(*cause) + pg.TIME + time
        self.future: asyncio.Future[Appended]  # its outcome; set by the writer
        self.deadline = 0.0  # the loop's time when the caller's patience ends; set by the writer

    def add(
        self, stream_id: UUID, expected_version: int, kind: str, events: Sequence[tuple[str, bytes]]
    ) -> None:
        """Add events (names and payloads) for one stream of a kind. Raises TooLarge."""
        stream = stream_id.bytes
        self.checks.append((stream_id, expected_version, kind))
        self.claims.append(stream)
        for version, (name, payload) in enumerate(events, expected_version + 1):
            if len(payload) > MAX_EVENT_BYTES:
                raise TooLarge(
                    "event_too_large",
                    f"{name} has {len(payload)} bytes, of {MAX_EVENT_BYTES} at most",
                )
            event_id, wire_name = uuid7(), name.encode()
            head = (event_id.bytes, stream, version, wire_name, payload)
            self.event_ids.append(event_id)
            self.digests.append(digest_of(*head, self._end))
            self.wires.append(wire := pg.new_event(*head, self._wire_end))
            self.size += len(wire)
        if self.size > MAX_APPEND_BYTES:
            raise TooLarge(
                "append_too_large", f"more than {MAX_APPEND_BYTES} bytes of events at once"
            )

    @property
    def first(self) -> tuple[UUID, int]:
        """Stream and version of the first event."""
        stream_id, expected_version, _ = self.checks[0]
        return stream_id, expected_version + 1

    def landed(self, first: int, at: datetime) -> None:
        """Report success to the caller, with the position of the first event."""
        if not self.future.done():
            self.future.set_result(
                Appended(first, first + len(self.event_ids) - 1, at, self.event_ids)
            )

    def failed(self, error: Exception) -> None:
        """Report failure to the caller."""
        if not self.future.done():
            self.future.set_exception(error)


def arguments(batch: Sequence[Pending], new_event: int, new_once: int) -> list[bytes]:
    """A batch as the first parameters of log.append_v4, in order; `new_event` and `new_once` are
    the object ids of its types."""
    checks = [check for pending in batch for check in pending.checks if check[1] > 0]
    reads = [read for pending in batch for read in pending.reads]
    onces, last = [], 0
    for pending in batch:
        last += len(pending.wires)
        if (once := pending.once) is not None:
            result_ids = msgspec.json.encode(once.result_ids).decode()
            onces.append(pg.new_once(once.key, once.fingerprint, result_ids, once.expires_at, last))
    return [
        pg.array(new_event, [wire for pending in batch for wire in pending.wires]),
        pg.digests([digest for pending in batch for digest in pending.digests]),
        pg.uuids([stream_id for stream_id, _, _ in checks]),
        pg.bigints([version for _, version, _ in checks]),
        pg.texts([kind for _, _, kind in checks]),
        pg.uuids([read.stream_id for read in reads]),
        pg.bigints([read.version for read in reads]),
        pg.array(new_once, onces),
    ]


def doomed() -> list[Pending]:
    """Two appends that are written like any other and then undone, as both are to the same version
    of a stream, under the same key. Large enough to need new pages."""
    now, stream = datetime.now(UTC), uuid7()
    both = [Pending(Metadata(), now, IdempotencyKey(stream, bytes(32))) for _ in range(2)]
    for pending in both:
        pending.add(stream, 0, "", [("proof", urandom(PROOF_BYTES))])
    return both
