"""The HTTP servers: the gateway, the simulated payment provider, the simulated fiscal operator."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from eventstore.consumers.reactor_runner import register_reactors
from runtime.processes.connections import Limits, bounded, refusal
from runtime.processes.watching import writing
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues, reactors_of

USUAL_LIMITS = Limits()


async def serve_api(settings: Settings) -> None:
    """The gateway."""
    from runtime.wiring.gateway import open_app

    async with (
        open_core(settings, watched=True) as core,
        open_queues(core) as queues,
        open_app(core, queues) as app,
    ):
        # From the first answer on, whatever happens is reacted to, though the worker may come up
        # later.
        await asyncio.to_thread(register_reactors, core.url, reactors_of(core, queues))
        async with writing(core.log):
            await _serve(config_of(app, settings.host, settings.port, limits_of(settings)))


async def serve_provider(settings: Settings) -> None:
    """The simulated payment provider."""
    from adapters.payments.simulator import create_app

    async with open_core(settings) as core:
        app = create_app(
            settings.home / "provider.sqlite3",
            settings.webhook_url,
            core.secrets.webhook[0],
            settings.provider_public_url or settings.provider_address,
            api_key=core.secrets.provider_key if settings.provider_is_published else "",
        )
    await _serve(config_of(app, settings.provider_host, settings.provider_listens_on))


async def serve_fiscal(settings: Settings) -> None:
    """The simulated fiscal operator."""
    from adapters.fiscal.simulator import create_app

    public_url = settings.fiscal_public_url or settings.fiscal_address
    async with open_core(settings) as core:
        key = core.secrets.fiscal_key if settings.provider_is_published else ""
        app = create_app(settings.home / "fiscal.sqlite3", public_url, key)
    await _serve(config_of(app, settings.provider_host, settings.fiscal_listens_on))


def limits_of(settings: Settings) -> Limits:
    """What clients may take of the gateway."""
    return Limits(settings.max_connections, settings.head_seconds, settings.body_seconds)


def config_of(app: FastAPI, host: str, port: int, limits: Limits = USUAL_LIMITS) -> uvicorn.Config:
    """How an application is served."""
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
        ws_max_size=16 * 1024,  # a client says who it is, and no more
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,  # not worth its memory for messages of some hundred bytes
    )


class WebSocket(WebSocketsSansIOProtocol):
    """Hangs up on who is not there any more. A transport's `close` alone waits until all that was
    written is taken."""

    def data_received(self, data: bytes) -> None:
        """Take what came. A handshake that is none is answered: it came whole, and nothing would
        follow."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(refusal(400, "malformed_request", "that begins no WebSocket", {}))
            self.transport.close()

    def send_500_response(self) -> None:
        """There is no handshake yet, and the server stops; or what was asked for failed
        unforeseen."""
        if self.initial_response is None and not self.handshake_complete:
            self.handshake_complete = self.close_sent = True
            self.transport.write(
                refusal(503, "interrupted", "the process stops: come again", {"retry-after": "1"})
            )

    def keepalive_timeout(self) -> None:
        """No answer to a ping."""
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops: close with 1012."""
        super().shutdown()
        self.loop.call_later(1, self.transport.abort)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has closed."""
        super().on_task_complete(task)
        self.loop.call_later(self.close_timeout, self.transport.abort)


class _Server(uvicorn.Server):
    """Leaves the signals to `run_until_stopped`: with two handlers of one signal, how it ends is a
    race."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(config: uvicorn.Config) -> None:
    """Serve until cancelled; then finish the requests under way, for as long as the configuration
    allows."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
