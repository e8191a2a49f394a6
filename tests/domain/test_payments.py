from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain import payments
from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event
from domain.ids import derived
from domain.payments import (
    MAX_FAILURES,
    Method,
    NoticedIntent,
    Outcome,
    Payment,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentIntentCreated,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentProcessing,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRequested,
    PaymentSubmitted,
    evolve,
    refunds,
)
from tests.support.given_when_then import NOON, an_id, fold, given, when

ORDER, BUYER, R1, R2 = an_id("order"), an_id("buyer"), an_id("refund 1"), an_id("refund 2")
DEADLINE = NOON + timedelta(minutes=30)
VISA, OTHER = (
    Method(type="card", token_ref="pm_card_visa"),
    Method(type="card", token_ref="pm_other"),
)
PAYMENT, GAMES = an_id("payment"), (an_id("game"),)
ASKED: dict[str, Any] = {
    "buyer_id": BUYER,
    "amount_cents": 1999,
    "currency": "USD",
    "order_id": ORDER,
    "expires_at": DEADLINE,
}
BARE = PaymentRequested(**ASKED, payment_id=PAYMENT, game_ids=GAMES)
REQUESTED = msgspec.structs.replace(BARE, method=VISA)
FREE = msgspec.structs.replace(BARE, amount_cents=0)
SUBMITTED = PaymentSubmitted(provider="simulated", attempt=1)
INTENT = PaymentIntentCreated(provider="simulated", provider_ref="pi_1", client_secret_ref="s_1")
ACTION = PaymentActionRequired(
    provider_ref="pi_1", redirect_url="https://3ds.example/1", client_secret_ref="s_1"
)
CAPTURED = PaymentCaptured(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=1999,
    currency="USD",
    method_type="card",
    provider="simulated",
    provider_ref="pi_1",
    user_id=BUYER,
    game_ids=GAMES,
    transaction_id=PAYMENT,
)
FAILED = PaymentFailed(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=1999,
    currency="USD",
    code="card_declined",
    detail="no",
    user_id=BUYER,
    game_ids=GAMES,
    transaction_id=PAYMENT,
)
CANCELLED = PaymentIntentCancelled(reason="order_cancelled", provider_ref="pi_1")
REFUND_1 = PaymentRefundRequested(refund_id=R1, amount_cents=1000, reason="regret")
REFUNDED_1 = PaymentRefunded(refund_id=R1, amount_cents=1000, provider_ref="re_1")
REFUND_1_FAILED = PaymentRefundFailed(refund_id=R1, code="closed_card")
WHOLE = PaymentRefundRequested(refund_id=R2, amount_cents=1999, reason="late")
PAID = (REQUESTED, SUBMITTED, CAPTURED)
RUNNING = [(REQUESTED,), (REQUESTED, SUBMITTED), (REQUESTED, SUBMITTED, ACTION)]
SETTLED = [PAID, (*PAID, REFUND_1, REFUNDED_1), (BARE, CANCELLED), (REQUESTED, FAILED, CANCELLED)]
INTENT_SAYS = NoticedIntent(
    provider="simulated",
    provider_ref="pi_1",
    amount_cents=1999,
    currency="usd",
    redirect_url="https://3ds.example/1",
    client_secret_ref="s_1",
    code="card_declined",
    detail="no",
)


def capture(payment: Payment) -> list[Event]:
    return payments.capture(payment, "card", provider="simulated", provider_ref="pi_1")


def fail(payment: Payment) -> list[Event]:
    return payments.fail(payment, "card_declined", "no")


def notice(
    type: str, id: str = "evt_1", says: NoticedIntent = INTENT_SAYS
) -> Callable[[Payment], list[Event]]:
    return lambda payment: payments.apply_notice(payment, id, type, says)


def noted(type: str, outcome: Outcome, id: str = "evt_1") -> PaymentNoticeReceived:
    return PaymentNoticeReceived(provider_event_id=id, type=type, outcome=outcome)


# -- asking ----------------------------------------------------------------------------------------


