"""No process of an older release moves past an event that only a newer release knows."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, ClassVar, Literal
from uuid import uuid4

import pytest

from domain.events import Event
from eventstore.codec import Codec
from eventstore.consumers import reactor_runner
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.log import Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine import lanes
from projections.engine.runner import Runner
from tests.support.events.tallies import CODEC, Closed, Counted, Ignored, Labelled, tallies, uses
from tests.support.shops.engine import Desk


class Novel(Event, frozen=True):
    """An event that an older release does not know."""

    NAME: ClassVar[str] = "test.novel.v1"


NEWER = Codec({cls.NAME: cls for cls in (Counted, Labelled, Closed, Ignored, Novel)})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # an earlier command in this process may have set it
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(reactor_runner, "RESCAN_SECONDS", 0.1)


async def _newer_appends(desk: Desk, *events: Event) -> int:
    async with PostgresLog.open(desk.database, NEWER, pool_size=1) as log:
        return (await log.append([StreamAppend(uuid4(), 0, list(events))])).position


async def test_a_projection_stands_still_before_it_until_a_newer_release_leads(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    registered, other = tallies(), uses()
    stream = uuid4()
    with desk.running(registered, other):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1", "uses.1")
        position = await _newer_appends(desk, Novel(), Novel())
        await desk.append(stream, Counted(2), Labelled("x"))
        await desk.until(lambda _: "is of a newer release" in caplog.text)
        before = {
            name: subscription.position for name, subscription in desk.subscriptions().items()
        }
        assert before == {"tallies.1": position - 2, "uses.1": position - 2}

        # the older one releases its leads
        newer = Runner(desk.database, NEWER, [tallies(), uses()])
        thread = asyncio.create_task(asyncio.to_thread(newer.run))
        try:
            await desk.caught_up("tallies.1", "uses.1")
        finally:
            newer.stop()
            await thread
    assert desk.rows(registered)[stream].steps == [1, 2]
    assert desk.quarantined() == []


async def test_what_comes_before_it_in_the_same_page_is_folded(desk: Desk) -> None:
    stream = uuid4()
    await desk.append(stream, *[Counted(1)] * 10)
    position = await _newer_appends(desk, Counted(5), Novel())
    with desk.running(tallies()):
        await desk.until(
            lambda _: any(
                subscription.position == position - 1
                for subscription in desk.subscriptions().values()
            )
        )
    assert len(desk.rows(tallies(), tallies().storage)) == 2


class Noting:
    """Records the events that it reacts to."""

    name = "noting"
    starts_from: Literal["beginning", "now"] = "beginning"
    reactions = (Counted,)

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def react(self, recorded: Recorded) -> None:
        self.seen.append(recorded.event)


async def test_a_reactor_stands_still_before_it_and_lets_go(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = Noting(), Noting()
    await desk.append(uuid4(), Counted(1))
    position = await _newer_appends(desk, Counted(2), Novel(), Counted(3))
    running = asyncio.create_task(
        ReactorRunner(desk.database, desk.log, [older], outcomes=()).run()
    )
    try:
        await desk.until(lambda _: "reactors stand still" in caplog.text)
        assert older.seen == [Counted(1), Counted(2)]
        assert desk.subscriptions()["noting.1"].position == position - 2
        async with PostgresLog.open(desk.database, NEWER, pool_size=2) as log:
            taking_over = asyncio.create_task(
                ReactorRunner(desk.database, log, [newer], outcomes=()).run()
            )
            await desk.caught_up("noting.1")
            taking_over.cancel()
            with suppress(asyncio.CancelledError):
                await taking_over
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert newer.seen == [Counted(3)]
    assert caplog.text.count("reactors stand still") == 1
    assert CODEC.knows(Counted.NAME)
    assert not CODEC.knows(Novel.NAME)
