"""What can happen to a payment, and what it amounts to: its events, their old shapes, the state and how it evolves.

The decisions are in `domain.payments`, which re-exports all of this: a caller needs only that.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast
from uuid import UUID

import msgspec
from rpds import HashTrieSet

from domain.events import Event, event

MethodType = Literal["card", "wallet"]
CaptureType = Literal["card", "wallet", "free"]
Outcome = Literal["applied", "repeated", "ignored"]
RefundState = Literal["PENDING", "SUCCEEDED", "FAILED"]
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
    """For an order (of these games), or for a wallet's transaction (a deposit). Without a method it awaits one."""

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


@event("payment.processing.v1")
class PaymentProcessing(Event, frozen=True):
    """The buyer has done what was to be done, and the provider has yet to say what came of it."""

    provider: str
    provider_ref: str


@event("payment.action_required.v1")
class PaymentActionRequired(Event, frozen=True):
    """The buyer must prove themselves (3-D Secure) at `redirect_url`."""

    provider_ref: str
    redirect_url: str
    client_secret_ref: str


@event("payment.transaction.completed.v1")
class PaymentCaptured(Event, frozen=True):
    """The money is ours. `user_id` is the buyer, `transaction_id` the payment's own id, by the names that others know;
    events from before these were added lack them and the games."""

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
    """This try came to nothing; `code` is the provider's decline code, or ours. The rest as of a capture."""

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
    """Money is to go back: it cannot be asked back a second time from now on, but has not gone yet."""

    refund_id: UUID
    amount_cents: int
    reason: str


@event("payment.refund_accepted.v1")
class PaymentRefundAccepted(Event, frozen=True):
    """The provider knows of it by this reference, which is all that it says yet."""

    refund_id: UUID
    provider_ref: str


@event("payment.refunded.v1")
class PaymentRefunded(Event, frozen=True):
    """The money went back, as the provider says; `provider_ref` is the refund's, not the intent's."""

    refund_id: UUID
    amount_cents: int
    provider_ref: str | None = None


@event("payment.refund_failed.v1")
class PaymentRefundFailed(Event, frozen=True):
    """The provider would not send it back or, with the reference of its refund, tried to and could not."""

    refund_id: UUID
    code: str
    provider_ref: str | None = None


@event("payment.refund_reversed.v1")
class PaymentRefundReversed(Event, frozen=True):
    """Money that had gone back came in again: the buyer's bank did not take it, or a dispute was won."""

    refund_id: UUID
    amount_cents: int
    code: str
    provider_ref: str | None = None


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
    """Money on its way back. One that FAILED after the provider gave it a reference has failed for good; one that the
    provider refused may be asked for again.
    """

    amount_cents: int
    state: RefundState = "PENDING"
    provider_ref: str | None = None
    reason: str = ""
    code: str | None = None


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
    payment_id: UUID | None = None
    game_ids: tuple[UUID, ...] = ()
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

    def __post_init__(self) -> None:
        """A provider may send any number of notices: the set shares all others with the one after the next."""
        if not isinstance(self.notices, HashTrieSet):
            msgspec.structs.force_setattr(self, "notices", HashTrieSet(self.notices))

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
        """The wallet that it is paid from, if it is: what costs nothing is paid from none, whatever the method."""
        if not self.amount_cents or self.method is None or self.method.type != "wallet":
            return None
        return None if self.method.token_ref is None else UUID(self.method.token_ref)

    @property
    def refunded_cents(self) -> int:
        """What went back."""
        return sum(refund.amount_cents for refund in self.refunds.values() if refund.state == "SUCCEEDED")

    @property
    def refundable_cents(self) -> int:
        """What may still be asked back: captured, and neither gone back nor on its way."""
        if not self.is_captured:
            return 0
        return self.amount_cents - sum(r.amount_cents for r in self.refunds.values() if r.state != "FAILED")

    @property
    def refund_status(self) -> RefundState | None:
        """How its refunds stand: PENDING while any is under way, else as the last one ended; None without any."""
        return refund_status_of([refund.state for refund in self.refunds.values()])


def refund_status_of(states: Sequence[RefundState]) -> RefundState | None:
    """What the states of a payment's refunds, in the order in which they were asked for, amount to."""
    return "PENDING" if "PENDING" in states else next(reversed(states), None)


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
        case Payment(), PaymentProcessing():
            return replace(
                state, status="PROCESSING", provider=event.provider, provider_ref=event.provider_ref, redirect_url=None
            )
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
        case Payment(), PaymentRefundRequested() | PaymentRefundAccepted() | PaymentRefunded():
            return _with_refund(state, event.refund_id, _refund_after(state.refunds.get(event.refund_id), event))
        case Payment(), PaymentRefundFailed() | PaymentRefundReversed():
            return _with_refund(state, event.refund_id, _refund_after(state.refunds.get(event.refund_id), event))
        case Payment(), SurplusReturned():
            return replace(state, surplus_returned=True)
        case Payment(), PaymentNoticeReceived():
            failed = event.type == "payment_intent.payment_failed"
            return replace(
                state,
                notices=cast("HashTrieSet[str]", state.notices).insert(event.provider_event_id),
                failure_notices=state.failure_notices + failed,
            )
    return state


RefundEvent = (
    PaymentRefundRequested | PaymentRefundAccepted | PaymentRefunded | PaymentRefundFailed | PaymentRefundReversed
)


def _refund_after(before: Refund | None, event: RefundEvent) -> Refund:
    """A refund after one more event of its own."""
    match event:
        case PaymentRefundRequested():
            return Refund(event.amount_cents, reason=event.reason)
        case PaymentRefundAccepted():
            assert before is not None
            return msgspec.structs.replace(before, provider_ref=event.provider_ref)
    before = before or Refund(0)
    state: RefundState = "SUCCEEDED" if isinstance(event, PaymentRefunded) else "FAILED"
    return Refund(
        amount_cents=event.amount_cents if isinstance(event, PaymentRefunded) else before.amount_cents,
        state=state,
        provider_ref=event.provider_ref or before.provider_ref,
        reason=before.reason,
        code=None if isinstance(event, PaymentRefunded) else event.code,
    )


def _with_refund(payment: Payment, refund_id: UUID, refund: Refund) -> Payment:
    """The payment is refunded by what has gone back, not by what is on its way."""
    before = payment.refunds.get(refund_id)
    changed = msgspec.structs.replace(payment, refunds={**payment.refunds, refund_id: refund})
    if "SUCCEEDED" not in {refund.state, before.state if before else ""}:
        return changed
    back, any_left = changed.refunded_cents, any(each.state == "SUCCEEDED" for each in changed.refunds.values())
    status: Status = "CAPTURED"
    if any_left:
        status = "REFUNDED" if back >= payment.amount_cents else "PARTIALLY_REFUNDED"
    return msgspec.structs.replace(changed, status=status)
