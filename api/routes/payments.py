"""Payments: attaching a method, following one, refunds, and the provider's webhook."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request
from pydantic import AliasPath, Field, SerializerFunctionWrapHandler, model_serializer
from starlette.responses import Response

from api.answers import Prefer, Preference, answer, page_answer, position_of
from api.auth import EVERYBODY, Admin, SignedIn
from api.fields import Amount, Answer, Body, CardToken, Page, Reason, Time
from api.idempotency import IdempotencyKey
from api.problems import Problem, problem_response
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from api.signed_notices import signed_notice
from commands.aggregates import ORDER, PAYMENT
from commands.handler import Caller, Landed
from commands.orders import OrderAndPayment
from domain.errors import Forbidden, NotFound
from domain.payments import Method
from domain.payments.events import OPEN, MethodType, RefundState, Status
from eventstore.log import Done
from queries import payments as payments_query
from queries.payments import Payment

router = APIRouter(prefix="/api/v1", tags=["payments"])


# -- what goes in ------------------------------------------------------------------------------------------------------


class PaymentMethod(Body):
    """What to pay with. `token` names the card at the provider; a card without one is attached later. A wallet needs
    none: it is the buyer's own, in the currency of the price."""

    type: MethodType
    token: CardToken | None = None

    def method(self) -> Method | None:
        """The method, if there is one to pay with yet. Which wallet it is follows from whose it is, and no token that
        the client sends."""
        if self.type == "wallet":
            return Method("wallet")
        return None if self.token is None else Method("card", self.token)


class PaymentAttempt(Body):
    """Which order to pay; without a method the provider's intent is made sure of, for a client that goes on there."""

    order_id: UUID
    payment_method: PaymentMethod | None = None


class Refund(Body):
    """What to send back; without an amount, all that is left."""

    amount_cents: Amount | None = None
    reason: Reason


# -- what comes out ----------------------------------------------------------------------------------------------------


class StartedPayment(Answer):
    """How a payment stands after a try; `redirect_url` is where the buyer proves who they are."""

    payment_id: UUID
    order_id: UUID
    status: str
    amount_cents: int
    currency: str
    client_secret: str | None
    redirect_url: str | None


