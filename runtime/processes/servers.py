"""The HTTP servers: the gateway, the simulated payment provider, the simulated fiscal operator."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from api.siblings import Siblings
from eventstore.consumers.reactor_runner import register_reactors
from runtime.listening import bound_sockets
from runtime.processes.connections import Limits, bounded, refusal
from runtime.processes.siblings import showing
from runtime.processes.watching import watch_writer
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues, reactors_of

logger = logging.getLogger(__name__)

USUAL_LIMITS = Limits()

WEBHOOK_DELAY_SECONDS = 0.25
"""How long after a change the simulated provider tells of it. Real ones send notices from a queue,
so that the answer mostly comes first; but none promises that, and tests have it the other way, too.
"""


async def serve_api(settings: Settings, siblings: Siblings | None = None) -> None:
    """Serve the gateway, together with the processes that share its port, if there are any."""
    from runtime.wiring.gateway import open_app

    listening = asyncio.Event()
    async with (
        open_core(settings, watched=True) as core,
        open_queues(core) as queues,
        open_app(core, queues, siblings) as app,
        showing(app.state.metrics, core.clock_watch, listening),
    ):
        # From the first answer on, every event gets its reactions, though the worker may start
        # later.
        await asyncio.to_thread(register_reactors, core.url, reactors_of(core, queues))
        async with watch_writer(core.log):
            config = config_of(app, settings.host, settings.port, limits_of(settings))
            await _serve(config, listening, shared=siblings is not None)


async def serve_provider(settings: Settings) -> None:
    """Serve the simulated payment provider."""
    from adapters.payments.simulator import create_app

    async with open_core(settings) as core:
        app = create_app(
            settings.home / "provider.sqlite3",
            settings.webhook_url,
            core.secrets.webhook[0],
            settings.provider_public_url or settings.provider_address,
            webhook_delay_seconds=WEBHOOK_DELAY_SECONDS,
            api_key=core.secrets.provider_key if settings.provider_is_published else "",
        )
    await _serve(config_of(app, settings.provider_host, settings.provider_listens_on))


async def serve_fiscal(settings: Settings) -> None:
    """Serve the simulated fiscal operator."""
    from adapters.fiscal.simulator import create_app

    public_url = settings.fiscal_public_url or settings.fiscal_address
    async with open_core(settings) as core:
        key = core.secrets.fiscal_key if settings.provider_is_published else ""
        app = create_app(settings.home / "fiscal.sqlite3", public_url, key)
    await _serve(config_of(app, settings.provider_host, settings.fiscal_listens_on))


def limits_of(settings: Settings) -> Limits:
    """The limits on clients of the gateway."""
    return Limits(settings.max_connections, settings.head_seconds, settings.body_seconds)


def config_of(app: FastAPI, host: str, port: int, limits: Limits = USUAL_LIMITS) -> uvicorn.Config:
    """uvicorn's configuration of an application."""
    # Whose X-Forwarded-For is believed is the gateway's to decide (LUDOTECA_TRUSTED_PROXIES), not
    # the server's.
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        http=bounded(limits),
        timeout_graceful_shutdown=5,
        ws=WebSocket,
        ws_max_size=16 * 1024,  # a client only sends its token
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,  # not worth its memory for small messages
    )


class WebSocket(WebSocketsSansIOProtocol):
    """Disconnects clients that no longer answer. `close` of a transport would wait until the client
    has read everything."""

    def data_received(self, data: bytes) -> None:
        """Take bytes. An invalid handshake is answered at once: it has arrived completely, and
        nothing would follow."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(
                refusal(400, "malformed_request", "this is not a WebSocket handshake", {})
            )
            self.transport.close()

    def send_500_response(self) -> None:
        """Answer a handshake when the server is stopping, or the application failed."""
        if self.initial_response is None and not self.handshake_complete:
            self.handshake_complete = self.close_sent = True
            self.transport.write(
                refusal(
                    503,
                    "interrupted",
                    "the process is stopping: connect again",
                    {"retry-after": "1"},
                )
            )

    def keepalive_timeout(self) -> None:
        """Disconnect: a ping was not answered."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Close with 1012: the server is stopping."""
        super().shutdown()
        self.loop.call_later(1, self.transport.abort)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Disconnect once the application has closed the socket."""
        super().on_task_complete(task)
        self.loop.call_later(self.close_timeout, self.transport.abort)


class GracefulServer(uvicorn.Server):
    """Answers what clients have sent when it stops. Leaves signals to `run_until_stopped`: with two
    handlers for one signal, which one ends the process is a race."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event | None = None) -> None:
        """`listening` is set once it listens."""
        super().__init__(config)
        self._listening = listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self._listening is not None:
            self._listening.set()
        logger.info("listening on port %s of %s", self.config.port, self.config.host)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop. Connections that clients have made, and that wait to be accepted, are answered too:
        closing the socket would reset them."""
        for each in sockets or []:
            with suppress(OSError):  # there are no more, or no file descriptors for them
                for _ in range(self.config.backlog):
                    await self._accept(each.accept()[0])
        await super().shutdown(sockets)

    async def _accept(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: make(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            connection,
        )


async def _serve(
    config: uvicorn.Config, listening: asyncio.Event | None = None, *, shared: bool = False
) -> None:
    """Serve until cancelled, then finish the running requests for as long as the configuration
    allows."""
    server = GracefulServer(config, listening)
    sockets = bound_sockets(config.host, config.port, shared=shared)
    for each in sockets:
        each.setblocking(False)
    serving = asyncio.create_task(server.serve(sockets))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
