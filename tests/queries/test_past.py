"""Queries of the past: every list and report as of a position is what it was when the log ended
there."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from domain.catalog import GameUpdated
from domain.identity import UserForgotten
from eventstore.database.postgres import connect
from kit.forgotten import FORGOTTEN
from projections.engine import past, past_erasing
from projections.models.games import Games
from projections.registry import TABLES, read_models
from queries.accounts import library, notifications, users
from queries.catalog import games, stock
from queries.catalog.games import Browse
from queries.engine.past import AsOfBeingBuilt, AsOfUnavailable, PastTables
from queries.engine.read_models import QueryResult, ReadModels
from queries.money import ledger, transactions, wallets
from queries.orders import cart_analytics, carts, sales
from queries.orders.reports import GROUPS, GroupBy
from queries.search.engines import SearchEngines
from queries.search.searching import SearchQuery
from runtime.audit.past_building import Bounds, Wanted, build_for_queries, build_missing, make_room
from runtime.gateway.past import PastBuilder
from tests.support.events.histories import EVERYTHING, STEPS, Flow, Step
from tests.support.events.history import BUYER, START, game_created, registered, some_id
from tests.support.shops.commands import until
from tests.support.shops.projected import CODEC, Shop, model, open_shop, projecting

GAMES_VERSION = Games.version
ALWAYS = (START - timedelta(days=4_000)).date(), (START + timedelta(days=4_000)).date()
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WAITING = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
NO_BOUNDS = Bounds(1_000, 2**40, 1e9)

Ask = Callable[[ReadModels, UUID], Awaitable[QueryResult[Any]]]


async def _sales(group: GroupBy, models: ReadModels, _: UUID) -> QueryResult[Any]:
    return await sales.sales(models, group_by=group, first=ALWAYS[0], last=ALWAYS[1])


async def _carts(group: GroupBy, models: ReadModels, _: UUID) -> QueryResult[Any]:
    return await cart_analytics.cart_analytics(
        models, group_by=group, first=ALWAYS[0], last=ALWAYS[1]
    )


LISTS: dict[str, Ask] = {
    "games": lambda m, _: games.browse(m, Browse(status="ANY", limit=200)),
    "games by title": lambda m, _: games.browse(m, Browse(sort="title")),
    "a region's currency": lambda m, _: games.currency_of(m, "US"),
    "stock": lambda m, _: stock.stocks(m, limit=200),
    "offers": lambda m, _: _offers(m),
    "users": lambda m, _: users.users(m, limit=200),
    "library": library.library,
    "library with offers": lambda m, who: library.offered_library(
        m, who, viewer_id=who, now=NOW, genre=None
    ),
    "notifications": notifications.notifications,
    "wallets": lambda m, _: wallets.wallets(m, limit=200),
    "wallets of a person": wallets.wallets_of,
    "transactions": lambda m, _: transactions.transactions(m, limit=200),
    "ledger accounts": lambda m, _: ledger.accounts(m, limit=200),
    "trial balance": lambda m, _: ledger.trial_balance(m),
    "cart": carts.newest_cart,
    **{f"sales by {group}": partial(_sales, group) for group in GROUPS},
    **{f"carts by {group}": partial(_carts, group) for group in GROUPS},
}


async def _offers(models: ReadModels) -> QueryResult[Any]:
    listed = await games.browse(models, Browse(status="ANY", limit=200))
    return await stock.offers(models, [each.game_id for each in listed.value.items], NOW)


def past_of(shop: Shop) -> ReadModels:
    """The shop's read models as they were, built in this process when they are missing."""

    async def build(position: int, models: Sequence[str]) -> None:
        wanted = Wanted(shop.url, position, models, NO_BOUNDS)
        assert (await asyncio.to_thread(build_for_queries, wanted)).error == ""

    return ReadModels(shop.log.pool, past=PastTables(shop.log.pool, build))


async def answers(shop: Shop, models: ReadModels, people: Sequence[UUID]) -> dict[str, Any]:
    """What every list, report and search answers."""
    found = {
        f"{name} {who}": (await ask(models, who)).value
        for name, ask in LISTS.items()
        for who in people
    }
    for each in TABLES:
        rows = (await models.rows(each.row, f"SELECT * FROM @{each.name}")).value
        found[f"all {each.name}"] = sorted(map(repr, rows))
    search = SearchEngines(shop.log.pool)
    for q in ("", "a", "game"):
        found[f"search {q}"] = (await search.search(models, SearchQuery(q=q, currency="USD"))).value
        found[f"suggest {q}"] = (await search.suggest(models, q)).value
    return found