class HappenedView(Answer):
    """An event of a timeline; what it does not say is left out."""

    name: str
    at: Time
    position: int
    status: str | None = None
    reason: str | None = None
    code: str | None = None
    detail: str | None = None
    amount_cents: int | None = None
    method: str | None = None
    provider: str | None = None
    provider_ref: str | None = None
    attempt: int | None = None

    @model_serializer(mode="wrap")
    def _without_nulls(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


class PaymentRefundView(Answer):
    """Money on its way back (PENDING), gone (SUCCEEDED) or not gone (FAILED, and `code` why)."""

    refund_id: UUID
    amount_cents: int
    status: str
    reason: str
    code: str | None
    provider_ref: str | None
    requested_at: Time


class PaymentView(Answer):
    """A payment. `code` and `detail` tell the last failure; `client_secret` is for the payer only. `refund_status` is
    PENDING while a refund is under way, else how the last one ended; `refunded_cents` has gone back."""

    id: UUID = Field(validation_alias=AliasPath("payment_id"))
    payment_id: UUID
    order_id: UUID | None
    amount_cents: int
    refunded_cents: int
    refund_status: str | None
    refunds: list[PaymentRefundView]
    currency: str
    status: str
    method: str | None
    provider: str | None
    client_secret: str | None
    redirect_url: str | None
    code: str | None
    detail: str | None
    history: list[HappenedView]
    expires_at: Time
    created_at: Time
    updated_at: Time


class RefundView(Answer):
    """A refund that was asked for. `status` is PENDING until the provider says that the money went back (SUCCEEDED), or
    that it could not be sent (FAILED); the payment shows it."""

    refund_id: UUID
    payment_id: UUID
    order_id: UUID | None
    amount_cents: int
    currency: str
    status: str


class Received(Answer):
    """The notice is taken note of."""

    received: bool = True


def payment_view(services: Services, payment: Payment, caller: Caller) -> PaymentView:
    """A payment as this caller may see it."""
    secret = None
    open_to_tries = payment.status in OPEN or (payment.status == "FAILED" and not payment.closed)
    if caller.user_id == payment.buyer_id and open_to_tries:
        secret = services.payments.client_secret(payment.payment_id, payment.client_secret)
    return PaymentView.model_validate(payment).model_copy(update={"client_secret": secret})


def secret_of(services: Services, caller: Caller, now: OrderAndPayment) -> str | None:
    """The provider's client secret, for the payer alone."""
    if caller.user_id != now.payment.buyer_id or not now.payment.can_be_tried:
        return None
    return services.payments.client_secret(now.order.payment_id, now.payment.client_secret_ref)


def declined(request: Request, order_id: UUID, now: OrderAndPayment, position: int) -> Response:
    """402: the payment failed, and why."""
    payment = now.payment
    problem = Problem(
        402,
        "payment_failed",
        payment.failure_detail or "the payment was declined",
        headers={"Event-Position": str(position)},
        order_id=order_id,
        payment_id=now.order.payment_id,
        decline_code=payment.failure_code,
        order_status=now.order.status,
    )
    return problem_response(problem, request.scope)


# -- commands ----------------------------------------------------------------------------------------------------------


@router.post("/payments", status_code=201, response_model=StartedPayment)
async def pay(
    body: PaymentAttempt,
    request: Request,
    services: ServicesOf,
    caller: SignedIn,
    idempotency: IdempotencyKey,
    prefer: Prefer,
) -> Response:
    """Pay an order by a method: the first one, or another after a failure. 409 `payment_started`,
    `order_paid`, `order_cancelled`, `order_expired`, `too_many_tries`; 402 when it fails."""
    method = body.payment_method.method() if body.payment_method else None

    async def again(done: Done) -> UUID:
        await see_anew(services, body.order_id)
        return UUID(done.refs["payment_id"])

    async def reply(landed: Landed[UUID]) -> Response:
        now, position = await settled(services, body.order_id, landed, prefer)
        if now.payment.status == "FAILED":
            return declined(request, body.order_id, now, position)
        started = StartedPayment(
            payment_id=landed.value,
            order_id=body.order_id,
            status=now.payment.status,
            amount_cents=now.payment.amount_cents,
            currency=now.payment.currency,
            client_secret=secret_of(services, caller, now),
            redirect_url=now.payment.redirect_url,
        )
        return answer(started, status=prefer.status, position=position, headers=prefer.headers)

    return await idempotency.answer(
        lambda once: services.payments.attach(caller, body.order_id, method, once=once), again, reply
    )


async def settled(
    services: Services, order_id: UUID, landed: Landed[Any], prefer: Preference
) -> tuple[OrderAndPayment, int]:
    """The order and payment after as long a wait as the client prefers, and a position that reflects them."""
    now = await services.orders.settled(order_id, prefer.wait_seconds)
    return now, await position_of(landed, services) if prefer.asynchronous else await services.log.head()


async def see_anew(services: Services, order_id: UUID) -> None:
    """Have this process see an order and its payment as they are in the log: for an answer to what was done long ago,
    since when they may have gone on in another process. `settled` looks by itself only when it waits."""
    order = await services.repository.state(ORDER, order_id)
    if order is not None:
        await services.repository.state(PAYMENT, order.payment_id)


@router.post("/payments/webhook", response_model=Received, dependencies=[EVERYBODY])
@signed_notice
async def receive_notice(
    request: Request,
    services: ServicesOf,
    stripe_signature: Annotated[str, Header(max_length=4096, description="t=…,v1=…: HMAC-SHA256 of `t.body`.")] = "",
) -> Response:
    """The provider's signed notice. 400 on a bad, stale or future signature; a repeat changes nothing."""
    position = await services.payments.receive_notice(await request.body(), stripe_signature)
    return answer(Received(), position=await services.log.head() if position is None else position)


@router.post("/payments/{payment_id}/refund", status_code=201, response_model=RefundView)
async def refund_payment(
    payment_id: UUID, body: Refund, services: ServicesOf, caller: Admin, idempotency: IdempotencyKey
) -> Response:
    """Send money back (ADMIN). 409 `refund_exceeds_capture`, `payment_not_captured`, `too_many_refunds` (only the
    rest, `refundable_cents`, can go back)."""
    return await idempotency.answer(
        lambda once: services.payments.refund(caller, payment_id, body.amount_cents, body.reason, once=once),
        refund_again,
        lambda landed: refunded(services, payment_id, landed),
    )


async def refund_again(done: Done) -> UUID:
    """The refund that was made under an idempotency key."""
    return UUID(done.refs["refund_id"])


async def refunded(services: Services, payment_id: UUID, landed: Landed[UUID]) -> Response:
    """The refund as it stands in the log."""
    payment = await services.repository.state(PAYMENT, payment_id)
    assert payment is not None
    refund = payment.refunds[landed.value]
    view = RefundView(
        refund_id=landed.value,
        payment_id=payment_id,
        order_id=payment.order_id,
        amount_cents=refund.amount_cents,
        currency=payment.currency,
        status=refund.state,
    )
    return answer(view, status=201, position=await position_of(landed, services))


# -- queries -----------------------------------------------------------------------------------------------------------


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
    """Everybody's payments, the newest first (ADMIN); by `refund_status` those whose refund is under way, or failed."""
    page = await payments_query.payments(reads, status=status, refund_status=refund_status, limit=limit, cursor=cursor)
    items = [payment_view(services, payment, caller) for payment in page.value.items]
    return page_answer(request, Page[PaymentView](items=items, next_cursor=page.value.next_cursor), page.position)


@router.get("/payments/{payment_id}", response_model=PaymentView)
async def get_payment(payment_id: UUID, services: ServicesOf, reads: Reads, caller: SignedIn) -> Response:
    """A payment and its history: one's own, or any for an ADMIN."""
    missing = NotFound("payment_not_found", "there is no such payment")
    payment, position = await found(services, reads, lambda models: payments_query.payment(models, payment_id), missing)
    if not caller.may_act_for(payment.buyer_id):
        raise Forbidden("not_yours", "that is another person's payment")
    return answer(payment_view(services, payment, caller), position=position)
