"""A game that has a picture is shown with it wherever its title stands in a list."""

from typing import Any

from tests.support.images import an_image
from tests.support.shops.gateway import CARD, Person, Shop
from tests.support.shops.market import check_out, put_in, stocked
from tests.web.browser import Browser, Page
from tests.web.sell.conftest import signed_in
from web.app import FrontDoor


async def pictured(shop: Shop, seller: Person) -> tuple[dict[str, Any], str]:
    """A game that is shipped, with a picture, and the URL of its thumbnail."""
    file = {"file": ("a.png", an_image(), "image/png")}
    stored = (await seller.post("/api/v1/catalog/images", files=file)).json()
    game = await stocked(shop, seller, 5, title="Catan", image_ids=[stored["image_id"]])
    return game, f"{stored['url']}?size=thumb"


def shows(page: Page, thumbnail: str) -> bool:
    """Whether the picture is on the page, and no cover that is drawn."""
    covers = [(tag, given) for tag, given in page.elements if given.get("class") == "cover"]
    return bool(covers) and all(given.get("src") == thumbnail for _, given in covers)


async def bought(shop: Shop, site: FrontDoor, seller: Person, buyer: Person) -> tuple[str, Browser]:
    """The thumbnail of a game that a buyer has bought and has in the cart, and their browser."""
    game, thumbnail = await pictured(shop, seller)
    await put_in(buyer, game)
    await check_out(buyer, CARD)
    await put_in(buyer, game)
    return thumbnail, await signed_in(site, buyer)


async def test_buyers_see_the_picture_in_cart_and_orders(
    shop: Shop, site: FrontDoor, seller: Person, buyer: Person
) -> None:
    thumbnail, browser = await bought(shop, site, seller, buyer)

    orders = await browser.until("/orders", lambda page: shows(page, thumbnail))
    (order,) = [link for link in orders.links.values() if link.startswith("/orders/")]
    for path in ("/cart", order):
        assert shows(await browser.get(path), thumbnail), path


async def test_sellers_see_the_picture_at_each_step(
    shop: Shop, site: FrontDoor, seller: Person, buyer: Person
) -> None:
    thumbnail, _ = await bought(shop, site, seller, buyer)
    desk = await signed_in(site, seller)

    parcels = await desk.until("/sell/shipments", lambda page: shows(page, thumbnail))
    (parcel,) = [link for link in parcels.links.values() if "/sell/shipments/" in link]
    for path in ("/sell", "/sell/stock", "/sell/sales", "/sell/games", parcel):
        await desk.until(path, lambda page: shows(page, thumbnail))


async def test_a_game_without_a_picture_has_a_drawn_cover(
    shop: Shop, site: FrontDoor, seller: Person, buyer: Person
) -> None:
    await put_in(buyer, await stocked(shop, seller, 1, title="Go"))

    cart = await (await signed_in(site, buyer)).get("/cart")

    (cover,) = [tag for tag, given in cart.elements if given.get("class") == "cover"]
    assert cover == "svg"
