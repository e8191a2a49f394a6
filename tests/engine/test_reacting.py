"""A reactor acts once on each event, in order; a failure in one of its streams, or in all of them,
stops nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

import pytest

from domain.amendments import AmendmentDeclared, Reading
from domain.errors import Conflict, Refused
from domain.events import Event
from eventstore import amendments
from eventstore.codec import Codec
from eventstore.consumers import checkpoints, leadership, quarantine, reacting, reactor_runner
from eventstore.consumers.reacting import Reacts
from eventstore.consumers.reactor_runner import ReactorRunner, register_reactors
from eventstore.log import AlreadyDone, IdempotencyRecord, Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from queries.operations.control import Operations
from tests.support.events.tallies import Counted, Ignored, Labelled
from tests.support.quarantine import request_retry
from tests.support.shops.engine import Desk


class Away(Exception):
    """A dependency of the tests' reactors is down."""


class Noting:
    """Records the events that it reacts to in `seen`; `trouble` may raise instead."""

    def __init__(
        self,
        name: str,
        *reactions: type[Event],
        starts_from: Literal["beginning", "now"] = "beginning",
    ) -> None:
        self.name = name
        self.reactions = reactions
        self.starts_from = starts_from
        self.seen: list[tuple[UUID, Any]] = []
        self.trouble: Callable[[Any], None] = lambda _event: None

    async def react(self, recorded: Recorded) -> None:
        self.trouble(recorded.event)
        self.seen.append((recorded.env.stream_id, recorded.event))

    def of(self, stream: UUID) -> list[Any]:
        """The events seen of a stream."""
        return [event for seen, event in self.seen if seen == stream]

    def has_seen(self, stream: UUID, event: Event, _conn: object = None) -> bool:
        return event in self.of(stream)


