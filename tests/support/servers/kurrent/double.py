"""The double: nodes that share a log, and the faults that can be switched on."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import grpc
from kurrentdbclient.protos.v1 import gossip_pb2_grpc, streams_pb2_grpc
from kurrentdbclient.protos.v2.streams import streams_pb2_grpc as streams_v2_pb2_grpc

from tests.support.servers.kurrent.node import Cut, Node
from tests.support.servers.kurrent.store import ANY, NewRecord, Store, StreamBatch
from tests.support.servers.kurrent.streams_v1 import Gossip, Streams
from tests.support.servers.kurrent.streams_v2 import StreamsV2
from tests.support.servers.shared import free_port
from tests.support.servers.tls import Pair

_OPTIONS = [
    ("grpc.max_receive_message_length", 17 << 20),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.so_reuseport", 0),
]
THREADS = 64
"""Of each node; an open subscription has one."""


class KurrentDouble:
    """A cluster of nodes in threads of this process: `with KurrentDouble() as kurrent`. The nodes
    share a log, so a follower never lags."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        folder: Path | None = None,
        version: str = "26.1",
        tls: Pair | None = None,
        ca_file: Path | str = "",
        login: str = "",
        ports: list[int] | None = None,
    ) -> None:
        """`folder` is where the log is kept, so that another process may serve it later. Before
        version 26.1 there is no AppendRecords. With `tls`, a certificate for 127.0.0.1, clients are
        told to trust `ca_file`; only then do they send the `login`, `user:password`."""
        self.ports = ports or [free_port() for _ in range(nodes)]
        self.store = Store(folder)
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self.has_checks = tuple(map(int, version.split("."))) >= (26, 1)
        self.login = login
        self.frozen: set[int] = set()
        self.state = Condition()
        self.cuts: list[Cut] = []
        self.silent_before = self.ended_before = 0
        self._subscriptions = 0
        self._leader = 0
        self._servers: list[Any] = []
        self._tls = tls
        self._ca_file = str(ca_file)

    @property
    def url(self) -> str:
        """What a client connects to."""
        login = ":".join(quote(part, safe="") for part in self.login.split(":", 1))
        nodes = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        query = f"TlsCaFile={quote(self._ca_file)}" if self._tls else "Tls=false"
        return f"kurrentdb://{login}{'@' if login else ''}{nodes}?{query}"

    def url_of(self, node: int) -> str:
        """As `url`, of one node alone."""
        return self.url.replace(
            ",".join(f"127.0.0.1:{port}" for port in self.ports), f"127.0.0.1:{self.ports[node]}"
        )

    # -- life --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.store.close()

    def start(self) -> None:
        """Start all nodes, also again: at the same ports, with what they had."""
        assert not self._servers
        self._servers = [self._serve(port) for port in self.ports]

    def stop(self) -> None:
        """Stop all nodes at once: calls under way end without an answer."""
        self.thaw()
        stopping = [server.stop(grace=None) for server in self._servers]
        with self.store.changed:
            self.store.changed.notify_all()
        for stopped in stopping:
            stopped.wait()
        self._servers = []

    def _serve(self, port: int) -> Any:
        node = Node(self, port)
        server = grpc.server(ThreadPoolExecutor(THREADS, f"kurrent-{port}"), options=_OPTIONS)
        add_streams: Any = streams_pb2_grpc.add_StreamsServicer_to_server  # has no types
        add_streams_v2: Any = streams_v2_pb2_grpc.add_StreamsServiceServicer_to_server
        add_gossip: Any = gossip_pb2_grpc.add_GossipServicer_to_server
        add_streams(Streams(node), server)
        add_streams_v2(StreamsV2(node), server)
        add_gossip(Gossip(node, self.ports), server)
        address = f"127.0.0.1:{port}"
        if self._tls is None:
            server.add_insecure_port(address)
        else:
            key, chain = Path(self._tls.key).read_bytes(), Path(self._tls.certificate).read_bytes()
            server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        server.start()
        return server

    # -- the cluster -------------------------------------------------------------------------------

    def leader_port(self) -> int:
        return self.ports[self._leader]

    def is_leader(self, port: int) -> bool:
        return port == self.leader_port()

    def next_subscription(self) -> int:
        with self.state:
            self._subscriptions += 1
            return self._subscriptions

    # -- faults ------------------------------------------------------------------------------------

    def change_leader(self, *, silent: bool = False) -> None:
        """Let the next node lead. The open subscriptions end; or, `silent`, neither deliver nor
        end, which is a known failure of real servers and clients."""
        self._leader = (self._leader + 1) % len(self.ports)
        if silent:
            self.silence_subscriptions()
        else:
            self.end_subscriptions()

    def freeze(self, *nodes: int) -> None:
        """Let nodes (all, unless some are named by number) answer nothing any more, over
        connections that stay, until `thaw`."""
        with self.state:
            self.frozen = {self.ports[n] for n in nodes or range(len(self.ports))}

    def thaw(self) -> None:
        """End `freeze`."""
        with self.state:
            self.frozen = set()
            self.state.notify_all()

    def cut_next_append(self, *, committed: bool, freezes: bool = False) -> None:
        """Lose the connection of the next append after, or before, it is stored; with `freezes`,
        the server hangs from then on. Called twice: of the next two appends."""
        self.cuts.append(Cut(committed, freezes))

    def silence_subscriptions(self) -> None:
        """Let the subscriptions that are open now neither deliver nor end."""
        self.silent_before = self._subscriptions + 1

    def end_subscriptions(self) -> None:
        """End the subscriptions that are open now."""
        with self.store.changed:
            self.ended_before = self._subscriptions + 1
            self.store.changed.notify_all()

    def go_back(self, position: int) -> None:
        """Lose everything after this commit position, as a restored backup has."""
        self.store.go_back(position)

    def append_foreign(self, stream: str, type: str, data: bytes) -> int:
        """Append an event of another application. Returns its commit position."""
        record = NewRecord(str(uuid4()), type, "application/json", data, b"")
        return self.store.append([StreamBatch(stream, ANY, [record])])[0]
