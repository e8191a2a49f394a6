"""A stream's life, a row step by step, and an order's story, in the console."""

from uuid import uuid4

from tests.api.test_buying import buy
from tests.support.shops.gateway import SECURE, Person, Shop
from tests.web.browser import Page
from tests.web.console.conftest import Operator
from tests.web.test_pages import must_be_strict


def rows_of(page: Page, kind: str) -> int:
    """How many rows of tables are marked so: `good` is added, `warn` changed, `bad` removed."""
    return sum(tag == "tr" and given.get("class") == kind for tag, given in page.elements)


async def test_a_stream_is_shown_at_each_version(
    shop: Shop, operator: Operator, seller: Person
) -> None:
    game = await shop.game(seller, title="משחק הכיסא")
    await seller.put(f"/api/v1/games/{game['id']}", json={"title": "Chair game"})
    browser = await operator("AUDITOR")
    path = f"/console/streams/{game['id']}"

    latest = await browser.get(path)
    assert "2 of 2" in latest.text
    assert "Chair game" in latest.text
    assert "משחק הכיסא" in latest.text
    assert rows_of(latest, "warn") >= 1
    must_be_strict(latest)

    first = await browser.get(f"{path}?version=1")
    assert "1 of 2" in first.text
    assert "Chair game" not in first.text
    assert rows_of(first, "good") > 3
    assert first.links["Forward"] == f"{path}?version=2"
    for odd in ("0", "99", "x", "-1"):
        assert (await browser.get(f"{path}?version={odd}")).status == 200

    fragment = await browser.get(f"{path}?version=1", **{"hx-request": "true"})
    assert "<html" not in fragment.answer.text


async def test_a_form_leads_to_a_stream(shop: Shop, operator: Operator, seller: Person) -> None:
    game = await shop.game(seller)
    page = await (await operator("AUDITOR")).get(f"/console/streams?id={game['id']}")
    assert page.path == f"/console/streams/{game['id']}"


async def test_a_row_is_stepped_through(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    browser = await operator("AUDITOR")
    asked = f"/console/rows?model=orders&key={order['order_id']}"

    last = await browser.get(asked)
    assert "order.completed.v1" in last.text
    assert "COMPLETED" in last.text
    assert rows_of(last, "warn") >= 1
    must_be_strict(last)

    first = await browser.get(f"{asked}&step=1")
    assert "This event makes the row." in first.text
    assert rows_of(first, "good") > 3
    assert "Back" not in first.links
    second = await browser.get(first.links["Forward"])
    assert "2 of" in second.text


async def test_a_row_that_is_not_there_is_said_beside_the_form(
    shop: Shop, operator: Operator
) -> None:
    browser = await operator("AUDITOR")
    for query in (f"model=orders&key={uuid4()}", "model=orders&key=7", "model=x&key=7"):
        page = await browser.get(f"/console/rows?{query}")
        assert page.status == 422
        assert any(given.get("role") == "alert" for _, given in page.elements), query


async def test_personal_values_of_rows_stay_closed(
    shop: Shop, operator: Operator, buyer: Person
) -> None:
    page = await (await operator("ADMIN")).get(f"/console/rows?model=users&key={buyer.id}")
    assert page.status == 200
    assert "encrypted" in page.text
    assert buyer.email not in page.text


async def test_an_order_s_story_is_on_one_page(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller, title="Outer <Wilds>"))).json()
    browser = await operator("AUDITOR")
    path = f"/console/orders/{order['order_id']}"
    await shop.eventually(lambda: browser.get(path), lambda page: "waits for nothing" in page.text)

    page = await browser.get(path)

    for text in ("Outer <Wilds>", "Completed", "Paid", "$19.99", "PLATFORM_REVENUE"):
        assert text in page.text, text
    assert "payment.transaction.completed.v1" in page.links
    who = page.links["buyer"]
    assert f"Account {buyer.id}" in (await browser.get(who)).text
    must_be_strict(page)


async def test_a_refund_is_part_of_the_story(
    shop: Shop, operator: Operator, admin: Person, buyer: Person, seller: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    refund = await admin.post(f"/api/v1/orders/{order['order_id']}/refund", json={"reason": "gift"})
    assert refund.status_code == 201
    browser = await operator("AUDITOR")
    path = f"/console/orders/{order['order_id']}"

    page = await shop.eventually(
        lambda: browser.get(path), lambda page: "Refund Succeeded $19.99" in page.text
    )

    must_be_strict(page)


async def test_an_order_that_waits_says_for_what(
    shop: Shop, operator: Operator, buyer: Person, seller: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller), SECURE)).json()
    browser = await operator("ADMIN")
    path = f"/console/orders/{order['order_id']}"
    page = await shop.eventually(
        lambda: browser.get(path), lambda page: "confirm it at the provider" in page.text
    )
    assert "It waits for:" in page.text
    assert "Deadline order.payment" in page.text


async def test_other_streams_have_no_story(shop: Shop, operator: Operator, seller: Person) -> None:
    game = await shop.game(seller)
    page = await (await operator("AUDITOR")).get(f"/console/orders/{game['id']}")
    assert page.status == 404
