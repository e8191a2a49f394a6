"""The carrier's HTTP server: a page for people, and the same for programs in JSON."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict

from adapters.carrier.simulator import pages
from adapters.carrier.simulator.parcels import Parcel, ShopAway
from adapters.carrier.simulator.store import CarrierStore, Delivery
from adapters.notices.background import Alarm, repeat
from adapters.notices.sender import NoticeSender
from adapters.own_pages import OwnPages
from adapters.traced_requests import TracedRequests
from domain.fulfilment import tracking_key

InTransit = Callable[[], Awaitable[Sequence[Parcel]]]
"""The parcels that sellers have handed over, and the shop does not know to be delivered. Raises
ShopAway."""


class NewDelivery(BaseModel):
    """When a parcel was delivered; by default now."""

    model_config = ConfigDict(extra="forbid")

    delivered_at: AwareDatetime | None = None


class ParcelView(BaseModel):
    """A parcel in transit."""

    shipment_id: UUID
    carrier: str
    tracking_number: str
    shipped_at: datetime


class DeliveryView(BaseModel):
    """A delivered parcel."""

    shipment_id: UUID
    tracking_number: str
    delivered_at: datetime


class Carrier:
    """The carrier's operations."""

    def __init__(self, store: CarrierStore, in_transit: InTransit) -> None:
        self.store = store
        self.in_transit = in_transit
        self.queued = Alarm()

    async def deliver(self, tracking_number: str, at: datetime) -> list[Delivery]:
        """Deliver the parcels with this tracking number; those of before, if none is in transit any
        more. Empty for an unknown one. Raises ShopAway."""
        wanted = tracking_key(tracking_number)
        found = [
            each for each in await self.in_transit() if tracking_key(each.tracking_number) == wanted
        ]
        delivered = [
            self.store.deliver(Delivery(each.shipment_id, each.tracking_number, at), time.time())
            for each in found
        ]
        self.queued.ring()
        return delivered or self.store.delivered(tracking_number)


async def _carrier(request: Request) -> Carrier:
    carrier: Carrier = request.app.state.carrier
    return carrier


TheCarrier = Annotated[Carrier, Depends(_carrier)]

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
async def page(carrier: TheCarrier) -> HTMLResponse:
    """The parcels in transit, to deliver them by a button."""
    return HTMLResponse(pages.parcels(await carrier.in_transit(), carrier.store.under_way()))


@router.get("/parcels")
async def list_parcels(carrier: TheCarrier) -> list[ParcelView]:
    """The parcels in transit."""
    return [
        ParcelView.model_validate(each, from_attributes=True) for each in await carrier.in_transit()
    ]


@router.post("/parcels/{tracking_number:path}/delivered", response_model=list[DeliveryView])
async def deliver(
    tracking_number: str,
    carrier: TheCarrier,
    body: NewDelivery | None = None,
    accept: Annotated[str, Header(max_length=1000)] = "",
) -> Response:
    """Deliver a parcel, and tell the shop. Repeats tell it again of the first delivery."""
    now = datetime.now(UTC)
    at = now if body is None or body.delivered_at is None else body.delivered_at
    if at > now:
        raise HTTPException(422, "delivered_at is in the future")
    found = await carrier.deliver(tracking_number, at)
    if not found:
        raise HTTPException(404, "no parcel with this tracking number is in transit")
    if "text/html" in accept:
        return RedirectResponse("../../", 303)
    views = [DeliveryView.model_validate(each, from_attributes=True) for each in found]
    return JSONResponse([each.model_dump(mode="json") for each in views], 202)


@router.get("/health")
async def health(carrier: TheCarrier) -> dict[str, str | int]:
    """Whether the server works, and how many notices wait for the shop."""
    return {"status": "ok", "pending_webhooks": carrier.store.pending_webhooks()}


def create_app(
    store_path: Path,
    shop_url: str,
    secret: str,
    in_transit: InTransit,
    *,
    timeout_seconds: float = 10.0,
    retry_seconds: float = 1.0,
    give_up_seconds: float = 3 * 86400.0,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> FastAPI:
    """The carrier's server, to be run by uvicorn in one process.

    `store_path` is its SQLite file, which no other process may have open; `shop_url` is where it
    tells the shop of deliveries, by notices signed with `secret`. A notice is retried as the
    simulated provider's are.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(CarrierStore(store_path)) as store:
            carrier = Carrier(store, in_transit)
            sender = NoticeSender(
                store,
                carrier.queued,
                "Carrier-Signature",
                secret,
                lambda notice: f"{shop_url}/api/v1/shipments/{notice.id}/delivered",
                timeout_seconds=timeout_seconds,
                retry_seconds=retry_seconds,
                give_up_seconds=give_up_seconds,
                concurrency=8,
                tls=tls,
            )
            store.make_webhooks_due(time.time())
            app.state.carrier = carrier
            sending = asyncio.create_task(repeat(sender.send_due))
            try:
                yield
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await sender.aclose()

    app = FastAPI(title="Simulated carrier", lifespan=lifespan)
    app.add_middleware(OwnPages)
    app.add_middleware(TracedRequests)
    app.include_router(router)
    app.add_exception_handler(ShopAway, _later)
    return app


async def _later(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})
