"""A process knows its callers' writes, whichever process appended them, within a bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from commands.aggregates import LIBRARY
from commands.reactors.reactor import Reactor
from domain.catalog import GameUpdated
from domain.ids import library_id
from domain.orders import OrderCompleted
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from eventstore.log import Envelope, Metadata, StreamAppend
from projections.registry import read_models
from queries.accounts import library
from queries.catalog.games import game
from queries.engine import own_writes
from queries.engine.own_writes import OwnWrites
from queries.engine.read_models import ReadModels
from tests.support.databases.going_back import Earlier
from tests.support.events.history import (
    BUYER,
    GAME,
    game_added,
    game_created,
    order_created,
    registered,
    some_id,
)
from tests.support.shops.projected import Shop, open_shop, projecting
from tests.support.statements import statements

ANN, BOB = some_id("ann"), some_id("bob")
MODELS = [each.projection for each in read_models()]


async def nothing(_event: msgspec.Struct, _env: Envelope) -> None:
    """The tests act for the reactor; these are its declarations."""


GRANTS = Reactor("grants", {OrderCompleted: nothing}, writes=(LIBRARY,))


class Process:
    """An API process: its callers, and their writes."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.own = OwnWrites(shop.log, shop.models.waiter, MODELS, [GRANTS])

    def request_of(self, user_id: UUID) -> ReadModels:
        """The read models for a request by that person."""
        return self.shop.models.of_caller(self.own.of(user_id))

    async def title(self, reads: ReadModels) -> str:
        found = (await game(reads, GAME)).value
        return "" if found is None else found.title

    async def write(
        self,
        stream_id: UUID,
        *events: msgspec.Struct,
        by: UUID | str = "system",
        correlation: UUID | None = None,
    ) -> int:
        actor = by if isinstance(by, str) else f"user:{by}"
        version = (await self.shop.log.versions([stream_id]))[0]
        return (
            await self.shop.log.append(
                [StreamAppend(stream_id, version, events)], Metadata(actor, correlation)
            )
        ).position

    async def edit(self, title: str, by: UUID | str, correlation: UUID | None = None) -> int:
        return await self.write(GAME, GameUpdated(title=title), by=by, correlation=correlation)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests a projector may take longer than a second."""
    monkeypatch.setattr(own_writes, "WAIT_TIMEOUT_SECONDS", 30.0)


@pytest.fixture
async def here(shop: Shop) -> Process:
    process = Process(shop)
    await process.write(GAME, game_created(title="first"))
    await game(await shop.projected(), GAME)
    return process


@pytest.fixture
async def there(here: Process) -> AsyncIterator[Process]:
    """Another process on the same log."""
    async with open_shop(here.shop.url) as shop:
        yield Process(shop)


@pytest.fixture
async def stopped(idle_shop: Shop) -> Process:
    """A process whose projector was stopped after it had created the tables."""
    process = Process(idle_shop)
    async with projecting(idle_shop.url):
        await process.write(GAME, game_created(title="first"))
        await game(await idle_shop.projected(), GAME)
    return process


# -- own writes are reflected ----------------------------------------------------------------------


async def test_what_was_just_written_in_another_process_is_seen(
    here: Process, there: Process
) -> None:
    for n in range(100):
        asked, written = (here, there) if n % 2 else (there, here)
        await written.edit(f"title {n}", ANN)
        assert await asked.title(asked.request_of(ANN)) == f"title {n}"


async def test_what_others_did_in_a_correlation_that_the_caller_began_is_seen(
    here: Process, there: Process
) -> None:
    for n in range(own_writes.MAX_LISTED + 10):
        begun = uuid4()
        await there.edit("begun", ANN, begun)
        assert await here.title(here.request_of(ANN)) == "begun"
        await there.edit(f"title {n}", "worker:payments", begun)
        assert await here.title(here.request_of(ANN)) == f"title {n}"


async def test_many_later_events_of_others_hide_none(here: Process, there: Process) -> None:
    assert await there.title(there.request_of(ANN)) == "first"
    await here.edit("mine", ANN)
    streams = [(uuid4(), [GameUpdated(title="other")]) for _ in range(300)]
    await here.shop.all_happened(streams)
    reads = there.request_of(ANN)
    assert await there.title(reads) == "mine"


async def test_two_people_may_act_in_one_correlation(here: Process) -> None:
    shared = uuid4()
    await here.edit("of ann", ANN, shared)
    await here.edit("of bob", BOB, shared)
    await here.edit("of both", "worker:any", shared)
    for person in (ANN, BOB):
        assert await here.title(here.request_of(person)) == "of both"


async def test_search_and_lists_that_are_found_elsewhere_wait_too(here: Process) -> None:
    for n in range(20):
        position = await here.edit(f"title {n}", ANN)

        async def at(subscription: Any) -> int:
            return int(subscription.position)

        found = await here.request_of(ANN).on_active("games_text", at)
        assert found.value >= position


async def test_what_a_reactor_makes_of_it_is_waited_for(here: Process) -> None:
    with connect(here.shop.url, "test") as conn:
        name = checkpoints.register(conn, "grants", 1, "", await here.shop.log.head())
        for n in range(5):
            order, begun = some_id(f"order {n}"), uuid4()
            await here.write(order, order_created(), by=BUYER, correlation=begun)
            done = await here.write(order, OrderCompleted(), by="reactor:any", correlation=begun)
            waiting = asyncio.create_task(library.library(here.request_of(BUYER), BUYER))
            await here.write(
                library_id(BUYER),
                game_added(game_id=some_id(f"game {n}")),
                by="reactor:grants",
                correlation=begun,
            )
            at = checkpoints.subscription(conn, name)
            assert at is not None
            checkpoints.move(conn, [(name, at.position, done)])
            assert len((await waiting).value.items) == n + 1


async def test_a_reactor_that_passes_just_after_the_query_is_not_taken_for_one_that_did_nothing(
    here: Process,
) -> None:
    order, begun = some_id("order"), uuid4()
    with connect(here.shop.url, "test") as conn:
        start = await here.shop.log.head()
        name = checkpoints.register(conn, "grants", 1, "", start)
        await here.write(order, order_created(), by=BUYER, correlation=begun)
        done = await here.write(order, OrderCompleted(), by="reactor:any", correlation=begun)
        await here.own.read_on()  # and a query finds no newer event; its read model is up to date
        added = game_added(game_id=GAME)
        await here.write(library_id(BUYER), added, by="reactor:grants", correlation=begun)
        checkpoints.move(conn, [(name, start, done)])
        await here.shop.models.waiter.active()  # somebody else looks where all are
    assert not await here.own.of(BUYER).are_in({"library": done}, newer=False)


# -- cost ------------------------------------------------------------------------------------------


async def test_who_wrote_nothing_costs_no_statement(
    here: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.edit("by ann", ANN)
    await here.title(here.request_of(BOB))  # reads the writes from before this process
    await here.edit("by ann again", ANN)
    await game(await here.shop.projected(), GAME)
    for reads in (here.shop.models, here.request_of(BOB)):
        with statements(monkeypatch) as sent:
            await here.title(reads)
        assert len(sent) == 1


async def test_who_wrote_something_costs_none_after_it_was_seen(
    here: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.edit("by ann", ANN)
    await here.title(here.request_of(ANN))
    await here.edit("by bob", BOB)
    with statements(monkeypatch) as sent:
        await here.title(here.request_of(ANN))
    assert len(sent) == 1


async def test_what_a_read_model_does_not_fold_is_not_waited_for(stopped: Process) -> None:
    await stopped.shop.log.keys.create([ANN])
    await stopped.write(ANN, registered(user_id=ANN), by=ANN)
    reads = stopped.request_of(ANN)
    assert await stopped.title(reads) == "first"
    assert reads.waited < own_writes.STALLED_SECONDS


async def test_who_writes_all_the_time_does_not_wait_for_what_came_after_the_question(
    here: Process, there: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    reach = here.shop.models.waiter.reach

    async def and_write_more(positions: Mapping[str, int], timeout: float) -> bool:
        reached = await reach(positions, timeout)
        waits.append(await there.edit("more", ANN))
        return reached

    monkeypatch.setattr(here.shop.models.waiter, "reach", and_write_more)
    for n in range(20):
        position = await here.edit(f"title {n}", ANN)
        assert (await game(here.request_of(ANN), GAME)).position >= position
        assert len(waits) <= n + 1


# -- stopped consumers -----------------------------------------------------------------------------


async def test_a_stopped_projector_is_waited_for_once_and_again_when_it_moves(
    stopped: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_writes, "WAIT_TIMEOUT_SECONDS", own_writes.STALLED_SECONDS)
    position = await stopped.edit("second", ANN)
    first, second = stopped.request_of(ANN), stopped.request_of(ANN)
    answer = await game(first, GAME)
    assert answer.value is not None
    assert (answer.value.title, answer.position < position) == ("first", True)
    assert await stopped.title(first) == "first"  # the request's time is used up
    assert first.waited >= own_writes.WAIT_TIMEOUT_SECONDS
    assert await stopped.title(second) == "first"
    assert second.waited < own_writes.STALLED_SECONDS / 2
    async with projecting(stopped.shop.url):
        await stopped.shop.models.waiter.wait(["games"], position, 20)
        assert await stopped.title(stopped.request_of(ANN)) == "second"
        monkeypatch.setattr(own_writes, "WAIT_TIMEOUT_SECONDS", 30.0)
        await stopped.edit("third", ANN)
        assert await stopped.title(stopped.request_of(ANN)) == "third"


async def test_a_paused_read_model_holds_up_nobody_who_wrote_to_others(here: Process) -> None:
    await here.shop.operations.pause("users")
    with connect(here.shop.url, "test") as conn:  # until the projector has released it
        conn.execute("SELECT pg_advisory_lock(4911, hashtext('users.1'))")
        conn.execute("SELECT pg_advisory_unlock(4911, hashtext('users.1'))")
    for n in range(3):
        await here.edit(f"title {n}", ANN)
        reads = here.request_of(ANN)
        both = "SELECT g.title FROM @games g LEFT JOIN @users u ON u.user_id = g.seller_id"
        found = await reads.rows(_Title, both)
        assert [row.title for row in found.value] == [f"title {n}"]
        assert found.position < await here.shop.log.head()


class _Title(msgspec.Struct):
    title: str


async def test_nobody_waits_for_what_is_far_away_or_is_not_run(
    stopped: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = uuid4()
    order = some_id("order")
    await stopped.write(order, order_created(), by=ANN, correlation=begun)
    await stopped.write(order, OrderCompleted(), by="reactor:any", correlation=begun)
    reads = stopped.request_of(ANN)
    assert (await library.library(reads, ANN)).value.items == []  # no worker runs
    assert reads.waited < own_writes.STALLED_SECONDS
    monkeypatch.setattr(own_writes, "SOON_POSITIONS", 0)
    await stopped.edit("second", ANN)
    reads = stopped.request_of(ANN)
    assert await stopped.title(reads) == "first"
    assert reads.waited < own_writes.STALLED_SECONDS


# -- memory ----------------------------------------------------------------------------------------


async def test_the_latest_callers_and_correlations_are_remembered(
    stopped: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_writes, "MAX_CALLERS", 3)
    monkeypatch.setattr(own_writes, "MAX_CORRELATIONS", 2)
    people = [some_id(f"person {n}") for n in range(5)]
    for person in people:
        await stopped.edit("edited", person, uuid4())
    await stopped.own.read_on()
    assert list(stopped.own._callers) == [f"user:{person}" for person in people[-3:]]
    assert len(stopped.own._begun) == 2
    head = await stopped.shop.log.head()
    assert stopped.own.wanted(f"user:{people[-1]}", ["games"]) == {"games": head}
    assert stopped.own.wanted(f"user:{people[0]}", ["games"]) == {"games": 0}


async def test_a_process_reads_no_more_than_the_end_of_a_long_log(
    stopped: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_writes, "_READ_ON", own_writes._READ_ON.replace("10000", "5"))
    await stopped.edit("long ago", ANN)
    for _ in range(5):
        await stopped.edit("lately", BOB)
    await stopped.own.read_on()
    assert list(stopped.own._callers) == [f"user:{BOB}"]
    assert stopped.own._followed == await stopped.shop.log.head()


async def test_nobody_waits_for_what_they_wrote_before_the_log_went_back(database: str) -> None:
    earlier = Earlier(database)
    async with projecting(database), open_shop(database) as shop:
        process = Process(shop)
        await process.write(GAME, game_created(title="first"))
        await game(await shop.projected(), GAME)
    earlier.keep()
    async with open_shop(database) as shop:
        process = Process(shop)
        for _ in range(20):
            await process.edit("lost", ANN)
        await process.own.read_on()
        assert process.own.knows(f"user:{ANN}")
        earlier.go_back()
        while shop.log.history.generation == 0:
            with suppress(psycopg.OperationalError):
                await shop.log.head()
        reads = process.request_of(ANN)
        assert await process.title(reads) == "first"
        assert reads.waited < own_writes.STALLED_SECONDS