def test_an_order_asks_for_its_money() -> None:
    when(
        lambda: payments.request(
            order_id=ORDER,
            buyer_id=BUYER,
            amount_cents=1999,
            currency="USD",
            expires_at=DEADLINE,
            method=VISA,
            payment_id=PAYMENT,
            game_ids=GAMES,
        )
    ).then(REQUESTED)


def test_a_payment_asked_for_by_an_older_program_is_captured_without_what_it_does_not_know() -> (
    None
):
    old = PaymentRequested(**ASKED, method=VISA)
    (captured,) = given(evolve, old).when(capture).decided()
    assert isinstance(captured, PaymentCaptured)
    assert (captured.user_id, captured.game_ids, captured.transaction_id) == (BUYER, (), None)


@pytest.mark.parametrize(
    ("amount_cents", "currency", "code"),
    [(-1, "USD", "invalid_amount"), (1, "$", "invalid_currency")],
)
def test_money_that_cannot_be_is_not_asked_for(amount_cents: int, currency: str, code: str) -> None:
    when(
        lambda: payments.request(
            order_id=ORDER,
            buyer_id=BUYER,
            amount_cents=amount_cents,
            currency=currency,
            expires_at=DEADLINE,
        )
    ).then_refused(Invalid, code)


def test_a_payment_without_a_method_takes_one() -> None:
    for history in [(BARE,), (BARE, INTENT)]:
        given(evolve, *history).when(lambda p: payments.attach_method(p, VISA, NOON)).then(
            PaymentMethodAttached(method=VISA)
        )


def test_a_payment_that_failed_takes_another_method_and_starts_over() -> None:
    again = (REQUESTED, SUBMITTED, FAILED)
    given(evolve, *again).when(lambda p: payments.attach_method(p, OTHER, NOON)).then(
        PaymentMethodAttached(method=OTHER)
    )
    payment = fold(evolve, *again, PaymentMethodAttached(method=OTHER))
    assert (payment.status, payment.method, payment.attempt) == ("REQUESTED", OTHER, 0)


def test_a_payment_is_not_tried_for_ever() -> None:
    tries = [
        event
        for _ in range(MAX_FAILURES)
        for event in (PaymentMethodAttached(method=VISA), SUBMITTED, FAILED)
    ]
    given(evolve, BARE, *tries).when(lambda p: payments.attach_method(p, OTHER, NOON)).then_refused(
        Conflict, "too_many_tries"
    )
    given(evolve, BARE, *tries[3:]).when(lambda p: payments.attach_method(p, OTHER, NOON)).then(
        PaymentMethodAttached(method=OTHER)
    )


@pytest.mark.parametrize("history", [*RUNNING, *SETTLED])
def test_a_payment_that_runs_or_is_settled_takes_no_other_method(
    history: tuple[Event, ...],
) -> None:
    given(evolve, *history).when(lambda p: payments.attach_method(p, OTHER, NOON)).then_refused(
        Conflict, "payment_started"
    )


def test_an_overdue_payment_is_not_started_any_more() -> None:
    given(evolve, BARE).when(lambda p: payments.attach_method(p, VISA, DEADLINE)).then_refused(
        Conflict, "payment_expired"
    )
    given(evolve, REQUESTED).when(
        lambda p: payments.submit(p, "simulated", 1, DEADLINE)
    ).then_refused(Conflict, "payment_expired")


def test_each_attempt_at_the_provider_is_noted_once() -> None:
    given(evolve, REQUESTED).when(lambda p: payments.submit(p, "simulated", 1, NOON)).then(
        SUBMITTED
    )
    running = given(evolve, REQUESTED, SUBMITTED)
    running.when(lambda p: payments.submit(p, "simulated", 1, NOON)).then_nothing()
    running.when(lambda p: payments.submit(p, "simulated", 2, NOON)).then(
        PaymentSubmitted(provider="simulated", attempt=2)
    )


def test_nothing_is_submitted_while_the_buyer_must_act() -> None:
    given(evolve, REQUESTED, SUBMITTED, ACTION).when(
        lambda p: payments.submit(p, "simulated", 2, NOON)
    ).then_nothing()