CART_LISTS = {"cart", "carts by seller", "carts by game"}


@settings(max_examples=2)
@given(steps=STEPS, share=st.floats(0, 1))
@example(steps=EVERYTHING, share=0.8)
def test_every_list_as_of_a_position_is_what_it_was(
    database: str, steps: list[Step], share: float
) -> None:
    asyncio.run(_as_it_was(database, steps, share))


async def _as_it_was(url: str, steps: list[Step], share: float) -> None:
    flow = Flow()
    batches = [batch for batch in flow.steps(steps) if any(events for _, events in batch)]
    stops = {int(len(batches) * share), len(batches)}
    seen: dict[int, dict[str, Any]] = {}
    async with open_shop(url) as shop, projecting(url):
        for number, batch in enumerate(batches, 1):
            await shop.all_happened([(id_, events) for id_, events in batch if events])
            if number in stops:
                now = await shop.projected()
                seen[await shop.log.head()] = await answers(shop, now, flow.people[:2])
        models = past_of(shop)
        for position, live in seen.items():
            then = await answers(shop, models.at(position), flow.people[:2])
            for name, value in live.items():
                assert then[name] == value, (name, position)
        if steps is EVERYTHING:  # an empty list would prove nothing
            last = seen[max(seen)]
            lists = {name for name in LISTS if not _holds(last[f"{name} {flow.people[0]}"])}
            assert lists <= {"stock", "library", "library with offers"} | CART_LISTS
            assert len([each for each in TABLES if last[f"all {each.name}"]]) > 15


def _holds(value: Any) -> bool:
    return bool(getattr(value, "items", value))


async def listed_titles(models: ReadModels) -> list[str]:
    page = (await games.browse(models, Browse())).value
    return [game.title for game in page.items]


async def _two_games(shop: Shop) -> int:
    """Two games; returns the position at which there was one."""
    first = await shop.happened(some_id("A"), game_created(title="A"))
    await shop.happened(some_id("B"), game_created(title="B"))
    return first


async def test_before_the_first_event_there_is_nothing(idle_shop: Shop) -> None:
    await _two_games(idle_shop)
    assert await listed_titles(past_of(idle_shop).at(0)) == []


async def test_what_is_not_complete_is_built_again(idle_shop: Shop) -> None:
    first = await _two_games(idle_shop)
    at = past_of(idle_shop).at(first)
    for _ in range(7):  # until connections have prepared the statement
        assert await listed_titles(at) == ["A"]
    schema = past.schema_at(first)
    for harm in (
        # a build that died before its marker
        "DELETE FROM {0}.{1}; DELETE FROM {0}.built",
        # the log went back behind the position, and then on
        "DELETE FROM {0}.{1}; UPDATE {0}.moment SET event_id = gen_random_uuid()",
        "DROP TABLE {0}.{1}",
        "DROP SCHEMA {0} CASCADE",
    ):
        with connect(idle_shop.url, "test") as conn:
            conn.execute(harm.format(schema, model("games").storage).encode())
        assert await listed_titles(at) == ["A"], harm


async def test_what_cannot_be_applied_is_left_out_with_what_follows(idle_shop: Shop) -> None:
    await idle_shop.happened(some_id("A"), game_created(title="A"))
    broken = await idle_shop.happened(some_id("A"), GameUpdated(title="A 2"))
    with psycopg.connect(idle_shop.url, autocommit=True) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        conn.execute("UPDATE log.events SET payload = '[]' WHERE position = %s", [broken])
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
    last = await idle_shop.happened(some_id("A"), GameUpdated(title="A 3"))
    assert await listed_titles(past_of(idle_shop).at(last)) == ["A"]


