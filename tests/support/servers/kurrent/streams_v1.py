"""The first protocol: appends to one stream, reads, subscriptions, deletions; and gossip."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any
from uuid import uuid4

import grpc
from kurrentdbclient.protos.v1 import gossip_pb2, gossip_pb2_grpc, shared_pb2, streams_pb2
from kurrentdbclient.protos.v1.streams_pb2_grpc import StreamsServicer

from tests.support.servers.kurrent.node import Node
from tests.support.servers.kurrent.store import (
    ANY,
    EXISTS,
    NO_STREAM,
    Conflict,
    NewRecord,
    Record,
    StreamBatch,
    Tombstoned,
)

Answer = streams_pb2.ReadResp
_STATES = {"no_stream": NO_STREAM, "any": ANY, "stream_exists": EXISTS}
PAGE = 500
"""Records read at a time under the lock."""


def expected_of(options: Any, field: str) -> int:
    """The expected state in a request's one-of `field`."""
    chosen = options.WhichOneof(field)
    return _STATES[chosen] if chosen in _STATES else int(getattr(options, chosen))


def stream_of(options: Any) -> str:
    return str(options.stream_identifier.stream_name.decode())


def _proposed(message: Any) -> NewRecord:
    return NewRecord(
        message.id.string,
        message.metadata["type"],
        message.metadata["content-type"],
        message.data,
        message.custom_metadata,
    )


def _wrong_version(conflict: Conflict) -> Any:
    wrong = shared_pb2.WrongExpectedVersion()
    if conflict.actual < 0:
        wrong.current_no_stream.SetInParent()
    else:
        wrong.current_stream_revision = conflict.actual
    return wrong


def event(record: Record) -> Answer:
    """A record as it is read."""
    recorded = Answer.ReadEvent.RecordedEvent(
        id=shared_pb2.UUID(string=record.id),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.revision,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={
            "type": record.type,
            "content-type": record.content_type,
            "created": str(record.created),
        },
        custom_metadata=record.metadata,
        data=record.data,
    )
    return Answer(event=Answer.ReadEvent(event=recorded, commit_position=record.position))


