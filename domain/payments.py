"""A payment: money for one order or one deposit, captured at most once, and never refunded beyond what was captured.

Every notice of the provider is applied at most once, in whatever order they arrive. Money that arrives after a failure
or a cancellation is recorded all the same, so that it can be sent back.
"""

from datetime import datetime
from functools import reduce
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event
from domain.ids import derived
from domain.money import check_currency
from domain.payment_facts import (
    CAPTURED,
    OPEN,
    UPCASTERS,
    CaptureType,
    DepositFailed,
    Method,
    Outcome,
    Payment,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentIntentCreated,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentProcessed,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRequested,
    PaymentSubmitted,
    Refund,
    Status,
    SurplusReturned,
    evolve,
)

__all__ = [
    "CAPTURED",
    "OPEN",
    "UPCASTERS",
    "CaptureType",
    "DepositFailed",
    "Method",
    "Outcome",
    "Payment",
    "PaymentActionRequired",
    "PaymentCaptured",
    "PaymentFailed",
    "PaymentIntentCancelled",
    "PaymentIntentCreated",
    "PaymentMethodAttached",
    "PaymentNoticeReceived",
    "PaymentProcessed",
    "PaymentRefundFailed",
    "PaymentRefundRequested",
    "PaymentRefunded",
    "PaymentRequested",
    "PaymentSubmitted",
    "Refund",
    "Status",
    "SurplusReturned",
    "evolve",
]

# -- decisions: from the request to the outcome ------------------------------------------------------------------------


def request(
    *,
    buyer_id: UUID,
    amount_cents: int,
    currency: str,
    expires_at: datetime,
    order_id: UUID | None = None,
    transaction_id: UUID | None = None,
    method: Method | None = None,
) -> list[Event]:
    """Ask for the money of an order, or of a deposit. Raises Invalid("invalid_amount" | "invalid_currency")."""
    check_currency(currency)
    if amount_cents < 0:
        raise Invalid("invalid_amount", "nobody pays less than nothing")
    return [
        PaymentRequested(
            order_id=order_id,
            transaction_id=transaction_id,
            buyer_id=buyer_id,
            amount_cents=amount_cents,
            currency=currency,
            expires_at=expires_at,
            method=method,
        )
    ]


def attach_method(payment: Payment, method: Method, now: datetime) -> list[Event]:
    """Pay with this: the first method, or another one after a failure.

    Raises Conflict("payment_started") when it runs or is settled, Conflict("payment_expired") past its deadline.
    """
    awaits_one = payment.status == "REQUESTED" and payment.method is None
    if payment.closed or not (awaits_one or payment.status == "FAILED"):
        raise Conflict("payment_started", "the payment runs already, or is settled")
    _must_be_in_time(payment, now)
    return [PaymentMethodAttached(method=method)]


def submit(payment: Payment, provider: str, attempt: int, now: datetime) -> list[Event]:
    """About to ask the provider, for the `attempt`-th time (from 1); an attempt known already changes nothing.

    Raises Conflict: payment_settled, payment_method_required, payment_expired. Then nothing may be charged.
    """
    if not payment.is_open:
        raise Conflict("payment_settled", f"the payment is {payment.status}")
    if payment.method is None:
        raise Conflict("payment_method_required", "the payment awaits a method")
    if payment.status == "REQUIRES_ACTION" or attempt <= payment.attempt:
        return []
    _must_be_in_time(payment, now)
    return [PaymentSubmitted(provider=provider, attempt=attempt)]


def record_intent(payment: Payment, *, provider: str, provider_ref: str, client_secret_ref: str) -> list[Event]:
    """The provider made its intent, as yet without a method. Recorded whatever became of the payment meanwhile, so
    that the intent can be found and cancelled. Raises Conflict("intent_exists") when it has another one.
    """
    if payment.provider_ref == provider_ref:
        return []
    if payment.provider_ref is not None:
        raise Conflict("intent_exists", "a payment has one intent")
    return [PaymentIntentCreated(provider=provider, provider_ref=provider_ref, client_secret_ref=client_secret_ref)]


