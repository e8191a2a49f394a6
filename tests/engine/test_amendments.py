"""An event that was amended is read so by all who fold, wherever the declaration stands."""

import json
import random
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from domain.amendments import AmendmentDeclared, Reading
from eventstore import amendments
from eventstore.consumers import checkpoints, quarantine
from eventstore.database.postgres import connect
from eventstore.log import Appended
from projections.as_of import row_as_of
from projections.engine import amending, lanes, rebuild
from projections.engine.advancing import Subscriber
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.registry import read_models
from tests.support.events.histories import Flow, Step
from tests.support.events.tallies import CODEC, Counted, Labelled, Tallies, Tally, Use, Uses
from tests.support.queues import until_so
from tests.support.shops.engine import Desk
from tests.support.shops.projected import CODEC as SHOP_CODEC
from tests.support.shops.projected import Shop, open_shop, projecting

TOO_LARGE = 2**63
"""A total that no column holds."""


def _refusing(*numbers: int) -> Registered:
    projection = Tallies()
    projection.refuses = set(numbers)
    return Registered(projection, PostgresTable(Tally))


def _uses() -> Registered:
    return Registered(Uses(), PostgresTable(Use))


async def _declare(
    desk: Desk, position: int, reading: Reading, payload: dict[str, Any] | None = None
) -> Appended:
    (recorded,) = await desk.log.read_raw(position - 1, upto=position)
    env = recorded[0]
    text = None if payload is None else json.dumps(payload)
    return await desk.append(
        amendments.STREAM,
        AmendmentDeclared(position, env.event_id, env.stream_id, env.name, reading, "why", text),
    )


async def _settled(desk: Desk, *names: str) -> None:
    """Wait until all amendments are taken up, and what they asked for is tried."""
    declared = max(
        (env.position for env, _ in await desk.log.read_stream_raw(amendments.STREAM)), default=0
    )
    await desk.caught_up(*names)
    await desk.until(
        lambda conn: (
            {s.name for s in checkpoints.subscriptions(conn) if s.amended == declared} >= set(names)
            and not any(p.retry for p in quarantine.held(conn))
        )
    )


def _agree(desk: Desk, registered: Registered) -> None:
    """The rows are those of a replay, and of a rebuild."""
    assert desk.verify(registered).difference.equal
    before = desk.rows(registered)
    with desk.connect() as conn:
        rebuild.rebuild(conn, CODEC, registered, lambda _done, _all: None)
    assert desk.rows(registered) == before


# -- an event in quarantine ------------------------------------------------------------------------


async def test_a_skipped_event_lets_its_stream_go_on(desk: Desk) -> None:
    registered, bad = _refusing(13), uuid4()
    with desk.running(registered):
        poison = await desk.append(bad, Counted(1), Counted(13))
        await desk.append(bad, Counted(3))
        await desk.caught_up("tallies.1")
        assert len(desk.quarantined()) == 1
        await _declare(desk, poison.position, "skip")
        await _settled(desk, "tallies.1")
        assert desk.quarantined() == []
        assert desk.rows(registered)[bad].steps == [1, 3]
        await desk.append(bad, Counted(4))
        await desk.caught_up("tallies.1")
    assert desk.rows(registered)[bad].steps == [1, 3, 4]
    _agree(desk, registered)


async def test_a_corrected_payload_is_read_beside_the_original_which_stays(desk: Desk) -> None:
    registered, bad = _refusing(), uuid4()
    with desk.running(registered):
        poison = await desk.append(bad, Counted(1), Counted(TOO_LARGE), Counted(3))
        await desk.caught_up("tallies.1")
        assert [p.position for p in desk.quarantined()] == [poison.position - 1]
        await _declare(desk, poison.position - 1, "amend", {"by": 2})
        await _settled(desk, "tallies.1")
    assert desk.rows(registered)[bad].steps == [1, 2, 3]
    _agree(desk, registered)
    stored = await desk.log.read_raw(poison.position - 2, upto=poison.position - 1)
    assert json.loads(stored[0][1]) == {"by": TOO_LARGE}


