"""The HTTP servers: the gateway; the simulated payment provider, fiscal operator and carrier."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from api.siblings import Siblings
from eventstore.consumers.reactor_runner import register_reactors
from eventstore.database.postgres import is_away
from kit.tls import Renewed, Trust
from projections.models.shipments import Shipment
from queries.engine.paging import MAX_LIMIT
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels
from queries.orders.shipments import shipments
from runtime.host.listening import bound_sockets
from runtime.processes.certificates import ServerCertificate
from runtime.processes.connections import Limits, bounded, refusal
from runtime.processes.graceful import GracefulServer, TlsServer
from runtime.processes.siblings import showing
from runtime.processes.watching import watch_writer
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from runtime.wiring.work import open_queues, reactors_of

USUAL_LIMITS = Limits()

WEBHOOK_DELAY_SECONDS = 0.25
"""How long after a change the simulated provider tells of it. Real ones send notices from a queue,
so that the answer mostly comes first; but none promises that, and tests have it the other way, too.
"""


MAX_PARCELS = 2_000
"""How many parcels the simulated carrier knows of."""


async def serve_api(settings: Settings, siblings: Siblings | None = None) -> None:
    """Serve the gateway, together with the processes that share its port, if there are any."""
    from runtime.gateway.app import open_app
    from runtime.gateway.web import with_web

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
            shop = with_web(app, core)
            await _serve_gateway(
                shop, core, listening, shared=siblings is not None, end_streams=shop.end_streams
            )


async def serve_past(settings: Settings, position: int) -> None:
    """Serve the shop as it was at a position, read-only, under /as-of/."""
    from api.middleware.past_only import PastOnly
    from runtime.gateway.app import open_app

    async with (
        open_core(settings, watched=True) as core,
        open_queues(core) as queues,
        open_app(core, queues) as app,
    ):
        app.add_middleware(PastOnly, position=position, routes=list(app.routes))
        await _serve_gateway(app, core, asyncio.Event())


async def _serve_gateway(
    app: ASGIApp,
    core: Core,
    listening: asyncio.Event,
    *,
    shared: bool = False,
    end_streams: Callable[[], None] = lambda: None,
) -> None:
    """Serve at the API's address, with its limits and its certificate, if it has one. `end_streams`
    ends what would otherwise be sent for ever, when the server stops."""
    settings = core.settings
    limits = limits_of(settings)
    config = config_of(app, settings.host, settings.port, limits)
    async with _certificate(settings) as certificate:
        if certificate is None:
            server = GracefulServer(config, listening)
        else:
            server = TlsServer(config, certificate.context, limits, listening)

        def end_waits() -> None:
            core.watcher.end_waits()
            end_streams()

        server.end_waits = end_waits
        await _serve(server, shared=shared)


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
            return_url=settings.payment_return_url or f"{settings.api_url}/paid",
            webhook_tls=_notices_tls(settings, settings.payment_webhook_url),
        )
    config = config_of(app, settings.provider_host, settings.provider_listens_on)
    await _serve(GracefulServer(config))


def _notices_tls(settings: Settings, url: str) -> Callable[[], ssl.SSLContext]:
    """The certificate that a simulator trusts: this instance's own, or that of the API that is
    set."""
    if settings.tls_cert and not url:
        return Renewed(settings.tls_cert).context
    trust = Trust(settings.tls_ca)
    return lambda: trust.context


async def serve_fiscal(settings: Settings) -> None:
    """Serve the simulated fiscal operator."""
    from adapters.fiscal.simulator import create_app

    public_url = settings.fiscal_public_url or settings.fiscal_address
    async with open_core(settings) as core:
        key = core.secrets.fiscal_key if settings.provider_is_published else ""
        app = create_app(settings.home / "fiscal.sqlite3", public_url, key)
    config = config_of(app, settings.provider_host, settings.fiscal_listens_on)
    await _serve(GracefulServer(config))


async def serve_carrier(settings: Settings) -> None:
    """Serve the simulated carrier. It looks up sellers' parcels in the shop's database; a real
    carrier would be told of them."""
    from adapters.carrier.simulator import Parcel, ShopAway, create_app

    async with open_core(settings) as core:
        reads = ReadModels(core.log.pool)

        async def in_transit() -> list[Parcel]:
            try:
                found = await _in_transit(reads.reaching(await core.log.head()))
            except Exception as error:
                if isinstance(error, ReadModelBehind) or is_away(error):
                    raise ShopAway("the shop's database does not answer; try again") from error
                raise
            return [
                Parcel(
                    each.shipment_id,
                    each.carrier or "",
                    each.tracking_number or "",
                    each.shipped_at or each.updated_at,
                )
                for each in found
            ]

        app = create_app(
            settings.home / "carrier.sqlite3",
            settings.carrier_shop_url.rstrip("/") or settings.local_url,
            core.secrets.carrier[0],
            in_transit,
            tls=_notices_tls(settings, settings.carrier_shop_url),
        )
        config = config_of(app, settings.provider_host, settings.carrier_listens_on)
        await _serve(GracefulServer(config))


async def _in_transit(reads: ReadModels) -> list[Shipment]:
    """The shipments that were handed over last."""
    found: list[Shipment] = []
    cursor: str | None = None
    while len(found) < MAX_PARCELS:
        page = (await shipments(reads, status="SHIPPED", limit=MAX_LIMIT, cursor=cursor)).value
        found += page.items
        if (cursor := page.next_cursor) is None:
            break
    return found


def limits_of(settings: Settings) -> Limits:
    """The limits on clients of the gateway. Who sends a form of the pages gets an answer, however
    large the form may be."""
    from web.app import LARGEST_FORM_BYTES

    return Limits(
        settings.max_connections,
        settings.head_seconds,
        settings.body_seconds,
        message_bytes=max(LARGEST_FORM_BYTES, USUAL_LIMITS.message_bytes),
    )


def config_of(app: ASGIApp, host: str, port: int, limits: Limits = USUAL_LIMITS) -> uvicorn.Config:
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


@asynccontextmanager
async def _certificate(settings: Settings) -> AsyncIterator[ServerCertificate | None]:
    """The API's certificate, if it has one; renewed files are taken up during the block."""
    if not settings.tls_cert:
        yield None
        return
    certificate = ServerCertificate(settings.tls_cert, settings.tls_key)
    following = asyncio.create_task(certificate.follow(), name="certificate")
    try:
        yield certificate
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _serve(server: GracefulServer, *, shared: bool = False) -> None:
    """Serve until cancelled, then finish the running requests for as long as the configuration
    allows."""
    sockets = bound_sockets(server.config.host, server.config.port, shared=shared)
    for each in sockets:
        each.setblocking(False)
    serving = asyncio.create_task(server.serve(sockets))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
