"""Orders: placing, reading, cancelling and refunding them."""

from functools import partial
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.account_ids import check_account_exists
from api.answers import Prefer, answer, page_answer, position_of
from api.auth import Admin, Oneself, SignedIn
from api.fields import Answer, Body, Page, Time
from api.idempotency import Idempotency, recorded_id
from api.paying import refresh_order, refunded, wait_as_preferred
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from api.views.payments import (
    PaymentMethod,
    PaymentView,
    Refund,
    RefundView,
    TimelineEventView,
    declined,
    payment_view,
    secret_of,
)
from api.views.receipts import ReceiptView, first_issued
from api.views.shipments import ShipmentView
from commands.aggregates import ORDER
from commands.caller import Caller
from commands.handler import CommandResult
from commands.order_saga import OrderIds
from commands.orders import OrderAndPayment
from domain.orders import Status
from eventstore.log import IdempotencyRecord
from queries.orders import orders as orders_query
from queries.orders.orders import Order

router = APIRouter(prefix="/api/v1", tags=["orders"])


class NewOrder(Body):
    """The game to buy. Without a payment method, the payment waits for one (POST /payments)."""

    game_id: UUID
    payment_method: PaymentMethod | None = None


class PlacedOrder(Answer):
    """The state of a new order. `transaction_id` is the payment's id. If `redirect_url` is set, the
    buyer continues there."""

    order_id: UUID
    payment_id: UUID
    transaction_id: UUID
    status: str
    payment_status: str
    amount_cents: int
    currency: str
    redirect_url: str | None
    client_secret: str | None


class LineView(Answer):
    line_id: UUID
    game_id: UUID
    seller_id: UUID
    kind: str
    title: str
    quantity: int
    unit_price_cents: int
    shipment_id: UUID | None


class OrderView(Answer):
    """An order with its lines, payment, shipments (one per seller of physical games), fiscal
    receipts and timeline.

    `receipt` is the first issued one of `receipts`. `refunded_cents` has been refunded.
    `refund_status` is PENDING during a refund, else the result of the last one.
    """

    id: UUID = Field(validation_alias=AliasPath("order_id"))
    order_id: UUID
    user_id: UUID
    region: str
    currency: str
    total_cents: int
    refunded_cents: int
    refund_status: str | None = None
    status: str
    provisional: bool
    cancel_reason: str | None
    payment_id: UUID
    lines: list[LineView]
    payment: PaymentView | None
    receipt: ReceiptView | None = None
    receipts: list[ReceiptView]
    shipments: list[ShipmentView]
    timeline: list[TimelineEventView]
    expires_at: Time
    created_at: Time
    updated_at: Time


class AddressedOrder(OrderView):
    """An order with its address, which only its buyer and an ADMIN see. The address is null if
    nothing is shipped, or the buyer was forgotten."""

    shipping_address: dict[str, str] | None = None


# -- commands --------------------------------------------------------------------------------------


@router.post("/orders", status_code=201, response_model=PlacedOrder)
async def place_order(
    body: NewOrder,
    request: Request,
    services: ServicesOf,
    caller: SignedIn,
    idempotency: Idempotency,
    prefer: Prefer,
) -> Response:
    """Buy a digital game. Errors: 409 `already_owned`, `order_pending` with `order_id`,
    `game_unavailable`; 402 `payment_failed` if the payment fails while the request waits."""
    method = body.payment_method.method() if body.payment_method else None

    async def again(done: IdempotencyRecord) -> OrderIds:
        placed = OrderIds(UUID(done.result_ids["order_id"]), UUID(done.result_ids["payment_id"]))
        await refresh_order(services, placed.order_id)
        return placed

    async def reply(result: CommandResult[OrderIds]) -> Response:
        order_id = result.value.order_id
        now, position = await wait_as_preferred(services, order_id, result, prefer)
        if now.payment.status == "FAILED":
            return declined(request, order_id, now, position)
        headers = {"Location": f"/api/v1/orders/{order_id}", **prefer.headers}
        return answer(
            _placed(services, caller, order_id, now),
            status=prefer.status,
            position=position,
            headers=headers,
        )

    return await idempotency.answer(
        lambda once: services.commands.orders.place(caller, body.game_id, method, once=once),
        again,
        reply,
        one_append=True,
    )


def _placed(
    services: Services, caller: Caller, order_id: UUID, now: OrderAndPayment
) -> PlacedOrder:
    return PlacedOrder(
        order_id=order_id,
        payment_id=now.order.payment_id,
        transaction_id=now.order.payment_id,
        status=now.order.status,
        payment_status=now.payment.status,
        amount_cents=now.order.total_cents,
        currency=now.order.currency,
        redirect_url=now.payment.redirect_url,
        client_secret=secret_of(services, caller, now),
    )


