"""Shipments: reading them, their progress at the seller's, and the carrier's webhook."""

from functools import partial
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
from commands.caller import Caller, not_yours
from commands.handler import CommandResult
from domain.fulfilment import Status
from eventstore.log import IdempotencyRecord
from queries.orders import shipments as shipments_query
from queries.orders.shipments import ShipmentOfBuyer

router = APIRouter(prefix="/api/v1", tags=["shipments"])

ADMIN = Access("ADMIN")

_ADDRESS_NEEDED = {"PENDING", "PROCESSING", "SHIPPED"}
"""The statuses in which the seller may still need the address."""


class Dispatch(Body):
    """The carrier that has the parcel, and its tracking number there."""

    tracking_number: Word
    carrier: Word


class Delivered(Body):
    """A delivery that an operator confirms without the carrier's webhook. The default time is
    now."""

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
    """Start preparing a shipment (its seller, ADMIN). Errors: 409 `shipment_provisional`,
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
    """Record that the carrier has the shipment (its seller, ADMIN). Errors: 409
    `shipment_not_processing`."""
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
        str,
        Header(max_length=4096, description="`t=…,v1=…`: a time and the HMAC-SHA256 of `t.body`."),
    ] = "",
) -> Response:
    """Record a delivery, reported by the carrier or by an ADMIN.

    The carrier sends the signed webhook `{shipment_id | tracking_number, delivered_at?}`; repeats
    are idempotent. Errors: 400 if the signature is wrong, or its time too old or in the future; 422
    `parcel_not_named` if the body, which alone is signed, names no parcel; `invalid_delivered_at`
    for a time before the shipping or in the future; 409 `shipment_not_shipped`; `wrong_shipment` if
    the body names another shipment than the path.

    An ADMIN sends `{reason, delivered_at?}` without a signature. For a delivered shipment, this
    corrects the time.
    """
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
        report = Delivered.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        wrong = [
            {**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)
        ]
        raise RequestValidationError(wrong) from error

    async def again(_: IdempotencyRecord) -> None:
        await services.repository.state(SHIPMENT, shipment_id)

    return await idempotency.answer(
        lambda once: services.commands.shipments.deliver(
            caller, shipment_id, report.delivered_at, report.reason, once=once
        ),
        again,
        lambda result: _now(services, result, shipment_id),
    )


async def _now(services: Services, result: CommandResult[None], shipment_id: UUID) -> Response:
    """The shipment after the command, from the log: the read model may not have reached it yet."""
    version, shipment = await services.repository.get_versioned(SHIPMENT, shipment_id)
    fields = {"shipment_id": shipment_id, "version": version, **msgspec.structs.asdict(shipment)}
    body = MovedShipment.model_validate(fields)
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
    """List a seller's shipments of paid orders, newest first. An ADMIN sees everybody's."""
    seller_id = None if caller.sees_all else caller.person()
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
    """Return a shipment (its seller, its buyer, ADMIN)."""
    shipment, position = await found(
        services,
        reads,
        lambda models: shipments_query.shipment(models, shipment_id),
        SHIPMENT.missing,
        partial(shipments_query.shipment_as_of, services.log, shipment_id),
    )
    _must_concern(caller, shipment)
    view = AddressedShipment.model_validate(shipment)
    needs_address = shipment.status in _ADDRESS_NEEDED and not caller.audits
    if not shipment.provisional and (caller.may_act_for(shipment.buyer_id) or needs_address):
        # the address is in no read model: it is decrypted from the log with the buyer's key
        order = await services.repository.rehydrate(ORDER, shipment.order_id)
        view.shipping_address = None if order is None else order.shipping_address
    return versioned(request, view, position=position, version=shipment.version)


def _must_concern(caller: Caller, shipment: ShipmentOfBuyer) -> None:
    concerned = shipment.seller_id, shipment.buyer_id
    if not (caller.audits or any(map(caller.may_act_for, concerned))):
        raise not_yours("shipment")
