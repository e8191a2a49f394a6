"""A row as of a position or a time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from projections.as_of import occurred_by, row_as_of
from tests.support.events.tallies import Closed, Counted, Labelled, Tallies, Tally, Uses
from tests.support.shops.engine import Desk


async def _steps(desk: Desk, key: UUID, moment: Any) -> list[int] | None:
    row = await row_as_of(desk.log, Tallies(), key, moment)
    assert row is None or isinstance(row, Tally)
    return None if row is None else row.steps


async def test_a_row_as_of_a_position(desk: Desk) -> None:
    stream, other = uuid4(), uuid4()
    first = await desk.append(stream, Counted(1))
    between = await desk.append(other, Counted(100))
    last = await desk.append(stream, Counted(2), Counted(3))
    end = await desk.append(stream, Closed())
    assert await _steps(desk, stream, 0) is None
    assert await _steps(desk, stream, first.position) == [1]
    assert await _steps(desk, stream, between.position) == [1]
    assert await _steps(desk, stream, last.first_position) == [1, 2]
    assert await _steps(desk, stream, last.position) == [1, 2, 3]
    assert await _steps(desk, stream, end.position) is None


async def test_a_row_as_of_a_time(desk: Desk) -> None:
    stream = uuid4()
    await desk.append(stream, Counted(1))
    await desk.append(stream, Counted(2))
    first, second = [recorded.env.occurred_at for recorded in await desk.log.read_stream(stream)]
    assert second > first
    assert await _steps(desk, stream, first - timedelta(microseconds=1)) is None
    assert await _steps(desk, stream, first) == [1]
    assert await _steps(desk, stream, second - timedelta(microseconds=1)) == [1]
    assert await _steps(desk, stream, second) == [1, 2]


async def test_as_of_a_time_leaves_out_nothing_from_under_what_had_occurred(desk: Desk) -> None:
    """Of three events, the second was decided by a clock that was an hour ahead."""
    stream = uuid4()
    await desk.append(stream, Counted(1), Counted(2), Counted(3))
    first, second, third = await desk.log.read_stream(stream)
    ahead = msgspec.structs.replace(
        second.env, occurred_at=second.env.occurred_at + timedelta(hours=1)
    )
    events = [first, msgspec.structs.replace(second, env=ahead), third]
    assert occurred_by(events, third.env.occurred_at) == events
    assert occurred_by(events, first.env.occurred_at - timedelta(seconds=1)) == []


async def test_a_row_that_never_existed_is_none(desk: Desk) -> None:
    await desk.append(uuid4(), Counted(1))
    assert await _steps(desk, uuid4(), 1) is None


class KnownUses(Uses):
    """A row fed by several streams, one of them named twice."""

    streams: Sequence[UUID] = ()

    def streams_of(self, key: object) -> Sequence[UUID]:
        return [*self.streams, *self.streams[:1]]


async def test_a_row_fed_by_several_streams_is_folded_in_log_order_and_each_event_once(
    desk: Desk,
) -> None:
    one, other = uuid4(), uuid4()
    projection = KnownUses()
    projection.streams = [other, one]
    await desk.append(one, Labelled("x"))
    await desk.append(other, Labelled("x"))
    third = await desk.append(one, Labelled("x"))
    await desk.append(other, Labelled("x"))
    row = await row_as_of(desk.log, projection, "x", third.position)
    assert row is not None
    assert row.uses == 3


class AnyUses(Uses):
    """A row whose key does not show which streams feed it."""

    def streams_of(self, key: object) -> None:
        return


async def test_a_row_that_any_stream_may_feed_is_folded_from_the_whole_log(desk: Desk) -> None:
    for stream in (uuid4(), uuid4(), uuid4()):
        last = await desk.append(stream, Labelled("x"))
    row = await row_as_of(desk.log, AnyUses(), "x", last.position - 1)
    assert row is not None
    assert row.uses == 2
