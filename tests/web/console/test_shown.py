"""Values and trees as the console shows them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from web.charts import spark
from web.console.answers import ConsumerFigures, Event, Overview, QueueFigures
from web.console.dead_letters import Letter
from web.console.trees import MAX_LEVELS, Node, siblings_of, tree_of, trees_of
from web.rendering import Renderer, moment
from web.statics import StaticFiles
from web.values import MAX_LINES, compared, in_one_line, leaf, lines


def event(position: int, cause: int | None = None, request: str | None = None) -> Event:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    causation_id = None if cause is None else f"event {cause}"
    return Event(
        position,
        f"event {position}",
        "stream",
        1,
        "x.v1",
        at,
        "user",
        correlation_id=request,
        causation_id=causation_id,
    )


def shape(node: Node) -> Any:
    return (node.event.position, [shape(each) for each in node.effects])


def test_a_tree_leads_from_the_first_cause_to_all_effects() -> None:
    events = [event(1), event(2, 1), event(3, 1), event(4, 3), event(5)]
    assert shape(tree_of(events, events[3])) == (1, [(2, []), (3, [(4, [])])])
    assert [shape(tree) for tree in trees_of(events)][1] == (5, [])


def test_what_a_request_decided_beside_an_event_is_not_among_its_effects() -> None:
    events = [
        event(1, request="a"),
        event(2, 1, request="a"),
        event(3, request="a"),
        event(4, 3, request="a"),
        event(5, request="b"),
        event(6),
    ]
    tree = tree_of(events, events[1])
    assert shape(tree) == (1, [(2, [])])
    assert [shape(each) for each in siblings_of(events, events[1], tree)] == [(3, [(4, [])])]
    assert siblings_of(events, events[5], tree_of(events, events[5])) == []


def test_an_event_whose_cause_is_elsewhere_begins_a_tree() -> None:
    assert shape(tree_of([event(7, 6)], event(7, 6))) == (7, [])
    assert [each.event.position for each in trees_of([event(7, 6), event(8, 7)])] == [7]


@pytest.mark.parametrize("odd", [[event(1, 1)], [event(1, 2), event(2, 1)]], ids=["own", "ring"])
def test_events_that_name_each_other_as_causes_end_nowhere(odd: list[Event]) -> None:
    assert tree_of(odd, odd[0]).event.position == 1


def test_a_long_chain_is_shown_whole_and_not_deeper_than_it_can_be_drawn() -> None:
    events = [event(1), *(event(position, position - 1) for position in range(2, 500))]
    trees = [tree_of(events, events[250])]
    levels, found = 0, 0
    while trees:
        levels, found = levels + 1, found + len(trees)
        trees = [each for tree in trees for each in tree.effects]
    assert (levels, found) == (MAX_LEVELS, len(events))


def test_values_are_shown_by_their_paths() -> None:
    value: dict[str, Any] = {"a": [{"b": "x"}, 1], "c": {}, "d": None, "e": "[encrypted]"}
    shown = [(line.path, *line.leaf) for line in lines(value)]
    assert shown == [
        ("a.0.b", "x", "text"),
        ("a.1", "1", "plain"),
        ("c", "{}", "plain"),
        ("d", "null", "plain"),
        ("e", "[encrypted]", "encrypted"),
    ]
    assert leaf("01a2b3c4-0000-7000-8000-000000000000").kind == "id"
    assert leaf("{01a2b3c4-0000-7000-8000-000000000000}").kind == "text"
    assert len(lines(list(range(10_000)))) == MAX_LINES + 1


def test_what_differs_is_marked() -> None:
    found = compared({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4})
    assert [(each.path, each.mark) for each in found] == [
        ("a", ""),
        ("b", "changed"),
        ("d", "added"),
        ("c", "removed"),
    ]
    assert {each.mark for each in compared(None, {"a": 1})} == {"added"}
    assert compared(None, None) == []


def test_a_long_payload_is_cut() -> None:
    assert in_one_line({"title": "x" * 500}).endswith("…")
    assert len(in_one_line({"title": "x" * 500})) == 140


def test_a_small_chart_needs_two_values() -> None:
    assert spark([1.0]) == ""
    assert "NaN" not in spark([0.0, 0.0])
    assert spark([0.0, 5.0]).count(",") == 2


def test_a_time_is_shown_to_the_millisecond() -> None:
    at = datetime(2026, 3, 1, 12, 30, 5, 42_999, tzinfo=UTC)
    shown = str(moment(at, "precise"))
    assert "1 Mar 2026, 12:30:05.042 UTC" in shown
    assert 'datetime="2026-03-01T12:30:05.042+00:00"' in shown


def test_a_dead_letter_tells_what_it_is_about_apart_from_its_trace() -> None:
    body = {"payment_id": "p", "causation_id": "c", "correlation_id": "r", "traceparent": "t"}
    letter = Letter("job", "payments", "charge", body, "timed out", 3, None, "")
    assert letter.subject == {"payment_id": "p"}
    assert letter.envelope == {
        "id": "job",
        "causation_id": "c",
        "correlation_id": "r",
        "traceparent": "t",
    }


def test_what_is_wrong_leads_to_where_it_is_mended() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    late = ConsumerFigures("orders.2", 12, 3.5, parked=1, astray=True)
    queues = [QueueFigures("mail", 4, 1.0, dead=2), QueueFigures("lost", None, None, None)]
    now = Overview(at, 9, None, 5, 1, None, 0, 1, [late], queues, None, None, {"x": 1})
    charts = {name: spark([]) for name in ("requests", "events", "lag", "jobs")}

    shown = Renderer(StaticFiles()).block(
        "console/overview.html", "figures", {"now": now, "sparks": charts}
    )

    for text in ("/console/dead-letters", "/console/quarantine", "read another log", "no answer"):
        assert text in shown, text
