"""Shipments: what sellers have to send, how they move it, and the carrier's webhook."""

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response

from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.auth import Access, OptionalCaller, Seller, SellerOfShipment, SignedIn
from api.fields import Body, Moment, Page, Reason, Word
from api.idempotency import Idempotency, Idempotent
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from api.views.shipments import AddressedShipment, MovedShipment, ShipmentView
from commands.aggregates import ORDER, SHIPMENT
from commands.handler import Caller, CommandResult
from domain.errors import Forbidden
from domain.fulfilment import Status
from eventstore.log import IdempotencyRecord
from queries import shipments as shipments_query
from queries.shipments import ShipmentOfBuyer

router = APIRouter(prefix="/api/v1", tags=["shipments"])

ADMIN = Access("ADMIN")

_ADDRESS_NEEDED = {"PENDING", "PROCESSING", "SHIPPED"}
"""While the seller may have to do with where it goes."""


class Dispatch(Body):
    """Who carries it, and by which number it can be followed there."""

    tracking_number: Word
    carrier: Word


class Delivered(Body):
    """That a parcel was delivered, by an operator's knowledge and not a carrier's notice; without a
    time, just now."""

    reason: Reason
    delivered_at: Moment | None = None


# -- commands --------------------------------------------------------------------------------------


@router.put("/shipments/{shipment_id}/process", response_model=MovedShipment)
async def process_shipment(
    shipment_id: UUID,
    services: ServicesOf,
    caller: SellerOfShipment,
    expected_version: ExpectedVersion,
) -> Response:
    """Begin to make it ready (its seller, ADMIN). 409 `shipment_provisional`,
    `shipment_not_pending`."""
    result = await services.commands.shipments.process(
        caller, shipment_id, expected_version=expected_version
    )
    return await _now(services, result, shipment_id)


@router.put("/shipments/{shipment_id}/ship", response_model=MovedShipment)
async def ship_shipment(
    shipment_id: UUID,
    body: Dispatch,
    services: ServicesOf,
    caller: SellerOfShipment,
    expected_version: ExpectedVersion,
) -> Response:
    """The carrier has it (its seller, ADMIN). 409 `shipment_not_processing`."""
    result = await services.commands.shipments.ship(
        caller, shipment_id, body.carrier, body.tracking_number, expected_version=expected_version
    )
    return await _now(services, result, shipment_id)


@router.post("/shipments/{shipment_id}/delivered", response_model=MovedShipment)
async def receive_delivery(
    shipment_id: UUID,
    request: Request,
    services: ServicesOf,
    caller: OptionalCaller,
    idempotency: Idempotency,
    carrier_signature: Annotated[
        str, Header(max_length=4096, description="t=…,v1=…: HMAC-SHA256 of `t.body`.")
    ] = "",
) -> Response:
    """The carrier's signed notice `{shipment_id | tracking_number, delivered_at?}`. 400 on a bad,
    stale or future signature; a repeat changes nothing; 422 `parcel_not_named`, for the signature
    covers the body only, and `invalid_delivered_at` for a time before it was shipped, or in the
    future; 409 `shipment_not_shipped` for what it cannot have, `wrong_shipment` when the notice
    names another.

    Or an ADMIN, without a signature: `{reason, delivered_at?}`. Of what was delivered this corrects
    the time."""
    if not carrier_signature and "authorization" in request.headers:
        return await _delivered_by_hand(shipment_id, request, services, idempotency)
    carrier = Caller(
        "webhook:carrier", correlation_id=caller.correlation_id, traceparent=caller.traceparent
    )
    body = await request.body()
    result = await services.commands.shipments.receive_notice(
        carrier, shipment_id, body, carrier_signature
    )
    return await _now(services, result, shipment_id)


async def _delivered_by_hand(
    shipment_id: UUID, request: Request, services: Services, idempotency: Idempotent
) -> Response:
    caller = await ADMIN(request)
    try:
        said = Delivered.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        wrong = [
            {**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)
        ]
        raise RequestValidationError(wrong) from error

    async def again(_: IdempotencyRecord) -> None:
        await services.repository.state(SHIPMENT, shipment_id)

    return await idempotency.answer(
        lambda once: services.commands.shipments.deliver(
            caller, shipment_id, said.delivered_at, said.reason, once=once
        ),
        again,
        lambda result: _now(services, result, shipment_id),
    )


async def _now(services: Services, result: CommandResult[None], shipment_id: UUID) -> Response:
    """The shipment as a command left it: from the log, which the read model may not have
    reached."""
    version, shipment = await services.repository.get_versioned(SHIPMENT, shipment_id)
    said = {"shipment_id": shipment_id, "version": version, **msgspec.structs.asdict(shipment)}
    body = MovedShipment.model_validate(said)
    return answer(body, position=await position_of(result, services), version=version)


# -- queries ---------------------------------------------------------------------------------------


@router.get("/shipments", response_model=Page[ShipmentView])
async def list_shipments(
    request: Request,
    reads: Reads,
    caller: Seller,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What a seller has to send, or has sent, the newest first: paid orders' only. An ADMIN sees
    all there is."""
    seller_id = None if caller.is_admin else caller.person()
    page = await shipments_query.shipments(
        reads, seller_id=seller_id, status=status, limit=limit, cursor=cursor
    )
    items = [ShipmentView.model_validate(each) for each in page.value.items]
    return page_answer(
        request, Page[ShipmentView](items=items, next_cursor=page.value.next_cursor), page.position
    )


@router.get("/shipments/{shipment_id}", response_model=AddressedShipment)
async def get_shipment(
    shipment_id: UUID, request: Request, services: ServicesOf, reads: Reads, caller: SignedIn
) -> Response:
    """A shipment: its seller's, its buyer's, or any for an ADMIN."""
    shipment, position = await found(
        services,
        reads,
        lambda models: shipments_query.shipment(models, shipment_id),
        SHIPMENT.missing,
    )
    _must_concern(caller, shipment)
    view = AddressedShipment.model_validate(shipment)
    if not shipment.provisional and (
        caller.may_act_for(shipment.buyer_id) or shipment.status in _ADDRESS_NEEDED
    ):
        # in no read model: opened by the buyer's key, from the log
        order = await services.repository.rehydrate(ORDER, shipment.order_id)
        view.shipping_address = None if order is None else order.shipping_address
    return versioned(request, view, position=position, version=shipment.version)


def _must_concern(caller: Caller, shipment: ShipmentOfBuyer) -> None:
    if not (caller.may_act_for(shipment.seller_id) or caller.may_act_for(shipment.buyer_id)):
        raise Forbidden("not_yours", "that is another seller's shipment")
