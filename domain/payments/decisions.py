"""Decisions about a payment: money for one order or one deposit, captured at most once.

Refunds are in `domain.payments.refunds`. Each of the provider's notices is applied at most once, in
any order. Money that arrives after a failure or a cancellation is recorded all the same, so that it
can be refunded.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.money import check_currency
from domain.payments.events import (
    CancelReason,
    CaptureType,
    DepositFailed,
    Method,
    Outcome,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentIntentCreated,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentProcessed,
    PaymentProcessing,
    PaymentRequested,
    PaymentSubmitted,
)
from domain.payments.refunds import NoticedRefund, hear_of_refund, hear_of_sum
from domain.payments.state import Payment, evolve

MAX_FAILURES = 100
"""More tries than a buyer needs; only those who test stolen cards need more."""

# -- decisions: from the request to the outcome ----------------------------------------------------


def request(
    *,
    buyer_id: UUID,
    amount_cents: int,
    currency: str,
    expires_at: datetime,
    order_id: UUID | None = None,
    transaction_id: UUID | None = None,
    method: Method | None = None,
    payment_id: UUID | None = None,
    game_ids: Sequence[UUID] = (),
) -> list[Event]:
    """Request the money for an order of these games, or for a deposit.

    Raises Invalid("invalid_amount" | "invalid_currency").
    """
    check_currency(currency)
    if amount_cents < 0:
        raise Invalid("invalid_amount", "the amount is negative")
    return [
        PaymentRequested(
            order_id=order_id,
            transaction_id=transaction_id,
            buyer_id=buyer_id,
            amount_cents=amount_cents,
            currency=currency,
            expires_at=expires_at,
            method=method,
            payment_id=payment_id,
            game_ids=tuple(game_ids),
        )
    ]


def attach_method(payment: Payment, method: Method, now: datetime) -> list[Event]:
    """Set the payment method: the first one, or another after a failure.

    Raises Conflict: payment_started (it is in progress or settled), too_many_tries,
    payment_expired.
    """
    awaits_one = payment.status == "REQUESTED" and payment.method is None
    if payment.closed or not (awaits_one or payment.status == "FAILED"):
        raise Conflict("payment_started", "the payment has already started, or is settled")
    if payment.failures >= MAX_FAILURES:
        raise Conflict(
            "too_many_tries", f"a payment that failed {MAX_FAILURES} times cannot be tried again"
        )
    _must_be_in_time(payment, now)
    return [PaymentMethodAttached(method=method)]


def submit(payment: Payment, provider: str, attempt: int, now: datetime) -> list[Event]:
    """Record that the provider is about to be asked, for the `attempt`-th time (from 1). No-op for
    a known attempt.

    Raises Conflict: payment_settled, payment_method_required, payment_expired. Then nothing may be
    charged.
    """
    if not payment.is_open:
        raise Conflict("payment_settled", f"the payment is {payment.status}")
    if payment.method is None:
        raise Conflict("payment_method_required", "the payment has no method yet")
    if payment.status == "REQUIRES_ACTION" or attempt <= payment.attempt:
        return []
    _must_be_in_time(payment, now)
    return [PaymentSubmitted(provider=provider, attempt=attempt)]


def record_intent(
    payment: Payment, *, provider: str, provider_ref: str, client_secret_ref: str
) -> list[Event]:
    """Record the intent that the provider created, still without a method. Recorded in every state
    of the payment, so that the intent can be found and cancelled. Idempotent. Raises
    Conflict("intent_exists") when the payment has another one."""
    if payment.provider_ref == provider_ref:
        return []
    if payment.provider_ref is not None:
        raise Conflict("intent_exists", "the payment already has an intent")
    return [
        PaymentIntentCreated(
            provider=provider, provider_ref=provider_ref, client_secret_ref=client_secret_ref
        )
    ]


def require_action(
    payment: Payment, *, provider_ref: str, redirect_url: str, client_secret_ref: str
) -> list[Event]:
    """Record that the buyer must go through 3-D Secure. Idempotent; no-op once the payment is
    settled."""
    required = PaymentActionRequired(
        provider_ref=provider_ref, redirect_url=redirect_url, client_secret_ref=client_secret_ref
    )
    known = payment.status == "REQUIRES_ACTION" and payment.redirect_url == redirect_url
    return [required] if payment.is_open and not known else []


def process(payment: Payment, *, provider: str, provider_ref: str) -> list[Event]:
    """Record that the provider has all it needs and its outcome is pending. Idempotent; no-op once
    the payment is settled."""
    if not payment.is_open or payment.status == "PROCESSING":
        return []
    return [PaymentProcessing(provider=provider, provider_ref=provider_ref)]


def capture(
    payment: Payment,
    method_type: CaptureType,
    *,
    provider: str | None = None,
    provider_ref: str | None = None,
) -> list[Event]:
    """Record that the money arrived, whatever was recorded before. Idempotent.

    Raises Conflict("payment_not_free") when a positive amount would be captured as free.
    """
    if payment.is_captured:
        return []
    if method_type == "free" and payment.amount_cents:
        raise Conflict("payment_not_free", "the payment is not free")
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
            user_id=payment.buyer_id,
            game_ids=payment.game_ids,
            transaction_id=payment.payment_id,
        )
    ]


def fail(payment: Payment, code: str, detail: str) -> list[Event]:
    """Fail the current try. No-op once the payment is captured, failed or cancelled."""
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
            user_id=payment.buyer_id,
            game_ids=payment.game_ids,
            transaction_id=payment.payment_id,
        )
    ]


def cancel_intent(payment: Payment, reason: CancelReason) -> list[Event]:
    """Rule out further tries: the order was cancelled, or the provider gave up. No-op once
    captured; idempotent."""
    if payment.closed or payment.is_captured:
        return []
    return [PaymentIntentCancelled(reason=reason, provider_ref=payment.provider_ref)]


# -- decisions: the provider's notices -------------------------------------------------------------


class NoticedIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's notice says about an intent."""

    provider: str
    provider_ref: str
    amount_cents: int
    currency: str
    redirect_url: str = ""
    client_secret_ref: str = ""
    code: str = ""
    detail: str = ""
    refunded_cents: int = 0
    """The total that the provider has refunded of it so far."""


