"""A refund from the request to its end, for the provider's reports in any order."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given as for_any
from hypothesis import settings
from hypothesis import strategies as st

from domain import payments
from domain.errors import Conflict, NotFound, Refused
from domain.events import Event
from domain.ids import derived
from domain.payments import (
    Method,
    NoticedIntent,
    Payment,
    PaymentCaptured,
    PaymentNoticeReceived,
    PaymentRefundAccepted,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
    PaymentRequested,
    evolve,
    refunds,
)
from domain.payments.events import RefundState
from domain.payments.refunds import MAX_REFUNDS, NoticedRefund
from tests.support.given_when_then import NOON, an_id, fold, given

ORDER, BUYER, OURS, AGAIN = an_id("order"), an_id("buyer"), an_id("refund"), an_id("another refund")
REQUESTED = PaymentRequested(
    buyer_id=BUYER,
    amount_cents=100,
    currency="USD",
    expires_at=NOON + timedelta(minutes=30),
    order_id=ORDER,
    method=Method("card", "pm_card_visa"),
)
CAPTURED = PaymentCaptured(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=100,
    currency="USD",
    method_type="card",
    provider="simulated",
    provider_ref="pi_1",
    user_id=BUYER,
)
ASKED = PaymentRefundRequested(refund_id=OURS, amount_cents=60, reason="regret")
ACCEPTED = PaymentRefundAccepted(refund_id=OURS, provider_ref="re_1")
GONE = PaymentRefunded(refund_id=OURS, amount_cents=60, provider_ref="re_1")
REFUSED = PaymentRefundFailed(refund_id=OURS, code="charge_disputed")
FAILED = PaymentRefundFailed(refund_id=OURS, code="expired_card", provider_ref="re_1")
CAME_BACK = PaymentRefundReversed(
    refund_id=OURS, amount_cents=60, code="expired_card", provider_ref="re_1"
)
PAID = (REQUESTED, CAPTURED)

Step = Callable[[Payment], list[Event]]


def stands(state: RefundState, ref: str | None = "re_1", code: str = "") -> Step:
    return lambda p: refunds.settle_refund(p, OURS, state, ref, code)


# -- from the request to the end -------------------------------------------------------------------


def test_a_refund_that_the_provider_took_on_has_not_gone() -> None:
    given(evolve, *PAID, ASKED).when(stands("PENDING")).then(ACCEPTED)
    payment = fold(evolve, *PAID, ASKED, ACCEPTED)
    assert (payment.status, payment.refunded_cents, payment.refundable_cents) == ("CAPTURED", 0, 40)
    assert payment.refund_status == "PENDING"


def test_it_has_gone_when_the_provider_says_so() -> None:
    for begun in ((ASKED,), (ASKED, ACCEPTED)):
        given(evolve, *PAID, *begun).when(stands("SUCCEEDED")).then(GONE)
    payment = fold(evolve, *PAID, ASKED, ACCEPTED, GONE)
    assert (payment.status, payment.refunded_cents, payment.refund_status) == (
        "PARTIALLY_REFUNDED",
        60,
        "SUCCEEDED",
    )


def test_one_that_failed_leaves_the_payment_as_it_was_and_is_tried_again_as_another() -> None:
    given(evolve, *PAID, ASKED, ACCEPTED).when(stands("FAILED", code="expired_card")).then(FAILED)
    given(evolve, *PAID, ASKED).when(stands("FAILED")).then(
        PaymentRefundFailed(refund_id=OURS, code="refund_failed", provider_ref="re_1")
    )
    payment = fold(evolve, *PAID, ASKED, ACCEPTED, FAILED)
    assert (payment.status, payment.refunded_cents, payment.refundable_cents) == (
        "CAPTURED",
        0,
        100,
    )
    assert payment.refund_status == "FAILED"
    once_more = PaymentRefundRequested(refund_id=AGAIN, amount_cents=60, reason="once more")
    given(evolve, *PAID, ASKED, ACCEPTED, FAILED).when(
        lambda p: refunds.request_refund(p, AGAIN, 60, "once more")
    ).then(once_more)
    assert fold(evolve, *PAID, ASKED, ACCEPTED, FAILED, once_more).refund_status == "PENDING"


@pytest.mark.parametrize("end", [GONE, FAILED])
@pytest.mark.parametrize("said", ["PENDING", "SUCCEEDED"])
def test_what_is_heard_after_the_end_is_old_news(end: Event, said: RefundState) -> None:
    given(evolve, *PAID, ASKED, end).when(stands(said)).then_nothing()


def test_money_that_the_buyers_bank_sent_back_has_not_gone_after_all() -> None:
    given(evolve, *PAID, ASKED, GONE).when(stands("FAILED", code="expired_card")).then(CAME_BACK)
    payment = fold(evolve, *PAID, ASKED, GONE, CAME_BACK)
    assert (payment.status, payment.refunded_cents, payment.refundable_cents) == (
        "CAPTURED",
        0,
        100,
    )
    given(evolve, *PAID, ASKED, GONE, CAME_BACK).when(stands("FAILED")).then_nothing()
    given(evolve, *PAID, ASKED, GONE, CAME_BACK).when(stands("SUCCEEDED")).then_nothing()


def test_one_that_the_provider_refused_may_go_through_yet_but_not_once_it_failed_for_good() -> None:
    given(evolve, *PAID, ASKED, REFUSED).when(stands("SUCCEEDED")).then(GONE)
    given(evolve, *PAID, ASKED, REFUSED).when(stands("FAILED", code="expired_card")).then(FAILED)
    given(evolve, *PAID, ASKED, REFUSED, FAILED).when(stands("SUCCEEDED")).then_nothing()


@pytest.mark.parametrize("state", ["PENDING", "SUCCEEDED", "FAILED"])
def test_an_unknown_refund_is_not_found(state: RefundState) -> None:
    given(evolve, *PAID).when(stands(state)).then_refused(NotFound, "refund_not_found")


# -- the provider's reports ------------------------------------------------------------------------


def heard(
    state: RefundState, ref: str = "re_1", cents: int = 60, *, ours: bool = True, event: str = "evt"
) -> Step:
    seen = NoticedRefund(
        provider_ref=ref, amount_cents=cents, state=state, code="", refund_id=OURS if ours else None
    )
    return lambda p: payments.apply_refund_notice(
        p, event, "refund.updated", seen, provider="simulated", intent_ref="pi_1"
    )


def noted(outcome: str = "applied") -> PaymentNoticeReceived:
    return PaymentNoticeReceived(provider_event_id="evt", type="refund.updated", outcome=outcome)  # type: ignore[arg-type]


def test_a_notice_says_how_our_refund_stands() -> None:
    given(evolve, *PAID, ASKED).when(heard("PENDING")).then(noted(), ACCEPTED)
    given(evolve, *PAID, ASKED, ACCEPTED).when(heard("SUCCEEDED")).then(noted(), GONE)
    given(evolve, *PAID, ASKED, ACCEPTED).when(heard("SUCCEEDED", ours=False)).then(noted(), GONE)
    given(evolve, *PAID, ASKED, GONE).when(heard("SUCCEEDED")).then(noted("ignored"))
    given(evolve, *PAID, ASKED, noted(), GONE).when(heard("SUCCEEDED")).then_nothing()


def test_a_refund_made_by_hand_is_recorded_and_goes_its_way() -> None:
    by_hand = derived("refund.noticed", "re_9")
    asked = PaymentRefundRequested(
        refund_id=by_hand, amount_cents=30, reason="refunded_at_provider"
    )
    accepted = PaymentRefundAccepted(refund_id=by_hand, provider_ref="re_9")
    gone = PaymentRefunded(refund_id=by_hand, amount_cents=30, provider_ref="re_9")
    failed = PaymentRefundFailed(refund_id=by_hand, code="refund_failed", provider_ref="re_9")
    for state, end in (("PENDING", accepted), ("SUCCEEDED", gone), ("FAILED", failed)):
        given(evolve, *PAID).when(heard(state, "re_9", 30, ours=False)).then(noted(), asked, end)  # type: ignore[arg-type]
    given(evolve, *PAID, asked, accepted).when(heard("SUCCEEDED", "re_9", 30, ours=False)).then(
        noted(), gone
    )


def test_a_refund_that_a_sum_already_included_is_not_counted_twice() -> None:
    told = derived("refund.noticed", "evt_sum")
    sum_of_it = (
        PaymentRefundRequested(refund_id=told, amount_cents=30, reason="refunded_at_provider"),
        PaymentRefunded(refund_id=told, amount_cents=30),
    )
    given(evolve, *PAID, *sum_of_it).when(heard("SUCCEEDED", "re_9", 30, ours=False)).then(
        noted(), PaymentRefundAccepted(refund_id=told, provider_ref="re_9")
    )
    given(evolve, *PAID, *sum_of_it).when(heard("SUCCEEDED", "re_9", 10, ours=False)).then(
        noted("ignored")
    )


def test_who_hears_of_a_refund_before_the_payment_records_both() -> None:
    by_hand = derived("refund.noticed", "re_9")
    given(evolve, REQUESTED).when(heard("SUCCEEDED", "re_9", 30, ours=False)).then(
        noted(),
        CAPTURED,
        PaymentRefundRequested(refund_id=by_hand, amount_cents=30, reason="refunded_at_provider"),
        PaymentRefunded(refund_id=by_hand, amount_cents=30, provider_ref="re_9"),
    )


def test_a_refund_asked_for_without_its_id_is_known_by_there_being_no_money_for_another() -> None:
    whole = PaymentRefundRequested(refund_id=OURS, amount_cents=100, reason="regret")
    gone = PaymentRefunded(refund_id=OURS, amount_cents=100, provider_ref="re_1")
    given(evolve, *PAID, whole).when(heard("SUCCEEDED", cents=100, ours=False)).then(noted(), gone)


def test_what_a_wallet_paid_is_not_given_back_by_a_provider() -> None:
    by_wallet = PaymentRequested(
        buyer_id=BUYER,
        amount_cents=100,
        currency="USD",
        expires_at=NOON,
        order_id=ORDER,
        method=Method("wallet", str(an_id("wallet"))),
    )
    given(evolve, by_wallet, CAPTURED).when(heard("SUCCEEDED", ours=False)).then(noted("ignored"))


# -- in any order ----------------------------------------------------------------------------------


def play(steps: Sequence[Step], *begun: Event) -> tuple[Payment, list[Event]]:
    log: list[Event] = [REQUESTED, *begun]
    for step in steps:
        with suppress(Refused):
            log += step(fold(evolve, *log))
    return fold(evolve, *log), log


def told_of_the_sum(cents: int, event: str) -> Step:
    says = NoticedIntent(
        provider="simulated",
        provider_ref="pi_1",
        amount_cents=100,
        currency="usd",
        refunded_cents=cents,
    )
    return lambda p: payments.apply_notice(p, event, "charge.refunded", says)


def paid(event: str) -> Step:
    says = NoticedIntent(
        provider="simulated", provider_ref="pi_1", amount_cents=100, currency="usd"
    )
    return lambda p: payments.apply_notice(p, event, "payment_intent.succeeded", says)


ENDS: dict[str, tuple[list[Step], int]] = {
    "it succeeded": ([heard("SUCCEEDED", event="evt_3"), stands("SUCCEEDED")], 60),
    "it failed": ([heard("FAILED", event="evt_3"), stands("FAILED")], 0),
    "it succeeded, and the bank sent it back": (
        [heard("SUCCEEDED", event="evt_3"), heard("FAILED", event="evt_4"), stands("SUCCEEDED")],
        0,
    ),
}


@pytest.mark.parametrize("end", ENDS)
@settings(max_examples=100)
@for_any(data=st.data())
def test_our_refund_ends_the_same_in_any_order_of_what_tells_of_it_and_with_any_repeats(
    end: str, data: st.DataObject
) -> None:
    last, refunded = ENDS[end]
    tells = [
        paid("evt_0"),
        heard("PENDING", event="evt_1"),
        told_of_the_sum(60, "evt_2"),
        stands("PENDING"),
        *last,
    ]
    order = data.draw(st.permutations(tells))
    again = data.draw(st.lists(st.sampled_from(tells), max_size=8))
    payment, log = play([*order, *again], CAPTURED, ASKED)
    assert (payment.refunded_cents, payment.refundable_cents) == (refunded, 100 - refunded)
    assert payment.refund_status == ("SUCCEEDED" if refunded else "FAILED")
    assert sum(isinstance(event, PaymentCaptured) for event in log) == 1


@settings(max_examples=150)
@for_any(st.permutations(range(5)), st.lists(st.sampled_from(range(5)), max_size=8))
def test_refunds_by_hand_end_the_same_in_any_order_of_what_tells_of_them(
    order: list[int], again: list[int]
) -> None:
    tells = [
        paid("evt_0"),
        heard("PENDING", "re_9", 30, ours=False, event="evt_1"),
        heard("SUCCEEDED", "re_9", 30, ours=False, event="evt_2"),
        heard("SUCCEEDED", "re_8", 20, ours=False, event="evt_3"),
        told_of_the_sum(50, "evt_4"),
    ]
    payment, log = play([tells[n] for n in [*order, *again]])
    assert (payment.status, payment.refunded_cents, payment.refundable_cents) == (
        "PARTIALLY_REFUNDED",
        50,
        50,
    )
    assert sum(isinstance(event, PaymentCaptured) for event in log) == 1


ANYTHING: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        heard,
        st.sampled_from(["PENDING", "SUCCEEDED", "FAILED"]),
        st.sampled_from(["re_1", "re_2", "re_3"]),
        st.integers(0, 110),
        ours=st.booleans(),
        event=st.sampled_from([f"evt_{n}" for n in range(20)]),
    ),
    st.builds(
        stands, st.sampled_from(["PENDING", "SUCCEEDED", "FAILED"]), st.sampled_from([None, "re_1"])
    ),
    st.builds(
        told_of_the_sum, st.integers(0, 100), st.sampled_from([f"evt_{n}" for n in range(20)])
    ),
    st.builds(paid, st.sampled_from([f"evt_{n}" for n in range(20)])),
    st.builds(
        lambda id, cents: lambda p: refunds.request_refund(p, id, cents, "why"),
        st.sampled_from([OURS, AGAIN]),
        st.integers(1, 100),
    ),
)


@settings(max_examples=300)
@for_any(st.lists(ANYTHING, max_size=30))
def test_no_more_goes_back_than_came_whatever_is_said(steps: list[Step]) -> None:
    payment, log = play(steps)
    came = sum(event.amount_cents for event in log if isinstance(event, PaymentCaptured))
    gone = sum(event.amount_cents for event in log if isinstance(event, PaymentRefunded))
    back = sum(event.amount_cents for event in log if isinstance(event, PaymentRefundReversed))
    assert came in {0, 100}
    assert payment.refunded_cents == gone - back
    assert 0 <= payment.refunded_cents <= came
    assert 0 <= payment.refundable_cents <= came - payment.refunded_cents


def test_more_than_came_is_refused() -> None:
    given(evolve, *PAID, ASKED, REFUSED, PaymentRefundRequested(AGAIN, 100, "all")).when(
        stands("SUCCEEDED")
    ).then_refused(Conflict, "refund_exceeds_capture")


def test_a_payment_goes_back_in_many_parts_and_then_the_rest_at_once() -> None:
    parts = [
        event
        for n in range(MAX_REFUNDS)
        for event in (
            PaymentRefundRequested(refund_id=an_id(f"part {n}"), amount_cents=1, reason="x"),
            PaymentRefunded(refund_id=an_id(f"part {n}"), amount_cents=1),
        )
    ]
    much = [msgspec.structs.replace(event, amount_cents=10 * MAX_REFUNDS) for event in PAID]
    payment, rest = fold(evolve, *much, *parts), 9 * MAX_REFUNDS
    with pytest.raises(Conflict) as refused:
        refunds.request_refund(payment, an_id("another"), 1, "x")
    assert (refused.value.code, refused.value.extra) == (
        "too_many_refunds",
        {"refundable_cents": rest},
    )
    assert refunds.request_refund(payment, an_id("another"), rest, "x") == [
        PaymentRefundRequested(refund_id=an_id("another"), amount_cents=rest, reason="x")
    ]
