"""From sellers' desks to a buyer's door, in a real browser."""

import base64
import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.test_accessibility import ODD_TITLES, must_hold
from tests.browser.test_buying import VISA, button, into_the_cart
from tests.browser.windows import Windows
from tests.support.images import an_image
from tests.support.processes.instance import Instance, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = (
    "/sell",
    "/sell/games",
    "/sell/games/new",
    "/sell/stock",
    "/sell/shipments",
    "/sell/sales",
    "/sell/account",
    "/sell/webhooks",
)

DROP = """(input, [name, content]) => {
  const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type: "image/png"}));
  input.files = data.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
}"""


async def list_a_game(page: Page, title: str, **fields: str) -> str:
    """Put a game on sale by the desk's form. Returns its id."""
    await page.goto("/sell/games/new")
    await page.get_by_label("It is").select_option(fields.get("kind", "DIGITAL"))
    await page.get_by_label("Title").fill(title)
    await page.get_by_label("SKU").fill(uuid4().hex)
    await page.get_by_label("Price").fill("20.00")
    await expect(page.get_by_role("complementary", name="Preview")).to_contain_text(title)
    await button(page, "Put on sale").click()
    await expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
    return page.url.rsplit("/", 1)[1]


async def count(page: Page, title: str, units: int) -> None:
    await page.goto("/sell/stock")
    await page.get_by_label(f"Total of {title}").fill(str(units))
    await page.get_by_role("row", name=re.compile(title)).get_by_role("button", name="Set").click()
    await expect(page.get_by_text("The stock is changed.")).to_be_visible()


async def send(page: Page, title: str, number: str) -> None:
    """Pack the parcel, and hand it to a carrier."""
    await page.goto("/sell")
    await page.get_by_role("link", name=title).first.click()
    await button(page, "Begin to pack").click()
    await page.get_by_label("Carrier").fill("DHL")
    await page.get_by_label("Tracking number").fill(number)
    await button(page, "The carrier has it").click()
    await expect(page.get_by_text("On the way", exact=True)).to_be_visible()


async def test_an_order_from_two_sellers_desks_is_delivered(
    windows: Windows, shop: Instance
) -> None:
    windows.refusals.add(404)  # the carrier's page has no icon
    desks = {title: await windows.of_new_account(account_type="SELLER") for title in titles()}
    games = {}
    for title, desk in desks.items():
        games[title] = await list_a_game(desk, title, kind="PHYSICAL")
        await count(desk, title, 3)
    buyer = await windows.of_new_account()
    eventually(lambda: all(is_available(shop, game_id) for game_id in games.values()))
    for game_id in games.values():
        await into_the_cart(buyer, game_id)
    await buyer.get_by_role("button", name="Check out").click()
    await fill_in_address(buyer)
    await buyer.get_by_label(VISA).check()
    await button(buyer, "Order and pay $40.00").click()
    status = buyer.locator("#order").get_by_role("status")
    await expect(status).to_have_text("Paid")

    numbers = {title: uuid4().hex for title in desks}
    for title, desk in desks.items():
        await send(desk, title, numbers[title])
    await expect(status).to_have_text("Shipped")
    parcels = await windows.open(carrier(shop))
    for number in numbers.values():
        await deliver(parcels, number)

    await expect(status).to_have_text("Delivered")
    for title, desk in desks.items():
        await desk.goto("/sell/account")
        await expect(desk.get_by_text("$18.00").first).to_be_visible()
        await desk.goto("/sell/sales")
        await expect(desk.get_by_role("img", name=re.compile("Sales in USD"))).to_be_visible()
        await expect(desk.get_by_role("row", name=re.compile(title)).first).to_be_visible()


def titles() -> tuple[str, str]:
    """Titles that no other games have."""
    return f"Catan {uuid4().hex[:8]}", f"Azul {uuid4().hex[:8]}"


def is_available(shop: Instance, game_id: str) -> bool:
    answer = shop.http().get(f"/api/v1/inventory/availability/{game_id}")
    return answer.is_success and bool(answer.json()["in_stock"])


def carrier(shop: Instance) -> str:
    """The carrier's page."""
    return f"http://127.0.0.1:{shop.environment['LUDOTECA_CARRIER_PORT']}/"


async def fill_in_address(page: Page) -> None:
    for label, text in (
        ("Street and number", "1 High Street"),
        ("City", "Portland"),
        ("Postal code", "97201"),
    ):
        await page.get_by_role("textbox", name=label).fill(text)


async def deliver(page: Page, number: str) -> None:
    await page.get_by_role("button", name=f"Delivered: {number}").click()
    await expect(page.get_by_role("button", name=f"Delivered: {number}")).to_have_count(0)


DRAG_ON_TO_A_PART = """box => {
  const part = box.querySelector("input");
  part.dispatchEvent(new DragEvent("dragenter", {bubbles: true, relatedTarget: box}));
  box.dispatchEvent(new DragEvent("dragleave", {bubbles: true, relatedTarget: part}));
}"""

SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
"""Bytes a second: two seconds for the picture."""


