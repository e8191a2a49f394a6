"""What can happen to a payment, and what it amounts to: its events, their old shapes, the state and how it evolves.

The decisions are in `domain.payments`, which re-exports all of this: a caller needs only that.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event

MethodType = Literal["card", "wallet"]
CaptureType = Literal["card", "wallet", "free"]
Outcome = Literal["applied", "repeated", "ignored"]
RefundState = Literal["REQUESTED", "DONE", "FAILED"]
Status = Literal[
    "REQUESTED", "PROCESSING", "REQUIRES_ACTION", "CAPTURED", "FAILED", "PARTIALLY_REFUNDED", "REFUNDED", "CANCELLED"
]

OPEN: frozenset[Status] = frozenset({"REQUESTED", "PROCESSING", "REQUIRES_ACTION"})
CAPTURED: frozenset[Status] = frozenset({"CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED"})


class Method(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the buyer pays with; `token_ref` names the card at the provider, or is the wallet's id."""

    type: MethodType
    token_ref: str | None = None


# -- events ------------------------------------------------------------------------------------------------------------


@event("payment.requested.v1")
class PaymentRequested(Event, frozen=True):
    """For an order, or for a wallet's transaction (a deposit). Without a method it awaits one."""

    buyer_id: UUID
    amount_cents: int
    currency: str
    expires_at: datetime
    order_id: UUID | None = None
    transaction_id: UUID | None = None
    method: Method | None = None


@event("payment.method_attached.v1")
class PaymentMethodAttached(Event, frozen=True):
    """The buyer pays with this: the first method, or another one after a failure."""

    method: Method


@event("payment.submitted.v1")
class PaymentSubmitted(Event, frozen=True):
    """A worker is about to ask the provider, for the `attempt`-th time since the method was attached."""

    provider: str
    attempt: int


@event("payment.intent_created.v1")
class PaymentIntentCreated(Event, frozen=True):
    """The provider has an intent for it, as yet without a method."""

    provider: str
    provider_ref: str
    client_secret_ref: str


@event("payment.action_required.v1")
class PaymentActionRequired(Event, frozen=True):
    """The buyer must prove themselves (3-D Secure) at `redirect_url`."""

    provider_ref: str
    redirect_url: str
    client_secret_ref: str


@event("payment.transaction.completed.v1")
class PaymentCaptured(Event, frozen=True):
    """The money is ours."""

    order_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    method_type: CaptureType
    provider: str | None = None
    provider_ref: str | None = None


@event("payment.transaction.failed.v1")
class PaymentFailed(Event, frozen=True):
    """This try came to nothing; `code` is the provider's decline code, or ours."""

    order_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    code: str
    detail: str


@event("payment.processed.v1")
class PaymentProcessed(Event, frozen=True):
    """A deposit's money is ours: what `payment.transaction.completed.v1` is for an order, but nothing that follows a
    purchase follows it."""

    transaction_id: UUID
    amount_cents: int
    currency: str
    provider_ref: str


@event("payment.deposit_failed.v1")
class DepositFailed(Event, frozen=True):
    """A deposit's try came to nothing; `code` is the provider's decline code, or ours."""

    transaction_id: UUID
    buyer_id: UUID
    amount_cents: int
    currency: str
    code: str
    detail: str


@event("payment.intent_cancelled.v2")
class PaymentIntentCancelled(Event, frozen=True):
    """No further try is wanted. Without `provider_ref` the provider had no intent yet."""

    reason: str
    provider_ref: str | None = None


@event("payment.refund_requested.v1")
class PaymentRefundRequested(Event, frozen=True):
    """Money is to go back; it counts against what was captured from now on."""

    refund_id: UUID
    amount_cents: int
    reason: str


@event("payment.refunded.v1")
class PaymentRefunded(Event, frozen=True):
    """The money went back; `provider_ref` is the refund's, not the intent's."""

    refund_id: UUID
    amount_cents: int
    provider_ref: str | None = None


@event("payment.refund_failed.v1")
class PaymentRefundFailed(Event, frozen=True):
    """The provider would not send it back."""

    refund_id: UUID
    code: str


@event("payment.surplus_returned.v1")
class SurplusReturned(Event, frozen=True):
    """A wallet had paid, and the provider's intent was paid as well: the provider gave that money back."""

    provider_ref: str
    amount_cents: int


@event("payment.notice_received.v1")
class PaymentNoticeReceived(Event, frozen=True):
    """A provider's notice, kept so that it is never applied twice."""

    provider_event_id: str
    type: str
    outcome: Outcome


def _intent_cancelled_v2(payload: dict[str, object]) -> dict[str, object]:
    return {"reason": "unknown", **payload}


UPCASTERS: dict[str, tuple[str, Callable[[dict[str, object]], dict[str, object]]]] = {
    "payment.intent_cancelled.v1": ("payment.intent_cancelled.v2", _intent_cancelled_v2),
}
"""Old wire names: the name of the next shape, and how its JSON object is made of the old one."""


