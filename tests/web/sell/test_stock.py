"""The stock page."""

from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import count, numbers, put_in, stocked
from tests.web.browser import Browser, Page


def rows(page: Page) -> list[str]:
    return [form.fields["product_id"] for form in page.forms if "product_id" in form.fields]


async def test_units_are_counted_and_low_stock_is_marked(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    plenty = await stocked(shop, seller, 100, title="Plenty")
    few = await stocked(shop, seller, 3, title="Few")
    await shop.game(seller, title="Digital")
    page = await desk.get("/sell/stock")
    assert rows(page) == [few["id"], plenty["id"]]
    assert page.text.count("Low") == 1
    assert "Digital" not in page.text

    form = next(each for each in page.forms if each.fields.get("product_id") == few["id"])
    page = await desk.send(form, quantity="0")

    assert "The stock is changed." in page.text
    assert "Sold out 0" in page.text
    assert await numbers(shop, seller, few) == (0, 0, 0, 0)
    assert rows(await desk.get("/sell/stock?low=true")) == [few["id"]]


async def test_stock_that_changed_meanwhile_is_not_overwritten(
    desk: Browser, seller: Person, buyer: Person, shop: Shop
) -> None:
    game = await stocked(shop, seller, 10)
    form = (await desk.get("/sell/stock")).form("/sell/stock")
    await count(seller, game, 20)

    late = await desk.send(form, quantity="9")
    assert late.status == 422
    assert "This has changed meanwhile." in late.text
    assert late.form("/sell/stock").fields["quantity"] == "9"
    assert await numbers(shop, seller, game) == (20, 20, 0, 0)

    await put_in(buyer, game, 5)
    assert await numbers(shop, seller, game) == (20, 15, 5, 0)
    form = (await desk.get("/sell/stock")).form("/sell/stock")
    held = await desk.send(form, quantity="4")
    assert held.status == 422
    assert "Carts and orders hold more units than that." in held.text


async def test_what_is_no_number_is_said_so(desk: Browser, seller: Person, shop: Shop) -> None:
    await stocked(shop, seller, 10)
    form = (await desk.get("/sell/stock")).form("/sell/stock")
    for quantity in ("", "-1", "many", "9" * 30):
        page = await desk.send(form, quantity=quantity)
        assert page.status == 422, quantity
        assert [given["name"] for _, given in page.elements if "aria-invalid" in given] == [
            "quantity"
        ]
