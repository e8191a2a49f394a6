"""Views of payments and refunds, and the payment methods that requests name."""

from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import AliasPath, Field, SerializerFunctionWrapHandler, model_serializer
from starlette.responses import Response

from api.fields import Amount, Answer, Body, CardToken, Reason, Time
from api.problems import Problem, problem_response
from api.services import Services
from commands.caller import Caller
from commands.orders import OrderAndPayment
from domain.payments import Method
from domain.payments.events import MethodType
from domain.payments.remedies import in_words, remedies
from projections.models.payments import Payment


class PaymentMethod(Body):
    """What to pay with. `token` is the provider's token of a card; a card without a token can be
    attached later. A wallet needs none: it is the buyer's own wallet in the currency of the
    price."""

    type: MethodType
    token: CardToken | None = None

    def method(self) -> Method | None:
        """The method, or None if the card's token is still to come. A wallet's owner is the buyer,
        whatever token the client sends."""
        if self.type == "wallet":
            return Method("wallet")
        return None if self.token is None else Method("card", self.token)


class Refund(Body):
    """A refund request. Without `amount_cents`, everything not yet refunded is returned."""

    amount_cents: Amount | None = None
    reason: Reason


class TimelineEventView(Answer):
    """An event of a timeline. Fields without a value are absent."""

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
    """A refund: PENDING, SUCCEEDED, or FAILED with a `code`."""

    refund_id: UUID
    amount_cents: int
    status: str
    reason: str
    code: str | None
    provider_ref: str | None
    requested_at: Time


class PaymentView(Answer):
    """A payment.

    `code` and `detail` describe the last failure, `try_next` what the payer can do about it. Only
    the payer gets `client_secret`, and in `checkout_url` the page to pay on, if there is one, as
    long as the payment can be tried.
    `refund_status` is PENDING while any refund is, else the status of the last one.
    `refunded_cents` is the sum of successful refunds.
    """

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
    checkout_url: str | None = None
    code: str | None
    detail: str | None
    try_next: list[str] = Field(default_factory=list)
    history: list[TimelineEventView]
    expires_at: Time
    created_at: Time
    updated_at: Time


class RefundView(Answer):
    """A requested refund. `status` is PENDING until the provider reports success (SUCCEEDED) or
    failure (FAILED), which the payment then shows."""

    refund_id: UUID
    payment_id: UUID
    order_id: UUID | None
    amount_cents: int
    currency: str
    status: str


def payment_view(services: Services, payment: Payment, caller: Caller) -> PaymentView:
    """A payment as this caller may see it."""
    view = PaymentView.model_validate(payment)
    view.client_secret = None  # until it is known who asks
    if payment.code is not None and payment.status != "CAPTURED":
        view.try_next = list(remedies(payment.code, is_deposit=payment.order_id is None))
    if caller.user_id == payment.buyer_id and payment.can_be_tried:
        commands = services.commands.payments
        view.client_secret = commands.client_secret(payment.payment_id, payment.client_secret)
        page = None if payment.method == "wallet" else commands.pay_page(payment.payment_id)
        view.checkout_url = payment.redirect_url or page
    return view


def secret_of(services: Services, caller: Caller, now: OrderAndPayment) -> str | None:
    """The provider's client secret, if the caller is the payer and the payment can still be
    tried."""
    if caller.user_id != now.payment.buyer_id or not now.payment.can_be_tried:
        return None
    return services.commands.payments.client_secret(
        now.order.payment_id, now.payment.client_secret_ref
    )


def declined(request: Request, order_id: UUID, now: OrderAndPayment, position: int) -> Response:
    """402: the payment failed, with the reason and what the buyer can try."""
    payment = now.payment
    reason = (payment.failure_detail or "the payment was declined").rstrip(".")
    tries = remedies(payment.failure_code)
    again = "" if now.order.status == "PENDING_PAYMENT" else " Place the order again for that."
    problem = Problem(
        402,
        "payment_failed",
        f"{reason}. {in_words(tries)}{again}",
        headers={"Event-Position": str(position)},
        order_id=order_id,
        payment_id=now.order.payment_id,
        decline_code=payment.failure_code,
        order_status=now.order.status,
        try_next=list(tries),
    )
    return problem_response(problem, request.scope)
