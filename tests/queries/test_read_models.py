"""Rules of every query: positions, waiting, and tables that are switched while they are read."""

import asyncio
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from psycopg import sql

from domain.identity import ProfileChanged
from eventstore.database.postgres import connect
from projections.engine import rebuild
from queries.accounts import users
from queries.engine.positions import PositionUnknown, ReadModelBehind
from queries.orders import orders
from tests.support.events.history import (
    BUYER,
    ORDER,
    PAYMENT,
    order_created,
    payment_requested,
    registered,
)
from tests.support.shops.projected import CODEC, Shop, model, open_shop, projecting


async def test_a_query_reflects_the_position_that_was_asked_for(shop: Shop) -> None:
    for n in range(30):
        user_id = UUID(int=n + 1)
        position = await shop.happened(user_id, registered(user_id=user_id))
        answer = await users.user(shop.models.reaching(position), user_id)
        assert answer.value is not None
        assert answer.position >= position


async def test_a_query_over_several_models_reflects_the_one_that_is_least_far(shop: Shop) -> None:
    await shop.all_happened([(ORDER, [order_created()]), (PAYMENT, [payment_requested()])])
    before = await orders.order(await shop.projected(), ORDER)
    assert before.value is not None
    await shop.operations.pause("payments")
    await until_not_led(shop, "payments.1")
    await shop.happened(BUYER, registered())
    await shop.models.waiter.wait(["orders"], await shop.log.head(), 5)
    assert (await orders.order(shop.models, ORDER)).position < await shop.log.head()
    await shop.operations.resume("payments")
    assert (await orders.order(await shop.projected(), ORDER)).position == await shop.log.head()


async def until_not_led(shop: Shop, subscription: str) -> None:
    """Wait until the projector has released a paused feed: its lock is free."""
    async with shop.log.pool.connection() as conn:
        await conn.execute("SELECT pg_advisory_lock(4911, hashtext(%s))", (subscription,))
        await conn.execute("SELECT pg_advisory_unlock(4911, hashtext(%s))", (subscription,))


async def test_a_read_model_that_stays_behind_is_told_in_time(idle_shop: Shop) -> None:
    async with projecting(idle_shop.url):
        await idle_shop.happened(BUYER, registered())
        await users.user(await idle_shop.projected(), BUYER)
    position = await idle_shop.happened(BUYER, ProfileChanged(region="US"))
    with pytest.raises(ReadModelBehind):
        await users.user(idle_shop.models.reaching(position, timeout=0.05), BUYER)
    assert not await idle_shop.models.waiter.wait(["users"], position, 0.05)


async def test_a_position_beyond_the_log_is_unknown_at_once(shop: Shop) -> None:
    head = await shop.happened(BUYER, registered())
    with pytest.raises(PositionUnknown) as refusal:
        await users.user(shop.models.reaching(head + 1), BUYER)
    assert refusal.value.head == head


async def test_before_any_projector_ran_read_models_are_behind(idle_shop: Shop) -> None:
    with pytest.raises(ReadModelBehind):
        await users.user(idle_shop.models.reaching(0, timeout=0.05), BUYER)


async def test_many_wait_at_once(shop: Shop) -> None:
    async def change(n: int) -> bool:
        position = await shop.happened(UUID(int=n + 1), registered(user_id=UUID(int=n + 1)))
        return await shop.models.waiter.wait(["users", "games"], position, 10)

    assert all(await asyncio.gather(*[change(n) for n in range(100)]))


async def test_times_are_in_utc_whatever_the_database_thinks(shop: Shop) -> None:
    await shop.happened(BUYER, registered())
    with psycopg.connect(shop.url, autocommit=True) as conn:
        (name,) = conn.execute("SELECT current_database()").fetchone() or ("",)
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET TimeZone = 'Asia/Tokyo'").format(sql.Identifier(name))
        )
    async with open_shop(shop.url) as elsewhere:
        user = (await users.user(await elsewhere.projected(), BUYER)).value
    assert user is not None
    assert msgspec.json.encode(user.created_at).endswith(b'Z"')


async def test_no_query_fails_while_tables_are_rebuilt_and_switched(shop: Shop) -> None:
    await shop.all_happened([(ORDER, [order_created()]), (PAYMENT, [payment_requested()])])
    await orders.order(await shop.projected(), ORDER)
    done = asyncio.Event()

    async def ask() -> int:
        asked, last = 0, 0
        while not done.is_set() or asked < 10:
            answer = await orders.order(shop.models, ORDER)
            assert answer.value is not None
            assert answer.value.payment is not None
            assert answer.position >= last
            asked, last = asked + 1, answer.position
        return asked

    async def write() -> None:
        while not done.is_set():
            user_id = uuid4()
            position = await shop.happened(user_id, registered(user_id=user_id))
            assert (await users.user(shop.models.reaching(position), user_id)).value is not None

    async def rebuild_often() -> None:
        try:
            for name in ("orders", "payments", "users") * 2:
                await asyncio.to_thread(rebuilt, shop.url, name)
        finally:
            done.set()

    asked, *_ = await asyncio.gather(ask(), write(), rebuild_often())
    assert asked >= 10


def rebuilt(url: str, name: str) -> rebuild.Rebuilt:
    with connect(url, "test") as conn:
        return rebuild.rebuild(conn, CODEC, model(name), lambda _done, _all: None)
