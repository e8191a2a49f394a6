"""A parcel, from the seller's desk to the buyer."""

from typing import Any

from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import ADDRESS, check_out, put_in, stocked
from tests.web.browser import Browser, Form
from tests.web.sell.conftest import signed_in
from web.app import FrontDoor


async def parcel_of(shop: Shop, seller: Person, buyer: Person) -> dict[str, Any]:
    """The shipment of a paid order."""
    await put_in(buyer, await stocked(shop, seller, 9, title="Catan"), 2)
    assert (await check_out(buyer)).status_code == 201

    async def found() -> list[dict[str, Any]]:
        answer = await seller.get("/api/v1/shipments", headers=await shop.reached())
        return list(answer.json()["items"])

    return (await shop.eventually(found))[0]


async def test_a_parcel_is_packed_and_handed_over(
    shop: Shop, site: FrontDoor, desk: Browser, seller: Person, buyer: Person
) -> None:
    parcel = await parcel_of(shop, seller, buyer)
    path = f"/sell/shipments/{parcel['id']}"
    listed = await desk.get("/sell/shipments")
    assert "Catan × 2" in listed.text

    page = await desk.get(path)
    assert ADDRESS["line1"] in page.text
    page = await desk.send(page.form(f"{path}/process"))
    assert "To hand over" in page.text
    assert path in (await desk.get("/sell/shipments?status=PROCESSING")).links.values()

    nothing = await desk.send(page.form(f"{path}/ship"), carrier="DHL", tracking_number=" ")
    assert nothing.status == 422
    assert [given["name"] for _, given in nothing.elements if "aria-invalid" in given] == [
        "tracking_number"
    ]
    assert nothing.form(f"{path}/ship").fields["carrier"] == "DHL"

    page = await desk.send(nothing.form(f"{path}/ship"), tracking_number="JD014600")
    assert "On the way" in page.text
    assert "Carrier DHL Number JD014600" in page.text
    order = await (await signed_in(site, buyer)).get(f"/orders/{parcel['order_id']}")
    assert "JD014600" in order.text


async def test_a_step_that_was_taken_elsewhere_is_told(
    shop: Shop, desk: Browser, seller: Person, buyer: Person
) -> None:
    parcel = await parcel_of(shop, seller, buyer)
    page = await desk.get(f"/sell/shipments/{parcel['id']}")
    await seller.put(f"/api/v1/shipments/{parcel['id']}/process")

    late = await desk.send(page.form(f"{page.path}/process"))

    assert late.status == 422
    assert "This shipment has moved on meanwhile." in late.text


async def test_nobody_sees_or_moves_anothers_parcel(
    shop: Shop, desk: Browser, buyer: Person, other: Person
) -> None:
    parcel = await parcel_of(shop, other, buyer)
    path = f"/sell/shipments/{parcel['id']}"
    assert (await desk.get(path)).status in {403, 404}

    own = (await desk.get("/sell/shipments")).forms[-1]
    for step in ("process", "ship"):
        page = await desk.send(Form(f"{path}/{step}", "post", own.fields))
        assert page.status in {403, 404}
        assert ADDRESS["line1"] not in page.text


async def test_an_unknown_status_shows_what_is_to_be_packed(desk: Browser, shop: Shop) -> None:
    page = await desk.get("/sell/shipments?status=nonsense")

    assert page.status == 200
    assert "Nothing is to be packed." in page.text
