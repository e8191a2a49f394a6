"""Real servers for the provider's tests: the provider itself under uvicorn, and a receiver of its webhooks."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn

from adapters.provider_simulator import create_app

SECRET = "whsec_test"
PATIENCE = 10.0


@dataclass
class Received:
    """A webhook as it came in."""

    body: bytes
    signature: str

    @property
    def event(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def type(self) -> str:
        return self.event["type"]

    @property
    def intent(self) -> Any:
        return self.event["data"]["object"]


@dataclass
class Receiver:
    """Keeps what it is sent, and answers as `statuses` say, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, received: Received) -> int:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            return self.statuses.pop(0) if self.statuses else 200

    def wait_for(self, count: int, about: Callable[[Received], bool] = lambda _: True) -> list[Received]:
        """The webhooks that a condition holds for, as soon as there are so many."""
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


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