@asynccontextmanager
async def reacting_to(desk: Desk, *reactors: Reacts) -> AsyncIterator[None]:
    """Run these reactors during the block."""
    outcomes = (Refused, AlreadyDone)
    runner = ReactorRunner(
        desk.database, desk.log, reactors, outcomes=outcomes, unavailable=(Away,)
    )
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def raising(error: Exception, *poison: Event) -> Callable[[Any], None]:
    """Raise at these events, or at all of them."""

    def trouble(event: Any) -> None:
        if not poison or event in poison:
            raise error

    return trouble


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reacting, "RETRY_BACKOFF_SECONDS", (0.001,))
    monkeypatch.setattr(reacting, "OUTAGE_BACKOFF_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(reactor_runner, "RESCAN_SECONDS", 0.1)


async def test_each_event_is_reacted_to_once_and_in_the_order_of_its_stream(desk: Desk) -> None:
    counting, labelling = Noting("counting", Counted), Noting("labelling", Counted, Labelled)
    streams = [uuid4() for _ in range(20)]
    async with reacting_to(desk, counting, labelling):
        for number in range(3):
            for stream in streams:
                await desk.append(stream, Counted(number), Labelled(str(number)), Ignored())
        await desk.caught_up("counting.1", "labelling.1")
    async with reacting_to(desk, counting, labelling):  # starts again where it left off
        await desk.append(streams[0], Ignored(), Counted(3))
        await desk.caught_up("counting.1", "labelling.1")
    assert counting.of(streams[0]) == [Counted(n) for n in range(4)]
    assert counting.of(streams[1]) == [Counted(n) for n in range(3)]
    assert [type(event) for event in labelling.of(streams[1])] == [Counted, Labelled] * 3
    assert len(counting.seen) == 61


# -- events that cannot be reacted to --------------------------------------------------------------


async def test_a_reaction_that_fails_quarantines_its_stream_for_that_reactor_alone(
    desk: Desk,
) -> None:
    failing, other = Noting("failing", Counted), Noting("other", Counted)
    failing.trouble = raising(ValueError("no 13, please"), Counted(13))
    bad, good = uuid4(), uuid4()
    await desk.append(bad, Counted(1), Counted(13), Counted(2))
    await desk.append(good, Counted(5))
    async with reacting_to(desk, failing, other):
        await desk.caught_up("failing.1", "other.1")
        assert [(p.feed, p.stream_id, p.position) for p in desk.quarantined()] == [
            ("failing.1", bad, 2)
        ]
        assert (failing.of(bad), failing.of(good)) == ([Counted(1)], [Counted(5)])
        assert other.of(bad) == [Counted(1), Counted(13), Counted(2)]

        failing.trouble = raising(ValueError("mended"), Labelled("another matter"))
        _ask_retry(desk)
        await desk.until(lambda conn: not quarantine.held(conn))
    assert failing.of(bad) == [Counted(1), Counted(13), Counted(2)]


async def test_a_retry_that_fails_again_leaves_the_stream_quarantined(desk: Desk) -> None:
    failing, bad = Noting("failing", Counted), uuid4()
    failing.trouble = raising(ValueError("no 13, please"), Counted(13))
    await desk.append(bad, Counted(13), Counted(2))
    async with reacting_to(desk, failing):
        await desk.caught_up("failing.1")
        _ask_retry(desk)
        await desk.until(lambda conn: [p.attempts for p in quarantine.held(conn)] == [2])
    assert failing.seen == []


class LabelledOtherwise(Event, frozen=True):
    """The same wire name with another shape, as if a faulty program had appended it."""

    NAME: ClassVar[str] = Labelled.NAME
    label: int


async def _append_unreadable(desk: Desk, stream: UUID) -> None:
    """An event that can be decoded, one that cannot, and another one."""
    await desk.append(stream, Counted(1))
    faulty = Codec({LabelledOtherwise.NAME: LabelledOtherwise})
    async with PostgresLog.open(desk.database, faulty, pool_size=1) as log:
        await log.append([StreamAppend(stream, 1, [LabelledOtherwise(2)])])
    await desk.log.append([StreamAppend(stream, 2, [Counted(3)])])


async def test_an_event_that_cannot_be_read_quarantines_its_stream_for_those_whom_it_concerns(
    desk: Desk,
) -> None:
    both, counting = Noting("both", Counted, Labelled), Noting("counting", Counted)
    bad, good = uuid4(), uuid4()
    await _append_unreadable(desk, bad)
    await desk.append(good, Counted(5), Labelled("fine"))
    async with reacting_to(desk, both, counting):
        await desk.caught_up("both.1", "counting.1")
        await desk.append(good, Counted(6))
        await desk.caught_up("both.1", "counting.1")
        ((feed, stream, position, error),) = [
            (p.feed, p.stream_id, p.position, p.error) for p in desk.quarantined()
        ]
        assert (feed, stream, position) == ("both.1", bad, 2)
        assert error.startswith("ValidationError")

        _ask_retry(desk)  # which it survives as well
        await desk.until(lambda conn: [p.attempts for p in quarantine.held(conn)] == [2])
    assert both.of(bad) == [Counted(1)]
    assert both.of(good) == [Counted(5), Labelled("fine"), Counted(6)]
    assert counting.of(bad) == [Counted(1), Counted(3)]


# -- a dependency of a reaction is down ------------------------------------------------------------


async def test_an_outage_is_waited_for_and_nothing_is_quarantined_or_left_out(desk: Desk) -> None:
    needy, stream, tries = Noting("needy", Counted), uuid4(), 0

    def trouble(_event: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 10:  # more often than a failure is retried
            raise Away("no answer")

    needy.trouble = trouble
    async with reacting_to(desk, needy):
        await desk.append(stream, Counted(1), Counted(2))
        await desk.caught_up("needy.1")
    assert needy.of(stream) == [Counted(1), Counted(2)]
    assert desk.quarantined() == []


async def test_while_somebody_holds_a_checkpoint_reactors_go_on_and_save_it_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LOCK_TIMEOUT", "0")  # waiting for the lock would never end
    noting, stream = Noting("noting", Counted), uuid4()
    async with reacting_to(desk, noting, Noting("beside", Counted)):
        await desk.append(stream, Counted(1))
        await desk.caught_up("noting.1")
        with desk.connect() as conn, conn.transaction():
            assert checkpoints.subscription(conn, "noting.1", lock=True)
            for number in (2, 3):
                await desk.append(stream, Counted(number))
                await desk.until(partial(noting.has_seen, stream, Counted(number)))
                await desk.caught_up("beside.1")
            assert desk.subscriptions()["noting.1"].position == 1
        await desk.caught_up("noting.1")
    assert noting.of(stream) == [Counted(1), Counted(2), Counted(3)]


async def test_while_one_reactor_waits_the_others_go_on_and_it_can_be_paused(desk: Desk) -> None:
    needy, other, stream = Noting("needy", Counted), Noting("other", Counted), uuid4()
    needy.trouble = raising(Away("no answer"))
    async with reacting_to(desk, needy, other):
        for number in range(3):
            await desk.append(stream, Counted(number))
            await desk.caught_up("other.1")
        assert (needy.seen, desk.subscriptions()["needy.1"].position, desk.quarantined()) == (
            [],
            0,
            [],
        )

        operations = Operations(desk.log.pool)
        await operations.pause("needy")
        # the runner let go of it
        await desk.until(lambda conn: checkpoints.try_lead(conn, "needy.1"))
        needy.trouble = raising(Away("no answer"), Ignored())
        await operations.resume("needy")
        await desk.caught_up("needy.1")
    assert needy.of(stream) == other.of(stream) == [Counted(0), Counted(1), Counted(2)]


# -- outcomes --------------------------------------------------------------------------------------


async def test_a_refusal_is_recorded_once_and_the_stream_goes_on(desk: Desk) -> None:
    refused, stream = Noting("refused", Counted), uuid4()
    refused.trouble = raising(Conflict("sold_out", "none left\0, or half a \ud800"), Counted(1))
    done = await desk.append(stream, Counted(1), Counted(2))
    async with reacting_to(desk, refused):
        await desk.caught_up("refused.1")
    desk.execute("UPDATE consumers.checkpoints SET position = 0")  # as after a crash
    async with reacting_to(desk, refused):
        await desk.caught_up("refused.1")
        (state,) = await Operations(desk.log.pool).subscriptions()
    rows = desk.execute(
        "SELECT feed, event_id, position, stream_id, code, detail FROM consumers.refusals"
    )
    assert rows == [
        (
            "refused.1",
            done.event_ids[0],
            1,
            stream,
            "sold_out",
            "sold_out: none left\ufffd, or half a ?",
        )
    ]
    assert (state.refused, state.parked) == (1, 0)
    assert refused.of(stream) == [Counted(2), Counted(2)]


async def test_that_something_was_done_before_is_no_refusal(desk: Desk) -> None:
    repeating, stream = Noting("repeating", Counted), uuid4()
    repeating.trouble = raising(AlreadyDone(IdempotencyRecord(uuid4(), b"", {}, 1, None)))
    await desk.append(stream, Counted(1))
    async with reacting_to(desk, repeating):
        await desk.caught_up("repeating.1")
    assert desk.execute("SELECT count(*) FROM consumers.refusals") == [(0,)]
    assert desk.quarantined() == []


# -- where a reactor starts ------------------------------------------------------------------------


async def test_a_reactor_that_starts_now_misses_nothing_after_it_was_registered(desk: Desk) -> None:
    mail, ledger, stream = (
        Noting("mail", Counted, starts_from="now"),
        Noting("ledger", Counted),
        uuid4(),
    )
    await desk.append(stream, Counted(1))
    register_reactors(desk.database, [mail, ledger])
    await desk.append(stream, Counted(2))  # no runner is there yet
    register_reactors(desk.database, [mail, ledger])  # again: idempotent
    async with reacting_to(desk, mail, ledger):
        await desk.caught_up("mail.1", "ledger.1")
    assert mail.of(stream) == [Counted(2)]
    assert ledger.of(stream) == [Counted(1), Counted(2)]


def _ask_retry(desk: Desk) -> None:
    with desk.connect() as conn:
        assert request_retry(conn) > 0


# -- events that were amended ----------------------------------------------------------------------


async def _declare(desk: Desk, position: int, reading: Reading, payload: str | None = None) -> None:
    ((env, _),) = await desk.log.read_raw(position - 1, upto=position)
    about = (position, env.event_id, env.stream_id, env.name)
    await desk.append(amendments.STREAM, AmendmentDeclared(*about, reading, "why", payload))


async def test_what_was_amended_is_tried_again_as_it_is_to_be_read(desk: Desk) -> None:
    counting, bad = Noting("counting", Counted), uuid4()
    counting.trouble = raising(ValueError("no 13"), Counted(13))
    async with reacting_to(desk, counting):
        await desk.append(bad, Counted(1), Counted(13), Counted(2), Counted(13), Counted(3))
        await desk.until(quarantine.held)
        await _declare(desk, 2, "amend", '{"by": 12}')
        await desk.until(lambda conn: [p.position for p in quarantine.held(conn)] == [4])
        await _declare(desk, 4, "skip")
        await desk.until(lambda conn: not quarantine.held(conn))
        await desk.append(bad, Counted(4))
        await desk.until(partial(counting.has_seen, bad, Counted(4)))
    assert counting.of(bad) == [Counted(n) for n in (1, 12, 2, 3, 4)]


async def test_what_is_amended_while_it_is_tried_is_tried_again(desk: Desk) -> None:
    """The reactor takes up the amendment before its event is in quarantine."""
    bad, tried, end = uuid4(), asyncio.Event(), asyncio.Event()

    class Slow(Noting):
        async def react(self, recorded: Recorded) -> None:
            if recorded.event == Counted(13):
                tried.set()
                await end.wait()
                raise ValueError("no 13")
            await super().react(recorded)

    slow = Slow("slow", Counted)
    async with reacting_to(desk, slow):
        await desk.append(bad, Counted(13), Counted(2))
        await tried.wait()
        await _declare(desk, 1, "skip")
        declared = await desk.log.head()
        await desk.until(lambda conn: _taken_up(conn, "slow.1") == declared)
        end.set()
        await desk.until(partial(slow.has_seen, bad, Counted(2)))
        await desk.until(lambda conn: not quarantine.held(conn))


def _taken_up(conn: Any, name: str) -> int:
    found = checkpoints.subscription(conn, name)
    assert found is not None
    return found.amended
