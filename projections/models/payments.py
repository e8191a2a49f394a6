"""Payments: their status, what clients need to continue (a secret, a redirect), and the history."""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.payments import (
    OPEN,
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
)
from domain.payments.events import RefundState
from domain.payments.state import can_be_tried, refund_status_of
from eventstore.log import Placed
from projections.fields import Happened, happened
from projections.projection import Projection, Rows, StreamRow, on


class RefundOfPayment(msgspec.Struct):
    """A refund: `status` is PENDING, SUCCEEDED or FAILED, `code` why it failed."""

    refund_id: UUID
    amount_cents: int
    status: RefundState
    reason: str
    requested_at: datetime
    provider_ref: str | None = None
    code: str | None = None


class Payment(StreamRow):
    """A payment. `method` is card, wallet or free; `code` and `detail` tell the last failure, None
    after a new attempt. `refund_status` is PENDING while a refund is under way, else the outcome of
    the last one; `refunded_cents` were refunded. `closed`: no further attempt is allowed; `history`
    lists its events."""

    KEY = ("payment_id",)
    INDEXES = ("order_id", "refund_status", "created_position", "status, created_position")

    payment_id: UUID
    order_id: UUID | None
    transaction_id: UUID | None
    buyer_id: UUID
    amount_cents: int
    refunded_cents: int
    refund_status: str | None
    refunds: list[RefundOfPayment]
    currency: str
    status: str
    method: str | None
    provider: str | None
    provider_ref: str | None
    client_secret: str | None
    redirect_url: str | None
    attempt: int
    code: str | None
    detail: str | None
    closed: bool
    expires_at: datetime
    history: list[Happened]

    @property
    def can_be_tried(self) -> bool:
        """Whether the buyer may still pay."""
        return can_be_tried(self.status, closed=self.closed)


