"""A real fiscal operator for tests: the simulated one, under uvicorn."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from adapters.fiscal.simulator import create_app


@contextmanager
def running_operator(store: Path, port: int = 0) -> Iterator[str]:
    """The operator on that port, or on a free one; yields its URL."""
    listener = socket.create_server(("127.0.0.1", port))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(store, url), log_level="warning", timeout_graceful_shutdown=5, lifespan="on"
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # The listening socket holds the request back until the application has started.
        assert httpx.get(f"{url}/health", timeout=10).status_code == 200
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