async def test_another_version_of_a_read_model_has_its_own_table(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await _two_games(idle_shop)
    assert await listed_titles(past_of(idle_shop).at(first)) == ["A"]
    monkeypatch.setattr(Games, "version", 99)
    assert await listed_titles(past_of(idle_shop).at(first)) == ["A"]
    with connect(idle_shop.url, "test") as conn:
        (found,) = past.moments(conn)
    assert {each.storage for each in found.models} == {f"games_{GAMES_VERSION}", "games_99"}


async def test_several_processes_build_a_moment_once(idle_shop: Shop) -> None:
    first = await _two_games(idle_shop)
    wanted = Wanted(idle_shop.url, first, ["games", "users"], NO_BOUNDS)
    done = await asyncio.gather(*(asyncio.to_thread(build_for_queries, wanted) for _ in range(3)))
    assert [each.error for each in done] == ["", "", ""]
    with connect(idle_shop.url, "test") as conn:
        (found,) = past.moments(conn)
    assert [each.model for each in found.models] == ["games", "users"]
    assert len({each.head for each in found.models}) == 1
    assert await listed_titles(past_of(idle_shop).at(first)) == ["A"]


async def test_a_moment_makes_room_for_itself_once_its_size_is_known(idle_shop: Shop) -> None:
    await _two_games(idle_shop)
    with connect(idle_shop.url, "test") as conn:
        bounds = NO_BOUNDS
        for position in (1, 2):
            wanted = Wanted(idle_shop.url, position, ["games"], bounds)
            assert build_for_queries(wanted).error == ""
            (found,) = past.moments(conn)
            assert found.position == position
            bounds = Bounds(1_000, found.bytes + 1, 1e9)


async def test_moments_unused_for_long_make_room_but_not_those_that_are_kept(
    idle_shop: Shop,
) -> None:
    await _two_games(idle_shop)
    await idle_shop.happened(some_id("C"), game_created(title="C"))
    models = past_of(idle_shop)
    with connect(idle_shop.url, "test") as conn:
        with past.exclusively(conn, 1):
            build_missing(idle_shop.url, conn, [], 1, count=1, kept=True, progress=lambda *_: None)
        for position in (2, 3, 0):
            await listed_titles(models.at(position))

        def positions() -> list[int]:
            return [each.position for each in past.moments(conn)]

        assert make_room(conn, Bounds(3, 2**40, 1e9)) == 0
        assert make_room(conn, Bounds(3, 2**40, 1e9), room_for=1) == 1
        assert positions() == [0, 1, 3]
        assert make_room(conn, Bounds(3, 1, 1e9)) == 2
        assert positions() == [1]
        await listed_titles(models.at(2))
        with past.exclusively(connect(idle_shop.url, "builds"), 2):
            assert make_room(conn, Bounds(3, 2**40, 0)) == 0
    with connect(idle_shop.url, "test") as conn:
        assert make_room(conn, Bounds(3, 2**40, 0)) == 1


async def test_a_forgotten_person_is_unknown_also_in_the_past(idle_shop: Shop) -> None:
    joined = await idle_shop.happened(BUYER, registered(user_id=BUYER, email="ann@example.com"))
    at = past_of(idle_shop).at(joined)

    async def email() -> str | None:
        found = (await users.user(at, BUYER)).value
        assert found is not None
        return found.email

    assert await email() == "ann@example.com"
    await idle_shop.happened(BUYER, UserForgotten())
    await idle_shop.log.keys.destroy(BUYER)
    with connect(idle_shop.url, "test") as conn:
        assert past_erasing.drop_forgotten(conn, CODEC, read_models()) == 1
        assert past_erasing.drop_forgotten(conn, CODEC, read_models()) == 0
        (left,) = past.moments(conn)
        assert (left.models, left.emptied) == ([], True)
    assert await email() == FORGOTTEN
    with connect(idle_shop.url, "test") as conn:
        assert past_erasing.drop_forgotten(conn, CODEC, read_models()) == 0
        assert past_erasing.drop_personal(conn, CODEC, read_models()) == 1


async def test_nothing_of_a_forgotten_person_outlives_a_release_or_a_build_that_died(
    idle_shop: Shop,
) -> None:
    joined = await idle_shop.happened(BUYER, registered(user_id=BUYER, email="ann@example.com"))
    at = past_of(idle_shop).at(joined)
    await users.user(at, BUYER)
    await listed_titles(at)
    schema, now = past.schema_at(joined), model("users").storage
    await idle_shop.log.keys.destroy(BUYER)
    with connect(idle_shop.url, "test") as conn:
        conn.execute(f"ALTER TABLE {schema}.{now} RENAME TO users_1".encode())
        conn.execute(
            f"UPDATE {schema}.built SET storage = 'users_1' WHERE model = 'users'".encode()
        )
        conn.execute(f"CREATE TABLE {schema}.users_2 (email text)".encode())  # not in `built`
        assert past_erasing.drop_personal(conn, CODEC, read_models()) == 2
        assert past_erasing.drop_personal(conn, CODEC, read_models()) == 0
        (left,) = past.moments(conn)
    assert [each.model for each in left.models] == ["games"]
    assert await listed_titles(at) == []


async def test_builds_that_wait_for_their_turn_keep_nobody_from_forgetting(
    idle_shop: Shop,
) -> None:
    first = await _two_games(idle_shop)
    wanted = Wanted(idle_shop.url, first, ["users"], NO_BOUNDS)
    assert build_for_queries(wanted).error == ""

    def waits() -> bool:
        return conn.execute(WAITING).fetchone() is not None

    with connect(idle_shop.url, "test") as conn, connect(idle_shop.url, "builds") as other:
        with past.in_turn(other):
            wanted = Wanted(idle_shop.url, first, ["games"], NO_BOUNDS)
            build = asyncio.create_task(asyncio.to_thread(build_for_queries, wanted))
            await asyncio.to_thread(until, waits)
            with past.exclusively(conn, first):
                pass
            with (
                pytest.raises(past.BuiltElsewhere, match="takes long"),
                past.in_turn(conn, patience="1ms"),
            ):
                pass
        assert (await build).error == ""
        assert past_erasing.drop_personal(conn, CODEC, read_models()) == 1


async def test_a_build_goes_on_when_the_query_has_waited_long_enough(idle_shop: Shop) -> None:
    first = await _two_games(idle_shop)
    builder = PastBuilder(idle_shop.url, NO_BOUNDS, 0.05)
    models = ReadModels(idle_shop.log.pool, past=PastTables(idle_shop.log.pool, builder.build))
    with (
        connect(idle_shop.url, "builds") as other,
        past.exclusively(other, first),
        pytest.raises(AsOfBeingBuilt, match="0 % so far"),
    ):
        await listed_titles(models.at(first))
    await asyncio.gather(*(each.task for each in builder._under_way.values()))
    assert await listed_titles(models.at(first)) == ["A"]
    assert builder._under_way == {}


async def test_a_build_that_fails_is_told(idle_shop: Shop) -> None:
    builder = PastBuilder(make_conninfo(idle_shop.url, dbname="nowhere"), NO_BOUNDS, 60)
    with pytest.raises(AsOfUnavailable, match="its error is logged"):
        await builder.build(0, ["games"])


async def test_a_build_that_was_killed_is_begun_again(idle_shop: Shop) -> None:
    first = await _two_games(idle_shop)
    builder = PastBuilder(idle_shop.url, NO_BOUNDS, 60)
    with connect(idle_shop.url, "builds") as other, past.exclusively(other, first):
        building = asyncio.create_task(builder.build(first, ["games"]))
        await asyncio.to_thread(until, lambda: _builders(idle_shop) == 1)
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)
        await builder.close()
        await asyncio.to_thread(until, lambda: _builders(idle_shop) == 0)
    assert await listed_titles(past_of(idle_shop).at(first)) == ["A"]


def _builders(shop: Shop) -> int:
    """How many processes build for queries."""
    with psycopg.connect(shop.url) as conn:
        found = conn.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'ludoteca as of' AND datname = current_database()"
        ).fetchone()
    return int(found[0]) if found else 0


async def test_a_user_who_may_not_create_schemas_is_told_what_to_grant(idle_shop: Shop) -> None:
    first = await _two_games(idle_shop)
    role = f"poor_{uuid4().hex}"
    with psycopg.connect(idle_shop.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN IN ROLE ludoteca_app")
        try:
            wanted = Wanted(make_conninfo(idle_shop.url, user=role), first, ["games"], NO_BOUNDS)
            outcome = await asyncio.to_thread(build_for_queries, wanted)
        finally:
            owner.execute(f"DROP ROLE {role}")
    assert "GRANT CREATE ON DATABASE" in outcome.error
