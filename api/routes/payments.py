"""Payments: attaching a method, following one, refunds, and the provider's webhook."""

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
from domain.errors import Forbidden
from domain.payments.events import RefundState, Status
from eventstore.log import IdempotencyRecord
from queries import payments as payments_query

router = APIRouter(prefix="/api/v1", tags=["payments"])


# -- what goes in ----------------------------------------------------------------------------------


class PaymentAttempt(Body):
    """Which order to pay; without a method the provider's intent is made sure of, for a client that
    goes on there."""

    order_id: UUID
    payment_method: PaymentMethod | None = None


# -- what comes out --------------------------------------------------------------------------------


class StartedPayment(Answer):
    """How a payment stands after a try; `redirect_url` is where the buyer proves who they are."""

    payment_id: UUID
    order_id: UUID
    status: str
    amount_cents: int
    currency: str
    client_secret: str | None
    redirect_url: str | None


class Received(Answer):
    """The notice is taken note of."""

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
    """Pay an order by a method: the first one, or another after a failure. 409 `payment_started`,
    `order_paid`, `order_cancelled`, `order_expired`, `too_many_tries`; 402 when it fails."""
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
        str, Header(max_length=4096, description="t=…,v1=…: HMAC-SHA256 of `t.body`.")
    ] = "",
) -> Response:
    """The provider's signed notice. 400 on a bad, stale or future signature; a repeat changes
    nothing."""
    position = await services.commands.payments.receive_notice(
        await request.body(), stripe_signature
    )
    return answer(Received(), position=await services.log.head() if position is None else position)


@router.post("/payments/{payment_id}/refund", status_code=201, response_model=RefundView)
async def refund_payment(
    payment_id: UUID, body: Refund, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Send money back (ADMIN). 409 `refund_exceeds_capture`, `payment_not_captured`,
    `too_many_refunds` (only the rest, `refundable_cents`, can go back)."""
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
    """Everybody's payments, the newest first (ADMIN); by `refund_status` those whose refund is
    under way, or failed."""
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
    """A payment and its history: one's own, or any for an ADMIN."""
    payment, position = await found(
        services, reads, lambda models: payments_query.payment(models, payment_id), PAYMENT.missing
    )
    if not caller.may_act_for(payment.buyer_id):
        raise Forbidden("not_yours", "that is another person's payment")
    return answer(payment_view(services, payment, caller), position=position)
