"""Real servers for the tests of payment providers: the simulated provider under uvicorn, a receiver
of its webhooks, and servers with prepared answers."""

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn

from adapters.payments.simulator import create_app

SECRET = "whsec_test"
PATIENCE = 10.0


@dataclass
class Received:
    """A webhook as received."""

    body: bytes
    signature: str

    @property
    def event(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def intent(self) -> Any:
        return self.event["data"]["object"]


@dataclass
class Receiver:
    """Records webhooks, and answers with each of `statuses` in turn, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, received: Received) -> int:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            return self.statuses.pop(0) if self.statuses else 200

    def wait_for(
        self, count: int, about: Callable[[Received], bool] = lambda _: True
    ) -> list[Received]:
        """The webhooks that satisfy a condition, once there are this many."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self._matching(about)) >= count, PATIENCE)
            assert found, f"only {[webhook.type for webhook in self.received]} arrived"
            return self._matching(about)

    def wait_for_one(self, event_type: str) -> Received:
        return self.wait_for(1, lambda webhook: webhook.type == event_type)[0]

    def _matching(self, about: Callable[[Received], bool]) -> list[Received]:
        return [webhook for webhook in self.received if about(webhook)]


@contextmanager
def running_receiver(port: int = 0, **settings: Any) -> Iterator[Receiver]:
    receiver = Receiver(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take(Received(body, self.headers["Stripe-Signature"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/webhook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_provider(store: Path, webhook_url: str, **settings: Any) -> Iterator[str]:
    """The provider on a free port; yields its URL. Leaving stops it, as a deployment would."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(store, webhook_url, SECRET, url, **{"webhook_retry_seconds": 0.02} | settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # The listening socket holds the request back until the application has started.
        assert httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@asynccontextmanager
async def server_that_answers(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives each connection the next of these answers, and hangs up when none is
    left; yields its URL and the requests received."""
    left, requests = list(answers), list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        requests.append(head + (await reader.readexactly(int(length[1])) if length else b""))
        writer.write(left.pop(0) if left else b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()


def http(status: str, body: bytes = b"") -> bytes:
    """An HTTP response as bytes."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )
