"""The life of a payment intent. Pure: each function takes an intent and returns the next one, or
refuses.

The shapes are Stripe's (https://docs.stripe.com/api/payment_intents/object), as far as they are
used here; amounts are in the currency's smallest unit.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from adapters.payments.simulator.cards import AUTHENTICATE, DECLINE, PAY, PaymentError, TestMethod

Status = Literal[
    "requires_payment_method", "requires_action", "processing", "succeeded", "canceled"
]
RefundStatus = Literal["pending", "succeeded", "failed"]


class ApiError(Exception):
    """A refused call: the HTTP status, a stable machine code, a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message

    @property
    def document(self) -> dict[str, dict[str, str]]:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


class RedirectToUrl(Struct, frozen=True):
    """Where the payer's browser must go."""

    url: str


class NextAction(Struct, frozen=True):
    """What the payer must do before the payment can go on."""

    redirect_to_url: RedirectToUrl
    type: str = "redirect_to_url"


class PaymentIntent(Struct, frozen=True):
    """One payment, from its request until it is captured or canceled;
    `created` is in unix seconds."""

    id: str
    amount: int
    currency: str
    client_secret: str
    created: int
    metadata: dict[str, str]
    object: str = "payment_intent"
    status: Status = "requires_payment_method"
    amount_refunded: int = 0
    payment_method: str | None = None
    last_payment_error: PaymentError | None = None
    next_action: NextAction | None = None


class Refund(Struct, frozen=True):
    """Money that went back to the payer, is on its way, or could not be sent."""

    id: str
    amount: int
    currency: str | None
    payment_intent: str
    created: int
    metadata: dict[str, str] = {}
    object: str = "refund"
    status: RefundStatus = "succeeded"
    failure_reason: str | None = None


class IntentList(Struct, frozen=True):
    """A page of intents, newest first."""

    data: list[PaymentIntent]
    object: str = "list"


class RefundList(Struct, frozen=True):
    """A page of refunds, newest first."""

    data: list[Refund]
    object: str = "list"


def confirm(intent: PaymentIntent, method: str, authentication_url: str) -> PaymentIntent:
    """Try a payment method. After a decline the intent waits for another one."""
    _require(intent, "requires_payment_method", "confirmed")
    intent = replace(intent, payment_method=method)
    if method in PAY:
        return _succeed(intent)
    if method in DECLINE:
        return _fail(intent, DECLINE[method])
    if method in AUTHENTICATE:
        action = NextAction(RedirectToUrl(authentication_url))
        return replace(
            intent, status="requires_action", next_action=action, last_payment_error=None
        )
    match method:
        case TestMethod.SLOW:
            return replace(intent, status="processing", last_payment_error=None)
        case TestMethod.PROCESSOR_DOWN:
            raise ApiError(503, "processor_unavailable", "The card processor does not answer.")
        case _:
            raise ApiError(400, "payment_method_unknown", f"There is no payment method {method!r}.")


def authenticate(intent: PaymentIntent, *, approved: bool) -> PaymentIntent:
    """The payer approved or declined on the 3-D Secure page."""
    _require(intent, "requires_action", "authenticated")
    if approved:
        error = AUTHENTICATE.get(intent.payment_method or "")
        return _succeed(intent) if error is None else _fail(intent, error)
    message = "The payer did not authenticate the payment."
    return _fail(intent, PaymentError("payment_intent_authentication_failure", message))


def settle(intent: PaymentIntent) -> PaymentIntent:
    """The slow card's money arrived."""
    _require(intent, "processing", "settled")
    return _succeed(intent)


def cancel(intent: PaymentIntent) -> PaymentIntent:
    """Cancel an intent that has no money and none on its way."""
    if intent.status not in ("requires_payment_method", "requires_action"):
        raise _unexpected_state(intent, "canceled")
    return replace(intent, status="canceled", next_action=None)


def refund(intent: PaymentIntent, amount: int | None) -> PaymentIntent:
    """Refund an amount of a captured payment or, without an amount, the whole rest."""
    left = intent.amount - intent.amount_refunded
    if left == 0:
        raise ApiError(400, "charge_already_refunded", f"{intent.id} has been refunded in full.")
    if amount is not None and amount > left:
        raise ApiError(
            400, "amount_too_large", f"Only {left} of {intent.id} can still be refunded."
        )
    return replace(
        intent, amount_refunded=intent.amount_refunded + (left if amount is None else amount)
    )


def first_status(intent: PaymentIntent) -> RefundStatus:
    """The first status of a refund, by the card that paid the intent."""
    return (
        "pending"
        if intent.payment_method in {TestMethod.PENDING_REFUND, TestMethod.REFUND_FAIL}
        else "succeeded"
    )


def end_refund(
    intent: PaymentIntent, refund: Refund, *, fails: bool
) -> tuple[PaymentIntent, Refund]:
    """End a pending refund; a failed one leaves the money with the intent."""
    if not fails:
        return intent, replace(refund, status="succeeded")
    kept = replace(intent, amount_refunded=intent.amount_refunded - refund.amount)
    return kept, replace(refund, status="failed", failure_reason="expired_or_canceled_card")


def _succeed(intent: PaymentIntent) -> PaymentIntent:
    return replace(intent, status="succeeded", next_action=None, last_payment_error=None)


def _fail(intent: PaymentIntent, error: PaymentError) -> PaymentIntent:
    return replace(
        intent, status="requires_payment_method", next_action=None, last_payment_error=error
    )


def _require(intent: PaymentIntent, status: Status, done: str) -> None:
    if intent.status != status:
        raise _unexpected_state(intent, done)


def _unexpected_state(intent: PaymentIntent, done: str) -> ApiError:
    message = f"{intent.id} is {intent.status} and cannot be {done}."
    return ApiError(400, "payment_intent_unexpected_state", message)
