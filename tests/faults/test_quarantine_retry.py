"""After a retry, rows are as the log says, in its order: whatever failed, whatever happened
meanwhile, and however often."""

import asyncio
import random
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from eventstore.consumers import checkpoints, quarantine
from eventstore.database.postgres import connect
from eventstore.log import Envelope
from projections.engine import rebuild
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.projection import Projection, Rows, on
from projections.registry import TABLES
from tests.support.events.histories import Flow, Step
from tests.support.events.tallies import Counted, Labelled, Tallies, Use, Uses
from tests.support.quarantine import request_retry
from tests.support.shops.engine import Desk
from tests.support.shops.projected import CODEC, Shop, open_shop, projecting


def shaky(projection: type[Projection[Any]], bad: set[int]) -> Registered:
    """A projection that cannot apply the events at the positions in `bad`."""

    def refusing(handler: Any) -> Any:
        def handle(self: Any, rows: Any, event: Any, env: Envelope) -> None:
            handler(self, rows, event, env)
            if env.position in bad:
                raise ValueError("not yet")

        return handle

    folds = {event: (refusing(handler), key) for event, (handler, key) in projection.folds.items()}
    made: type[Projection[Any]] = type(projection.__name__, (projection,), {})
    made.folds = folds
    return Registered(made(), PostgresTable(projection.row))


async def _retried(desk: Desk) -> None:
    with desk.connect() as conn:
        assert request_retry(conn) > 0
    await desk.until(lambda conn: not any(p.retry for p in quarantine.held(conn)))


async def test_rows_that_several_streams_feed_are_folded_anew_in_order(desk: Desk) -> None:
    bad = {1}
    registered = shaky(Latest, bad)
    late, others = uuid4(), [uuid4() for _ in range(3)]
    with desk.running(registered):
        await desk.append(late, Labelled("x"))
        for stream in others:
            await desk.append(stream, Labelled("x"))
        await desk.caught_up("latest.1")
        bad.clear()
        await _retried(desk)
        (subscription,) = await desk.until(lambda conn: _only(checkpoints.subscriptions(conn)))
        await desk.append(uuid4(), Labelled("y"))
        await desk.caught_up(subscription.name)
    assert desk.quarantined() == []
    assert desk.rows(registered, subscription.storage)["x"].uses == 1234
    assert desk.verify(registered).difference.equal


def _only(found: list[checkpoints.Subscription]) -> list[checkpoints.Subscription] | None:
    return found if len(found) == 1 else None


class Latest(Uses):
    """A number per label that shows the order of its events."""

    name = "latest"

    @on(Labelled, key="label")
    def labelled(self, rows: Rows[Use], event: Labelled, env: Envelope) -> None:
        row = rows.get(event.label) or Use(event.label, 0)
        row.uses = 10 * row.uses + env.position
        rows.put(row)


async def test_one_that_fails_still_costs_no_new_fold(desk: Desk) -> None:
    bad = {1}
    registered = shaky(Uses, bad)
    with desk.running(registered):
        await desk.append(uuid4(), Labelled("x"))
        await desk.append(uuid4(), Labelled("x"))
        await desk.caught_up("uses.1")
        await _retried(desk)
    assert desk.subscriptions().keys() == {"uses.1"}
    assert [(p.position, p.attempts) for p in desk.quarantined()] == [(1, 2)]
    assert desk.rows(registered)["x"].uses == 1


async def test_one_of_which_a_later_event_fails_ends_there(desk: Desk) -> None:
    bad = {1, 3}
    registered, stream = shaky(Uses, bad), uuid4()
    with desk.running(registered):
        await desk.append(stream, Labelled("x"), Labelled("y"), Labelled("z"), Labelled("x"))
        await desk.append(uuid4(), Labelled("x"))
        await desk.caught_up("uses.1")
        bad.discard(1)
        await _retried(desk)
        await desk.until(lambda conn: [p.position for p in quarantine.held(conn)] == [3])
        (subscription,) = await desk.until(lambda conn: _only(checkpoints.subscriptions(conn)))
    rows = desk.rows(registered, subscription.storage)
    assert {label: row.uses for label, row in rows.items()} == {"x": 2, "y": 1}
    assert desk.verify(registered).difference.equal


