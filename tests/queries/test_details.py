"""An order with its payment, deadlines, and what operators see and do."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from domain.catalog import GameUpdated
from domain.orders import OrderCancelled, OrderCompleted, OrderConfirmed
from domain.payments import PaymentCaptured, PaymentSubmitted
from projections.models.games import Game, Games
from projections.models.payments import Payment
from projections.projection import Projection, Row
from projections.registry import TABLES
from projections.search.projection import GamesText
from queries.catalog import games
from queries.money import payments
from queries.operations.deadlines import DueTimes
from queries.orders import orders
from queries.orders.orders import Order
from tests.support.events.history import (
    BUYER,
    DUE,
    GAME,
    ORDER,
    PAYMENT,
    game_created,
    order_created,
    payment_requested,
    registered,
    some_id,
)
from tests.support.shops.projected import Shop

CAPTURED = PaymentCaptured(
    order_id=ORDER, buyer_id=BUYER, amount_cents=1499, currency="USD", method_type="card"
)


async def test_an_order_shows_its_payment_and_both_their_events_in_order(shop: Shop) -> None:
    await shop.all_happened([(ORDER, [order_created()]), (PAYMENT, [payment_requested()])])
    await shop.happened(PAYMENT, PaymentSubmitted(provider="simulated", attempt=1))
    await shop.happened(PAYMENT, CAPTURED)
    await shop.happened(ORDER, OrderConfirmed(payment_id=PAYMENT), OrderCompleted())
    order = (await orders.order(await shop.projected(), ORDER)).value
    assert order is not None
    assert order.payment is not None
    assert (order.status, order.payment.status, order.payment.method) == (
        "COMPLETED",
        "CAPTURED",
        "card",
    )
    assert [each.name for each in order.timeline] == [
        "order.created.v1", "payment.requested.v1", "payment.submitted.v1",
        "payment.transaction.completed.v1",
        "order.confirmed.v1", "order.completed.v1",
    ]  # fmt: skip
    assert order.payment == (await payments.payment(shop.models, PAYMENT)).value


@pytest.mark.parametrize("projection", TABLES, ids=lambda projection: projection.name)
def test_what_is_internal_can_be_left_out(projection: type[Projection[Any]]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(projection.row)}
    assert issubclass(projection.row, Row)
    assert {name for name in projection.row.INTERNAL if fields[name].required} == set()


async def test_nobody_is_shown_what_is_internal(shop: Shop) -> None:
    await shop.all_happened(
        [(ORDER, [order_created()]), (PAYMENT, [payment_requested()]), (GAME, [game_created()])]
    )
    models = await shop.projected()
    order, game = (await orders.order(models, ORDER)).value, (await games.game(models, GAME)).value
    assert order is not None
    assert {"created_position"} == set(Order.__struct_fields__) - msgspec.to_builtins(order).keys()
    assert {"created_position"} == set(Payment.__struct_fields__) - msgspec.to_builtins(
        order.payment
    ).keys()
    shown = msgspec.to_builtins(game).keys() | {"reductions"}  # this game has none
    assert set(Game.INTERNAL) == set(Game.__struct_fields__) - shown


async def test_an_order_as_of_a_position_is_what_the_query_said_then(shop: Shop) -> None:
    position = await shop.all_happened(
        [(ORDER, [order_created()]), (PAYMENT, [payment_requested()])]
    )
    then = (await orders.order(await shop.projected(), ORDER)).value
    assert then is not None
    await shop.happened(PAYMENT, CAPTURED)
    await shop.happened(ORDER, OrderConfirmed(payment_id=PAYMENT), OrderCompleted())
    assert await orders.order_as_of(shop.log, ORDER, position) == then
    assert await orders.order_as_of(shop.log, ORDER, then.updated_at) == then
    assert await orders.order_as_of(shop.log, ORDER, then.created_at - timedelta(seconds=1)) is None
    now = (await orders.order(await shop.projected(), ORDER)).value
    assert await orders.order_as_of(shop.log, ORDER, await shop.log.head()) == now


async def test_an_order_whose_payment_is_not_there_is_shown_all_the_same(shop: Shop) -> None:
    await shop.happened(ORDER, order_created())
    order = (await orders.order(await shop.projected(), ORDER)).value
    assert order is not None
    assert order.payment is None
    assert (await orders.order(shop.models, some_id("no such order"))).value is None


async def test_what_is_due_comes_the_longest_overdue_first(shop: Shop) -> None:
    for n in range(3):
        await shop.happened(
            some_id(f"order {n}"), order_created(expires_at=DUE - timedelta(minutes=n))
        )
    await shop.happened(some_id("order 1"), OrderCancelled(reason="buyer"))
    due = DueTimes(await shop.projected())
    assert [each.stream_id for each in await due.due(DUE, 10)] == [
        some_id("order 2"),
        some_id("order 0"),
    ]
    assert [each.stream_id for each in await due.due(DUE, 1)] == [some_id("order 2")]
    assert await due.due(DUE - timedelta(minutes=3), 10) == []


async def test_nothing_is_due_in_an_empty_shop(shop: Shop) -> None:
    await shop.happened(BUYER, registered())
    assert await DueTimes(await shop.projected()).due(DUE, 10) == []


async def test_operators_see_how_far_each_feed_is(shop: Shop) -> None:
    position = await shop.happened(BUYER, registered())
    await shop.models.waiter.wait(["users", "games_text"], position, 10)
    subscriptions = {
        subscription.projection: subscription
        for subscription in await shop.operations.subscriptions()
    }
    users = subscriptions["users"]
    assert (users.position, users.head, users.lag, users.active, users.paused) == (
        position,
        position,
        0,
        True,
        False,
    )
    assert users.storage == "users_2"
    assert {
        "games",
        "orders",
        "payments",
        "library",
        "notifications",
        "deadlines",
        "games_text",
    } < subscriptions.keys()


async def test_a_paused_projection_stands_still_until_resumed(shop: Shop) -> None:
    await shop.models.waiter.wait(["users"], await shop.happened(uuid4(), game_created()), 10)
    assert await shop.operations.pause("users")
    [paused] = [
        subscription
        for subscription in await shop.operations.subscriptions()
        if subscription.projection == "users"
    ]
    assert paused.paused
    assert await shop.operations.resume("users")
    assert await shop.models.waiter.wait(["users"], await shop.happened(BUYER, registered()), 10)
    assert not await shop.operations.pause("no such projection")


async def test_a_stream_in_quarantine_is_shown_and_can_be_tried_again(shop: Shop) -> None:
    position = await shop.happened(GAME, GameUpdated(title="of a game that was never created"))
    await shop.models.waiter.wait(["games", "games_text"], position, 10)
    [quarantined] = await shop.operations.quarantine(f"games.{Games.version}")
    assert (quarantined.stream_id, quarantined.position, quarantined.name) == (
        GAME,
        position,
        "game.updated.v1",
    )
    assert "RowMissing" in quarantined.error
    assert await shop.operations.retry(quarantined.id)
    assert not await shop.operations.retry(uuid4())
    assert {each.feed for each in await shop.operations.quarantine()} == {
        f"games.{Games.version}",
        f"games_text.{GamesText.version}",
    }
