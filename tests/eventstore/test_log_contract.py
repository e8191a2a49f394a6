"""The contract of every log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from eventstore.codec import MissingKey
from eventstore.log import (
    FIRST_EVENTS,
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    AlreadyDone,
    ClocksDiffer,
    IdempotencyKey,
    Log,
    LogUnavailable,
    Metadata,
    Recorded,
    StreamAppend,
    StreamRead,
    TooLarge,
    VersionConflict,
    WrongKind,
    pages_of,
)
from eventstore.pages import PAGE_BYTES
from kit.clock import SYSTEM_CLOCK
from kit.forgotten import FORGOTTEN
from tests.eventstore.conftest import OpenLog
from tests.support.events.notes import Confided, Counted, Filed, Noted, new_stream, noted, texts_of

SOON = 10
"""How many seconds an expected change may take, also on a busy machine."""


async def take(pages: AsyncIterator[list[Recorded]], count: int) -> list[Recorded]:
    """The next events of a subscription."""
    found: list[Recorded] = []
    async with asyncio.timeout(SOON):
        while len(found) < count:
            found += await anext(pages)
    return found


# -- append and read back --------------------------------------------------------------------------


async def test_an_append_is_read_back_with_its_envelope(log: Log) -> None:
    stream, correlation, causation = uuid4(), uuid4(), uuid4()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata = Metadata("user:ána", correlation, causation, trace)
    appended = await log.append([StreamAppend(stream, 0, [Noted("ñandú"), Counted(7)])], metadata)

    first, second = await log.read_stream(stream)
    assert (first.event, second.event) == (Noted("ñandú"), Counted(7))
    assert [first.env.version, second.env.version] == [1, 2]
    assert [first.env.position, second.env.position] == [appended.first_position, appended.position]
    assert [first.env.event_id, second.env.event_id] == list(appended.event_ids)
    assert [first.env.name, second.env.name] == ["test.noted.v1", "test.counted.v1"]
    for env in (first.env, second.env):
        assert (env.stream_id, env.recorded_at) == (stream, appended.recorded_at)
        assert (env.actor, env.correlation_id, env.causation_id, env.traceparent) == (
            "user:ána",
            correlation,
            causation,
            trace,
        )


async def test_what_was_not_said_about_an_append_reads_as_nothing(log: Log) -> None:
    await log.append([new_stream("x")])
    (event,) = await log.read()
    assert (
        event.env.actor,
        event.env.correlation_id,
        event.env.causation_id,
        event.env.traceparent,
    ) == (
        "system",
        None,
        None,
        None,
    )


async def test_an_empty_log_has_no_head_and_reads_as_nothing(log: Log) -> None:
    assert await log.head() == 0
    assert await log.read() == []
    assert await log.read_stream(uuid4()) == []


async def test_the_head_is_the_last_position(log: Log) -> None:
    await log.append([new_stream("a")])
    last = await log.append([new_stream("b", "c")])
    assert await log.head() == last.position


async def test_positions_and_times_never_run_backwards(log: Log) -> None:
    await asyncio.gather(*(log.append([new_stream(str(n))]) for n in range(60)))
    envelopes = [event.env for event in await log.read()]
    positions = [env.position for env in envelopes]
    times = [env.recorded_at for env in envelopes]
    assert positions == sorted(set(positions))
    assert times == sorted(times)
    assert abs(datetime.now(UTC) - times[-1]) < timedelta(minutes=1)


async def test_reading_starts_after_a_position_and_ends_at_another(log: Log) -> None:
    await log.append([new_stream("1", "2", "3", "4", "5")])
    positions = [event.env.position for event in await log.read()]
    assert texts_of(await log.read(positions[1])) == ["3", "4", "5"]
    assert texts_of(await log.read(positions[0], upto=positions[2])) == ["2", "3"]
    assert texts_of(await log.read(limit=2)) == ["1", "2"]
    assert await log.read(positions[-1]) == []


async def test_reading_can_be_limited_to_some_names(log: Log) -> None:
    await log.append([StreamAppend(uuid4(), 0, [Noted("a"), Counted(1), Noted("b"), Counted(2)])])
    assert texts_of(await log.read(names=["test.noted.v1"])) == ["a", "b"]
    assert [e.event.by for e in await log.read(names=["test.counted.v1"], limit=1)] == [1]
    assert await log.read(names=[]) == []


async def test_a_stream_can_be_read_from_a_version_and_up_to_a_position(log: Log) -> None:
    one, other = uuid4(), uuid4()
    await log.append([StreamAppend(one, 0, noted("a", "b"))])
    between = await log.append([StreamAppend(other, 0, noted("x"))])
    await log.append([StreamAppend(one, 2, noted("c"))])
    assert texts_of(await log.read_stream(one)) == ["a", "b", "c"]
    assert texts_of(await log.read_stream(one, 1)) == ["b", "c"]
    assert texts_of(await log.read_stream(one, upto=between.position)) == ["a", "b"]
    assert texts_of(await log.read_stream(one, 1, upto=between.position)) == ["b"]


async def test_events_appended_by_one_process_are_read_by_another(open_log: OpenLog) -> None:
    async with open_log() as here, open_log() as there:
        appended = await here.append([new_stream("hello")])
        assert texts_of(await there.read()) == ["hello"]
        assert await there.head() == appended.position


# -- versions --------------------------------------------------------------------------------------


async def test_a_stream_is_created_once(log: Log) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, noted("first"))])
    with pytest.raises(VersionConflict) as conflict:
        await log.append([StreamAppend(stream, 0, noted("second"))])
    assert list(conflict.value.stream_ids) == [stream]
    assert texts_of(await log.read_stream(stream)) == ["first"]


@pytest.mark.parametrize("expected", [0, 1, 3, 50])
async def test_an_append_at_another_version_than_the_streams_is_refused(
    log: Log, expected: int
) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, noted("a", "b"))])
    with pytest.raises(VersionConflict):
        await log.append([StreamAppend(stream, expected, noted("c"))])
    await log.append([StreamAppend(stream, 2, noted("d"))])
    assert texts_of(await log.read_stream(stream)) == ["a", "b", "d"]


async def test_a_stream_that_does_not_exist_has_no_later_version(log: Log) -> None:
    with pytest.raises(VersionConflict):
        await log.append([StreamAppend(uuid4(), 3, noted("x"))])
    assert await log.read() == []


async def test_one_of_several_appends_at_the_same_version_wins(open_log: OpenLog) -> None:
    stream = uuid4()
    async with open_log() as here, open_log() as there:
        outcomes = await asyncio.gather(
            *(
                (here, there)[n % 2].append([StreamAppend(stream, 0, noted(str(n)))])
                for n in range(20)
            ),
            return_exceptions=True,
        )
        won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert len(won) == 1
        assert all(isinstance(o, VersionConflict) for n, o in enumerate(outcomes) if n not in won)
        assert texts_of(await here.read_stream(stream)) == [str(won[0])]


# -- kinds -----------------------------------------------------------------------------------------


async def test_events_of_another_kind_are_refused_by_their_stream(log: Log) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, noted("a"))])
    with pytest.raises(WrongKind):
        await log.append([StreamAppend(stream, 1, [Filed("b")])])
    await log.append([StreamAppend(stream, 1, [Counted(1)])])
    assert [event.env.name for event in await log.read_stream(stream)] == [
        "test.noted.v1",
        "test.counted.v1",
    ]


async def test_a_new_stream_is_of_one_kind(log: Log) -> None:
    with pytest.raises(WrongKind):
        await log.append([StreamAppend(uuid4(), 0, [Noted("a"), Filed("b")])])
    assert await log.head() == 0


async def test_an_append_of_the_wrong_kind_is_refused_whole_and_alone(log: Log) -> None:
    stream, other = uuid4(), uuid4()
    await log.append([StreamAppend(stream, 0, noted("a"))])
    wrong = [StreamAppend(other, 0, noted("not this")), StreamAppend(stream, 1, [Filed("b")])]
    outcomes = await asyncio.gather(
        *(log.append([new_stream(str(n))]) for n in range(20)),
        log.append(wrong),
        *(log.append([new_stream(str(n))]) for n in range(20)),
        return_exceptions=True,
    )
    assert [
        type(outcome).__name__ for outcome in outcomes if isinstance(outcome, BaseException)
    ] == ["WrongKind"]
    assert len(await log.read()) == 41


# -- several streams -------------------------------------------------------------------------------


async def test_an_append_may_span_several_streams(log: Log) -> None:
    one, other = new_stream("a1", "a2"), new_stream("b1")
    appended = await log.append([one, other])
    assert texts_of(await log.read()) == ["a1", "a2", "b1"]
    assert texts_of(await log.read_stream(other.stream_id)) == ["b1"]
    assert len(appended.event_ids) == 3


async def test_an_append_over_several_streams_is_whole_or_absent(log: Log) -> None:
    taken = new_stream("taken")
    await log.append([taken])
    before, after = new_stream("before"), new_stream("after")
    with pytest.raises(VersionConflict):
        await log.append([before, StreamAppend(taken.stream_id, 0, noted("late")), after])
    assert texts_of(await log.read()) == ["taken"]
    assert await log.read_stream(before.stream_id) == await log.read_stream(after.stream_id) == []


EMPTY = StreamAppend(uuid4(), 0, [])


@pytest.mark.parametrize("streams", [[], [EMPTY], [new_stream("x"), EMPTY]])
async def test_an_append_without_events_is_an_error(log: Log, streams: list[StreamAppend]) -> None:
    with pytest.raises(ValueError, match="without events"):
        await log.append(streams)
    assert await log.head() == 0


async def test_a_stream_twice_in_one_append_is_an_error(log: Log) -> None:
    stream = uuid4()
    with pytest.raises(ValueError, match="twice"):
        await log.append([StreamAppend(stream, 0, noted("a")), StreamAppend(stream, 1, noted("b"))])


async def test_streams_are_at_the_versions_that_they_have_reached(log: Log) -> None:
    one, other = new_stream("a", "b", "c"), new_stream("x")
    await log.append([one, other])
    assert await log.versions([other.stream_id, uuid4(), one.stream_id]) == [1, 0, 3]
    assert await log.versions([]) == []


# -- reads of an append ----------------------------------------------------------------------------


async def test_an_append_stands_while_what_it_rests_on_has_not_moved(log: Log) -> None:
    read = new_stream("a", "b")
    await log.append([read])
    reads = [StreamRead(read.stream_id, 2), StreamRead(uuid4(), 0)]
    await log.append([new_stream("c")], reads=reads)
    await log.append([new_stream("d")], reads=reads)
    assert texts_of(await log.read()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("seen", [0, 1])
async def test_an_append_that_rests_on_what_has_moved_on_is_refused(log: Log, seen: int) -> None:
    read, added = new_stream("a", "b"), new_stream("c")
    await log.append([read])
    with pytest.raises(VersionConflict) as conflict:
        await log.append([added], reads=[StreamRead(read.stream_id, seen)])
    assert list(conflict.value.stream_ids) == [added.stream_id]
    assert texts_of(await log.read()) == ["a", "b"]


async def test_a_refused_append_learns_which_streams_have_moved_on(log: Log) -> None:
    still, moved, read = (new_stream("a") for _ in range(3))
    await log.append([still, moved, read])
    await log.append([StreamAppend(each.stream_id, 1, noted("b")) for each in (moved, read)])
    with pytest.raises(VersionConflict) as conflict:
        await log.append(
            [StreamAppend(each.stream_id, 1, noted("c")) for each in (still, moved)],
            reads=[StreamRead(read.stream_id, 1), StreamRead(uuid4(), 0)],
        )
    assert set(conflict.value.moved) == {moved.stream_id, read.stream_id}


async def test_of_two_that_rest_on_what_the_other_adds_to_one_is_refused(open_log: OpenLog) -> None:
    async with open_log() as here, open_log() as there:
        for log in (here, there):
            one, other = uuid4(), uuid4()
            outcomes = await asyncio.gather(
                here.append([StreamAppend(one, 0, noted("one"))], reads=[StreamRead(other, 0)]),
                log.append([StreamAppend(other, 0, noted("other"))], reads=[StreamRead(one, 0)]),
                return_exceptions=True,
            )
            assert sorted(isinstance(outcome, VersionConflict) for outcome in outcomes) == [
                False,
                True,
            ]


async def test_those_who_rest_on_the_same_stream_do_not_hinder_each_other(log: Log) -> None:
    read = new_stream("read")
    await log.append([read])
    reads = [StreamRead(read.stream_id, 1)]
    await asyncio.gather(*(log.append([new_stream(str(n))], reads=reads) for n in range(40)))
    assert await log.head() == 41


# -- once ------------------------------------------------------------------------------------------


async def test_under_a_once_key_an_append_happens_once(log: Log) -> None:
    once = IdempotencyKey(uuid4(), b"print", {"order_id": "o-1"})
    appended = await log.append([new_stream("a", "b")], once=once)
    with pytest.raises(AlreadyDone) as repeat:
        await log.append([new_stream("c")], once=once)
    done = repeat.value.done
    assert (done.key, done.fingerprint, done.result_ids) == (
        once.key,
        b"print",
        {"order_id": "o-1"},
    )
    assert done.position == appended.position
    assert texts_of(await log.read()) == ["a", "b"]


async def test_a_once_key_that_is_known_counts_before_a_version_conflict(log: Log) -> None:
    once, append = IdempotencyKey(uuid4()), new_stream("a")
    await log.append([append], once=once)
    with pytest.raises(AlreadyDone):
        await log.append([append], once=once)


async def test_an_append_that_is_refused_leaves_its_once_key_unused(log: Log) -> None:
    taken, once = new_stream("taken"), IdempotencyKey(uuid4())
    await log.append([taken])
    with pytest.raises(VersionConflict):
        await log.append([StreamAppend(taken.stream_id, 0, noted("late"))], once=once)
    assert await log.done(once.key) is None
    await log.append([StreamAppend(taken.stream_id, 1, noted("again"))], once=once)


async def test_the_outcome_under_a_key_can_be_looked_up(log: Log) -> None:
    once = IdempotencyKey(
        uuid4(), b"f", {"id": "7"}, expires_at=datetime.now(UTC) + timedelta(hours=1)
    )
    appended = await log.append([new_stream("a")], once=once)
    done = await log.done(once.key)
    assert done is not None
    assert (done.result_ids, done.position) == ({"id": "7"}, appended.position)
    assert await log.done(uuid4()) is None


async def test_a_request_sent_many_times_at_once_is_appended_once(open_log: OpenLog) -> None:
    once = IdempotencyKey(uuid4())
    async with open_log() as here, open_log() as there:
        outcomes = await asyncio.gather(
            *((here, there)[n % 2].append([new_stream(str(n))], once=once) for n in range(20)),
            return_exceptions=True,
        )
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, AlreadyDone) for outcome in outcomes) == 19
        assert len(await here.read()) == 1


async def test_the_answer_that_was_given_under_a_key_is_kept_with_it(log: Log) -> None:
    once = IdempotencyKey(uuid4())
    await log.append([new_stream("a")], once=once)
    await log.answer(once.key, b"token")
    await log.answer(uuid4(), b"of no append")
    await log.answer(once.key, b"a replay's, made before the first one was stored")
    done = await log.done(once.key)
    assert done is not None
    assert done.answer == b"token"
    with pytest.raises(AlreadyDone) as repeat:
        await log.append([new_stream("b")], once=once)
    assert repeat.value.done.answer == b"token"


async def test_a_key_whose_time_is_over_is_purged_and_may_be_used_again(log: Log) -> None:
    now = datetime.now(UTC)
    over, later, never = (
        IdempotencyKey(uuid4(), expires_at=expires_at)
        for expires_at in (now - timedelta(seconds=1), now + timedelta(hours=1), None)
    )
    for once in (over, later, never):
        await log.append([new_stream("a")], once=once)
    assert await log.purge_expired() == 1
    await log.append([new_stream("b")], once=over)
    for once in (later, never):
        with pytest.raises(AlreadyDone):
            await log.append([new_stream("b")], once=once)


# -- bounds ----------------------------------------------------------------------------------------

MIB = 1 << 20


async def test_an_event_has_its_size(log: Log) -> None:
    around = len(b'{"text":""}')
    await log.append([new_stream("x" * (MAX_EVENT_BYTES - around))])
    with pytest.raises(TooLarge) as refused:
        await log.append([new_stream("x" * (MAX_EVENT_BYTES - around + 1))])
    assert refused.value.code == "event_too_large"
    assert await log.head() == 1


async def test_an_append_has_its_size_over_all_its_streams(log: Log) -> None:
    half = noted(*["x" * (MIB - 1024)] * (MAX_APPEND_BYTES // MIB // 2))
    await log.append([StreamAppend(uuid4(), 0, half), StreamAppend(uuid4(), 0, half)])
    with pytest.raises(TooLarge) as refused:
        await log.append(
            [
                StreamAppend(uuid4(), 0, half),
                StreamAppend(uuid4(), 0, half),
                new_stream("x" * 64 * 1024),
            ]
        )
    assert refused.value.code == "append_too_large"
    assert await log.head() == 2 * len(half)


async def test_pages_of_large_events_are_bounded_by_bytes(log: Log) -> None:
    stream, count = uuid4(), PAGE_BYTES // (MIB // 2) + 2
    await log.append([StreamAppend(stream, 0, noted(*["x" * (MIB // 2)] * count))])
    page, more = await log.read_stream_page(stream)
    assert 0 < len(page) < count
    assert more
    assert len(await log.read()) == len(page)
    rest, more = await log.read_stream_page(stream, page[-1].env.version)
    assert (len(page) + len(rest), more) == (count, False)


async def test_of_a_stream_some_names_can_be_left_out_but_not_the_last_event(log: Log) -> None:
    stream = uuid4()
    await log.append(
        [StreamAppend(stream, 0, [Counted(1), Noted("a"), Counted(2), Noted("b"), Counted(3)])]
    )
    found = await log.read_stream(stream, but=["test.counted.v1"])
    assert [event.env.version for event in found] == [2, 4, 5]
    found = await log.read_stream(stream, upto=found[1].env.position, but=["test.noted.v1"])
    assert [event.env.version for event in found] == [1, 3, 4]


# -- clocks ----------------------------------------------------------------------------------------


class Moved:
    """The machine's clock, shifted by this much."""

    by = timedelta(0)

    def now(self) -> datetime:
        return SYSTEM_CLOCK.now() + self.by


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
async def test_what_the_clock_of_a_process_misdates_is_refused(
    open_log: OpenLog, hours: int
) -> None:
    mine = Moved()
    stream, once = uuid4(), IdempotencyKey(uuid4())
    async with open_log(clock=mine) as log:
        mine.by = timedelta(hours=hours)
        with pytest.raises(ClocksDiffer) as refused:
            await log.append([StreamAppend(stream, 0, noted("misdated"))], once=once)
        assert refused.value.seconds == pytest.approx(hours * 3600, abs=30)
        mine.by = timedelta(0)
        await log.append([StreamAppend(stream, 0, noted("after"))], once=once)
        assert texts_of(await log.read()) == ["after"]