def require_action(payment: Payment, *, provider_ref: str, redirect_url: str, client_secret_ref: str) -> list[Event]:
    """The buyer must go through 3-D Secure; old news once the payment is settled."""
    required = PaymentActionRequired(
        provider_ref=provider_ref, redirect_url=redirect_url, client_secret_ref=client_secret_ref
    )
    known = payment.status == "REQUIRES_ACTION" and payment.redirect_url == redirect_url
    return [required] if payment.is_open and not known else []


def capture(
    payment: Payment, method_type: CaptureType, *, provider: str | None = None, provider_ref: str | None = None
) -> list[Event]:
    """The money came, whatever was said before; nothing more happens when it was captured already.

    Raises Conflict("payment_not_free") when an amount above 0 would be captured as free.
    """
    if payment.is_captured:
        return []
    if method_type == "free" and payment.amount_cents:
        raise Conflict("payment_not_free", "the payment has a price")
    if payment.transaction_id is not None:
        return [
            PaymentProcessed(
                transaction_id=payment.transaction_id,
                amount_cents=payment.amount_cents,
                currency=payment.currency,
                provider_ref=provider_ref or "",
            )
        ]
    return [
        PaymentCaptured(
            order_id=_order_of(payment),
            buyer_id=payment.buyer_id,
            amount_cents=payment.amount_cents,
            currency=payment.currency,
            method_type=method_type,
            provider=provider,
            provider_ref=provider_ref,
        )
    ]


def fail(payment: Payment, code: str, detail: str) -> list[Event]:
    """The try came to nothing. Says nothing once the payment is settled, by a capture above all."""
    if not payment.is_open:
        return []
    if payment.transaction_id is not None:
        return [
            DepositFailed(
                transaction_id=payment.transaction_id,
                buyer_id=payment.buyer_id,
                amount_cents=payment.amount_cents,
                currency=payment.currency,
                code=code,
                detail=detail,
            )
        ]
    return [
        PaymentFailed(
            order_id=_order_of(payment),
            buyer_id=payment.buyer_id,
            amount_cents=payment.amount_cents,
            currency=payment.currency,
            code=code,
            detail=detail,
        )
    ]


def cancel_intent(payment: Payment, reason: str) -> list[Event]:
    """No further try is wanted: the order was cancelled, or the provider gave up. A captured payment stays captured."""
    if payment.closed or payment.is_captured:
        return []
    return [PaymentIntentCancelled(reason=reason, provider_ref=payment.provider_ref)]


# -- decisions: refunds ------------------------------------------------------------------------------------------------


def request_refund(payment: Payment, refund_id: UUID, amount_cents: int, reason: str) -> list[Event]:
    """Ask for money to go back; a refund known already changes nothing. Only a free payment is refunded by 0.

    Raises Conflict: payment_not_captured, refund_exceeds_capture (with `refundable_cents`); Invalid("invalid_amount").
    """
    if refund_id in payment.refunds:
        return []
    if not payment.is_captured:
        raise Conflict("payment_not_captured", "there is nothing to refund")
    if amount_cents < min(1, payment.amount_cents):
        raise Invalid("invalid_amount", "a refund is of one cent at least, unless the payment was free")
    if payment.status == "REFUNDED" or amount_cents > payment.refundable_cents:
        raise _exceeds(payment)
    return [PaymentRefundRequested(refund_id=refund_id, amount_cents=amount_cents, reason=reason)]


def complete_refund(payment: Payment, refund_id: UUID, provider_ref: str | None = None) -> list[Event]:
    """The money went back, be it after the refund was thought to have failed; saying so again changes nothing.

    Raises NotFound("refund_not_found"); Conflict("refund_exceeds_capture") when others took its place meanwhile.
    """
    refund = _refund_of(payment, refund_id)
    if refund.state == "DONE":
        return []
    if refund.state == "FAILED" and refund.amount_cents > payment.refundable_cents:
        raise _exceeds(payment)
    return [PaymentRefunded(refund_id=refund_id, amount_cents=refund.amount_cents, provider_ref=provider_ref)]


def fail_refund(payment: Payment, refund_id: UUID, code: str) -> list[Event]:
    """The provider would not send it back. Says nothing of a settled refund. Raises NotFound("refund_not_found")."""
    if _refund_of(payment, refund_id).state != "REQUESTED":
        return []
    return [PaymentRefundFailed(refund_id=refund_id, code=code)]