class Streams(StreamsServicer):
    """Serves one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.cluster.store

    # -- writing -----------------------------------------------------------------------------------

    def BatchAppend(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        options, records = None, []
        for request in requests:
            self._node.begin(context, "BatchAppend", writes=True)
            options = request.options if request.HasField("options") else options
            records += [_proposed(message) for message in request.proposed_messages]
            if not request.is_final:
                continue
            stream = stream_of(options)
            answer = streams_pb2.BatchAppendResp(
                correlation_id=request.correlation_id,
                stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode()),
            )
            batch = StreamBatch(stream, expected_of(options, "expected_stream_position"), records)
            records = []
            try:
                position, ends = self._node.store(context, partial(self._store.append, [batch]))
            except Conflict as conflict:
                answer.error.code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
                answer.error.message = "WrongExpectedVersion"
                answer.error.details.Pack(_wrong_version(conflict))
            except Tombstoned:
                answer.error.code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
                answer.error.details.Pack(shared_pb2.StreamDeleted())
            else:
                answer.success.current_revision = ends[stream]
                answer.success.position.commit_position = position
                answer.success.position.prepare_position = position
            yield answer

    def Delete(self, request: Any, context: Any) -> Any:
        answer = streams_pb2.DeleteResp()
        answer.position.commit_position = self._delete(request, context, for_ever=False)
        return answer

    def Tombstone(self, request: Any, context: Any) -> Any:
        answer = streams_pb2.TombstoneResp()
        answer.position.commit_position = self._delete(request, context, for_ever=True)
        return answer

    def _delete(self, request: Any, context: Any, *, for_ever: bool) -> int:
        self._node.begin(context, "Delete", writes=True)
        stream = stream_of(request.options)
        expected = expected_of(request.options, "expected_stream_revision")
        try:
            return self._store.delete(stream, expected, for_ever=for_ever)
        except Conflict as conflict:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Delete failed due to WrongExpectedVersion. Stream: {stream}, "
                f"Expected version: {expected}, Actual version: {max(conflict.actual, -1)}",
            )
        except Tombstoned:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Stream {stream} is deleted")
        raise AssertionError("abort raises")

    # -- reading -----------------------------------------------------------------------------------

    def Read(self, request: Any, context: Any) -> Iterator[Answer]:
        options = request.options
        subscribes = options.WhichOneof("count_option") == "subscription"
        self._node.begin(context, "Subscribe" if subscribes else "Read")
        try:
            if subscribes:
                yield from Subscription(self._node, options, context).answers()
            elif options.WhichOneof("stream_option") == "stream":
                yield from self._stream(options)
            else:
                yield from self._all(options)
        except Tombstoned as deleted:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{deleted.stream}' is deleted."
            )

    def _stream(self, options: Any) -> Iterator[Answer]:
        stream, chosen = stream_of(options.stream), options.stream.WhichOneof("revision_option")
        backwards = options.read_direction == streams_pb2.ReadReq.Options.Backwards
        with self._store.changed:
            records = list(self._store.visible(stream))
        if not records:
            not_found = Answer.StreamNotFound(stream_identifier=options.stream.stream_identifier)
            yield Answer(stream_not_found=not_found)
            return
        if chosen == "revision":
            at = options.stream.revision
            records = [r for r in records if (r.revision <= at if backwards else r.revision >= at)]
        elif (chosen == "end") != backwards:
            records = []  # forwards from the end, or backwards from the start
        for record in islice(reversed(records) if backwards else records, options.count):
            yield event(record)

    def _all(self, options: Any) -> Iterator[Answer]:
        """Forwards from a position includes it, backwards does not."""
        backwards = options.read_direction == streams_pb2.ReadReq.Options.Backwards
        chosen, passes = options.all.WhichOneof("all_option"), filter_of(options)
        with self._store.changed:
            records = list(self._store.log)
        at = {"start": 0, "end": len(records)}.get(chosen)
        if at is None:
            at = _index(records, options.all.position.commit_position, bisect_left)
        found = reversed(records[:at]) if backwards else iter(records[at:])
        for record in islice(filter(passes, found), options.count):
            yield event(record)


class Subscription:
    """Follows one stream, or all, from after a place."""

    def __init__(self, node: Node, options: Any, context: Any) -> None:
        self._node = node
        self._cluster, self._store = node.cluster, node.cluster.store
        self._number = node.cluster.next_subscription()
        self._context = context
        self._passes = filter_of(options)
        self._stream = (
            stream_of(options.stream) if options.WhichOneof("stream_option") == "stream" else None
        )
        self._checkpoint_after = max(
            1, (options.filter.max or 32) * (options.filter.checkpointIntervalMultiplier or 1)
        )
        with self._store.changed:
            self._after = self._beginning(options)
        context.add_callback(self._wake)

    def _wake(self) -> None:
        with self._store.changed:
            self._store.changed.notify_all()

    def _beginning(self, options: Any) -> int:
        """The position (or, of a stream, the revision) after which it begins."""
        if self._stream is not None:
            chosen = options.stream.WhichOneof("revision_option")
            if chosen == "revision":
                return int(options.stream.revision)
            records = self._store.visible(self._stream)
            return records[-1].revision if chosen == "end" and records else -1
        chosen = options.all.WhichOneof("all_option")
        if chosen == "position":
            return int(options.all.position.commit_position)
        log = self._store.log
        return log[-1].position if chosen == "end" and log else -1

    def _next(self) -> list[Record]:
        """The next records, whether they pass or not."""
        if self._stream is not None:
            records = self._store.visible(self._stream)
            return [record for record in records if record.revision > self._after][:PAGE]
        at = _index(self._store.log, self._after, bisect_right)
        return self._store.log[at : at + PAGE]

    def answers(self) -> Iterator[Answer]:
        yield Answer(confirmation=Answer.SubscriptionConfirmation(subscription_id=str(uuid4())))
        caught_up, passed_over = False, 0
        while self._context.is_active():
            self._node.hang_while_frozen(self._context)
            with self._store.changed:
                if self._number < self._cluster.ended_before:
                    self._context.abort(grpc.StatusCode.UNAVAILABLE, "the server is going away")
                silent = self._number < self._cluster.silent_before
                page = [] if silent else self._next()
                if not page and (caught_up or silent):
                    self._store.changed.wait(0.5)
                    continue
            for record in page:
                self._after = record.revision if self._stream is not None else record.position
                if self._passes(record):
                    passed_over = 0
                    yield event(record)
                elif (
                    self._stream is None
                    and (passed_over := passed_over + 1) % (self._checkpoint_after) == 0
                ):
                    yield self._checkpoint()
            if len(page) < PAGE and not caught_up:
                caught_up = True
                yield self._caught_up()

    def _checkpoint(self) -> Answer:
        checkpoint = Answer.Checkpoint(commit_position=self._after, prepare_position=self._after)
        return Answer(checkpoint=checkpoint)

    def _caught_up(self) -> Answer:
        answer = Answer()
        answer.caught_up.SetInParent()
        if self._after >= 0 and self._stream is None:
            answer.caught_up.position.commit_position = self._after
            answer.caught_up.position.prepare_position = self._after
        elif self._after >= 0:
            answer.caught_up.stream_revision = self._after
        return answer


def filter_of(options: Any) -> Callable[[Record], bool]:
    """The server-side filter of a request."""
    if options.WhichOneof("filter_option") != "filter":
        return lambda _: True
    kind = options.filter.WhichOneof("filter")
    expression = getattr(options.filter, kind)

    def text(record: Record) -> str:
        return record.stream if kind == "stream_identifier" else record.type

    if expression.regex:
        pattern = re.compile(expression.regex)
        return lambda record: pattern.search(text(record)) is not None
    prefixes = tuple(expression.prefix)
    return lambda record: text(record).startswith(prefixes)


def _index(records: list[Record], position: int, side: Callable[..., int]) -> int:
    return side(records, position, key=lambda record: record.position)


class Gossip(gossip_pb2_grpc.GossipServicer):
    """Tells which nodes there are, and which one leads."""

    def __init__(self, node: Node, ports: list[int]) -> None:
        self._node = node
        self._ports = ports

    def Read(self, request: Any, context: Any) -> Any:
        self._node.cluster.calls["Gossip"] += 1
        self._node.hang_while_frozen(context)
        states = gossip_pb2.MemberInfo
        return gossip_pb2.ClusterInfo(
            members=[
                gossip_pb2.MemberInfo(
                    state=states.Leader if self._node.cluster.is_leader(port) else states.Follower,
                    is_alive=True,
                    http_end_point=gossip_pb2.EndPoint(address="127.0.0.1", port=port),
                )
                for port in self._ports
            ]
        )