async def test_a_difference_that_is_tolerated_is_history(open_log: OpenLog) -> None:
    mine = Moved()
    mine.by = timedelta(seconds=50)
    async with open_log(clock=mine) as log:
        await log.append([new_stream("x")])
        (event,) = await log.read()
        assert (
            timedelta(seconds=40)
            < event.env.occurred_at - event.env.recorded_at
            < timedelta(seconds=51)
        )


# -- persons ---------------------------------------------------------------------------------------


async def test_personal_data_of_a_person_without_a_key_is_not_written(log: Log) -> None:
    with pytest.raises(MissingKey):
        await log.append([StreamAppend(uuid4(), 0, [Confided(uuid4(), "secret")])])
    assert await log.head() == 0


async def test_a_forgotten_persons_data_stays_unreadable_if_they_come_back(log: Log) -> None:
    ana, ben, diary = uuid4(), uuid4(), uuid4()
    await log.keys.create([ana, ben])
    await log.append([StreamAppend(diary, 0, [Confided(ana, "ana's"), Confided(ben, "ben's")])])
    await log.keys.destroy(ana)
    expected = [Confided(ana, FORGOTTEN), Confided(ben, "ben's")]
    assert [event.event for event in await log.read_stream(diary)] == expected
    async with aclosing(log.subscribe()) as pages:
        assert [event.event for event in await take(pages, 2)] == expected

    await log.keys.create([ana, ben])
    await log.append([StreamAppend(diary, 2, [Confided(ana, "again")])])
    assert [event.event for event in await log.read()] == [*expected, Confided(ana, "again")]