async def test_a_long_stream_is_applied_in_pages_and_its_feed_goes_on_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.consumers.reader.STREAM_PAGE", 50)
    bad = {1}
    registered, long, other = shaky(Tallies, bad), uuid4(), uuid4()
    positions: list[int] = []
    hold = quarantine.hold_from

    def holding(conn: Any, quarantined: UUID, position: int) -> None:
        positions.append(position)
        if len(positions) == 2:  # another event comes in the middle of it
            asyncio.run_coroutine_threadsafe(desk.append(other, Counted(1)), loop).result(10)
        hold(conn, quarantined, position)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(quarantine, "hold_from", holding)
    with desk.running(registered):
        await desk.append(long, *[Counted(n) for n in range(400)])
        await desk.caught_up("tallies.1")
        bad.clear()
        await _retried(desk)
        await desk.caught_up("tallies.1")
    assert positions == list(range(51, 402, 50))
    rows = desk.rows(registered)
    assert rows[long].steps == list(range(400))
    assert rows[other].steps == [1]
    assert desk.verify(registered).difference.equal


# -- every projection of the program ---------------------------------------------------------------


def _steps(rng: random.Random) -> list[Step]:
    """A history in which everything happens several times, often to the same accounts and the same
    stock."""
    money = ["order", "capture", "refund", "open", "adjust", "adjust", "transfer"]
    kinds = ["register", "verify", "list", *money, "send", "send", "count", "fill", "fill", "fill"]
    steps = [(what, number, "ab") for what in kinds for number in range(4)]
    return steps + [(rng.choice(money), rng.randint(0, 3), "ab") for _ in range(40)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_poison_and_random_retries_leave_rows_as_the_log_says(
    database: str, seed: int
) -> None:
    await _run(database, random.Random(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 106))
async def test_random_poison_and_random_retries_over_many_histories(
    database: str, seed: int
) -> None:
    await _run(database, random.Random(seed))


async def _run(database: str, rng: random.Random) -> None:
    batches = Flow().steps(_steps(rng))
    half = rng.randint(0, len(batches))
    async with open_shop(database) as shop:
        before = await shop.log.head()
        count = sum(len(events) for batch in batches for _, events in batch)
        bad = {before + 1 + n for n in range(count) if rng.random() < 0.1}
        models = [shaky(projection, bad) for projection in TABLES]
        names = [each.projection.name for each in models]
        async with projecting(database, models):
            for batch in batches[:half]:
                await shop.all_happened([(stream, events) for stream, events in batch if events])
            await _settled(shop, names)
            await _some_retried(database, bad, rng)
            for batch in batches[half:]:
                await shop.all_happened([(stream, events) for stream, events in batch if events])
            await _settled(shop, names)
            await _some_retried(database, bad, rng)
            await asyncio.to_thread(_are_proven, database, models)
            bad.clear()
            # these are followed by events that failed because rows were held back
            for _ in range(10):
                if not await _all_retried(database):
                    break
            await _settled(shop, names)
            assert _quarantined(database) == []
            await asyncio.to_thread(_are_proven, database, models)


async def _settled(shop: Shop, names: list[str]) -> None:
    assert await shop.models.waiter.wait(names, await shop.log.head(), 30)


async def _some_retried(database: str, bad: set[int], rng: random.Random) -> None:
    """Some are fixed, some are retried, and not always the same ones."""

    def ask() -> None:
        with connect(database, "test") as conn:
            chosen = [p for p in quarantine.held(conn) if rng.random() < 0.6]
            bad.difference_update(p.position for p in chosen if rng.random() < 0.7)
            request_retry(conn, [p.id for p in chosen])
        _await_retries(database)

    await asyncio.to_thread(ask)


async def _all_retried(database: str) -> bool:
    """Retry all again; False when none is left."""

    def ask() -> bool:
        with connect(database, "test") as conn:
            found = request_retry(conn)
        _await_retries(database)
        return found > 0

    return await asyncio.to_thread(ask)


def _await_retries(database: str) -> None:
    deadline = time.monotonic() + 30
    with connect(database, "test") as conn:
        while any(p.retry for p in quarantine.held(conn)):
            assert time.monotonic() < deadline, quarantine.held(conn)
            time.sleep(0.02)


def _are_proven(database: str, models: list[Registered]) -> None:
    with connect(database, "test") as conn:
        for registered in models:
            verified = rebuild.verify(conn, CODEC, registered, lambda _done, _all: None)
            assert verified.difference.equal, (registered.projection.name, verified)


def _quarantined(database: str) -> list[quarantine.Quarantined]:
    with connect(database, "test") as conn:
        return quarantine.held(conn)
