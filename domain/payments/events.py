"""A payment's events and their old shapes. Import them from `domain.payments`."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, Payload, event, upcasts

MethodType = Literal["card", "wallet"]
CaptureType = Literal["card", "wallet", "free"]
CancelReason = Literal["order_cancelled", "deposit_failed", "provider"]
"""Why an intent is cancelled: with its order or its deposit, or by the provider."""
Outcome = Literal["applied", "repeated", "ignored"]
RefundState = Literal["PENDING", "SUCCEEDED", "FAILED"]
Status = Literal[
    "REQUESTED",
    "PROCESSING",
    "REQUIRES_ACTION",
    "CAPTURED",
    "FAILED",
    "PARTIALLY_REFUNDED",
    "REFUNDED",
    "CANCELLED",
]


class Method(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the buyer pays with. `token_ref` is the provider's token for a
    card, or the wallet's id."""

    type: MethodType
    token_ref: str | None = None


@event("payment.requested.v1")
class PaymentRequested(Event, frozen=True):
    """A payment was requested, for an order (of `game_ids`) or for a deposit (`transaction_id`).
    Without a `method` it waits for one."""

    buyer_id: UUID
    amount_cents: int
    currency: str
    expires_at: datetime
    order_id: UUID | None = None
    transaction_id: UUID | None = None
    method: Method | None = None
    payment_id: UUID | None = None
    game_ids: tuple[UUID, ...] = ()


@event("payment.method_attached.v1")
class PaymentMethodAttached(Event, frozen=True):
    """The buyer chose the payment method: the first one, or another after a failure."""

    method: Method


@event("payment.submitted.v1")
class PaymentSubmitted(Event, frozen=True):
    """A worker is about to ask the provider, for the `attempt`-th time since the method was
    attached."""

    provider: str
    attempt: int


@event("payment.intent_created.v1")
class PaymentIntentCreated(Event, frozen=True):
    """The provider created an intent for the payment, still without a method."""

    provider: str
    provider_ref: str
    client_secret_ref: str


@event("payment.processing.v1")
class PaymentProcessing(Event, frozen=True):
    """The buyer has done their part, and the provider's outcome is pending."""

    provider: str
    provider_ref: str


@event("payment.action_required.v1")
class PaymentActionRequired(Event, frozen=True):
    """The buyer must authenticate (3-D Secure) at `redirect_url`."""

    provider_ref: str
    redirect_url: str
    client_secret_ref: str


@event("payment.transaction.completed.v1")
class PaymentCaptured(Event, frozen=True):
    """The payment of an order was captured. `user_id` repeats `buyer_id`, and `transaction_id` is
    the payment's own id, under the names that other systems use; events from before these fields
    existed lack them and `game_ids`."""

    order_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    method_type: CaptureType
    provider: str | None = None
    provider_ref: str | None = None
    user_id: UUID | None = None
    game_ids: tuple[UUID, ...] = ()
    transaction_id: UUID | None = None


@event("payment.transaction.failed.v1")
class PaymentFailed(Event, frozen=True):
    """This try of an order's payment failed; `code` is the provider's decline code, or the shop's
    own. Other fields as in `payment.transaction.completed.v1`."""

    order_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    code: str
    detail: str
    user_id: UUID | None = None
    game_ids: tuple[UUID, ...] = ()
    transaction_id: UUID | None = None


@event("payment.processed.v1")
class PaymentProcessed(Event, frozen=True):
    """The payment of a deposit was captured: the counterpart of `payment.transaction.completed.v1`,
    without a purchase."""

    transaction_id: UUID
    amount_cents: int
    currency: str
    provider_ref: str


@event("payment.deposit_failed.v1")
class DepositFailed(Event, frozen=True):
    """This try of a deposit's payment failed; `code` is the provider's decline code, or the shop's
    own."""

    transaction_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    code: str
    detail: str


@event("payment.intent_cancelled.v2")
class PaymentIntentCancelled(Event, frozen=True):
    """The payment was closed to further tries. `provider_ref` is absent when the provider had no
    intent yet."""

    reason: str
    provider_ref: str | None = None


@upcasts("payment.intent_cancelled.v1")
def _with_a_reason(payload: Payload) -> Payload:
    return {"reason": "unknown", **payload}


@event("payment.refund_requested.v1")
class PaymentRefundRequested(Event, frozen=True):
    """A refund was requested: its amount can no longer be requested again, but the money has not
    moved yet."""

    refund_id: UUID
    amount_cents: int
    reason: str


@event("payment.refund_accepted.v1")
class PaymentRefundAccepted(Event, frozen=True):
    """The provider accepted the refund under `provider_ref`; its outcome is pending."""

    refund_id: UUID
    provider_ref: str


@event("payment.refunded.v1")
class PaymentRefunded(Event, frozen=True):
    """The refund succeeded at the provider; `provider_ref` is the refund's reference, not the
    intent's."""

    refund_id: UUID
    amount_cents: int
    provider_ref: str | None = None


@event("payment.refund_failed.v1")
class PaymentRefundFailed(Event, frozen=True):
    """The provider refused the refund or, when `provider_ref` is present, accepted it and failed to
    carry it out."""

    refund_id: UUID
    code: str
    provider_ref: str | None = None


@event("payment.refund_reversed.v1")
class PaymentRefundReversed(Event, frozen=True):
    """A successful refund was reversed: the buyer's bank returned the
    money, or a dispute was won."""

    refund_id: UUID
    amount_cents: int
    code: str
    provider_ref: str | None = None


@event("payment.surplus_returned.v1")
class SurplusReturned(Event, frozen=True):
    """A wallet had paid and the provider's intent was paid as well, so the provider returned its
    amount to the buyer."""

    provider_ref: str
    amount_cents: int


@event("payment.notice_received.v1")
class PaymentNoticeReceived(Event, frozen=True):
    """A notice from the provider was received, and is recorded so that it is applied only once."""

    provider_event_id: str
    type: str
    outcome: Outcome
