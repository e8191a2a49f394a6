"""Sales figures, and receipts beside their orders."""

from datetime import date, timedelta
from uuid import UUID

from domain.orders import OrderConfirmed, OrderLine, OrderRefunded
from domain.receipts import (
    FiscalReceiptCreated,
    FiscalReceiptFailed,
    FiscalReceiptRequested,
    receipt_id,
)
from queries.orders import orders
from queries.orders.reports import GroupBy
from queries.orders.sales import Figures, sales
from tests.support.events.history import GAME, ORDER, PAYMENT, SELLER, order_created, some_id
from tests.support.shops.projected import Shop

OTHER, CHESS = some_id("other seller"), some_id("chess")


def line(seller: UUID, game: UUID, cents: int, quantity: int = 1) -> OrderLine:
    line_id = some_id(f"{seller} {game}")
    return OrderLine(line_id, game, seller, "PHYSICAL", "Game", quantity, cents, 1000)


TWO_SELLERS = (line(SELLER, GAME, 1000, 2), line(OTHER, CHESS, 500))
CONFIRMED = OrderConfirmed(payment_id=PAYMENT)


async def sell(
    shop: Shop, name: str, *lines: OrderLine, currency: str = "USD", refund: int = 0
) -> None:
    events = [order_created(lines=lines, currency=currency), CONFIRMED]
    if refund:
        events.append(
            OrderRefunded(payment_id=PAYMENT, amount_cents=refund, currency=currency, full=False)
        )
    await shop.happened(some_id(name), *events)


async def figures(
    shop: Shop, group_by: GroupBy, currency: str | None = None
) -> tuple[list[Figures], list[Figures]]:
    today = await _today(shop)
    found = await sales(
        await shop.projected(), group_by=group_by, first=today, last=today, currency=currency
    )
    return found.value.items, found.value.totals


async def _today(shop: Shop) -> date:
    return (await shop.log.read(limit=1))[0].env.occurred_at.date()


async def test_sales_are_added_up_by_day_seller_and_game(shop: Shop) -> None:
    await sell(shop, "first", *TWO_SELLERS, refund=500)
    await sell(shop, "second", line(SELLER, GAME, 1000))
    await shop.happened(some_id("unpaid"), order_created())
    today, totals = await _today(shop), [Figures("USD", 2, 4, 3500, 500, 300)]
    mine, others = (2, 3, 3000, 400, 260), (1, 1, 500, 100, 40)
    assert await figures(shop, "day") == ([Figures("USD", 2, 4, 3500, 500, 300, day=today)], totals)
    assert await figures(shop, "seller") == (
        [Figures("USD", *mine, seller_id=SELLER), Figures("USD", *others, seller_id=OTHER)],
        totals,
    )
    assert await figures(shop, "game") == (
        [Figures("USD", *mine, game_id=GAME), Figures("USD", *others, game_id=CHESS)],
        totals,
    )


async def test_currencies_are_never_added_up(shop: Shop) -> None:
    await sell(shop, "dollars", line(SELLER, GAME, 1000))
    await sell(shop, "yen", line(SELLER, GAME, 300), currency="JPY")
    yen, dollars = Figures("JPY", 1, 1, 300, 0, 30), Figures("USD", 1, 1, 1000, 0, 100)
    assert (await figures(shop, "seller"))[1] == [yen, dollars]
    assert (await figures(shop, "seller", "JPY"))[1] == [yen]
    assert await figures(shop, "seller", "EUR") == ([], [])


async def test_only_days_of_the_period_count(shop: Shop) -> None:
    await sell(shop, "first", line(SELLER, GAME, 1000))
    today, day = await _today(shop), timedelta(days=1)
    for first, last, orders_found in (
        (today - day, today, 1),
        (today - day, today - day, 0),
        (today + day, today, 0),
    ):
        found = await sales(await shop.projected(), group_by="day", first=first, last=last)
        assert sum(each.orders for each in found.value.totals) == orders_found


async def test_an_order_shows_its_sellers_receipts_in_the_order_of_their_lines(shop: Shop) -> None:
    mine, others = receipt_id(ORDER, SELLER), receipt_id(ORDER, OTHER)
    await shop.happened(ORDER, order_created(lines=TWO_SELLERS), CONFIRMED)
    before = await shop.happened(others, requested(OTHER, 1, 500))
    then = (await orders.order(await shop.projected(), ORDER)).value
    assert then is not None
    assert [(each.seller_id, each.status, each.url) for each in then.receipts] == [
        (OTHER, "REQUESTED", None)
    ]
    await shop.happened(mine, requested(SELLER, 7, 2000), created(SELLER, 7, 2000))
    await shop.happened(others, failed(OTHER, 1))
    now = (await orders.order(await shop.projected(), ORDER)).value
    assert now is not None
    assert [(each.seller_id, each.number, each.status, each.url) for each in now.receipts] == [
        (SELLER, 7, "CREATED", "https://fiscal.example/7"),
        (OTHER, 1, "FAILED", None),
    ]
    assert [each.name.removeprefix("payment.fiscal.receipt.") for each in now.timeline[2:]] == [
        "requested.v1", "requested.v1", "created.v1", "failed.v1",
    ]  # fmt: skip
    assert await orders.order_as_of(shop.log, ORDER, before) == then
    assert await orders.order_as_of(shop.log, ORDER, await shop.log.head()) == now


def requested(seller_id: UUID, number: int, cents: int) -> FiscalReceiptRequested:
    return FiscalReceiptRequested(
        order_id=ORDER,
        seller_id=seller_id,
        number=number,
        year=2026,
        amount_cents=cents,
        currency="USD",
    )


def created(seller_id: UUID, number: int, cents: int) -> FiscalReceiptCreated:
    url = f"https://fiscal.example/{number}"
    return FiscalReceiptCreated(
        order_id=ORDER,
        seller_id=seller_id,
        number=number,
        year=2026,
        amount_cents=cents,
        currency="USD",
        url=url,
    )


def failed(seller_id: UUID, number: int) -> FiscalReceiptFailed:
    return FiscalReceiptFailed(
        order_id=ORDER,
        seller_id=seller_id,
        number=number,
        year=2026,
        code="operator_unavailable",
        attempts=5,
    )
