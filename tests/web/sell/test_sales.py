"""What was sold, and what the shop owes for it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.support.shops.gateway import CARD, Person, Shop
from tests.web.browser import Browser
from tests.web.test_pages import must_be_strict
from web.sell.answers import Figures
from web.sell.periods import LONGEST_DAYS, Period, period_of, sums_up_to

TODAY = datetime.now(UTC).date()


async def sold(shop: Shop, seller: Person, **fields: object) -> dict[str, str]:
    """A game that somebody has bought."""
    game = await shop.game(seller, **fields)
    body = {"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}}
    buyer = await shop.register(region="US")
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})
    assert answer.json()["status"] == "COMPLETED", answer.text
    return {"game_id": game["id"], "order_id": answer.json()["order_id"]}


def costing(amount_cents: int, currency: str) -> list[dict[str, object]]:
    return [{"region": "*", "amount_cents": amount_cents, "currency": currency}]


async def settled(shop: Shop, seller: Person, sales: int) -> None:
    """Wait until so many sales are posted to the seller's account."""

    async def posted() -> bool:
        answer = await seller.get("/api/v1/ledger/accounts", headers=await shop.reached())
        found = sum(each["credits_cents"] > 0 for each in answer.json()["items"])
        listed = await seller.get("/api/v1/seller/sales", headers=await shop.reached())
        return found > 0 and len(listed.json()["items"]) == sales

    await shop.eventually(posted)


async def test_digital_sales_are_shown_by_day_by_game_and_one_by_one(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    await sold(shop, seller, title="Celeste", prices=costing(1000, "USD"))
    await sold(shop, seller, title="Outer Wilds", prices=costing(3000, "USD"))
    await settled(shop, seller, 2)

    page = await desk.get("/sell/sales")

    assert page.status == 200
    must_be_strict(page)
    assert "Sold $40.00 2 in 2 orders" in page.text
    assert "The shop's fee $4.00" in page.text
    assert "Left for you $36.00" in page.text
    assert page.text.index("Outer Wilds 1 $30.00") < page.text.index("Celeste 1 $10.00")
    assert page.text.count("Completed") == 2
    (chart,) = [given for _, given in page.elements if given.get("class") == "bars"]
    assert chart["role"] == "img"
    bars = [tag for tag, given in page.elements if given.get("class") == "bar" and tag == "rect"]
    assert len(bars) == 30

    account = await desk.get("/sell/account")
    assert "Balance in USD $36.00" in account.text
    assert "$27.00" in account.text
    assert "$9.00" in account.text


async def test_currencies_are_never_added_up(desk: Browser, seller: Person, shop: Shop) -> None:
    await sold(shop, seller, title="Go", prices=costing(1500, "JPY"))
    await sold(shop, seller, title="Skat", prices=costing(500, "EUR"))
    await settled(shop, seller, 2)

    yen = await desk.get("/sell/sales?currency=JPY")
    assert "Sold ¥1,500" in yen.text
    euros = await desk.get(yen.links["EUR"])
    assert "Sold €5.00" in euros.text
    assert "Go" not in euros.text.split("Each sale")[0]
    unknown = await desk.get("/sell/sales?currency=XXX")
    assert unknown.status == 200


async def test_a_period_without_sales_says_so(desk: Browser, seller: Person, shop: Shop) -> None:
    await sold(shop, seller)
    await settled(shop, seller, 1)
    before = TODAY - timedelta(days=9)

    page = await desk.get(f"/sell/sales?to={before}")
    assert "Nothing was sold in these days." in page.text

    year = await desk.get(f"/sell/sales?from={TODAY - timedelta(days=300)}")
    (chart,) = [given for _, given in year.elements if given.get("class") == "bars"]
    assert "by week" in chart["aria-label"]
    assert "$19.99" in year.answer.text


async def test_further_sales_are_of_the_same_period(
    desk: Browser, seller: Person, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.sell.sales.PER_PAGE", 1)
    await sold(shop, seller, title="Celeste")
    await sold(shop, seller, title="Outer Wilds")
    await settled(shop, seller, 2)

    first = await desk.get(f"/sell/sales?from={TODAY}&to={TODAY}")
    second = await desk.get(first.links["More"])

    assert second.form("/sell/sales").fields["from"] == str(TODAY)
    assert "Celeste" in second.text.split("Each sale")[1]


async def test_a_script_gets_the_next_sales(desk: Browser, seller: Person, shop: Shop) -> None:
    part = await desk.client.get("/sell/sales", headers={"hx-request": "true"})

    assert part.status_code == 200
    assert "<html" not in part.text


@pytest.mark.parametrize(
    ("first", "last", "period"),
    [
        ("", "", Period(TODAY - timedelta(days=29), TODAY)),
        ("2026-01-05", "2026-01-01", Period(date(2026, 1, 1), date(2026, 1, 5))),
        ("x", "2026-01-30", Period(date(2026, 1, 1), date(2026, 1, 30))),
        ("0001-01-01", "9999-12-31", Period(TODAY - timedelta(days=29), TODAY)),
        ("2020-01-01", "2026-01-01", Period(date(2025, 1, 1), date(2026, 1, 1))),
    ],
    ids=["default", "the wrong way round", "half", "beyond all", "too long"],
)
def test_a_period_is_never_longer_than_a_year(first: str, last: str, period: Period) -> None:
    assert period_of(first, last) == period
    assert 1 <= period.days <= LONGEST_DAYS


def test_sales_at_a_glance_are_those_of_today_and_of_7_and_30_days() -> None:
    today = date(2026, 3, 31)
    sold = [
        Figures("USD", orders=1, units=2, gross_cents=cents, refunded_cents=0, fee_cents=0, day=day)
        for day, cents in (
            (today, 1),
            (date(2026, 3, 25), 10),
            (date(2026, 3, 24), 100),
            (date(2026, 3, 2), 1_000),
            (date(2026, 3, 1), 10_000),
        )
    ]

    seen = [(each.label, each.gross_cents, each.orders) for each in sums_up_to(today, sold)]

    assert seen == [("Today", 1, 1), ("7 days", 11, 2), ("30 days", 1111, 4)]


async def test_sales_at_a_glance_lead_to_their_figures_in_each_currency(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    await sold(shop, seller, prices=costing(1000, "USD"))
    await sold(shop, seller, prices=costing(2000, "USD"))
    await sold(shop, seller, prices=costing(500, "BRL"))
    await settled(shop, seller, 3)

    page = await desk.until("/sell", lambda page: "30 days R$5.00 1 in 1 order" in page.text)

    assert "30 days $30.00 2 in 2 orders" in page.text
    for amount in ("$30.00", "R$5.00"):
        figures = await desk.get(page.links[amount].replace("&amp;", "&"))
        assert f"Sold {amount}" in figures.text
