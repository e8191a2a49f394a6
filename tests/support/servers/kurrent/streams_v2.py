"""The second protocol: appends to several streams in one transaction."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import msgspec
from kurrentdbclient.protos.v2.streams import errors_pb2, streams_pb2
from kurrentdbclient.protos.v2.streams.streams_pb2_grpc import StreamsServiceServicer

from tests.support.servers.kurrent.node import Node, refuse
from tests.support.servers.kurrent.store import (
    ANY,
    Conflict,
    NewRecord,
    StreamBatch,
    Tombstoned,
)

MAX_APPEND_BYTES = 16 << 20
"""The server's limit for an append, as docs/kurrentdb.md has it set."""


def _record(record: Any) -> NewRecord:
    properties = {key: value.string_value for key, value in record.properties.items()}
    is_json = record.schema.format == streams_pb2.SCHEMA_FORMAT_JSON
    return NewRecord(
        record.record_id or str(uuid4()),
        record.schema.name,
        "application/json" if is_json else "application/octet-stream",
        record.data,
        msgspec.json.encode(properties) if properties else b"",
    )


class StreamsV2(StreamsServiceServicer):
    """Serves one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._append = node.cluster.store.append

    def AppendSession(self, requests: Iterator[Any], context: Any) -> Any:
        self._node.begin(context, "AppendSession", writes=True, v2=True)
        batches: dict[str, StreamBatch] = {}
        for request in requests:
            if request.stream in batches:
                twice = errors_pb2.StreamAlreadyInAppendSessionErrorDetails(stream=request.stream)
                refuse(context, grpc.StatusCode.ABORTED, "stream already in session", twice)
            expected = request.expected_revision if request.HasField("expected_revision") else ANY
            records = [_record(each) for each in request.records]
            batches[request.stream] = StreamBatch(request.stream, expected, records)
        position, ends = self._stored(context, list(batches.values()), [])
        return streams_pb2.AppendSessionResponse(
            output=[
                streams_pb2.AppendResponse(stream=stream, stream_revision=end, position=position)
                for stream, end in ends.items()
            ],
            position=position,
        )

    def AppendRecords(self, request: Any, context: Any) -> Any:
        if not self._node.cluster.has_checks:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Service is unimplemented.")
        self._node.begin(context, "AppendRecords", writes=True, v2=True)
        by_stream: defaultdict[str, list[NewRecord]] = defaultdict(list)
        for record in request.records:
            by_stream[record.stream].append(_record(record))
        position, ends = self._stored(
            context,
            [StreamBatch(stream, ANY, records) for stream, records in by_stream.items()],
            [
                (each.stream_state.stream, each.stream_state.expected_state)
                for each in request.checks
            ],
        )
        return streams_pb2.AppendRecordsResponse(
            revisions=[
                streams_pb2.StreamRevision(stream=stream, revision=end)
                for stream, end in ends.items()
            ],
            position=position,
        )

    def _stored(
        self, context: Any, batches: list[StreamBatch], checks: list[tuple[str, int]]
    ) -> tuple[int, dict[str, int]]:
        size = sum(len(record.data) for batch in batches for record in batch.records)
        if size > MAX_APPEND_BYTES:
            large = errors_pb2.AppendTransactionSizeExceededErrorDetails(
                size=size, max_size=MAX_APPEND_BYTES
            )
            refuse(context, grpc.StatusCode.ABORTED, "the transaction is too large", large)
        try:
            stored: tuple[int, dict[str, int]] = self._node.store(
                context, partial(self._append, batches, checks)
            )
            return stored
        except Tombstoned as deleted:
            gone = errors_pb2.StreamTombstonedErrorDetails(stream=deleted.stream)
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "tombstoned", gone)
        except Conflict as conflict:
            _refuse_conflict(context, conflict)
        raise AssertionError("abort raises")


def _refuse_conflict(context: Any, conflict: Conflict) -> None:
    code = grpc.StatusCode.FAILED_PRECONDITION
    if conflict.index >= 0:
        state = errors_pb2.ConsistencyViolation.StreamStateViolation(
            stream=conflict.stream,
            expected_state=conflict.expected,
            actual_state=conflict.actual,
        )
        violation = errors_pb2.ConsistencyViolation(check_index=conflict.index, stream_state=state)
        details = errors_pb2.AppendConsistencyViolationErrorDetails(violations=[violation])
        refuse(context, code, "Consistency checks failed", details)
    wrong = errors_pb2.StreamRevisionConflictErrorDetails(
        stream=conflict.stream,
        expected_revision=conflict.expected,
        actual_revision=conflict.actual,
    )
    refuse(context, code, f"Append failed due to a revision conflict on {conflict.stream}", wrong)