# -- state -------------------------------------------------------------------------------------------------------------


class Refund(msgspec.Struct, frozen=True):
    """Money on its way back."""

    amount_cents: int
    state: RefundState = "REQUESTED"


class Payment(msgspec.Struct, frozen=True):
    """A payment as it stands.

    `attempt` counts the submissions of the present method. `closed`: its intent was cancelled, no further try is
    allowed (a failed payment stays FAILED then). `failures` and `failure_notices` tell an echo from news.
    """

    buyer_id: UUID
    amount_cents: int
    currency: str
    expires_at: datetime
    order_id: UUID | None = None
    transaction_id: UUID | None = None
    method: Method | None = None
    status: Status = "REQUESTED"
    provider: str | None = None
    provider_ref: str | None = None
    client_secret_ref: str | None = None
    redirect_url: str | None = None
    attempt: int = 0
    failure_code: str | None = None
    failure_detail: str | None = None
    closed: bool = False
    refunds: Mapping[UUID, Refund] = {}
    surplus_returned: bool = False
    notices: frozenset[str] = frozenset()
    failures: int = 0
    failure_notices: int = 0

    @property
    def is_open(self) -> bool:
        """Whether its outcome is still to come."""
        return self.status in OPEN

    @property
    def can_be_tried(self) -> bool:
        """Whether the buyer may still pay: its outcome is to come, or a failure left it open for another try."""
        return self.is_open or (self.status == "FAILED" and not self.closed)

    @property
    def is_captured(self) -> bool:
        """Whether the money came, be it that some of it went back since."""
        return self.status in CAPTURED

    @property
    def wallet_id(self) -> UUID | None:
        """The wallet that it is paid from, if it is."""
        if self.method is None or self.method.type != "wallet" or self.method.token_ref is None:
            return None
        return UUID(self.method.token_ref)

    @property
    def refunded_cents(self) -> int:
        """What went back."""
        return sum(refund.amount_cents for refund in self.refunds.values() if refund.state == "DONE")

    @property
    def refundable_cents(self) -> int:
        """What may still be asked back: captured, and neither gone back nor on its way."""
        if not self.is_captured:
            return 0
        return self.amount_cents - sum(r.amount_cents for r in self.refunds.values() if r.state != "FAILED")


def evolve(state: Payment | None, event: Event) -> Payment | None:  # noqa: PLR0911, PLR0912 - one case a fact
    """The payment after one more event."""
    replace = msgspec.structs.replace
    match state, event:
        case _, PaymentRequested():
            return Payment(**msgspec.structs.asdict(event))
        case Payment(), PaymentMethodAttached(method=method):
            return replace(state, status="REQUESTED", method=method, attempt=0, redirect_url=None)
        case Payment(), PaymentSubmitted():
            return replace(state, status="PROCESSING", provider=event.provider, attempt=event.attempt)
        case Payment(), PaymentIntentCreated() | PaymentActionRequired():
            status = "REQUIRES_ACTION" if isinstance(event, PaymentActionRequired) else state.status
            return replace(state, status=status, **msgspec.structs.asdict(event))
        case Payment(), PaymentCaptured():
            return replace(
                state,
                status="CAPTURED",
                provider=event.provider or state.provider,
                provider_ref=event.provider_ref or state.provider_ref,
                redirect_url=None,
            )
        case Payment(), PaymentProcessed():
            return replace(state, status="CAPTURED", provider_ref=event.provider_ref, redirect_url=None)
        case Payment(), PaymentFailed(code=code, detail=detail) | DepositFailed(code=code, detail=detail):
            failures = state.failures + 1
            return replace(state, status="FAILED", failure_code=code, failure_detail=detail, failures=failures)
        case Payment(), PaymentIntentCancelled():
            return replace(state, status="CANCELLED" if state.is_open else state.status, closed=True)
        case Payment(), PaymentRefundRequested(refund_id=refund_id, amount_cents=amount_cents):
            return replace(state, refunds={**state.refunds, refund_id: Refund(amount_cents)})
        case Payment(), PaymentRefunded(refund_id=refund_id, amount_cents=amount_cents):
            refunded = replace(state, refunds={**state.refunds, refund_id: Refund(amount_cents, "DONE")})
            whole = refunded.refunded_cents >= state.amount_cents
            return replace(refunded, status="REFUNDED" if whole else "PARTIALLY_REFUNDED")
        case Payment(), SurplusReturned():
            return replace(state, surplus_returned=True)
        case Payment(), PaymentRefundFailed(refund_id=refund_id):
            return replace(
                state, refunds={**state.refunds, refund_id: replace(state.refunds[refund_id], state="FAILED")}
            )
        case Payment(), PaymentNoticeReceived():
            failed = event.type == "payment_intent.payment_failed"
            return replace(
                state,
                notices=state.notices | {event.provider_event_id},
                failure_notices=state.failure_notices + failed,
            )
    return state