# -- subscriptions ---------------------------------------------------------------------------------


async def test_a_subscription_brings_what_is_there_and_then_what_comes(log: Log) -> None:
    await log.append([new_stream("old")])
    async with aclosing(log.subscribe()) as pages:
        assert texts_of(await take(pages, 1)) == ["old"]
        waiting = asyncio.create_task(take(pages, 2))
        await log.append([new_stream("new")])
        await log.append([new_stream("newer")])
        assert texts_of(await waiting) == ["new", "newer"]


async def test_a_subscription_starts_after_its_position(log: Log) -> None:
    first = await log.append([new_stream("1")])
    await log.append([new_stream("2")])
    async with aclosing(log.subscribe(first.position)) as pages:
        assert texts_of(await take(pages, 1)) == ["2"]


async def test_a_subscription_to_some_names_passes_over_the_others(log: Log) -> None:
    async with aclosing(log.subscribe(names=["test.counted.v1"])) as pages:
        waiting = asyncio.create_task(take(pages, 2))
        await log.append([new_stream("nothing")])
        await log.append([StreamAppend(uuid4(), 0, [Counted(1), Noted("nothing")])])
        await log.append([new_stream("nothing")])
        await log.append([StreamAppend(uuid4(), 0, [Counted(2)])])
        assert [event.event.by for event in await waiting] == [1, 2]


