"""Alerts: raised, acknowledged by one, resolved; and raised again."""

import pytest

from domain.alerts import (
    AlertAcknowledged,
    AlertRaised,
    AlertResolved,
    Seen,
    acknowledge,
    evolve,
    raise_alert,
    resolve,
)
from domain.errors import Conflict, Invalid
from domain.named_texts import NamedText
from tests.support.given_when_then import given, when

SEEN = Seen("ludoteca", "ConsumerLate", {"consumer": "orders.2"}, "warning", "orders is late", "x")
RAISED = AlertRaised(
    name="ConsumerLate",
    labels=(NamedText("consumer", "orders.2"),),
    source="ludoteca",
    severity="warning",
    summary="orders is late",
    runbook="x",
)
TAKEN, OVER = AlertAcknowledged(note="looking"), AlertResolved()


def test_an_alert_is_raised_once_until_it_is_resolved() -> None:
    when(lambda: raise_alert(None, SEEN)).then(RAISED)
    given(evolve, RAISED).when(lambda it: raise_alert(it, SEEN)).then_nothing()
    given(evolve, RAISED, TAKEN).when(lambda it: raise_alert(it, SEEN)).then_nothing()
    given(evolve, RAISED, TAKEN, OVER).when(lambda it: raise_alert(it, SEEN)).then(RAISED)


def test_one_looks_after_it() -> None:
    given(evolve, RAISED).when(lambda it: acknowledge(it, "looking")).then(TAKEN)
    again = given(evolve, RAISED, TAKEN).when(lambda it: acknowledge(it, "me too"))
    again.then_refused(Conflict, "alert_acknowledged")
    late = given(evolve, RAISED, OVER).when(lambda it: acknowledge(it, "looking"))
    late.then_refused(Conflict, "alert_resolved")
    given(evolve, RAISED, TAKEN, OVER, RAISED).when(lambda it: acknowledge(it, "looking")).then(
        TAKEN
    )


@pytest.mark.parametrize(
    ("note", "code"), [("\u200b", "note_required"), ("x" * 1_001, "note_too_long")]
)
def test_a_note_says_something(note: str, code: str) -> None:
    given(evolve, RAISED).when(lambda it: acknowledge(it, note)).then_refused(Invalid, code)


def test_it_is_resolved_once() -> None:
    when(lambda: resolve(None)).then_nothing()
    given(evolve, RAISED).when(resolve).then(OVER)
    given(evolve, RAISED, TAKEN).when(resolve).then(OVER)
    given(evolve, RAISED, OVER).when(resolve).then_nothing()


def test_an_alert_is_told_by_its_source_its_name_and_its_labels() -> None:
    others = [
        Seen("alertmanager", "ConsumerLate", {"consumer": "orders.2"}, "warning", ""),
        Seen("ludoteca", "ConsumerAstray", {"consumer": "orders.2"}, "warning", ""),
        Seen("ludoteca", "ConsumerLate", {"consumer": "games.2"}, "warning", ""),
        Seen("ludoteca", "ConsumerLate", {}, "warning", ""),
    ]
    assert len({each.alert_id for each in [SEEN, *others]}) == 5
    same = Seen("ludoteca", "ConsumerLate", {"consumer": "orders.2"}, "critical", "later still")
    assert same.alert_id == SEEN.alert_id
    one = Seen("ludoteca", "X", {"a": "1", "b": "2"}, "warning", "")
    assert one.alert_id == Seen("ludoteca", "X", {"b": "2", "a": "1"}, "warning", "").alert_id
