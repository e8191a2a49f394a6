"""The invariants of a payment hold for any events, in any order and with any repeats."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from domain import payments
from domain.errors import Refused
from domain.events import Event
from domain.payments import (
    Method,
    NoticedIntent,
    Payment,
    PaymentCaptured,
    PaymentNoticeReceived,
    PaymentRefunded,
    evolve,
    refunds,
)
from tests.support.given_when_then import NOON, an_id, fold

AMOUNT = 100
Step = Callable[[Payment], list[Event]]
TYPES = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.canceled",
    "charge.refunded",
    "customer.created",
]
refund_ids = st.sampled_from([an_id(f"refund {n}") for n in range(3)])
moments = st.sampled_from([NOON, NOON + timedelta(hours=1)])


def notice_step(id: str, type: str, amount_cents: int = AMOUNT, refunded_cents: int = 0) -> Step:
    intent = NoticedIntent(
        provider="simulated",
        provider_ref="pi_1",
        amount_cents=amount_cents,
        currency="usd",
        refunded_cents=refunded_cents,
    )
    return lambda p: payments.apply_notice(p, id, type, intent)


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda now: lambda p: payments.attach_method(p, Method("card", "pm"), now), moments),
    st.builds(
        lambda n, now: lambda p: payments.submit(p, "simulated", n, now), st.integers(1, 3), moments
    ),
    st.builds(
        lambda ref: (
            lambda p: payments.record_intent(
                p, provider="simulated", provider_ref=ref, client_secret_ref="s"
            )
        ),
        st.sampled_from(["pi_1", "pi_2"]),
    ),
    st.just(
        lambda p: payments.require_action(
            p, provider_ref="pi_1", redirect_url="u", client_secret_ref="s"
        )
    ),
    st.builds(
        lambda kind: lambda p: payments.capture(p, kind),
        st.sampled_from(["card", "wallet", "free"]),
    ),
    st.just(lambda p: payments.fail(p, "declined", "")),
    st.just(lambda p: payments.cancel_intent(p, "order_cancelled")),
    st.builds(
        lambda id, cents: lambda p: refunds.request_refund(p, id, cents, "why"),
        refund_ids,
        st.integers(-1, AMOUNT + 1),
    ),
    st.builds(lambda id: lambda p: refunds.complete_refund(p, id), refund_ids),
    st.builds(lambda id: lambda p: refunds.fail_refund(p, id, "closed"), refund_ids),
    st.builds(
        notice_step,
        st.sampled_from([f"evt_{n}" for n in range(6)]),
        st.sampled_from(TYPES),
        st.sampled_from([AMOUNT, AMOUNT, AMOUNT, 1]),
        st.integers(0, AMOUNT),
    ),
)


def requested(method: Method | None = None) -> list[Event]:
    return payments.request(
        order_id=an_id("order"),
        buyer_id=an_id("buyer"),
        amount_cents=AMOUNT,
        currency="USD",
        expires_at=NOON + timedelta(minutes=30),
        method=method,
    )


def play(path: list[Step]) -> tuple[Payment, list[Event]]:
    """Take each step, unless it is refused."""
    log = requested()
    for step in path:
        with suppress(Refused):
            log += step(fold(evolve, *log))
    return fold(evolve, *log), log


@settings(max_examples=150)
@given(st.lists(steps, max_size=40))
def test_a_payment_is_captured_once_and_never_gives_back_more_than_came(path: list[Step]) -> None:
    payment, log = play(path)
    captured = [e.amount_cents for e in log if isinstance(e, PaymentCaptured)]
    refunded = [e.amount_cents for e in log if isinstance(e, PaymentRefunded)]
    assert len(captured) <= 1
    assert payment.is_captured == bool(captured)
    assert sum(refunded) <= sum(captured)
    assert payment.refunded_cents == sum(refunded)
    assert 0 <= payment.refundable_cents <= AMOUNT
    assert (payment.status == "REFUNDED") == (bool(captured) and sum(refunded) == AMOUNT)


@settings(max_examples=150)
@given(st.lists(steps, max_size=40))
def test_each_notice_is_noted_once(path: list[Step]) -> None:
    _, log = play(path)
    noted = [e.provider_event_id for e in log if isinstance(e, PaymentNoticeReceived)]
    assert len(set(noted)) == len(noted)


@settings(max_examples=150)
@given(st.data())
def test_money_that_came_is_recorded_in_any_order_of_the_notices_and_with_any_repeats(
    data: st.DataObject,
) -> None:
    notices = [notice_step(f"evt_{type}", type) for type in TYPES]
    repeats = data.draw(st.lists(st.sampled_from(notices), max_size=10))
    arrived = data.draw(st.permutations(notices + repeats))
    payment, log = play(list(arrived))
    assert payment.status == "CAPTURED"
    assert sum(isinstance(e, PaymentCaptured) for e in log) == 1
    assert payment.notices == {f"evt_{type}" for type in TYPES}


REFUND = an_id("our refund")


def our_call_returned(payment: Payment) -> list[Event]:
    return payments.capture(payment, "card", provider="simulated", provider_ref="pi_1")


HISTORY: list[Step] = [
    notice_step("evt_1", "payment_intent.requires_action"),
    notice_step("evt_2", "payment_intent.payment_failed"),
    notice_step("evt_3", "payment_intent.succeeded"),
    notice_step("evt_4", "charge.refunded", refunded_cents=30),
    notice_step("evt_5", "charge.refunded", refunded_cents=70),
]
"""A first card failed, a second paid; then part of the money was refunded by hand, and again a part
of the rest."""


@settings(max_examples=150)
@given(
    st.permutations([*HISTORY, our_call_returned]), st.lists(st.sampled_from(HISTORY), max_size=10)
)
def test_a_history_in_any_order_and_with_any_repeats_ends_the_same(
    told: list[Step], again: list[Step]
) -> None:
    payment, log = play([*told, *again])
    assert (payment.status, payment.refunded_cents, payment.refundable_cents) == (
        "PARTIALLY_REFUNDED",
        70,
        30,
    )
    assert sum(isinstance(e, PaymentCaptured) for e in log) == 1
    assert payment.notices == {f"evt_{n}" for n in range(1, 6)}


@settings(max_examples=150)
@given(st.permutations(range(4)))
def test_our_own_refund_and_a_manual_one_are_distinguished_in_any_order_of_reports(
    order: list[int],
) -> None:
    paid = [
        notice_step("evt_1", "payment_intent.succeeded"),
        lambda p: refunds.request_refund(p, REFUND, 40, "why"),
    ]
    rest: list[Step] = [
        lambda p: refunds.complete_refund(p, REFUND),
        notice_step("evt_2", "charge.refunded", refunded_cents=40),
        notice_step("evt_3", "charge.refunded", refunded_cents=60),
        notice_step("evt_4", "payment_intent.canceled"),
    ]
    payment, log = play([*paid, *(rest[n] for n in order)])
    assert (payment.status, payment.refunded_cents) == ("PARTIALLY_REFUNDED", 60)
    assert sorted(e.amount_cents for e in log if isinstance(e, PaymentRefunded)) == [20, 40]


@settings(max_examples=150)
@given(st.lists(steps, max_size=20), steps)
def test_a_step_repeated_at_once_changes_nothing(path: list[Step], step: Step) -> None:
    once = play([*path, step])
    twice = play([*path, step, step])
    assert once == twice
