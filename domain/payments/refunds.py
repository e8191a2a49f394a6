"""Refunds of a payment. A refund is requested, then accepted by the provider; only when the
provider reports success has the money moved, and until then nothing else follows from it.

The provider's answers and notices may come repeatedly and in any order, with the same result.
FAILED is its last word: it may follow SUCCEEDED (the buyer's bank returned the money), never the
other way round. A failed refund is retried as a new one.
"""

from functools import reduce
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event
from domain.ids import derived
from domain.payments.events import (
    PaymentRefundAccepted,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
    RefundState,
    SurplusReturned,
)
from domain.payments.state import Payment, Refund, evolve

AT_PROVIDER = "refunded_at_provider"
"""The reason of a refund that nobody requested here: made by hand at the provider, or a dispute."""

MAX_REFUNDS = 200
"""Most refunds of a payment; a further one must refund the whole rest. All are kept in the
payment's state."""


class NoticedRefund(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says about a refund: its own reference, and the state. `refund_id` is ours,
    which the provider keeps with each refund that we requested."""

    provider_ref: str
    amount_cents: int
    state: RefundState
    code: str = ""
    refund_id: UUID | None = None


# -- decisions -------------------------------------------------------------------------------------


def request_refund(
    payment: Payment, refund_id: UUID, amount_cents: int, reason: str
) -> list[Event]:
    """Request a refund. No-op for a known refund id. Only a free payment is refunded by 0.

    Raises Conflict: payment_not_captured; refund_exceeds_capture and too_many_refunds, both with
    `refundable_cents` (too_many_refunds: only the whole rest can be refunded now);
    Invalid("invalid_amount").
    """
    if refund_id in payment.refunds:
        return []
    if not payment.is_captured:
        raise Conflict("payment_not_captured", "there is nothing to refund")
    if amount_cents < min(1, payment.amount_cents):
        raise Invalid(
            "invalid_amount", "a refund is at least one cent, unless the payment was free"
        )
    if payment.status == "REFUNDED" or amount_cents > payment.refundable_cents:
        raise _exceeds(payment)
    if len(payment.refunds) >= MAX_REFUNDS and amount_cents < payment.refundable_cents:
        detail = f"a payment has at most {MAX_REFUNDS} refunds; only the rest can still be refunded"
        raise Conflict("too_many_refunds", detail, refundable_cents=payment.refundable_cents)
    return [PaymentRefundRequested(refund_id=refund_id, amount_cents=amount_cents, reason=reason)]


def settle_refund(
    payment: Payment,
    refund_id: UUID,
    state: RefundState,
    provider_ref: str | None = None,
    code: str = "",
) -> list[Event]:
    """Record the provider's state of a refund. Raises as `complete_refund`."""
    match state:
        case "SUCCEEDED":
            return complete_refund(payment, refund_id, provider_ref)
        case "FAILED":
            return fail_refund(payment, refund_id, code or "refund_failed", provider_ref)
    refund = _refund_of(payment, refund_id)
    if provider_ref is None or refund.provider_ref is not None or refund.state != "PENDING":
        return []
    return [PaymentRefundAccepted(refund_id=refund_id, provider_ref=provider_ref)]


def complete_refund(
    payment: Payment, refund_id: UUID, provider_ref: str | None = None
) -> list[Event]:
    """Complete a refund, even one that the provider refused at first. Idempotent; no-op once it has
    finally failed.

    Raises NotFound("refund_not_found"); Conflict("refund_exceeds_capture") when other refunds took
    its place.
    """
    refund = _refund_of(payment, refund_id)
    if refund.state == "SUCCEEDED" or _failed_for_good(refund):
        return []
    if refund.state == "FAILED" and refund.amount_cents > payment.refundable_cents:
        raise _exceeds(payment)
    return [
        PaymentRefunded(
            refund_id=refund_id, amount_cents=refund.amount_cents, provider_ref=provider_ref
        )
    ]


def fail_refund(
    payment: Payment, refund_id: UUID, code: str, provider_ref: str | None = None
) -> list[Event]:
    """Fail a refund. With the provider's reference the failure is final, and reverses an earlier
    success. Idempotent.

    Raises NotFound("refund_not_found").
    """
    refund = _refund_of(payment, refund_id)
    failed = PaymentRefundFailed(refund_id=refund_id, code=code, provider_ref=provider_ref)
    if refund.state == "PENDING":
        return [failed]
    if provider_ref is None or _failed_for_good(refund):
        return []
    if refund.state == "FAILED":
        return [failed]
    return [
        PaymentRefundReversed(
            refund_id=refund_id,
            amount_cents=refund.amount_cents,
            code=code,
            provider_ref=provider_ref,
        )
    ]


def return_surplus(payment: Payment, provider_ref: str) -> list[Event]:
    """Record that the provider returned what it was paid in addition to a wallet's payment.
    Idempotent."""
    if payment.surplus_returned or payment.wallet_id is None:
        return []
    return [SurplusReturned(provider_ref=provider_ref, amount_cents=payment.amount_cents)]


# -- the provider's reports ------------------------------------------------------------------------


def hear_of_refund(payment: Payment, seen: NoticedRefund) -> list[Event]:
    """Record what the provider says about a refund of a captured payment: ours, or one that nobody
    requested here, which is recorded as far as there is money left to refund."""
    refund_id = _known(payment, seen)
    if refund_id is None and seen.amount_cents <= _untold_of(payment):
        return []  # a sum reported earlier includes it
    following: list[Event] = []
    if refund_id is None:
        refund_id = derived("refund.noticed", seen.provider_ref)
        amount = min(seen.amount_cents, payment.refundable_cents)
        if amount < 1:
            return []
        following.append(
            PaymentRefundRequested(refund_id=refund_id, amount_cents=amount, reason=AT_PROVIDER)
        )
    elif (
        payment.refunds[refund_id].provider_ref is None
        and payment.refunds[refund_id].state == "SUCCEEDED"
    ):
        following.append(PaymentRefundAccepted(refund_id=refund_id, provider_ref=seen.provider_ref))
    after = reduce(_after, following, payment)
    return [*following, *settle_refund(after, refund_id, seen.state, seen.provider_ref, seen.code)]


def hear_of_sum(payment: Payment, notice_event_id: str, refunded_cents: int) -> list[Event]:
    """Record the total that the provider has refunded of a captured payment so far: what exceeds
    the known refunds was refunded by hand. A refund that failed may have been part of an earlier
    total."""
    known = sum(
        refund.amount_cents for refund in payment.refunds.values() if not _was_refused(refund)
    )
    amount = min(refunded_cents - known, payment.refundable_cents)
    if amount < 1:
        return []
    refund_id = derived("refund.noticed", notice_event_id)
    return [
        PaymentRefundRequested(refund_id=refund_id, amount_cents=amount, reason=AT_PROVIDER),
        PaymentRefunded(refund_id=refund_id, amount_cents=amount),
    ]


def _known(payment: Payment, seen: NoticedRefund) -> UUID | None:
    """The payment's refund that the provider means, if known."""
    if seen.refund_id in payment.refunds:
        return seen.refund_id
    for refund_id, refund in payment.refunds.items():
        if refund.provider_ref == seen.provider_ref:
            return refund_id
    # Requested without our id (by an older release), when no money is left for any other refund.
    is_all = seen.refund_id is None and seen.amount_cents > payment.refundable_cents
    for refund_id, refund in payment.refunds.items():
        may_be = _is_untold(refund) or (
            is_all and refund.state == "PENDING" and refund.provider_ref is None
        )
        if may_be and refund.amount_cents == seen.amount_cents:
            return refund_id
    return None


def _untold_of(payment: Payment) -> int:
    """The largest amount refunded by a total alone: a notice about its individual refunds may still
    come."""
    return max(
        (refund.amount_cents for refund in payment.refunds.values() if _is_untold(refund)),
        default=0,
    )


def _is_untold(refund: Refund) -> bool:
    return (
        refund.reason == AT_PROVIDER and refund.state == "SUCCEEDED" and refund.provider_ref is None
    )


def _failed_for_good(refund: Refund) -> bool:
    return refund.state == "FAILED" and refund.provider_ref is not None


def _was_refused(refund: Refund) -> bool:
    return refund.state == "FAILED" and refund.provider_ref is None


# -- shared ----------------------------------------------------------------------------------------


def _after(payment: Payment, event: Event) -> Payment:
    return evolve(payment, event) or payment


def _refund_of(payment: Payment, refund_id: UUID) -> Refund:
    refund = payment.refunds.get(refund_id)
    if refund is None:
        raise NotFound("refund_not_found", "the payment has no such refund")
    return refund


def _exceeds(payment: Payment) -> Conflict:
    return Conflict(
        "refund_exceeds_capture",
        "the refunds would exceed what was captured",
        refundable_cents=payment.refundable_cents,
    )
