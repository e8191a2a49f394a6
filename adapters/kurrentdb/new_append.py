"""An append on its way to KurrentDB: its records, and the states that it expects of streams."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kurrentdbclient import NewRecord, StreamState

from adapters.kurrentdb.client import Expected
from adapters.kurrentdb.wire import (
    Copied,
    CopiedOnce,
    event_record,
    once_name,
    once_record,
    stream_name,
)
from eventstore.append.encoding import Encoded
from eventstore.log import (
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    IdempotencyKey,
    Metadata,
    StreamRead,
    TooLarge,
    VersionConflict,
)
from kit.uuid7 import uuid7


class NewAppend:
    """One append. Its ids stay the same however often it is sent."""

    def __init__(
        self,
        encoded: Sequence[Encoded],
        metadata: Metadata,
        occurred_at: datetime,
        once: IdempotencyKey | None,
        reads: Sequence[StreamRead],
    ) -> None:
        """Raises TooLarge; VersionConflict if it expects a stream at two versions."""
        self._metadata = metadata
        self._occurred_at = occurred_at
        self._of = sum(len(events) for _, _, events in encoded)
        self.records: list[NewRecord] = []
        self.event_ids: list[UUID] = []
        self.stream_ids = [stream.stream_id for stream, _, _ in encoded]
        self.first = (self.stream_ids[0], encoded[0].stream.expected_version + 1)
        """Stream and version of the first event."""
        self.expected: dict[str, Expected] = {}
        self.versions: dict[UUID, int] = {}
        """What it expects of streams; the key's is only in `expected`."""
        self._size = 0
        last, _, events = encoded[-1]
        self.last = (last.stream_id, last.expected_version + len(events))
        """Stream and version of the last event."""
        if once is not None:  # first: a known key counts before a version
            self._add_once(once)
        for stream, _, events in encoded:
            self._expect(stream.stream_id, stream.expected_version)
            for version, (name, payload) in enumerate(events, stream.expected_version + 1):
                self._add(stream.stream_id, version, name, payload)
        for read in reads:
            self._expect(read.stream_id, read.version)

    def _expect(self, stream_id: UUID, version: int) -> None:
        if self.versions.setdefault(stream_id, version) != version:
            raise VersionConflict(self.stream_ids)
        state = version - 1 if version else StreamState.NO_STREAM
        self.expected[stream_name(stream_id)] = state

    def _add(self, stream_id: UUID, version: int, name: str, payload: bytes) -> None:
        if len(payload) > MAX_EVENT_BYTES:
            detail = f"{name} has {len(payload)} bytes, of {MAX_EVENT_BYTES} at most"
            raise TooLarge("event_too_large", detail)
        event_id = uuid7()
        event = Copied(
            event_id=event_id,
            stream_id=stream_id,
            version=version,
            name=name,
            payload=payload,
            actor=self._metadata.actor,
            correlation_id=self._metadata.correlation_id,
            causation_id=self._metadata.causation_id,
            traceparent=self._metadata.traceparent,
            occurred_at=self._occurred_at,
            number=len(self.event_ids),
            of=self._of,
        )
        record = event_record(event)
        self._size += len(record.data) + len(record.metadata)
        if self._size > MAX_APPEND_BYTES:
            raise TooLarge(
                "append_too_large", f"more than {MAX_APPEND_BYTES} bytes of events at once"
            )
        self.event_ids.append(event_id)
        self.records.append(record)

    def _add_once(self, once: IdempotencyKey) -> None:
        self.expected[once_name(once.key)] = StreamState.NO_STREAM
        stream_id, version = self.last
        record = CopiedOnce(
            key=once.key,
            fingerprint=once.fingerprint,
            result_ids=dict(once.result_ids),
            expires_at=once.expires_at,
            stream_id=stream_id,
            version=version,
        )
        self.records.append(once_record(record))