async def test_pictures_are_dropped_and_one_becomes_the_cover(
    windows: Windows, shop: Instance
) -> None:
    windows.refusals.add(422)
    page = await windows.of_new_account(account_type="SELLER")
    game_id = await list_a_game(page, f"Azul {uuid4().hex[:8]}")
    pictures = page.get_by_label("Drop pictures here")
    for size in ((30, 40), (60, 80)):
        content = base64.b64encode(an_image(size=size)).decode()
        await pictures.evaluate(DROP, ["box.png", content])
        await button(page, "Add them").click()
        await expect(page.get_by_text("The pictures are added.")).to_be_visible()
    await expect(page.get_by_alt_text("Picture 2")).to_be_visible()
    second = await page.get_by_alt_text("Picture 2").get_attribute("src")
    await button(page, "Make it the cover").click()
    await expect(page.get_by_alt_text("Picture 1, the cover")).to_have_attribute(
        "src", second or ""
    )

    broken = base64.b64encode(b"no picture at all").decode()
    await pictures.evaluate(DROP, ["notes.png", broken])
    await button(page, "Add them").click()
    await expect(page.get_by_text("notes.png: This is not a PNG")).to_be_visible()

    await page.goto(f"/games/{game_id}")
    await expect(page.locator("img.cover")).to_have_attribute("src", (second or "").split("?")[0])


async def test_a_box_for_pictures_shows_what_is_dragged_over_it_and_how_far_it_is(
    windows: Windows, shop: Instance
) -> None:
    page = await windows.of_new_account(account_type="SELLER")
    await list_a_game(page, f"Azul {uuid4().hex[:8]}")
    box, over = page.locator(".drop"), re.compile(r"\bover\b")

    await box.dispatch_event("dragenter")
    await expect(box).to_have_class(over)
    await box.evaluate(DRAG_ON_TO_A_PART)
    await expect(box).to_have_class(over)
    await box.dispatch_event("dragleave")
    await expect(box).not_to_have_class(over)

    network = await page.context.new_cdp_session(page)
    await network.send("Network.enable")
    await network.send("Network.emulateNetworkConditions", SLOW)
    large = an_image(size=(30, 40)) + bytes(200_000)
    picture = base64.b64encode(large).decode()
    await page.get_by_label("Drop pictures here").evaluate(DROP, ["box.png", picture])
    await button(page, "Add them").click()

    await expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    await expect(page.get_by_text("The pictures are added.")).to_be_visible()


async def test_files_are_taken_wherever_on_the_box_they_are_dropped(
    windows: Windows, shop: Instance, tmp_path: Path
) -> None:
    page = await windows.of_new_account(account_type="SELLER")
    await list_a_game(page, f"Azul {uuid4().hex[:8]}")
    picture = tmp_path / "box.png"
    picture.write_bytes(an_image(size=(30, 40)))
    box = page.locator(".drop")

    for part in (box.get_by_text("Drop pictures here"), box.locator("small"), box.locator("input")):
        await page.reload()
        await drop(page, part, picture)
        await button(page, "Add them").click()
        await expect(page.get_by_text("The pictures are added.")).to_be_visible()
    await expect(page.get_by_alt_text("Picture 3")).to_be_visible()
    assert len(page.context.pages) == 1, "a file was opened instead"


async def drop(page: Page, at: Locator, file: Path) -> None:
    """Drop a file as a person does, with the mouse."""
    await at.scroll_into_view_if_needed()
    box = await at.bounding_box()
    assert box is not None
    where = {"x": box["x"] + 5, "y": box["y"] + box["height"] / 2}
    mouse = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await mouse.send("Input.dispatchDragEvent", {"type": kind, "data": data, **where})


async def test_the_pages_of_the_desk(windows: Windows, shop: Instance) -> None:
    page = await windows.of_new_account(account_type="SELLER")
    await must_hold(page, *PAGES)
    for title in ODD_TITLES.values():
        odd = f"{uuid4().hex[:6]} {title}"[:290].strip()
        game_id = await list_a_game(page, odd, kind="PHYSICAL")
        await must_hold(page, f"/sell/games/{game_id}")
    await must_hold(page, *PAGES)


async def test_what_is_wrong_with_a_price_stands_below_it(windows: Windows) -> None:
    windows.refusals.add(422)
    page = await windows.of_new_account(account_type="SELLER")
    await list_a_game(page, f"Azul {uuid4().hex[:8]}")
    await page.get_by_label("Amount 1").fill("20.005")
    await button(page, "Save the prices").click()
    said = await page.get_by_text("This is not an amount in USD.").bounding_box()
    field = await page.get_by_label("Amount 1").bounding_box()
    assert said is not None
    assert field is not None
    assert said["y"] >= field["y"] + field["height"]


async def test_the_preview_of_a_long_title_is_cut_as_in_the_shop(windows: Windows) -> None:
    page = await windows.of_new_account(account_type="SELLER")
    await page.goto("/sell/games/new")
    await page.get_by_label("Title").fill(ODD_TITLES["long"].strip())
    title = page.get_by_role("complementary", name="Preview").locator(".sample .title")
    await expect(title).to_contain_text("Supercalifragilistic")
    box = await title.bounding_box()
    assert box is not None
    assert box["height"] < 60


async def test_a_long_title_leaves_a_phone_s_table_room_for_others(windows: Windows) -> None:
    page = await windows.of_new_account(account_type="SELLER")
    await list_a_game(page, ODD_TITLES["long"].strip(), kind="PHYSICAL")
    await page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/sell/stock", "/sell/games"):
        await page.goto(path)
        row = await page.get_by_role("row", name=re.compile("Supercali")).bounding_box()
        assert row is not None
        assert row["height"] < 150, path


async def test_the_desk_is_for_sellers(windows: Windows) -> None:
    windows.refusals.add(403)
    page = await windows.of_new_account()
    await must_hold(page, "/sell")
