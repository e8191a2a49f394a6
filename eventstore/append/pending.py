"""An append on its way to the database: events in wire format, expectations, and the caller's
future."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from os import urandom
from uuid import UUID

from eventstore.append import binary_arrays as pg
from eventstore.append.counting import outcome_of
from eventstore.chain import cause_in_bytes, digest_of, encoded_cause, encoded_time
from eventstore.flight import Flight
from eventstore.log import (
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    Appended,
    IdempotencyKey,
    LogUnavailable,
    Metadata,
    PredecessorFailed,
    StreamRead,
    TooLarge,
)
from kit.metrics import count_append, count_failed_append
from kit.uuid7 import uuid7

PROOF_BYTES = 8192
"""Bytes: a page of PostgreSQL."""


class Pending:
    """One append: its events, its expectations, and the future its caller waits for. Its flight
    has its outcome, also when the caller has gone."""

    __slots__ = (
        "_end",
        "_wire_end",
        "checks",
        "claims",
        "deadline",
        "digests",
        "event_ids",
        "flight",
        "future",
        "leaves",
        "names",
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
        flight: Flight | None = None,
    ) -> None:
        self.flight = Flight() if flight is None else flight
        self.occurred_at = occurred_at
        self.once = once
        self.reads = reads
        self.event_ids: list[UUID] = []
        self.names: list[str] = []  # of its events, in the order of the streams
        self.wires: list[bytes] = []  # each event as an element of an array of log.new_event_v4
        self.size = 0  # bytes of its events on the wire
        self.digests: list[bytes] = []
        self.checks: list[tuple[UUID, int, str]] = []  # stream, expected version and kind
        self.leaves: list[tuple[bytes, int, str]] = []  # stream, version afterwards and kind
        self.claims: list[bytes] = [] if once is None else [once.key.bytes]
        """Streams and keys that it writes; bytes, as a UUID's own hash is slow."""
        self.rests_on: list[bytes] = [read.stream_id.bytes for read in reads] if reads else []
        """Streams that it reads."""
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
        """Add events (names and payloads) for one stream of a kind. A new stream is at 0, or at -1
        if its first event is to have version 0. Raises TooLarge."""
        stream = stream_id.bytes
        self.checks.append((stream_id, expected_version, kind))
        self.claims.append(stream)
        self.leaves.append((stream, expected_version + len(events), kind))
        for version, (name, payload) in enumerate(events, expected_version + 1):
            if len(payload) > MAX_EVENT_BYTES:
                raise TooLarge(
                    "event_too_large",
                    f"{name} has {len(payload)} bytes, of {MAX_EVENT_BYTES} at most",
                )
            event_id, wire_name = uuid7(), name.encode()
            head = (event_id.bytes, stream, version, wire_name, payload)
            self.event_ids.append(event_id)
            self.names.append(name)
            self.digests.append(digest_of(*head, self._end))
            self.wires.append(wire := pg.new_event(*head, self._wire_end))
            self.size += len(wire)
        if self.size > MAX_APPEND_BYTES:
            raise TooLarge(
                "append_too_large", f"more than {MAX_APPEND_BYTES} bytes of events at once"
            )

    def reorder(self, order: Sequence[int]) -> None:
        """Put the events in another order than that of the streams, given as their indices now. The
        first stays first, and each stream's events stay in order."""
        self.event_ids = [self.event_ids[n] for n in order]
        self.digests = [self.digests[n] for n in order]
        self.wires = [self.wires[n] for n in order]

    @property
    def first(self) -> tuple[UUID, int]:
        """Stream and version of the first event."""
        stream_id, expected_version, _ = self.checks[0]
        return stream_id, expected_version + 1

    @property
    def is_over(self) -> bool:
        """Whether it has landed or failed."""
        return self.flight.landed is not None

    def landed(self, first: int, at: datetime) -> None:
        """Report success, with the position of the first event."""
        if not self.is_over:
            count_append(self.names)
        self.flight.land()
        if not self.future.done():
            self.future.set_result(
                Appended(first, first + len(self.event_ids) - 1, at, self.event_ids)
            )

    def failed(self, error: Exception) -> None:
        """Report failure."""
        if not self.is_over:
            count_failed_append(outcome_of(error))
        self.flight.fail(error)
        if not self.future.done():
            self.future.set_exception(error)

    def fail_with_predecessor(self) -> bool:
        """Report failure when an append has failed that this one rests on. Returns whether one
        has."""
        lost = next((each for each in self.flight.rests_on if each.landed is False), None)
        if lost is None:
            return False
        if self.uncertain or isinstance(lost.error, LogUnavailable):
            self.failed(LogUnavailable("the log did not take in time what this append rests on"))
        else:
            self.failed(PredecessorFailed([stream_id for stream_id, *_ in self.checks]))
        return True


def doomed() -> list[Pending]:
    """Two appends that are written like any other and then undone, as both are to the same version
    of a stream, under the same key. Large enough to need new pages."""
    now, stream = datetime.now(UTC), uuid7()
    both = [Pending(Metadata(), now, IdempotencyKey(stream, bytes(32))) for _ in range(2)]
    for pending in both:
        pending.add(stream, 0, "", [("proof", urandom(PROOF_BYTES))])
    return both
