"""A payment's state, and how events change it. Import it from `domain.payments`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import msgspec
from rpds import HashTrieSet

from domain.events import Event
from domain.payments.events import (
    DepositFailed,
    Method,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentIntentCreated,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentProcessed,
    PaymentProcessing,
    PaymentRefundAccepted,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
    PaymentRequested,
    PaymentSubmitted,
    RefundState,
    Status,
    SurplusReturned,
)

OPEN: frozenset[Status] = frozenset({"REQUESTED", "PROCESSING", "REQUIRES_ACTION"})
CAPTURED: frozenset[Status] = frozenset({"CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED"})


def can_be_tried(status: str, *, closed: bool) -> bool:
    """Whether a payment with this status can still be paid: its outcome is pending, or a failure
    left it open for another try, for which `attach_method` has more conditions."""
    return status in OPEN or (status == "FAILED" and not closed)


class Refund(msgspec.Struct, frozen=True):
    """A refund. FAILED with a `provider_ref` is final; FAILED without one was refused by the
    provider, and may be requested again."""

    amount_cents: int
    state: RefundState = "PENDING"
    provider_ref: str | None = None
    reason: str = ""
    code: str | None = None


class Payment(msgspec.Struct, frozen=True):
    """The state of a payment.

    `attempt` counts the submissions of the current method. `closed`: the intent was cancelled and
    no further try is allowed (a FAILED payment stays FAILED). `failures` and `failure_notices` tell
    an echo of a known failure from a new one.
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
        """A provider may send any number of notices: a hash trie lets
        successive states share them."""
        if not isinstance(self.notices, HashTrieSet):
            msgspec.structs.force_setattr(self, "notices", HashTrieSet(self.notices))

    @property
    def is_open(self) -> bool:
        """Whether the outcome is pending."""
        return self.status in OPEN

    @property
    def can_be_tried(self) -> bool:
        """Whether the buyer may still pay: see `can_be_tried`."""
        return can_be_tried(self.status, closed=self.closed)

    @property
    def is_captured(self) -> bool:
        """Whether it was ever captured, even if partly refunded since."""
        return self.status in CAPTURED

    @property
    def wallet_id(self) -> UUID | None:
        """The wallet that pays, if one does. A free payment has none, whatever its method."""
        if not self.amount_cents or self.method is None or self.method.type != "wallet":
            return None
        return None if self.method.token_ref is None else UUID(self.method.token_ref)

    @property
    def refunded_cents(self) -> int:
        """Sum of the successful refunds."""
        return sum(
            refund.amount_cents for refund in self.refunds.values() if refund.state == "SUCCEEDED"
        )

    @property
    def refundable_cents(self) -> int:
        """What may still be refunded: captured, and neither refunded nor on its way."""
        if not self.is_captured:
            return 0
        return self.amount_cents - sum(
            r.amount_cents for r in self.refunds.values() if r.state != "FAILED"
        )

    @property
    def refund_status(self) -> RefundState | None:
        """PENDING while any refund is; otherwise the state of the last
        one; None without refunds."""
        return refund_status_of([refund.state for refund in self.refunds.values()])


def refund_status_of(states: Sequence[RefundState]) -> RefundState | None:
    """The overall status of refunds, from their states in the order of their requests."""
    return "PENDING" if "PENDING" in states else next(reversed(states), None)


def evolve(state: Payment | None, event: Event) -> Payment | None:  # noqa: PLR0911, PLR0912 - one case a fact
    replace = msgspec.structs.replace
    match state, event:
        case _, PaymentRequested():
            return Payment(**msgspec.structs.asdict(event))
        case Payment(), PaymentMethodAttached(method=method):
            return replace(state, status="REQUESTED", method=method, attempt=0, redirect_url=None)
        case Payment(), PaymentSubmitted():
            return replace(
                state, status="PROCESSING", provider=event.provider, attempt=event.attempt
            )
        case Payment(), PaymentIntentCreated() | PaymentActionRequired():
            status = "REQUIRES_ACTION" if isinstance(event, PaymentActionRequired) else state.status
            return replace(state, status=status, **msgspec.structs.asdict(event))
        case Payment(), PaymentProcessing():
            return replace(
                state,
                status="PROCESSING",
                provider=event.provider,
                provider_ref=event.provider_ref,
                redirect_url=None,
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
            return replace(
                state, status="CAPTURED", provider_ref=event.provider_ref, redirect_url=None
            )
        case Payment(), PaymentFailed(code=code, detail=detail) | DepositFailed(
            code=code, detail=detail
        ):
            failures = state.failures + 1
            return replace(
                state, status="FAILED", failure_code=code, failure_detail=detail, failures=failures
            )
        case Payment(), PaymentIntentCancelled():
            return replace(
                state, status="CANCELLED" if state.is_open else state.status, closed=True
            )
        case Payment(), PaymentRefundRequested() | PaymentRefundAccepted() | PaymentRefunded():
            return _with_refund(
                state, event.refund_id, _refund_after(state.refunds.get(event.refund_id), event)
            )
        case Payment(), PaymentRefundFailed() | PaymentRefundReversed():
            return _with_refund(
                state, event.refund_id, _refund_after(state.refunds.get(event.refund_id), event)
            )
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
    PaymentRefundRequested
    | PaymentRefundAccepted
    | PaymentRefunded
    | PaymentRefundFailed
    | PaymentRefundReversed
)


def _refund_after(before: Refund | None, event: RefundEvent) -> Refund:
    """The refund after one more event about it."""
    match event:
        case PaymentRefundRequested():
            return Refund(event.amount_cents, reason=event.reason)
        case PaymentRefundAccepted():
            assert before is not None
            return msgspec.structs.replace(before, provider_ref=event.provider_ref)
    before = before or Refund(0)
    state: RefundState = "SUCCEEDED" if isinstance(event, PaymentRefunded) else "FAILED"
    return Refund(
        amount_cents=event.amount_cents
        if isinstance(event, PaymentRefunded)
        else before.amount_cents,
        state=state,
        provider_ref=event.provider_ref or before.provider_ref,
        reason=before.reason,
        code=None if isinstance(event, PaymentRefunded) else event.code,
    )


def _with_refund(payment: Payment, refund_id: UUID, refund: Refund) -> Payment:
    """The payment with this refund. Its status follows successful refunds, not pending ones."""
    before = payment.refunds.get(refund_id)
    changed = msgspec.structs.replace(payment, refunds={**payment.refunds, refund_id: refund})
    if "SUCCEEDED" not in {refund.state, before.state if before else ""}:
        return changed
    back, any_left = (
        changed.refunded_cents,
        any(each.state == "SUCCEEDED" for each in changed.refunds.values()),
    )
    status: Status = "CAPTURED"
    if any_left:
        status = "REFUNDED" if back >= payment.amount_cents else "PARTIALLY_REFUNDED"
    return msgspec.structs.replace(changed, status=status)