async def test_a_payload_that_cannot_be_decoded_is_replaced(desk: Desk) -> None:
    registered, bad = _refusing(), uuid4()
    with desk.running(registered):
        poison = await desk.append(bad, Counted("many"))  # type: ignore[arg-type]
        await desk.append(bad, Counted(3))
        await desk.caught_up("tallies.1")
        await _declare(desk, poison.position, "amend", {"by": 2})
        await _settled(desk, "tallies.1")
    assert desk.rows(registered)[bad].steps == [2, 3]
    _agree(desk, registered)


async def test_an_amendment_that_helps_not_leaves_the_stream_in_quarantine(desk: Desk) -> None:
    registered, bad = _refusing(13, 14), uuid4()
    with desk.running(registered):
        poison = await desk.append(bad, Counted(13), Counted(1))
        await desk.caught_up("tallies.1")
        await _declare(desk, poison.position - 1, "amend", {"by": 14})
        await _settled(desk, "tallies.1")
        (held,) = desk.quarantined()
        assert "no 14, please" in held.error
        await _declare(desk, poison.position - 1, "amend", {"by": 15})  # the later one stands
        await _settled(desk, "tallies.1")
    assert desk.quarantined() == []
    assert desk.rows(registered)[bad].steps == [15, 1]
    _agree(desk, registered)


async def test_of_two_broken_events_each_waits_for_its_own_amendment(desk: Desk) -> None:
    registered, bad = _refusing(13, 14), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13), Counted(2), Counted(14), Counted(3))
        await desk.caught_up("tallies.1")
        await _declare(desk, 4, "skip")  # behind the one that holds the stream
        await _settled(desk, "tallies.1")
        assert [p.position for p in desk.quarantined()] == [2]
        assert desk.rows(registered)[bad].steps == [1]
        await _declare(desk, 2, "skip")
        await _settled(desk, "tallies.1")
    assert desk.quarantined() == []
    assert desk.rows(registered)[bad].steps == [1, 2, 3]
    _agree(desk, registered)


# -- an event that could be folded -----------------------------------------------------------------


async def test_an_event_that_was_folded_long_ago_can_be_amended_and_it_be_undone(
    desk: Desk,
) -> None:
    registered, stream, other = _refusing(), uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1), Counted(2), Counted(3))
        await desk.append(other, Counted(7))
        await desk.caught_up("tallies.1")
        for reading, payload, steps in (
            ("amend", {"by": 5}, [1, 5, 3]),
            ("skip", None, [1, 3]),
            ("as_recorded", None, [1, 2, 3]),
        ):
            await _declare(desk, 2, reading, payload)  # type: ignore[arg-type]
            await _settled(desk, "tallies.1")
            rows = desk.rows(registered)
            assert (rows[stream].steps, rows[other].steps) == (steps, [7])
            assert desk.quarantined() == []
    _agree(desk, registered)


async def test_rows_that_an_amended_event_made_are_gone_without_it(desk: Desk) -> None:
    registered, stream = _refusing(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        await _declare(desk, 1, "skip")
        await _settled(desk, "tallies.1")
    assert desk.rows(registered) == {}
    _agree(desk, registered)


async def test_rows_that_several_streams_feed_are_folded_anew(desk: Desk) -> None:
    registered = _uses()
    with desk.running(registered):
        for _ in range(3):
            await desk.append(uuid4(), Labelled("x"))
        await desk.caught_up("uses.1")
        declared = await _declare(desk, 2, "amend", {"label": "y"})

        def is_rebuilt(conn: Any) -> bool:
            subscriptions = [s for s in checkpoints.subscriptions(conn) if s.active]
            return [s.amended for s in subscriptions] == [declared.position] and not (
                quarantine.held(conn)
            )

        await desk.until(is_rebuilt)
        await desk.append(uuid4(), Labelled("y"))
        (subscription,) = [s for s in desk.subscriptions().values() if s.active]
        await desk.caught_up(subscription.name)
    assert {label: row.uses for label, row in desk.rows(registered).items()} == {"x": 2, "y": 2}
    assert desk.verify(registered).difference.equal


class FailsTwice(PostgresTable[Any]):
    """A table that fails twice to write once it is to."""

    left = 0

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[Any], deletes: Sequence[Any]
    ) -> None:
        super().write(conn, storage, puts, deletes)
        if self.left:
            self.left -= 1
            raise ConnectionError("cannot write")