def apply_notice(
    payment: Payment, notice_event_id: str, type: str, intent: NoticedIntent
) -> list[Event]:
    """Record a provider's notice and what follows from it. A repeat is not even recorded, as a
    provider may repeat itself endlessly (the outcome "repeated" occurs in older logs only).

    Raises Conflict("amount_mismatch") when the captured amount is not the requested one.
    """
    if notice_event_id in payment.notices:
        return []
    following = _following(payment, notice_event_id, type, intent)
    outcome: Outcome = "applied" if following else "ignored"
    return [
        PaymentNoticeReceived(provider_event_id=notice_event_id, type=type, outcome=outcome),
        *following,
    ]


def _following(  # noqa: PLR0911 - one line a type
    payment: Payment, notice_event_id: str, type: str, intent: NoticedIntent
) -> list[Event]:
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
        case "payment_intent.processing":
            return process(payment, provider=intent.provider, provider_ref=intent.provider_ref)
        case "payment_intent.canceled":
            return cancel_intent(payment, "provider")
        case "charge.refunded" if intent.refunded_cents > 0 and payment.wallet_id is None:
            # A refund implies a capture, even if the notice of the capture is still under way.
            captured = [] if payment.is_captured else _captured(payment, intent)
            after = reduce(_after, captured, payment)
            return [*captured, *hear_of_sum(after, notice_event_id, intent.refunded_cents)]
    return []


def apply_refund_notice(
    payment: Payment,
    notice_event_id: str,
    type: str,
    refund: NoticedRefund,
    *,
    provider: str,
    intent_ref: str,
) -> list[Event]:
    """As `apply_notice`, for a notice about a refund of the intent. Ignored when a wallet paid as
    well: whoever returns that surplus asks the provider (see `return_surplus`)."""
    if notice_event_id in payment.notices:
        return []
    following: list[Event] = []
    if payment.wallet_id is None:
        # A refund implies a capture, even if the notice of the capture is still under way.
        captured = capture(payment, "card", provider=provider, provider_ref=intent_ref)
        following = [*captured, *hear_of_refund(reduce(_after, captured, payment), refund)]
    outcome: Outcome = "applied" if following else "ignored"
    return [
        PaymentNoticeReceived(provider_event_id=notice_event_id, type=type, outcome=outcome),
        *following,
    ]


def _captured(payment: Payment, intent: NoticedIntent) -> list[Event]:
    if (intent.amount_cents, intent.currency.upper()) != (payment.amount_cents, payment.currency):
        raise Conflict("amount_mismatch", "the provider captured another amount than requested")
    return capture(payment, "card", provider=intent.provider, provider_ref=intent.provider_ref)


def _after(payment: Payment, event: Event) -> Payment:
    return evolve(payment, event) or payment


def _is_echo(payment: Payment) -> bool:
    """Whether a notice of failure repeats one that the worker has already reported: it must not
    fail the next try."""
    return payment.failure_notices < payment.failures


# -- shared ----------------------------------------------------------------------------------------


def _must_be_in_time(payment: Payment, now: datetime) -> None:
    if now >= payment.expires_at:
        raise Conflict("payment_expired", "the time to pay is over")


def _order_of(payment: Payment) -> UUID:
    if payment.order_id is None:
        raise ValueError("this payment is neither an order's nor a deposit's")
    return payment.order_id
