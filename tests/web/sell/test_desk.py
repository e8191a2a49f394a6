"""The seller's desk: whose it is, and what it shows of a new seller."""

import pytest

from tests.support.shops.gateway import CARD, Person, Shop
from tests.support.shops.market import check_out, put_in, stocked
from tests.web.browser import Browser, Form
from tests.web.conftest import Register, session_of
from tests.web.sell.conftest import signed_in
from tests.web.test_pages import must_be_strict
from web.app import FrontDoor
from web.sell import ROUTERS

ID = "00000000-0000-4000-8000-000000000000"
PATHS = (
    "/sell",
    "/sell/games",
    "/sell/games?status=DRAFT",
    "/sell/stock",
    "/sell/stock?low=true",
    "/sell/shipments",
    "/sell/shipments?status=DELIVERED",
    "/sell/sales",
    "/sell/account",
    "/sell/webhooks",
)


@pytest.mark.parametrize("path", [*PATHS, "/sell/games/new"])
async def test_a_new_sellers_pages_are_empty_and_say_so(
    desk: Browser, shop: Shop, path: str
) -> None:
    page = await desk.get(path)

    assert page.status == 200
    must_be_strict(page)
    assert [tag for tag, _ in page.elements].count("h1") == 1
    if path != "/sell/games/new":
        assert any(given.get("class") == "empty" for _, given in page.elements)


async def test_others_read_how_to_become_a_seller(
    register: Register, browser: Browser, shop: Shop
) -> None:
    buyer, _ = await register()
    pages = [page for router in ROUTERS for page in router.pages]
    for page in pages:
        assert page.path.startswith("/sell")
        path = page.path.format(
            game_id=ID, image_id=ID, shipment_id=ID, endpoint_id=ID, delivery_id=ID
        )
        if page.method == "GET":
            shown = await buyer.get(path)
            assert (await browser.get(path)).path == "/sign-in"
        else:
            csrf = session_of(buyer).csrf
            shown = await buyer.send(Form(path, "post", {"csrf": csrf}))
        assert shown.status == 403, path
        assert "register another one" in shown.text
        must_be_strict(shown)


async def test_only_sellers_are_led_to_the_desk(
    desk: Browser, register: Register, shop: Shop
) -> None:
    assert "/sell" in (await desk.get("/")).links.values()
    buyer, _ = await register()
    assert "/sell" not in (await buyer.get("/")).links.values()


async def test_the_desk_shows_what_is_to_do_and_what_was_sold(
    shop: Shop, site: FrontDoor, seller: Person, buyer: Person
) -> None:
    game = await stocked(shop, seller, 5, title="Catan")
    await put_in(buyer, game, 2)
    await check_out(buyer, CARD)
    await shop.eventually(lambda: shipments_of(shop, seller))
    desk = await signed_in(site, seller)

    page = await desk.get("/sell")

    (parcel,) = await shipments_of(shop, seller)
    assert f"/sell/shipments/{parcel['id']}" in page.links.values()
    assert "To pack 1" in page.text
    assert "Running low 1" in page.text
    assert "7 days $39.98 2 in 1 order 30 days $39.98 2 in 1 order" in page.text
    assert "The shop owes you $35.98" in page.text
    (chart,) = [given for tag, given in page.elements if given.get("class") == "bars"]
    assert chart["aria-label"].startswith("Sales in USD by day")


async def shipments_of(shop: Shop, seller: Person) -> list[dict[str, str]]:
    answer = await seller.get("/api/v1/shipments", headers=await shop.reached())
    return list(answer.json()["items"])
