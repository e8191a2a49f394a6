"""What each event changes, told while folding."""

from typing import Any

import pytest
from hypothesis import given, settings

from eventstore.log import Recorded
from projections.changes import WatchedFold
from projections.projection import Projection, key_of
from projections.registry import TABLES
from tests.support.events.histories import STEPS, Flow, Step
from tests.support.events.history import History, some_id
from tests.support.events.tallies import Counted, Tallies


def _folded(projection: Projection[Any], events: list[Recorded]) -> dict[Any, Any]:
    key = key_of(projection.row)
    return {key(row): row for row in projection.fold(events).all()}


@pytest.mark.parametrize("projection", TABLES, ids=lambda projection: projection.name)
@settings(max_examples=3)
@given(steps=STEPS)
def test_the_changes_lead_from_nothing_to_the_rows(projection: Any, steps: list[Step]) -> None:
    history = History()
    for batch in Flow().steps(steps):
        for stream_id, events in batch:
            history.happened(stream_id, *events)
    mine = [each for each in history.events if type(each.event) in projection.folds]
    fold, rows = WatchedFold(projection()), dict[Any, Any]()
    for recorded in mine:
        for change in fold.apply(recorded):
            assert change.env is recorded.env
            assert rows.get(change.key) == change.before != change.after
            rows[change.key] = change.after
    there = {key: row for key, row in rows.items() if row is not None}
    assert there == _folded(projection(), mine)


def test_only_the_requested_rows_are_returned() -> None:
    one, other = some_id("one"), some_id("other")
    history = History().happened(one, Counted(1)).happened(other, Counted(2))
    fold = WatchedFold(Tallies(), {other})
    changes = [change for recorded in history.events for change in fold.apply(recorded)]
    assert [(change.key, change.env.position) for change in changes] == [(other, 2)]


def test_an_event_that_cannot_be_applied_changes_nothing_and_stops_its_stream() -> None:
    bad, good = some_id("bad"), some_id("good")
    history = History().happened(bad, Counted(1), Counted(13), Counted(2))
    history.happened(good, Counted(3))
    projection = Tallies()
    projection.refuses = {13}
    fold = WatchedFold(projection)
    told = [len(fold.apply(recorded)) for recorded in history.events]
    assert told == [1, 0, 0, 1]
    row = fold.get(bad)
    assert row is not None
    assert row.steps == [1]
    assert [(each.position, each.error) for each in fold.poisoned.values()] == [
        (2, "ValueError: no 13, please")
    ]