@router.post("/orders/{order_id}/cancel", response_model=PlacedOrder)
async def cancel_order(
    order_id: UUID, services: ServicesOf, caller: SignedIn, idempotency: Idempotency
) -> Response:
    """Cancel an order before it is paid. Errors: 409 `order_not_cancellable`."""

    async def again(_: IdempotencyRecord) -> None:
        await refresh_order(services, order_id)

    async def reply(result: CommandResult[None]) -> Response:
        now = await services.commands.orders.when_ready(order_id, 0)
        return answer(
            _placed(services, caller, order_id, now), position=await position_of(result, services)
        )

    return await idempotency.answer(
        lambda once: services.commands.orders.cancel(caller, order_id, once=once), again, reply
    )


@router.post("/orders/{order_id}/refund", status_code=201, response_model=RefundView)
async def refund_order(
    order_id: UUID, body: Refund, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Refund an order, in full or in part. Requires ADMIN. After a full refund, digital games leave
    the buyer's library."""

    async def reply(result: CommandResult[UUID]) -> Response:
        order = await services.repository.get(ORDER, order_id)
        return await refunded(services, order.payment_id, result)

    return await idempotency.answer(
        lambda once: services.commands.orders.refund(
            caller, order_id, body.amount_cents, body.reason, once=once
        ),
        recorded_id("refund_id"),
        reply,
    )


# -- queries ---------------------------------------------------------------------------------------


@router.get("/orders", response_model=Page[OrderView])
async def list_orders(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
    status: Status | None = None,
    user_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the caller's orders, newest first. An ADMIN sees everybody's, or one user's."""
    if user_id is None and not caller.sees_all:
        user_id = caller.user_id
    return await _orders(request, services, reads, caller, user_id, status, limit, cursor)


@router.get("/orders/user/{user_id}", response_model=Page[OrderView])
async def orders_of_user(
    user_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: Oneself,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List a user's orders, newest first (that user, ADMIN). Errors: 404 `user_not_found`."""
    await check_account_exists(services, user_id)
    return await _orders(request, services, reads, caller, user_id, status, limit, cursor)


async def _orders(
    request: Request,
    services: Services,
    reads: Reads,
    caller: Caller,
    user_id: UUID | None,
    status: str | None,
    limit: int,
    cursor: str | None,
) -> Response:
    if user_id is not None:
        caller.must_act_for(user_id, "orders")
    page = await orders_query.orders(
        reads, user_id=user_id, status=status, limit=limit, cursor=cursor
    )
    items = [_view(services, order, caller) for order in page.value.items]
    return page_answer(
        request, Page[OrderView](items=items, next_cursor=page.value.next_cursor), page.position
    )


@router.get("/orders/{order_id}", response_model=AddressedOrder)
async def get_order(
    order_id: UUID, services: ServicesOf, reads: Reads, caller: SignedIn
) -> Response:
    """Return an order (its buyer, ADMIN). With `as_of`, an AUDITOR or ADMIN sees it at a past
    moment."""
    order, position = await found(
        services,
        reads,
        lambda models: orders_query.order(models, order_id),
        ORDER.missing,
        partial(orders_query.order_as_of, services.log, order_id),
    )
    caller.must_act_for(order.user_id, "order")
    return answer(await _addressed(services, order, caller), position=position)


async def _addressed(services: Services, order: Order, caller: Caller) -> AddressedOrder:
    """The order with its address, which is in no read model: it is decrypted from the log with the
    buyer's key."""
    view = AddressedOrder.model_validate(_view(services, order, caller), from_attributes=True)
    if order.shipment_ids and caller.may_act_for(order.user_id):
        placed = await services.repository.rehydrate(ORDER, order.order_id)
        view.shipping_address = None if placed is None else placed.shipping_address
    return view


def _view(services: Services, order: Order, caller: Caller) -> OrderView:
    view = OrderView.model_validate(order)
    payment = None if order.payment is None else payment_view(services, order.payment, caller)
    issued = first_issued(order.receipts)
    receipt = None if issued is None else ReceiptView.model_validate(issued)
    status = refund_status_of_order(order)
    return view.model_copy(update={"payment": payment, "receipt": receipt, "refund_status": status})


def refund_status_of_order(order: Order) -> str | None:
    """The payment's refund status, but PENDING until the order has followed the payment's
    refunds."""
    payment = order.payment
    if payment is None:
        return None
    followed = order.refunded_cents == payment.refunded_cents
    return payment.refund_status if followed or payment.refund_status is None else "PENDING"
