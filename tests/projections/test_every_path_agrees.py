"""Rows are the same however they come about: live, caught up, rebuilt, replayed, or folded as of a
moment."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventstore.database.postgres import connect
from eventstore.log import Recorded
from projections.as_of import row_as_of
from projections.engine import rebuild
from projections.projection import Rows, key_of
from projections.registry import TABLES, read_models
from tests.support.events.histories import EVERYTHING, STEPS, WITHOUT_STEPS, Batch, Flow, Step
from tests.support.events.history import History
from tests.support.shops.projected import CODEC, Shop, model, open_shop, projecting

NAMES = [each.projection.name for each in read_models()]


@settings(max_examples=4)
@given(steps=STEPS, share=st.floats(0, 1))
@example(steps=EVERYTHING, share=0.5)
def test_live_caught_up_rebuilt_and_replayed_rows_are_the_same(
    database: str, steps: list[Step], share: float
) -> None:
    asyncio.run(_run(database, steps, share))


async def _run(database: str, steps: list[Step], share: float) -> None:
    flow = Flow()
    batches = flow.steps(steps)
    half = int(len(batches) * share)
    async with open_shop(database) as shop:
        await _append(shop, batches[:half])
        async with projecting(database):
            await _append(shop, batches[half:])
            for person in flow.forgotten:
                await shop.log.keys.destroy(person)
            head = await shop.log.head()
            assert await shop.models.waiter.wait(NAMES, head, 20)
            for name in NAMES:
                await asyncio.to_thread(_is_proven, database, name)
        events = await shop.log.read(limit=100_000)
        await _as_of_agrees(shop, events, head)
        await _as_of_agrees(shop, events, events[int((len(events) - 1) * share)].env.position)


async def _append(shop: Shop, batches: list[Batch]) -> None:
    for batch in batches:
        await shop.all_happened([(stream_id, events) for stream_id, events in batch if events])


def _is_proven(url: str, name: str) -> None:
    with connect(url, "test") as conn:
        before = rebuild.verify(conn, CODEC, model(name), lambda _done, _all: None)
        assert (before.quarantined, before.difference.equal) == (0, True), (name, before)
        rebuild.rebuild(conn, CODEC, model(name), lambda _done, _all: None)
        after = rebuild.verify(conn, CODEC, model(name), lambda _done, _all: None)
        assert (after.difference.stored_hash, after.difference.stored) == (
            before.difference.stored_hash,
            before.difference.stored,
        )


async def _as_of_agrees(shop: Shop, events: list[Recorded], position: int) -> None:
    past = [event for event in events if event.env.position <= position]
    for projection in TABLES:
        key = key_of(projection.row)
        rows: list[Any] = projection().fold(past).all()
        for row in rows[-3:]:
            assert await row_as_of(shop.log, projection(), key(row), position) == row


@pytest.mark.parametrize("projection", TABLES, ids=lambda projection: projection.name)
def test_some_steps_make_rows_of_each_read_model(projection: Any) -> None:
    rows = projection().fold(_recorded(Flow().steps(EVERYTHING))).all()
    assert bool(rows) == (projection.name not in WITHOUT_STEPS)


@pytest.mark.parametrize("projection", TABLES, ids=lambda projection: projection.name)
def test_a_key_announced_is_the_key_of_the_row_that_is_touched(projection: Any) -> None:
    """Rows are fetched by announced keys, a page at a time: one that is not announced costs a query
    of its own."""
    fetched: list[Any] = []
    flow = Flow()
    money = ("order", "capture", "refund", "open", "adjust", "transfer")
    kinds = (
        "register",
        "verify",
        "list",
        *money,
        "send",
        "send",
        "find",
        "find",
        "count",
        "count",
        "fill",
        "fill",
        "fill",
    )
    steps = [(what, n, "ab") for what in kinds for n in range(4)]

    def fetch(keys: Any) -> list[Any]:
        fetched.extend(keys)
        return []

    rows: Rows[Any] = Rows(projection.row, fetch)
    for number, event in enumerate(_recorded(flow.steps(steps)), 1):
        fold = projection.folds.get(type(event.event))
        if fold is None:
            continue
        keys = fold[1](event.event, event.env)
        rows.prefetch(keys if isinstance(keys, list) else [keys])
        announced = len(fetched)
        projection().apply(rows, event.event, event.env)
        assert len(fetched) == announced, f"event {number} touches a row that was not announced"


def _recorded(batches: list[Batch]) -> list[Recorded]:
    history = History()
    for batch in batches:
        for stream_id, events in batch:
            history.happened(stream_id, *events)
    return history.events
