"""Why a figure is what it is: figures that lead there, and the page itself."""

import re
from uuid import UUID, uuid4

from domain.ids import stock_id
from tests.api.test_buying import buy
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Page
from tests.web.console.conftest import Operator
from tests.web.test_pages import must_be_strict

COMPLETED = "waits for nothing"


def figures(page: Page) -> list[str]:
    """Where the figures of a page lead."""
    return [given["href"] for tag, given in page.elements if given.get("class") == "figure"]


async def order_of(buyer: Person, shop: Shop, seller: Person) -> str:
    return str((await buy(buyer, await shop.game(seller))).json()["order_id"])


async def test_a_figure_is_explained_by_the_events_that_moved_it(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    order = await order_of(buyer, shop, seller)
    browser = await operator("AUDITOR")

    page = await browser.get(f"/console/why?of={order}.status&model=orders")
    assert page.status == 200
    assert "status is COMPLETED" in page.text
    assert "order.completed.v1" in page.links
    assert "payment.requested.v1" in page.links, "the chain of causes"
    assert page.links["request"].startswith("/console/log?correlation_id=")
    assert page.links["total_cents"].startswith(f"/console/why?id={order}&field=total_cents")
    must_be_strict(page)

    total = await browser.get(page.links["total_cents"])
    assert "total_cents is $19.99" in total.text
    assert "nothing $19.99 + $19.99" in total.text
    first = next(path for name, path in total.links.items() if name == "order.created.v1")
    position = first.rpartition("/")[2]
    past = await browser.get(f"/console/why?of={order}.status&model=orders&as_of={position}")
    assert "status is PENDING_PAYMENT" in past.text


async def test_every_amount_of_the_console_leads_to_why(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    await buyer.post("/api/v1/wallets", json={"currency": "USD"})
    order = await order_of(buyer, shop, seller)
    browser = await operator("ADMIN")
    story = f"/console/orders/{order}"
    await shop.eventually(lambda: browser.get(story), lambda page: COMPLETED in page.text)
    account = f"/console/ledger/accounts/SELLER_PAYABLE:{seller.id}"
    await shop.eventually(lambda: browser.get(account), lambda page: "$17.99" in page.text)

    for path, least in (
        (story, 8),
        (f"/console/people/{buyer.id}", 3),
        ("/console/ledger", 3),
        ("/console/ledger/transactions", 3),
        (account, 4),
        (f"/console/streams/{order}", 4),
        (f"/console/rows?model=orders&key={order}", 15),
    ):
        page = await browser.get(path)
        found = figures(page)
        assert len(found) >= least, path
        money = re.findall(r'<a class="figure"[^>]*><span class="money">', page.answer.text)
        sums = 3 if path == "/console/ledger" else 0  # the trial balance has no row
        shown = page.answer.text.count('<span class="money">') - sums
        if "streams" not in path and "rows" not in path:
            assert len(money) == shown, path
        for href in dict.fromkeys(found[:5]):
            why = await browser.get(href)
            assert why.status == 200, (path, href, why.text)
            assert "What moved it" in why.text or "No event has ever" in why.text


async def test_figures_as_of_a_moment_lead_to_that_moment(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    await order_of(buyer, shop, seller)
    head = await shop.core.log.head()
    page = await (await operator("AUDITOR")).get(f"/console/people/{buyer.id}?as_of={head}")
    assert figures(page)
    assert all(f"as_of={head}" in href for href in figures(page))


async def test_a_stock_s_units_lead_to_why(shop: Shop, operator: Operator, seller: Person) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    counted = {"product_id": game["id"], "total_quantity": 7}
    assert (await seller.put("/api/v1/inventory/stock", json=counted)).is_success
    browser = await operator("ADMIN")
    stream = await browser.get(f"/console/streams/{stock_id(UUID(game['id']))}")
    total = next(href for href in figures(stream) if ".total&" in href)
    page = await browser.get(total)
    assert "total is 7" in page.text
    assert "+7" in page.text


# -- the form --------------------------------------------------------------------------------------


async def test_an_id_is_answered_with_the_fields_of_its_rows(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    order, browser = await order_of(buyer, shop, seller), await operator("AUDITOR")
    for asked in (f"id={order}", f"id={order}&field=totl", f"of={order}"):
        page = await browser.get(f"/console/why?{asked}")
        assert page.status == (422 if "totl" in asked else 200)
        assert "Choose a figure" in page.text
        assert ("No field totl." in page.text) == ("totl" in asked)
        assert {"total_cents", "cancel_reason"} <= page.links.keys()
        assert "account_id" not in page.text, "the fields of other read models"
        must_be_strict(page)
    several = await browser.get(f"/console/why?id={order}&field=currency")
    assert several.status == 422
    assert several.links["currency"].startswith("/console/why?")
    chosen = await browser.get(several.links["currency"])
    assert "currency is USD" in chosen.text


async def test_what_is_not_there_is_said(shop: Shop, operator: Operator) -> None:
    browser = await operator("AUDITOR")
    assert "Amounts and counts" in (await browser.get("/console/why")).text
    none = await browser.get(f"/console/why?of={uuid4()}.status")
    assert none.status == 422
    assert "No read model has a row with this id" in none.text
    for odd, status in (
        (f"of={uuid4()}.status&as_of=tomorrow", 422),
        (f"of={uuid4()}.status&as_of=999999999999", 400),
        (f"id={'x' * 600}&field=status", 422),
        ("of=.....................................", 422),
        ("id=%3Cb%3E/..&field=%22", 422),
    ):
        page = await browser.get(f"/console/why?{odd}")
        assert page.status == status, (odd, page.text)
        must_be_strict(page)


async def test_personal_figures_stay_closed(shop: Shop, operator: Operator, buyer: Person) -> None:
    page = await (await operator("ADMIN")).get(f"/console/why?of={buyer.id}.email&model=users")
    assert page.status == 200
    assert "encrypted" in page.text
    assert buyer.email not in page.answer.text


async def test_finding_nothing_leads_to_the_log(shop: Shop, operator: Operator) -> None:
    page = await (await operator("AUDITOR")).get("/console/find?id=")
    assert (page.path, page.status) == ("/console/log", 200)