async def test_a_store_that_fails_meanwhile_is_asked_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.01, 0.02))
    table, stream = FailsTwice(Tally), uuid4()
    registered = Registered(Tallies(), table)
    with desk.running(registered):
        await desk.append(stream, Counted(1), Counted(2))
        await desk.caught_up("tallies.1")
        table.left = 2
        await _declare(desk, 1, "amend", {"by": 5})
        await _settled(desk, "tallies.1")
    assert (table.left, desk.rows(registered)[stream].steps) == (0, [5, 2])
    _agree(desk, registered)


async def test_whoever_leads_takes_them_up_once(desk: Desk) -> None:
    """Two projectors, one of which is killed at some moment."""
    registered, stream = _refusing(), uuid4()
    await desk.append(stream, Counted(1), Counted(2))
    with desk.running_process() as process:
        await desk.caught_up("tallies.1")
        await _declare(desk, 1, "amend", {"by": 5})
        process.kill()
    with desk.running(registered):
        await _settled(desk, "tallies.1")
        await _declare(desk, 2, "skip")
        await _settled(desk, "tallies.1")
    assert desk.rows(registered)[stream].steps == [5]
    _agree(desk, registered)


async def test_rows_that_were_read_by_a_declaration_that_the_log_lost_are_folded_anew(
    desk: Desk,
) -> None:
    """The log went back to before it, and to behind the checkpoint: a consumer that lagged."""
    registered, stream = _refusing(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1), Counted(2))
        await desk.caught_up("tallies.1")
    desk.execute("UPDATE read.tallies_1 SET total = 9; UPDATE consumers.feeds SET amended = 7")
    with desk.running(registered):
        await desk.until(
            lambda conn: [s.amended for s in checkpoints.subscriptions(conn) if s.active] == [0]
        )
        await desk.caught_up("tallies.1")
    assert desk.rows(registered)[stream].total == 3
    assert desk.verify(registered).difference.equal


# -- wherever the declaration stands ---------------------------------------------------------------


async def test_who_comes_later_reads_it_so_from_the_start(desk: Desk) -> None:
    registered, bad = _refusing(13), uuid4()
    await desk.append(bad, Counted(1), Counted(13), Counted(3))
    await _declare(desk, 2, "amend", {"by": 2})
    with desk.running(registered):
        await _settled(desk, "tallies.1")
    assert desk.rows(registered)[bad].steps == [1, 2, 3]
    assert desk.quarantined() == []
    _agree(desk, registered)


async def test_a_row_as_of_a_moment_is_what_it_was_then(desk: Desk) -> None:
    stream = uuid4()
    await desk.append(stream, Counted(1), Counted(2))
    await _declare(desk, 2, "amend", {"by": 5})
    await desk.append(stream, Counted(3))
    await _declare(desk, 2, "skip")
    await desk.log.amendments.look()
    found = [await row_as_of(desk.log, Tallies(), stream, at) for at in range(1, 6)]
    assert [row.steps for row in found if row is not None] == [
        [1], [1, 2], [1, 5], [1, 5, 3], [1, 3],
    ]  # fmt: skip


async def test_a_row_as_of_a_moment_ends_before_an_event_that_cannot_be_applied(
    desk: Desk,
) -> None:
    stream = uuid4()
    broken = Counted("many")  # type: ignore[arg-type]
    await desk.append(stream, Counted(1), broken, Labelled("x"), Counted(3))
    await _declare(desk, 2, "skip")
    await desk.log.amendments.look()
    before, after = [await row_as_of(desk.log, Tallies(), stream, at) for at in (4, 5)]
    assert before is not None
    assert after is not None
    assert (before.steps, before.label) == ([1], None)
    assert (after.steps, after.label) == ([1, 3], "x")


