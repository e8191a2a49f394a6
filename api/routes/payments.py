"""Payments: choosing a method, reading and refunding them, and the provider's webhook."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from api.answers import Prefer, answer, page_answer
from api.auth import EVERYBODY, Admin, SignedIn
from api.fields import Answer, Body, Page
from api.idempotency import Idempotency, recorded_id
from api.paying import refresh_order, refunded, wait_as_preferred
from api.reading import Cursor, Limit, Reads, found
from api.services import ServicesOf
from api.signed_webhooks import signed_webhook
from api.views.payments import (
    PaymentMethod,
    PaymentView,
    Refund,
    RefundView,
    declined,
    payment_view,
    secret_of,
)
from commands.aggregates import PAYMENT
from commands.handler import CommandResult
from domain.payments.events import RefundState, Status
from eventstore.log import IdempotencyRecord
from queries.money import payments as payments_query

router = APIRouter(prefix="/api/v1", tags=["payments"])


# -- request bodies --------------------------------------------------------------------------------


class PaymentAttempt(Body):
    """The order to pay. Without a method, only the provider's intent is created, for a client that
    continues at the provider."""

    order_id: UUID
    payment_method: PaymentMethod | None = None


# -- answers ---------------------------------------------------------------------------------------


class StartedPayment(Answer):
    """The state of a payment after an attempt. If `redirect_url` is set, the buyer must
    authenticate there."""

    payment_id: UUID
    order_id: UUID
    status: str
    amount_cents: int
    currency: str
    client_secret: str | None
    redirect_url: str | None


class Received(Answer):
    """The webhook was received."""

    received: bool = True


# -- commands --------------------------------------------------------------------------------------


@router.post("/payments", status_code=201, response_model=StartedPayment)
async def pay(
    body: PaymentAttempt,
    request: Request,
    services: ServicesOf,
    caller: SignedIn,
    idempotency: Idempotency,
    prefer: Prefer,
) -> Response:
    """Pay an order with a method: the first one, or another after a failure. Errors: 409
    `payment_started`, `order_paid`, `order_cancelled`, `order_expired`, `too_many_tries`; 402 if
    the payment fails while the request waits."""
    method = body.payment_method.method() if body.payment_method else None

    async def again(done: IdempotencyRecord) -> UUID:
        await refresh_order(services, body.order_id)
        return UUID(done.result_ids["payment_id"])

    async def reply(result: CommandResult[UUID]) -> Response:
        now, position = await wait_as_preferred(services, body.order_id, result, prefer)
        if now.payment.status == "FAILED":
            return declined(request, body.order_id, now, position)
        started = StartedPayment(
            payment_id=result.value,
            order_id=body.order_id,
            status=now.payment.status,
            amount_cents=now.payment.amount_cents,
            currency=now.payment.currency,
            client_secret=secret_of(services, caller, now),
            redirect_url=now.payment.redirect_url,
        )
        return answer(started, status=prefer.status, position=position, headers=prefer.headers)

    return await idempotency.answer(
        lambda once: services.commands.payments.attach(caller, body.order_id, method, once=once),
        again,
        reply,
    )


@router.post("/payments/webhook", response_model=Received, dependencies=[EVERYBODY])
@signed_webhook
async def receive_notice(
    request: Request,
    services: ServicesOf,
    stripe_signature: Annotated[
        str,
        Header(max_length=4096, description="`t=…,v1=…`: a time and the HMAC-SHA256 of `t.body`."),
    ] = "",
) -> Response:
    """Receive the payment provider's signed webhook. Repeats are idempotent. Errors: 400 if the
    signature is wrong, or its time too old or in the future."""
    position = await services.commands.payments.receive_notice(
        await request.body(), stripe_signature
    )
    return answer(Received(), position=await services.log.head() if position is None else position)


@router.post("/payments/{payment_id}/refund", status_code=201, response_model=RefundView)
async def refund_payment(
    payment_id: UUID, body: Refund, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Refund a payment, in full or in part. Requires ADMIN. Errors: 409 `refund_exceeds_capture`,
    `payment_not_captured`, `too_many_refunds` (only the whole rest, `refundable_cents`, can still
    be refunded)."""
    return await idempotency.answer(
        lambda once: services.commands.payments.refund(
            caller, payment_id, body.amount_cents, body.reason, once=once
        ),
        recorded_id("refund_id"),
        lambda result: refunded(services, payment_id, result),
    )


# -- queries ---------------------------------------------------------------------------------------


@router.get("/payments", response_model=Page[PaymentView])
async def list_payments(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: Admin,
    status: Status | None = None,
    refund_status: RefundState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List all payments, newest first; with `refund_status`, those with a pending or failed refund.
    Requires ADMIN."""
    page = await payments_query.payments(
        reads, status=status, refund_status=refund_status, limit=limit, cursor=cursor
    )
    items = [payment_view(services, payment, caller) for payment in page.value.items]
    return page_answer(
        request, Page[PaymentView](items=items, next_cursor=page.value.next_cursor), page.position
    )


@router.get("/payments/{payment_id}", response_model=PaymentView)
async def get_payment(
    payment_id: UUID, services: ServicesOf, reads: Reads, caller: SignedIn
) -> Response:
    """Return a payment and its history (its payer, ADMIN)."""
    payment, position = await found(
        services,
        reads,
        lambda models: payments_query.payment(models, payment_id),
        PAYMENT.missing,
        partial(payments_query.payment_as_of, services.log, payment_id),
    )
    caller.must_act_for(payment.buyer_id, "payment")
    return answer(payment_view(services, payment, caller), position=position)