def test_nothing_is_submitted_without_a_method() -> None:
    given(evolve, BARE).when(lambda p: payments.submit(p, "simulated", 1, NOON)).then_refused(
        Conflict, "payment_method_required"
    )


@pytest.mark.parametrize("history", [*SETTLED, (REQUESTED, FAILED)])
def test_a_settled_payment_is_not_submitted(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(lambda p: payments.submit(p, "simulated", 2, NOON)).then_refused(
        Conflict, "payment_settled"
    )


def test_the_providers_intent_is_recorded_once_whatever_became_of_the_payment() -> None:
    def record(payment: Payment) -> list[Event]:
        return payments.record_intent(
            payment, provider="simulated", provider_ref="pi_1", client_secret_ref="s_1"
        )

    given(evolve, BARE).when(record).then(INTENT)
    given(evolve, BARE, INTENT).when(record).then_nothing()
    given(evolve, BARE, PaymentIntentCancelled(reason="expired")).when(record).then(INTENT)
    payment = fold(evolve, BARE, INTENT)
    assert (payment.status, payment.provider_ref, payment.client_secret_ref) == (
        "REQUESTED",
        "pi_1",
        "s_1",
    )


def test_a_payment_has_one_intent() -> None:
    given(evolve, BARE, INTENT).when(
        lambda p: payments.record_intent(
            p, provider="simulated", provider_ref="pi_2", client_secret_ref="s_2"
        )
    ).then_refused(Conflict, "intent_exists")


# -- outcomes --------------------------------------------------------------------------------------


def require(payment: Payment) -> list[Event]:
    return payments.require_action(
        payment, provider_ref="pi_1", redirect_url="https://3ds.example/1", client_secret_ref="s_1"
    )


def test_the_buyer_is_sent_to_prove_themselves_once() -> None:
    given(evolve, REQUESTED, SUBMITTED).when(require).then(ACTION)
    given(evolve, REQUESTED, SUBMITTED, ACTION).when(require).then_nothing()
    payment = fold(evolve, REQUESTED, SUBMITTED, ACTION)
    assert (payment.status, payment.redirect_url) == ("REQUIRES_ACTION", "https://3ds.example/1")


@pytest.mark.parametrize("history", [*SETTLED, (REQUESTED, FAILED)])
def test_a_settled_payment_needs_no_action(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(require).then_nothing()


@pytest.mark.parametrize("history", [(BARE,), *RUNNING])
def test_an_open_payment_is_captured(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(capture).then(CAPTURED)
    payment = fold(evolve, *history, CAPTURED)
    assert (payment.status, payment.refundable_cents) == ("CAPTURED", 1999)


@pytest.mark.parametrize("history", [PAID, (*PAID, REFUND_1, REFUNDED_1)])
def test_a_payment_is_captured_once(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(capture).then_nothing()


@pytest.mark.parametrize(
    "history", [(REQUESTED, FAILED), (REQUESTED, FAILED, CANCELLED), (BARE, CANCELLED)]
)
def test_money_that_comes_late_is_recorded_so_that_it_can_go_back(
    history: tuple[Event, ...],
) -> None:
    given(evolve, *history).when(capture).then(CAPTURED)
    given(evolve, *history, CAPTURED).when(
        lambda p: refunds.request_refund(p, R2, 1999, "late")
    ).then(WHOLE)


def test_what_costs_nothing_is_captured_as_free() -> None:
    captured = msgspec.structs.replace(
        CAPTURED, amount_cents=0, method_type="free", provider=None, provider_ref=None
    )
    given(evolve, FREE).when(lambda p: payments.capture(p, "free")).then(captured)


def test_what_has_a_price_is_not_captured_as_free() -> None:
    given(evolve, BARE).when(lambda p: payments.capture(p, "free")).then_refused(
        Conflict, "payment_not_free"
    )


@pytest.mark.parametrize("history", [(BARE,), *RUNNING])
def test_an_open_payment_can_fail(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(fail).then(FAILED)
    payment = fold(evolve, *history, FAILED)
    assert (payment.status, payment.failure_code, payment.failure_detail) == (
        "FAILED",
        "card_declined",
        "no",
    )


@pytest.mark.parametrize("history", [*SETTLED, (REQUESTED, FAILED)])
def test_a_failure_after_the_outcome_is_ignored(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(fail).then_nothing()


def test_a_second_try_after_a_failure_can_succeed() -> None:
    history = (REQUESTED, SUBMITTED, FAILED, PaymentMethodAttached(method=OTHER), SUBMITTED)
    given(evolve, *history).when(capture).then(CAPTURED)


def test_cancelling_closes_an_open_payment() -> None:
    given(evolve, BARE, INTENT).when(lambda p: payments.cancel_intent(p, "order_cancelled")).then(
        CANCELLED
    )
    given(evolve, BARE).when(lambda p: payments.cancel_intent(p, "order_cancelled")).then(
        PaymentIntentCancelled(reason="order_cancelled")
    )
    assert fold(evolve, BARE, CANCELLED).status == "CANCELLED"


def test_cancelling_after_a_failure_leaves_it_failed_and_allows_no_further_try() -> None:
    given(evolve, BARE, INTENT, FAILED).when(
        lambda p: payments.cancel_intent(p, "order_cancelled")
    ).then(CANCELLED)
    payment = fold(evolve, BARE, INTENT, FAILED, CANCELLED)
    assert (payment.status, payment.closed) == ("FAILED", True)


@pytest.mark.parametrize("history", SETTLED)
def test_what_is_captured_or_cancelled_is_not_cancelled(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(
        lambda p: payments.cancel_intent(p, "order_cancelled")
    ).then_nothing()


# -- refunds ---------------------------------------------------------------------------------------


def test_a_refund_is_requested_once() -> None:
    given(evolve, *PAID).when(lambda p: refunds.request_refund(p, R1, 1000, "regret")).then(
        REFUND_1
    )
    given(evolve, *PAID, REFUND_1).when(
        lambda p: refunds.request_refund(p, R1, 1000, "regret")
    ).then_nothing()


def test_refunds_on_their_way_count_against_what_was_captured() -> None:
    refused = given(evolve, *PAID, REFUND_1).when(
        lambda p: refunds.request_refund(p, R2, 1000, "more")
    )
    assert refused.then_refused(Conflict, "refund_exceeds_capture").extra == {
        "refundable_cents": 999
    }
    given(evolve, *PAID, REFUND_1).when(lambda p: refunds.request_refund(p, R2, 999, "rest")).then(
        PaymentRefundRequested(refund_id=R2, amount_cents=999, reason="rest")
    )


def test_a_refund_that_failed_no_longer_counts() -> None:
    given(evolve, *PAID, REFUND_1, REFUND_1_FAILED).when(
        lambda p: refunds.request_refund(p, R2, 1999, "late")
    ).then(WHOLE)


@pytest.mark.parametrize("history", [(REQUESTED,), (REQUESTED, FAILED), (BARE, CANCELLED)])
def test_what_was_not_captured_is_not_refunded(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(lambda p: refunds.request_refund(p, R1, 1, "regret")).then_refused(
        Conflict, "payment_not_captured"
    )


@pytest.mark.parametrize("amount_cents", [0, -5])
def test_a_refund_is_of_something(amount_cents: int) -> None:
    given(evolve, *PAID).when(
        lambda p: refunds.request_refund(p, R1, amount_cents, "regret")
    ).then_refused(Invalid, "invalid_amount")


def test_a_free_payment_is_refunded_once_by_nothing() -> None:
    captured = msgspec.structs.replace(CAPTURED, amount_cents=0, method_type="free")
    asked = PaymentRefundRequested(refund_id=R1, amount_cents=0, reason="regret")
    done = PaymentRefunded(refund_id=R1, amount_cents=0)
    given(evolve, FREE, captured).when(lambda p: refunds.request_refund(p, R1, 0, "regret")).then(
        asked
    )
    assert fold(evolve, FREE, captured, asked, done).status == "REFUNDED"
    given(evolve, FREE, captured, asked, done).when(
        lambda p: refunds.request_refund(p, R2, 0, "again")
    ).then_refused(Conflict, "refund_exceeds_capture")


def test_money_goes_back_once() -> None:
    given(evolve, *PAID, REFUND_1).when(lambda p: refunds.complete_refund(p, R1, "re_1")).then(
        REFUNDED_1
    )
    given(evolve, *PAID, REFUND_1, REFUNDED_1).when(
        lambda p: refunds.complete_refund(p, R1, "re_1")
    ).then_nothing()


def test_refunds_add_up_to_a_full_one() -> None:
    partly = fold(evolve, *PAID, REFUND_1, REFUNDED_1)
    assert (partly.status, partly.refunded_cents, partly.refundable_cents) == (
        "PARTIALLY_REFUNDED",
        1000,
        999,
    )
    rest = PaymentRefundRequested(refund_id=R2, amount_cents=999, reason="rest")
    done = PaymentRefunded(refund_id=R2, amount_cents=999)
    assert fold(evolve, *PAID, REFUND_1, REFUNDED_1, rest, done).status == "REFUNDED"


def test_a_refund_fails_once_and_not_after_it_went_through() -> None:
    given(evolve, *PAID, REFUND_1).when(lambda p: refunds.fail_refund(p, R1, "closed_card")).then(
        REFUND_1_FAILED
    )
    for end in (REFUND_1_FAILED, REFUNDED_1):
        given(evolve, *PAID, REFUND_1, end).when(
            lambda p: refunds.fail_refund(p, R1, "closed_card")
        ).then_nothing()


def test_a_refund_thought_failed_that_went_through_is_recorded_if_no_other_took_its_place() -> None:
    failed = (*PAID, REFUND_1, REFUND_1_FAILED)
    given(evolve, *failed).when(lambda p: refunds.complete_refund(p, R1, "re_1")).then(REFUNDED_1)
    given(evolve, *failed, WHOLE).when(
        lambda p: refunds.complete_refund(p, R1, "re_1")
    ).then_refused(Conflict, "refund_exceeds_capture")


def test_an_unknown_refund_is_not_found() -> None:
    given(evolve, *PAID).when(lambda p: refunds.complete_refund(p, R1)).then_refused(
        NotFound, "refund_not_found"
    )
    given(evolve, *PAID).when(lambda p: refunds.fail_refund(p, R1, "x")).then_refused(
        NotFound, "refund_not_found"
    )


# -- notices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "follows"),
    [
        ("payment_intent.succeeded", CAPTURED),
        ("payment_intent.payment_failed", FAILED),
        ("payment_intent.requires_action", ACTION),
        ("payment_intent.canceled", PaymentIntentCancelled(reason="provider", provider_ref="pi_1")),
    ],
)
def test_a_notice_is_noted_and_applied(type: str, follows: Event) -> None:
    given(evolve, REQUESTED, INTENT, SUBMITTED).when(notice(type)).then(
        noted(type, "applied"), follows
    )


@pytest.mark.parametrize(
    "type",
    [
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.canceled",
        "payment_intent.succeeded",
    ],
)
def test_a_notice_that_changes_nothing_of_a_captured_payment_is_noted_as_ignored(type: str) -> None:
    given(evolve, *PAID).when(notice(type)).then(noted(type, "ignored"))


def test_a_payment_whose_outcome_is_yet_to_come_is_processing() -> None:
    type, processing = (
        "payment_intent.processing",
        PaymentProcessing(provider="simulated", provider_ref="pi_1"),
    )
    for history in [(BARE,), (BARE, INTENT), (REQUESTED, SUBMITTED, ACTION)]:
        given(evolve, *history).when(notice(type)).then(noted(type, "applied"), processing)
        assert fold(evolve, *history, processing).status == "PROCESSING"
    given(evolve, REQUESTED, SUBMITTED).when(notice(type)).then(noted(type, "ignored"))


@pytest.mark.parametrize("token", ["zzz", str(an_id("wallet")), None])
def test_what_cost_nothing_is_paid_from_no_wallet_whatever_an_older_program_noted(
    token: str | None,
) -> None:
    free = msgspec.structs.replace(FREE, method=Method("wallet", token))
    assert fold(evolve, free, msgspec.structs.replace(CAPTURED, amount_cents=0)).wallet_id is None


def test_an_unknown_type_is_noted_as_ignored() -> None:
    given(evolve, REQUESTED).when(notice("customer.created")).then(
        noted("customer.created", "ignored")
    )


def test_a_repeated_notice_changes_nothing_and_does_not_grow_the_log() -> None:
    seen = (*PAID, noted("payment_intent.succeeded", "ignored"))
    given(evolve, *seen).when(notice("payment_intent.succeeded")).then_nothing()


def test_a_success_after_a_failure_still_captures() -> None:
    type = "payment_intent.succeeded"
    given(evolve, REQUESTED, FAILED).when(notice(type)).then(noted(type, "applied"), CAPTURED)


def test_the_echo_of_a_known_failure_does_not_fail_the_next_try() -> None:
    type = "payment_intent.payment_failed"
    second_try = (REQUESTED, SUBMITTED, FAILED, PaymentMethodAttached(method=OTHER), SUBMITTED)
    given(evolve, *second_try).when(notice(type)).then(noted(type, "ignored"))
    echoed = (*second_try, noted(type, "ignored"))
    given(evolve, *echoed).when(notice(type, "evt_2")).then(noted(type, "applied", "evt_2"), FAILED)


def test_a_capture_of_another_amount_than_asked_for_is_refused_loudly() -> None:
    for says in (
        msgspec.structs.replace(INTENT_SAYS, amount_cents=1),
        msgspec.structs.replace(INTENT_SAYS, currency="eur"),
    ):
        given(evolve, REQUESTED).when(notice("payment_intent.succeeded", says=says)).then_refused(
            Conflict, "amount_mismatch"
        )


def refunded(cents: int) -> NoticedIntent:
    """A notice that this much has been refunded in all."""
    return msgspec.structs.replace(INTENT_SAYS, refunded_cents=cents)


def by_hand(cents: int) -> tuple[Event, Event]:
    """A refund in a notice that nobody requested here."""
    refund_id = derived("refund.noticed", "evt_1")
    return (
        PaymentRefundRequested(
            refund_id=refund_id, amount_cents=cents, reason="refunded_at_provider"
        ),
        PaymentRefunded(refund_id=refund_id, amount_cents=cents),
    )


def test_a_notice_of_our_own_refund_says_nothing_new_before_our_call_returned_or_after() -> None:
    type = "charge.refunded"
    for history in ((*PAID, REFUND_1), (*PAID, REFUND_1, REFUNDED_1)):
        given(evolve, *history).when(notice(type, says=refunded(1000))).then(noted(type, "ignored"))


def test_money_that_was_sent_back_at_the_provider_is_recorded_as_far_as_it_is_news() -> None:
    type = "charge.refunded"
    given(evolve, *PAID).when(notice(type, says=refunded(500))).then(
        noted(type, "applied"), *by_hand(500)
    )
    given(evolve, *PAID, REFUND_1, REFUNDED_1).when(notice(type, says=refunded(1999))).then(
        noted(type, "applied"), *by_hand(999)
    )
    given(evolve, *PAID).when(notice(type, says=refunded(0))).then(noted(type, "ignored"))


def test_who_hears_of_the_refund_before_the_payment_records_both() -> None:
    type = "charge.refunded"
    given(evolve, REQUESTED, SUBMITTED).when(notice(type, says=refunded(1999))).then(
        noted(type, "applied"), CAPTURED, *by_hand(1999)
    )
    given(evolve, REQUESTED).when(
        notice(type, says=msgspec.structs.replace(refunded(1), amount_cents=1))
    ).then_refused(Conflict, "amount_mismatch")
