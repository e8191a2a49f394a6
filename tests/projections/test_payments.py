import msgspec
import pytest

from domain.events import Event
from domain.payments import (
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
    PaymentSubmitted,
    evolve,
)
from projections.models.payments import Payment, Payments
from tests.support.events.history import (
    BUYER,
    ORDER,
    PAYMENT,
    History,
    at,
    payment_requested,
    some_id,
)

SUBMITTED = PaymentSubmitted(provider="simulated", attempt=1)
INTENT = PaymentIntentCreated(
    provider="simulated", provider_ref="pi_1", client_secret_ref="secret_1"
)
ACTION = PaymentActionRequired(
    provider_ref="pi_1", redirect_url="http://3ds", client_secret_ref="secret_2"
)
CAPTURED = PaymentCaptured(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=1499,
    currency="USD",
    method_type="card",
    provider_ref="pi_1",
)
FAILED = PaymentFailed(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=1499,
    currency="USD",
    code="card_declined",
    detail="no funds",
)
CANCELLED = PaymentIntentCancelled(reason="expired", provider_ref="pi_1")
ASKED = PaymentRefundRequested(refund_id=some_id("refund"), amount_cents=500, reason="broken")
REFUNDED = PaymentRefunded(refund_id=some_id("refund"), amount_cents=500)
ACCEPTED = PaymentRefundAccepted(refund_id=some_id("refund"), provider_ref="re_1")
REFUND_FAILED = PaymentRefundFailed(
    refund_id=some_id("refund"), code="expired_card", provider_ref="re_1"
)
REVERSED = PaymentRefundReversed(
    refund_id=some_id("refund"), amount_cents=500, code="expired_card", provider_ref="re_1"
)
PROCESSING = PaymentProcessing(provider="simulated", provider_ref="pi_1")
ASKED_REST = PaymentRefundRequested(refund_id=some_id("rest"), amount_cents=999, reason="all of it")
REST = PaymentRefunded(refund_id=some_id("rest"), amount_cents=999)
ATTACHED = PaymentMethodAttached(method=Method("card", "pm_other"))
NOTICE = PaymentNoticeReceived(
    provider_event_id="evt_1", type="payment_intent.succeeded", outcome="applied"
)

STORIES = [
    (payment_requested(),),
    (payment_requested(method=None), INTENT),
    (payment_requested(), SUBMITTED),
    (payment_requested(), SUBMITTED, ACTION),
    (payment_requested(), SUBMITTED, ACTION, CAPTURED),
    (payment_requested(), SUBMITTED, FAILED),
    (payment_requested(), SUBMITTED, FAILED, ATTACHED),
    (payment_requested(), SUBMITTED, FAILED, CANCELLED),
    (payment_requested(), SUBMITTED, CANCELLED),
    (payment_requested(), SUBMITTED, CANCELLED, NOTICE, CAPTURED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, REFUNDED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, REFUNDED, ASKED_REST, REST),
    (payment_requested(), SUBMITTED, ACTION, PROCESSING),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, ACCEPTED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, ACCEPTED, REFUND_FAILED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, ACCEPTED, REFUND_FAILED, ASKED_REST),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, REFUNDED, REVERSED),
    (payment_requested(), SUBMITTED, CAPTURED, ASKED, REFUNDED, ASKED_REST, REST, REVERSED),
    (
        payment_requested(amount_cents=0, method=None),
        msgspec.structs.replace(CAPTURED, method_type="free"),
    ),
]


def payment_after(*events: Event) -> Payment:
    row = History().happened(PAYMENT, *events).row(Payments(), PAYMENT)
    assert isinstance(row, Payment)
    return row


@pytest.mark.parametrize(
    "story", STORIES, ids=lambda story: " ".join(type(event).__name__[7:] for event in story)
)
def test_the_read_model_agrees_with_the_domain(story: tuple[Event, ...]) -> None:
    state = None
    for event in story:
        state = evolve(state, event)
    assert state is not None
    row = payment_after(*story)
    for field in (
        "status",
        "provider",
        "provider_ref",
        "attempt",
        "closed",
        "refunded_cents",
        "order_id",
        "buyer_id",
    ):
        assert getattr(row, field) == getattr(state, field), field
    assert row.refund_status == state.refund_status
    assert [
        (each.refund_id, each.amount_cents, each.status, each.provider_ref, each.code)
        for each in row.refunds
    ] == [
        (refund_id, each.amount_cents, each.state, each.provider_ref, each.code)
        for refund_id, each in state.refunds.items()
    ]
    assert row.client_secret == state.client_secret_ref
    assert (row.version, len(row.history), row.updated_at) == (
        len(story),
        len(story),
        at(len(story)),
    )


def test_a_payment_that_needs_the_buyer_tells_where_to_go() -> None:
    payment = payment_after(payment_requested(), SUBMITTED, ACTION)
    assert (payment.redirect_url, payment.client_secret) == ("http://3ds", "secret_2")
    assert payment_after(payment_requested(), SUBMITTED, ACTION, CAPTURED).redirect_url is None


def test_a_failure_is_shown_until_the_next_try() -> None:
    failed = payment_after(payment_requested(), SUBMITTED, FAILED)
    assert (failed.code, failed.detail) == ("card_declined", "no funds")
    again = payment_after(payment_requested(), SUBMITTED, FAILED, ATTACHED)
    assert (again.code, again.detail, again.status) == (None, None, "REQUESTED")


def test_the_history_tells_each_step() -> None:
    history = payment_after(payment_requested(), SUBMITTED, FAILED, ATTACHED, NOTICE).history
    assert [(each.status, each.method, each.attempt, each.code) for each in history] == [
        ("REQUESTED", "card", None, None),
        ("PROCESSING", None, 1, None),
        ("FAILED", None, None, "card_declined"),
        ("REQUESTED", "card", None, None),
        (None, None, None, None),
    ]
    assert history[-1].detail == "payment_intent.succeeded: applied"


def test_a_refund_that_failed_changes_nothing_but_the_history() -> None:
    before = payment_after(payment_requested(), CAPTURED, ASKED)
    after = payment_after(
        payment_requested(),
        CAPTURED,
        ASKED,
        PaymentRefundFailed(refund_id=some_id("refund"), code="x"),
    )
    assert (after.status, after.refunded_cents) == (before.status, 0) == ("CAPTURED", 0)
    assert after.history[-1].code == "x"


def test_a_deposit_is_captured_or_failed_as_an_orders_payment_is() -> None:
    deposit = payment_requested(order_id=None, transaction_id=some_id("transaction"))
    processed = PaymentProcessed(
        transaction_id=some_id("transaction"),
        amount_cents=1499,
        currency="USD",
        provider_ref="pi_1",
    )
    failed = DepositFailed(
        transaction_id=some_id("transaction"), buyer_id=BUYER, amount_cents=1499, currency="USD",
        code="card_declined", detail="no funds",
    )  # fmt: skip
    captured, refused = (
        payment_after(deposit, SUBMITTED, processed),
        payment_after(deposit, SUBMITTED, failed),
    )
    assert (captured.status, captured.provider_ref, captured.code) == ("CAPTURED", "pi_1", None)
    assert (refused.status, refused.code, refused.detail) == ("FAILED", "card_declined", "no funds")
    assert captured.transaction_id == some_id("transaction")