async def test_a_subscriber_that_lags_misses_nothing(log: Log) -> None:
    await log.append([new_stream("0")])
    async with aclosing(log.subscribe()) as pages:
        seen = texts_of(await anext(pages))
        for page in range(5):  # far more than a page, while no reader takes any
            await log.append([new_stream(*(str(page * 500 + n) for n in range(1, 501)))])
        seen += texts_of(await take(pages, 2500))
    assert seen == [str(n) for n in range(2501)]


async def test_many_subscribers_see_the_same(log: Log) -> None:
    async def follow() -> list[str]:
        async with aclosing(log.subscribe()) as pages:
            return texts_of(await take(pages, 30))

    followers = [asyncio.create_task(follow()) for _ in range(5)]
    await asyncio.gather(*(log.append([new_stream(str(n))]) for n in range(30)))
    seen = await asyncio.gather(*followers)
    assert all(one == seen[0] for one in seen)
    assert sorted(seen[0], key=int) == [str(n) for n in range(30)]


async def test_another_process_appends_and_a_subscriber_here_sees_it(open_log: OpenLog) -> None:
    async with open_log() as here, open_log() as there, aclosing(here.subscribe()) as pages:
        waiting = asyncio.create_task(take(pages, 1))
        await there.append([new_stream("from afar")])
        assert texts_of(await waiting) == ["from afar"]