def return_surplus(payment: Payment, provider_ref: str) -> list[Event]:
    """The provider gave back what was paid there beside a wallet's payment; saying so again changes nothing."""
    if payment.surplus_returned or payment.wallet_id is None:
        return []
    return [SurplusReturned(provider_ref=provider_ref, amount_cents=payment.amount_cents)]


# -- decisions: the provider's notices ---------------------------------------------------------------------------------


class NoticedIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What a notice says of the provider's intent."""

    provider: str
    provider_ref: str
    amount_cents: int
    currency: str
    redirect_url: str = ""
    client_secret_ref: str = ""
    code: str = ""
    detail: str = ""
    refunded_cents: int = 0
    """All that the provider has given back of it so far."""


def apply_notice(payment: Payment, notice_event_id: str, type: str, intent: NoticedIntent) -> list[Event]:
    """Take note of a provider's notice, and of what follows from it. A repeat of one changes nothing, and is not even
    noted (the outcome "repeated" is for logs of other makes): a provider may repeat itself without end.

    Raises Conflict("amount_mismatch") when another amount was captured than was asked for.
    """
    if notice_event_id in payment.notices:
        return []
    following = _following(payment, notice_event_id, type, intent)
    outcome: Outcome = "applied" if following else "ignored"
    return [PaymentNoticeReceived(provider_event_id=notice_event_id, type=type, outcome=outcome), *following]


def _following(payment: Payment, notice_event_id: str, type: str, intent: NoticedIntent) -> list[Event]:
    match type:
        case "payment_intent.succeeded":
            return _captured(payment, intent)
        case "payment_intent.payment_failed" if not _is_echo(payment):
            return fail(payment, intent.code or "payment_failed", intent.detail)
        case "payment_intent.requires_action":
            return require_action(
                payment,
                provider_ref=intent.provider_ref,
                redirect_url=intent.redirect_url,
                client_secret_ref=intent.client_secret_ref,
            )
        case "payment_intent.canceled":
            return cancel_intent(payment, "provider")
        case "charge.refunded" if intent.refunded_cents > 0 and payment.wallet_id is None:
            # What went back has come before, though the notice of it be still under way.
            captured = [] if payment.is_captured else _captured(payment, intent)
            return [*captured, *_refunded_elsewhere(reduce(_after, captured, payment), notice_event_id, intent)]
    return []


def _captured(payment: Payment, intent: NoticedIntent) -> list[Event]:
    if (intent.amount_cents, intent.currency.upper()) != (payment.amount_cents, payment.currency):
        raise Conflict("amount_mismatch", "the provider captured another amount than was asked for")
    return capture(payment, "card", provider=intent.provider, provider_ref=intent.provider_ref)


def _refunded_elsewhere(payment: Payment, notice_event_id: str, intent: NoticedIntent) -> list[Event]:
    """Money went back that nobody here asked for (by hand, at the provider): as much of it as we do not know of."""
    amount = min(intent.refunded_cents - (payment.amount_cents - payment.refundable_cents), payment.refundable_cents)
    if amount < 1:
        return []
    refund_id = derived("refund.noticed", notice_event_id)
    return [
        PaymentRefundRequested(refund_id=refund_id, amount_cents=amount, reason="refunded_at_provider"),
        PaymentRefunded(refund_id=refund_id, amount_cents=amount),
    ]


def _after(payment: Payment, event: Event) -> Payment:
    return evolve(payment, event) or payment


def _is_echo(payment: Payment) -> bool:
    """Whether a notice of failure tells of one that the worker has reported already: it must not fail the next try."""
    return payment.failure_notices < payment.failures


# -- what they share ---------------------------------------------------------------------------------------------------


def _must_be_in_time(payment: Payment, now: datetime) -> None:
    if now >= payment.expires_at:
        raise Conflict("payment_expired", "the time to pay is over")


def _order_of(payment: Payment) -> UUID:
    if payment.order_id is None:
        raise ValueError("this payment is neither an order's nor a deposit's")
    return payment.order_id


def _refund_of(payment: Payment, refund_id: UUID) -> Refund:
    refund = payment.refunds.get(refund_id)
    if refund is None:
        raise NotFound("refund_not_found", "the payment has no such refund")
    return refund


def _exceeds(payment: Payment) -> Conflict:
    return Conflict("refund_exceeds_capture", "more would go back than came", refundable_cents=payment.refundable_cents)
