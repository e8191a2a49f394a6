"""Statistics of how carts end."""

from datetime import date, timedelta
from uuid import UUID, uuid4

import msgspec

from domain.cart import (
    CartAbandoned,
    CartCompleted,
    CartCreated,
    CheckoutInitiated,
    ItemAdded,
    ItemRemoved,
)
from queries.orders.cart_analytics import CartFigures, cart_analytics, overall
from queries.orders.reports import GroupBy, Report
from tests.support.events.history import BUYER, DUE, GAME, ORDER, PAYMENT, SELLER, some_id
from tests.support.shops.projected import Shop

OTHER, CHESS = some_id("other seller"), some_id("chess")
OUT = CheckoutInitiated(order_id=ORDER, payment_id=PAYMENT)
BOUGHT = (OUT, CartCompleted(order_id=ORDER))
UNPAID = (OUT, CartAbandoned(reason="payment_failed"))
EXPIRED = (CartAbandoned(reason="expired"),)


def item(cents: int, quantity: int = 1, game: UUID = GAME, seller: UUID = SELLER) -> ItemAdded:
    return ItemAdded(
        item_id=uuid4(), game_id=game, seller_id=seller, sku="C-1", title="Chess",
        quantity=quantity,
        unit_price_cents=cents, expires_at=DUE, reservation_id=None,
    )  # fmt: skip


async def begun(shop: Shop, *then: msgspec.Struct, currency: str = "USD") -> None:
    """A cart, and how it ends."""
    await shop.happened(
        uuid4(), CartCreated(buyer_id=BUYER, currency=currency, expires_at=DUE), *then
    )


async def report(
    shop: Shop, group_by: GroupBy = "day", days: int = 0, **wanted: object
) -> Report[CartFigures]:
    last = await _today(shop) + timedelta(days=days)
    projected = await shop.projected()
    found = await cart_analytics(projected, group_by=group_by, first=last, last=last, **wanted)  # type: ignore[arg-type]
    return found.value


async def _today(shop: Shop) -> date:
    return (await shop.log.read(limit=1))[0].env.occurred_at.date()


def counts(of: object) -> tuple[int, ...]:
    names = (
        "created",
        "with_items",
        "open",
        "checked_out",
        "completed",
        "expired",
        "payment_failed",
    )
    return tuple(getattr(of, name) for name in names)


async def test_rates_are_of_carts_that_were_bought_or_abandoned_with_something_in_them(
    shop: Shop,
) -> None:
    put_back = item(900)
    await begun(shop, item(1000, 2), item(500, game=CHESS, seller=OTHER), *BOUGHT)
    await begun(shop, item(1000), *BOUGHT)
    await begun(shop, item(300), *UNPAID)
    await begun(shop, item(40, 3), item(40), *EXPIRED)
    await begun(shop, item(40, game=CHESS, seller=OTHER), *EXPIRED)
    await begun(shop, put_back, ItemRemoved(item_id=put_back.item_id, expires_at=DUE), *EXPIRED)
    await begun(shop, item(70))
    await begun(shop, item(70), OUT)

    found = await report(shop)

    (day,) = found.items
    assert found.totals == [msgspec.structs.replace(day, day=None)]
    assert day.day == await _today(shop)
    assert counts(day) == counts(overall(found.totals)) == (8, 7, 2, 4, 2, 2, 1)
    assert (day.completed_cents, day.abandoned_cents) == (3500, 300 + 160 + 40)
    assert (day.abandoned, day.conversion_rate, day.abandonment_rate) == (3, 0.4, 0.6)

    by_game = await report(shop, "game")
    assert [(each.game_id, *counts(each)) for each in by_game.items] == [
        (GAME, 6, 6, 2, 4, 2, 1, 1), (CHESS, 2, 2, 0, 1, 1, 1, 0),
    ]  # fmt: skip
    assert [(each.completed_cents, each.abandoned_cents) for each in by_game.items] == [
        (3000, 460),
        (500, 40),
    ]
    assert by_game.totals == found.totals
    first = await report(shop, "seller", limit=1)
    second = await report(shop, "seller", limit=1, cursor=first.next_cursor)
    assert [each.seller_id for each in (*first.items, *second.items)] == [SELLER, OTHER]
    assert (second.next_cursor, second.totals) == (None, found.totals)
    assert (await report(shop, days=1)).items == (await report(shop, days=-1)).totals == []


async def test_what_carts_are_worth_is_never_added_up_over_currencies(shop: Shop) -> None:
    await begun(shop, item(1000), *BOUGHT)
    await begun(shop, item(300), *EXPIRED, currency="JPY")
    await begun(shop, item(200), currency="JPY")

    found = await report(shop)

    assert [(each.currency, *counts(each)) for each in found.totals] == [
        ("JPY", 2, 2, 1, 0, 0, 1, 0), ("USD", 1, 1, 0, 1, 1, 0, 0),
    ]  # fmt: skip
    assert [(each.abandoned_cents, each.conversion_rate) for each in found.totals] == [
        (300, 0.0),
        (0, 1.0),
    ]
    assert (counts(overall(found.totals)), overall(found.totals).conversion_rate) == (
        (3, 3, 1, 1, 1, 1, 0),
        0.5,
    )
    yen = await report(shop, currency="JPY")
    assert (yen.items, yen.totals) == (found.items[:1], found.totals[:1])
    assert isinstance(yen.items[0], CartFigures)
    nothing = await report(shop, currency="EUR")
    assert (nothing.items, nothing.totals) == ([], [])
    assert (overall([]).created, overall([]).abandonment_rate) == (0, None)