class Payments(Projection[Payment]):
    """Every payment by its id."""

    name, version, row = "payments", 2, Payment

    @on(PaymentRequested)
    def requested(self, rows: Rows[Payment], event: PaymentRequested, env: Placed) -> None:
        method = _type_of(event.method)
        rows.put(
            Payment(
                payment_id=env.stream_id,
                order_id=event.order_id,
                transaction_id=event.transaction_id,
                buyer_id=event.buyer_id,
                amount_cents=event.amount_cents,
                refunded_cents=0,
                refund_status=None,
                refunds=[],
                currency=event.currency,
                status="REQUESTED",
                method=method,
                provider=None,
                provider_ref=None,
                client_secret=None,
                redirect_url=None,
                attempt=0,
                code=None,
                detail=None,
                closed=False,
                expires_at=event.expires_at,
                history=[
                    happened(
                        env, status="REQUESTED", amount_cents=event.amount_cents, method=method
                    )
                ],
            )
        )

    @on(PaymentMethodAttached)
    def method_attached(
        self, rows: Rows[Payment], event: PaymentMethodAttached, env: Placed
    ) -> None:
        payment = _changed(rows, env, status="REQUESTED", method=event.method.type)
        payment.method = event.method.type
        payment.attempt = 0
        payment.redirect_url = payment.code = payment.detail = None

    @on(PaymentSubmitted)
    def submitted(self, rows: Rows[Payment], event: PaymentSubmitted, env: Placed) -> None:
        payment = _changed(
            rows, env, status="PROCESSING", provider=event.provider, attempt=event.attempt
        )
        payment.provider = event.provider
        payment.attempt = event.attempt

    @on(PaymentIntentCreated)
    def intent_created(self, rows: Rows[Payment], event: PaymentIntentCreated, env: Placed) -> None:
        payment = _changed(rows, env, provider=event.provider, provider_ref=event.provider_ref)
        payment.provider = event.provider
        payment.provider_ref = event.provider_ref
        payment.client_secret = event.client_secret_ref

    @on(PaymentProcessing)
    def processing(self, rows: Rows[Payment], event: PaymentProcessing, env: Placed) -> None:
        payment = _changed(
            rows, env, status="PROCESSING", provider=event.provider, provider_ref=event.provider_ref
        )
        payment.provider = event.provider
        payment.provider_ref = event.provider_ref
        payment.redirect_url = None

    @on(PaymentActionRequired)
    def action_required(
        self, rows: Rows[Payment], event: PaymentActionRequired, env: Placed
    ) -> None:
        payment = _changed(rows, env, status="REQUIRES_ACTION", provider_ref=event.provider_ref)
        payment.provider_ref = event.provider_ref
        payment.client_secret = event.client_secret_ref
        payment.redirect_url = event.redirect_url

    @on(PaymentCaptured)
    def captured(self, rows: Rows[Payment], event: PaymentCaptured, env: Placed) -> None:
        payment = _changed(
            rows, env, status="CAPTURED", amount_cents=event.amount_cents, method=event.method_type,
            provider_ref=event.provider_ref,
        )  # fmt: skip
        payment.method = event.method_type
        payment.provider = event.provider or payment.provider
        payment.provider_ref = event.provider_ref or payment.provider_ref
        payment.redirect_url = payment.code = payment.detail = None

    @on(PaymentProcessed)
    def processed(self, rows: Rows[Payment], event: PaymentProcessed, env: Placed) -> None:
        payment = _changed(
            rows,
            env,
            status="CAPTURED",
            amount_cents=event.amount_cents,
            provider_ref=event.provider_ref,
        )
        payment.provider_ref = event.provider_ref
        payment.redirect_url = payment.code = payment.detail = None

    @on(PaymentFailed)
    @on(DepositFailed)
    def failed(
        self, rows: Rows[Payment], event: PaymentFailed | DepositFailed, env: Placed
    ) -> None:
        payment = _changed(rows, env, status="FAILED", code=event.code, detail=event.detail)
        payment.code = event.code
        payment.detail = event.detail
        payment.redirect_url = None

    @on(PaymentIntentCancelled)
    def intent_cancelled(
        self, rows: Rows[Payment], event: PaymentIntentCancelled, env: Placed
    ) -> None:
        status = "CANCELLED" if rows[env.stream_id].status in OPEN else None
        payment = _changed(rows, env, status=status, reason=event.reason)
        payment.closed = True
        payment.redirect_url = None

    @on(PaymentRefundRequested)
    def refund_requested(
        self, rows: Rows[Payment], event: PaymentRefundRequested, env: Placed
    ) -> None:
        payment = _changed(rows, env, amount_cents=event.amount_cents, reason=event.reason)
        asked = RefundOfPayment(
            event.refund_id, event.amount_cents, "PENDING", event.reason, env.occurred_at
        )
        payment.refunds.append(asked)
        payment.refund_status = refund_status_of([each.status for each in payment.refunds])

    @on(PaymentRefundAccepted)
    def refund_accepted(
        self, rows: Rows[Payment], event: PaymentRefundAccepted, env: Placed
    ) -> None:
        payment = _changed(rows, env, provider_ref=event.provider_ref)
        _refund_of(payment, event.refund_id).provider_ref = event.provider_ref

    @on(PaymentRefunded)
    def refunded(self, rows: Rows[Payment], event: PaymentRefunded, env: Placed) -> None:
        payment = rows[env.stream_id]
        _ended(payment, event.refund_id, "SUCCEEDED", event.provider_ref)
        payment.refunded_cents += event.amount_cents
        whole = payment.refunded_cents >= payment.amount_cents
        status = "REFUNDED" if whole else "PARTIALLY_REFUNDED"
        _changed(
            rows,
            env,
            status=status,
            amount_cents=event.amount_cents,
            provider_ref=event.provider_ref,
        )

    @on(PaymentRefundFailed)
    def refund_failed(self, rows: Rows[Payment], event: PaymentRefundFailed, env: Placed) -> None:
        payment = _changed(rows, env, code=event.code, provider_ref=event.provider_ref)
        _ended(payment, event.refund_id, "FAILED", event.provider_ref, event.code)

    @on(PaymentRefundReversed)
    def refund_reversed(
        self, rows: Rows[Payment], event: PaymentRefundReversed, env: Placed
    ) -> None:
        payment = rows[env.stream_id]
        _ended(payment, event.refund_id, "FAILED", event.provider_ref, event.code)
        payment.refunded_cents -= event.amount_cents
        status = "PARTIALLY_REFUNDED" if payment.refunded_cents else "CAPTURED"
        _changed(rows, env, status=status, amount_cents=event.amount_cents, code=event.code)

    @on(PaymentNoticeReceived)
    def notice_received(
        self, rows: Rows[Payment], event: PaymentNoticeReceived, env: Placed
    ) -> None:
        _changed(rows, env, detail=f"{event.type}: {event.outcome}")


def _changed(
    rows: Rows[Payment], env: Placed, status: str | None = None, **said: str | int | None
) -> Payment:
    payment = rows[env.stream_id]
    payment.status = status or payment.status
    payment.history.append(happened(env, status=status, **said))
    return payment


def _type_of(method: Method | None) -> str | None:
    return None if method is None else method.type


def _refund_of(payment: Payment, refund_id: UUID) -> RefundOfPayment:
    return next(each for each in payment.refunds if each.refund_id == refund_id)


def _ended(
    payment: Payment,
    refund_id: UUID,
    status: RefundState,
    provider_ref: str | None,
    code: str | None = None,
) -> None:
    refund = _refund_of(payment, refund_id)
    refund.status = status
    refund.code = code
    refund.provider_ref = provider_ref or refund.provider_ref
    payment.refund_status = refund_status_of([each.status for each in payment.refunds])