async def test_a_closed_log_takes_nothing_and_lets_its_subscribers_go(open_log: OpenLog) -> None:
    async with open_log() as log:
        await log.append([new_stream("x")])
        pages = log.subscribe(await log.head())
        waiting = asyncio.create_task(take(pages, 1))
        await log.read()
    with pytest.raises(LogUnavailable):
        async with asyncio.timeout(SOON):
            await waiting
    with pytest.raises(LogUnavailable):
        await log.append([new_stream("y")])


async def test_the_first_events_of_a_stream_tell_whether_there_may_be_more(log: Log) -> None:
    long, short = uuid4(), uuid4()
    await log.append([StreamAppend(long, 0, [Counted(n) for n in range(FIRST_EVENTS + 1)])])
    await log.append([StreamAppend(short, 0, [Counted(1), Noted("a"), Counted(2)])])
    (first, more), (last, no_more), (few, nor_here), (none, nor_there) = await asyncio.gather(
        log.read_first_events(long),
        log.read_first_events(long, FIRST_EVENTS),
        log.read_first_events(short, 1),
        log.read_first_events(uuid4()),
    )
    assert ([r.env.version for r in first], more) == (list(range(1, FIRST_EVENTS + 1)), True)
    assert ([r.env.version for r in last], no_more) == ([FIRST_EVENTS + 1], False)
    assert ([r.event for r in few], nor_here) == ([Noted("a"), Counted(2)], False)
    assert (none, nor_there) == ([], False)


async def test_names_are_left_out_of_the_first_events_but_not_the_stream_s_last(log: Log) -> None:
    long, short = uuid4(), uuid4()
    await log.append([StreamAppend(long, 0, [Noted("a"), *[Counted(1)] * FIRST_EVENTS])])
    await log.append([StreamAppend(short, 0, [Counted(1), Noted("a"), Counted(2)])])
    pages = [page async for page in pages_of(log, long, but=[Counted.NAME])]
    assert [r.event for page in pages for r in page] == [Noted("a"), Counted(1)]
    all_of_it, more = await log.read_first_events(short, but=[Counted.NAME])
    assert ([r.event for r in all_of_it], more) == ([Noted("a"), Counted(2)], False)


async def test_large_events_are_among_the_first_ones(log: Log) -> None:
    stream, large = uuid4(), noted("x" * (MIB // 2), "y")
    await log.append([StreamAppend(stream, 0, large)])
    found, more = await log.read_first_events(stream)
    assert ([r.event for r in found], more) == (large, False)
