"""One node of the double: what it does at the beginning of each call."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from threading import Condition
from typing import Any, NamedTuple, NoReturn, Protocol

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status
from kurrentdbclient.protos.kurrent.rpc import errors_pb2

from tests.support.servers.kurrent.store import Store


class Cut(NamedTuple):
    """How an append's connection is lost: after it was stored, or before; and whether all nodes
    hang from then on."""

    committed: bool
    freezes: bool


class Cluster(Protocol):
    """What a node sees of its cluster."""

    store: Store
    calls: Counter[str]
    has_checks: bool
    """Whether it is of a version that has AppendRecords."""
    login: str
    """`user:password` that every call must carry; empty: anyone may call."""
    frozen: set[int]
    """The ports of nodes that answer nothing."""
    state: Condition
    """Notified when `frozen` changes."""
    cuts: list[Cut]
    """What happens to the next appends."""
    silent_before: int
    ended_before: int
    """Subscriptions with smaller numbers deliver nothing, or end."""

    def freeze(self, *nodes: int) -> None: ...
    def leader_port(self) -> int: ...
    def is_leader(self, port: int) -> bool: ...
    def next_subscription(self) -> int: ...


class Node:
    """A node of a cluster, found at its port."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.port = port

    def begin(self, context: Any, name: str, *, writes: bool = False, v2: bool = False) -> None:
        """Count a call, hang while the server is frozen, and end the call unless its caller may
        make it here."""
        self.cluster.calls[name] += 1
        self.hang_while_frozen(context)
        sent = dict(context.invocation_metadata())
        expected = "Basic " + b64encode(self.cluster.login.encode()).decode()
        if self.cluster.login and sent.get("authorization") not in (expected, expected.encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Access Denied")
        needs_leader = writes or sent.get("requires-leader") == "true"
        if needs_leader and not self.cluster.is_leader(self.port):
            self._refuse(context, v2=v2)

    def hang_while_frozen(self, context: Any) -> None:
        with self.cluster.state:
            while self.port in self.cluster.frozen and context.is_active():
                self.cluster.state.wait(0.2)
        if not context.is_active():
            context.abort(grpc.StatusCode.CANCELLED, "")

    def store(self, context: Any, append: Callable[[], tuple[int, dict[str, int]]]) -> Any:
        """Append, unless the connection is to be cut in the middle. Returns what `append` does."""
        cut = self.cluster.cuts.pop(0) if self.cluster.cuts else None
        stored = append() if cut is None or cut.committed else None
        if cut is not None:
            if cut.freezes:
                self.cluster.freeze()
            context.abort(grpc.StatusCode.UNAVAILABLE, "Connection reset by peer")
        return stored

    def _refuse(self, context: Any, *, v2: bool) -> NoReturn:
        """End the call with the address of the leader."""
        port = self.cluster.leader_port()
        if v2:
            leader = errors_pb2.NotLeaderNodeErrorDetails(
                current_leader=errors_pb2.NotLeaderNodeErrorDetails.NodeInfo(
                    host="127.0.0.1", port=port
                )
            )
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "not the leader", leader)
        context.set_trailing_metadata(
            (
                ("leader-endpoint-host", "127.0.0.1"),
                ("leader-endpoint-port", str(port)),
                ("exception", "not-leader"),
            )
        )
        context.abort(grpc.StatusCode.NOT_FOUND, "Leader info available")
        raise AssertionError("abort raises")


def refuse(context: Any, code: grpc.StatusCode, message: str, detail: Any) -> NoReturn:
    """End a call of the second protocol with its detail."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=[packed])
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort raises")
