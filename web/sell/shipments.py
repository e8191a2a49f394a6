"""Shipments: what is to be packed, what is on its way."""

from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.sell.access import desk_router, seller_of
from web.sell.answers import Parcel
from web.shop.offers import offers_of
from web.visit import Visit
from web.words import PARCEL_STATUSES

router = desk_router()

PER_PAGE = 20
CARRIERS = ("DHL", "DPD", "FedEx", "GLS", "La Poste", "Royal Mail", "UPS", "USPS")


@router.get("/sell/shipments")
async def show_shipments(visit: Visit) -> Response:
    """The seller's shipments of a status, newest first; by default what is to be packed."""
    asked = visit.query("status")
    wanted = asked if asked in dict(PARCEL_STATUSES) else PARCEL_STATUSES[0][0]
    found = await visit.api.get(
        "/api/v1/shipments",
        Listed[Parcel],
        status=wanted,
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    offers = await offers_of(visit, (parcel.lines[0].game_id for parcel in found.items))
    return visit.page(
        "sell/shipments.html", found=found, offers=offers, wanted=wanted, statuses=PARCEL_STATUSES
    )


@router.get("/sell/shipments/{shipment_id}")
async def show_shipment(visit: Visit) -> Response:
    """A shipment: what goes where, and the next step."""
    return await _shipment_page(visit)


def _path(visit: Visit) -> str:
    return f"/api/v1/shipments/{visit.id('shipment_id')}"


async def _shipment_page(visit: Visit, status: int = 200) -> Response:
    parcel = await visit.api.get(_path(visit), _OfSeller)
    if parcel.seller_id != seller_of(visit):  # the API shows it to its buyer, too
        raise Problem("not_found", 404)
    offers = await offers_of(visit, (line.game_id for line in parcel.lines))
    return visit.page(
        "sell/shipment.html", status=status, parcel=parcel, offers=offers, carriers=CARRIERS
    )


class _OfSeller(Parcel, frozen=True, kw_only=True):
    seller_id: str


@router.post("/sell/shipments/{shipment_id}/process")
async def process(visit: Visit) -> Response:
    """Mark a shipment as being packed."""
    return await _move(visit, "process", {}, "Now pack it, and hand it to a carrier.")


@router.post("/sell/shipments/{shipment_id}/ship")
async def ship(visit: Visit) -> Response:
    """Mark a shipment as handed to a carrier, with its tracking number."""
    body = {name: visit.form.text(name) for name in ("carrier", "tracking_number")}
    return await _move(visit, "ship", body, "It is on its way. The buyer is told.")


async def _move(visit: Visit, step: str, body: dict[str, str], notice: str) -> Response:
    try:
        await visit.api.put(f"{_path(visit)}/{step}", body, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _shipment_page(visit, status=422)
    return visit.go(f"/sell/shipments/{visit.id('shipment_id')}", notice)