@pytest.mark.parametrize("seed", range(3))
async def test_declarations_in_any_order_and_place_lead_to_the_rows_of_a_replay(
    desk: Desk, seed: int
) -> None:
    chance = random.Random(seed)
    registered, other = _refusing(13), _uses()
    streams = [uuid4() for _ in range(3)]
    numbers: list[int] = []
    with desk.running(registered, other):
        for _ in range(40):
            if numbers and chance.random() < 0.3:
                reading = chance.choice(("skip", "amend", "as_recorded"))
                payload = {"by": chance.choice((2, 13))} if reading == "amend" else None
                await _declare(desk, chance.choice(numbers), reading, payload)  # type: ignore[arg-type]
                continue
            landed = await desk.append(chance.choice(streams), Counted(chance.choice((1, 13))))
            numbers.append(landed.position)
        await _settled(desk, "tallies.1")
    verified = desk.verify(registered)
    assert verified.difference.equal, verified
    rows = desk.rows(registered)
    for stream in streams:
        if stream not in {held.stream_id for held in desk.quarantined()}:
            assert rows.get(stream) == await row_as_of(
                desk.log, Tallies(), stream, await desk.log.head()
            )


async def test_a_runner_that_was_away_takes_them_up_when_it_starts(desk: Desk) -> None:
    registered, bad = _refusing(13), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13), Counted(3))
        await desk.caught_up("tallies.1")
    await _declare(desk, 2, "skip")
    assert desk.verify(registered).difference.equal, "both read it as it was"
    with desk.running(registered):
        await _settled(desk, "tallies.1")
    assert desk.rows(registered)[bad].steps == [1, 3]
    assert desk.verify(registered).difference.equal


# -- the shop's read models ------------------------------------------------------------------------


async def test_a_read_model_to_be_folded_anew_is_not_compared(desk: Desk) -> None:
    registered = _uses()
    with desk.running(registered):
        for _ in range(2):
            await desk.append(uuid4(), Labelled("x"))
        await desk.caught_up("uses.1")
    await _declare(desk, 1, "skip")
    with desk.connect() as conn:
        row = rebuild.live(conn, registered)
        subscriber = Subscriber(registered.projection, registered.store, row, [Labelled.NAME])
        subscriber.attach(conn)
        amending.take_up(conn, CODEC, subscriber, amendments.load(conn))
    with pytest.raises(rebuild.CatchingUp, match="an event was amended"):
        desk.verify(registered)


@pytest.mark.parametrize("seed", range(2))
async def test_every_read_model_has_the_rows_of_its_replay(database: str, seed: int) -> None:
    """Whatever is skipped: some of it is what later events rest on, so that they are poison."""
    chance, names = random.Random(seed), [each.projection.name for each in read_models()]
    flow = Flow()
    async with open_shop(database) as shop, projecting(database):
        for batch in flow.steps(_steps(chance)):
            await shop.all_happened([(stream, events) for stream, events in batch if events])
        head = await shop.log.head()
        assert await shop.models.waiter.wait(names, head, 60)
        for position in chance.sample(range(1, head + 1), 8):
            await _declare_in(shop, position, "skip")
            if chance.random() < 0.5:
                await _declare_in(shop, position, "as_recorded")
        declared = await shop.log.head()
        await until_so(partial(_all_taken_up, shop, declared))
        for registered in read_models():
            with connect(database, "test") as conn:
                found = rebuild.verify(conn, SHOP_CODEC, registered, lambda _done, _all: None)
            assert found.difference.equal, (registered.projection.name, found)


def _steps(chance: random.Random) -> list[Step]:
    usual = ["register", "list", "publish", "order", "capture", "refund", "open", "adjust", "fill"]
    start = [("register", n, "Ann") for n in range(4)] + [("list", n, "Chess") for n in range(4)]
    return start + [(chance.choice(usual), chance.randrange(4), "x") for _ in range(60)]


async def _declare_in(shop: Shop, position: int, reading: Reading) -> None:
    ((env, _),) = await shop.log.read_raw(position - 1, upto=position)
    about = (position, env.event_id, env.stream_id, env.name)
    await shop.happened(amendments.STREAM, AmendmentDeclared(*about, reading, "why"))


async def _all_taken_up(shop: Shop, declared: int) -> bool:
    async with shop.log.pool.connection() as conn:
        found = await conn.execute(
            "SELECT (SELECT bool_and(amended = %s) FROM consumers.feeds WHERE active),"
            " NOT EXISTS (SELECT FROM consumers.quarantine WHERE retry)",
            [declared],
        )
        return await found.fetchone() == (True, True)
