"""Acts of operators: they begin, and end once."""

import pytest

from domain.acts import INTERRUPTED, Act, ActBegun, ActEnded, begin, end, evolve
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.named_texts import MAX_TEXT, MAX_TEXTS, NamedText
from tests.support.given_when_then import given, when

BEGUN = ActBegun(act="projection.rebuild", target="orders", reason="rows were wrong")


def test_an_act_begins_with_what_was_asked_for_and_why() -> None:
    asked = {"replace": "yes", "jobs": "4"}
    when(
        lambda: begin(
            "projection.rebuild", target="orders", reason="rows were wrong", details=asked
        )
    ).then(
        ActBegun(
            act="projection.rebuild",
            target="orders",
            reason="rows were wrong",
            details=(NamedText("jobs", "4"), NamedText("replace", "yes")),
        )
    )


@pytest.mark.parametrize(
    ("reason", "code"), [(" \u200b ", "reason_required"), ("x" * 1_001, "reason_too_long")]
)
def test_a_reason_that_says_nothing_or_too_much_is_refused(reason: str, code: str) -> None:
    asked = when(lambda: begin("keys.rotate", target=None, reason=reason, details={}))
    asked.then_refused(Invalid, code)


def done(act: Act) -> list[Event]:
    return end(act, affected=3, error=None, details={"storage": "orders_2"})


def test_an_act_ends_once() -> None:
    ended = ActEnded(affected=3, details=(NamedText("storage", "orders_2"),))
    given(evolve, BEGUN).when(done).then(ended)
    given(evolve, BEGUN, ActEnded(error="it stopped")).when(done).then_nothing()


def test_one_that_was_given_up_too_early_still_ends() -> None:
    ended = ActEnded(affected=3, details=(NamedText("storage", "orders_2"),))
    given(evolve, BEGUN, ActEnded(error=INTERRUPTED)).when(done).then(ended)
    given(evolve, BEGUN, ActEnded(error=INTERRUPTED), ended).when(done).then_nothing()


def test_one_that_ended_is_not_given_up_nor_one_given_up_twice() -> None:
    def give_up(act: Act) -> list[Event]:
        return end(act, affected=None, error=INTERRUPTED, details={})

    given(evolve, BEGUN).when(give_up).then(ActEnded(error=INTERRUPTED))
    given(evolve, BEGUN, ActEnded(affected=1)).when(give_up).then_nothing()
    given(evolve, BEGUN, ActEnded(error=INTERRUPTED)).when(give_up).then_nothing()


def test_what_has_not_begun_does_not_end() -> None:
    ended = when(lambda: end(None, affected=None, error=None, details={}))
    ended.then_refused(Conflict, "act_not_begun")


def test_what_is_recorded_is_bounded() -> None:
    (begun,) = begin("load.games", target="x" * 9_999, reason=None, details={})
    (ended,) = end(
        evolve(None, begun),
        affected=0,
        error="e" * 9_999,
        details={f"{n:03}": "d" * 9_999 for n in range(99)},
    )
    assert isinstance(begun, ActBegun)
    assert isinstance(ended, ActEnded)
    assert begun.target is not None
    assert (len(begun.target), begun.target[-1]) == (300, "…")
    assert ended.error is not None
    assert len(ended.error) == MAX_TEXT
    assert [len(each.text) for each in ended.details] == [MAX_TEXT] * MAX_TEXTS
