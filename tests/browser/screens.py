"""Pictures of the pages, in docs/screens: `make screens`. Not a test: pytest runs it for its
fixtures only when it is named.

The shop is filled with the sample of games that new shops get, and what is in stories.py.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from runtime.bootstrap import SAMPLE
from tests.browser.operating_stories import (
    a_what_if,
    alerted,
    dead_letters,
    paused_and_resumed,
    poisoned,
)
from tests.browser.selling_stories import a_seller
from tests.browser.stories import Buyer, Shelf, a_buyer, must
from tests.browser.windows import Windows, sign_in
from tests.support import ROOT
from tests.support.processes.instance import ADMIN, VISA, Instance, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = ROOT / "docs" / "screens"
DESKTOP, PHONE = (1280, 860), (390, 844)
TALLEST = 1500
"""Pixels; the rest of a page is cut off."""


class Camera:
    """Takes pictures of pages."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def take(
        self, name: str, path: str, sizes: Iterable[str] = ("desktop",), dark: bool = True
    ) -> None:
        """Pictures of a page, in the light and in the dark."""
        for size in sizes:
            width, height = DESKTOP if size == "desktop" else PHONE
            await self._page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark") if dark else ("light",):
                await self._page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                await self._page.goto(path)
                await self._page.evaluate("document.fonts.ready")
                shot = await self._page.screenshot(full_page=True)
                _keep(shot, FOLDER / f"{name}-{scheme}-{size}.webp")


def _keep(shot: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    image.crop((0, 0, image.width, min(image.height, TALLEST))).save(path, quality=78, method=6)


ALL = ("desktop", "phone")


@pytest.fixture(scope="module")
def sample(shop: Instance) -> list[str]:
    """The ids of the sample's games, some of them with a box to send."""
    shop.cli("load", "games", str(SAMPLE), check=False)
    page = shop.http().get("/api/v1/games", params={"limit": 60, "sort": "newest"})
    return [game["id"] for game in must(page)["items"] if game["prices"]]


@pytest.fixture(scope="module")
def ann(shop: Instance, sample: list[str]) -> Buyer:
    """A buyer with a filled library."""
    box = shop.game(4500, "Catan", kind="PHYSICAL", description=CATAN)
    stock = {"product_id": box, "total_quantity": 40}
    must(shop.admin().put("/api/v1/inventory/stock", json=stock))
    buyer = a_buyer(shop, Shelf(sample[0], box), name="Ann Lee")
    orders = [must(buyer.person.buy(game, VISA))["order_id"] for game in sample[3:12]]
    eventually(lambda: all(buyer.person.completed(order) for order in orders))
    return buyer


CATAN = """Trade, build, settle: the island has room for three or four, and never enough ore.

Everybody begins with two settlements. Roads lead to new places, cities pay twice, and the robber
sits where it hurts. Whoever has ten points first wins."""


async def test_shop(chromium: Browser, shop: Instance, ann: Buyer, sample: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    windows = Windows(chromium, shop)
    page = await windows.open("/sign-in")
    await Camera(page).take("sign-in", "/sign-in")
    await Camera(page).take("register", "/register")
    await page.goto("/sign-in")
    await sign_in(page, ann.person.email)
    camera = Camera(page)
    await camera.take("home", "/", ALL)
    await camera.take("best-selling", "/best-selling", dark=False)
    await camera.take("reduced", "/reduced", dark=False)
    await camera.take("search", "/search?q=dark", ALL)
    await camera.take("search-nothing", "/search?q=zzzzzz+qqq")
    await camera.take("game", f"/games/{sample[1]}", ALL)
    await camera.take("cart", "/cart", ALL)
    await camera.take("checkout", "/checkout", ALL)
    for order, name in zip(ann.orders, ("completed", "to-send", "bank", "declined"), strict=True):
        sizes = ALL if name in {"completed", "to-send"} else ("desktop",)
        await camera.take(f"order-{name}", f"/orders/{order}", sizes)
    await camera.take("orders", "/orders")
    await camera.take("library", "/library", ALL)
    await camera.take("wallets", "/wallet")
    await camera.take("wallet", f"/wallet/{ann.wallet}", ALL)
    await camera.take("profile", "/profile")
    await camera.take("notifications", "/notifications")
    await camera.take("not-found", "/nowhere", dark=False)
    await windows.close()


async def test_desk(chromium: Browser, shop: Instance) -> None:
    FOLDER.mkdir(exist_ok=True)
    sue = a_seller(shop)
    windows = Windows(chromium, shop)
    page = await windows.signed_in(sue.person.email)
    camera = Camera(page)
    await camera.take("sell", "/sell", ALL)
    await camera.take("sell-games", "/sell/games", ALL)
    await camera.take("sell-new", "/sell/games/new")
    await camera.take("sell-game", f"/sell/games/{sue.games[1]}", ALL)
    await camera.take("sell-stock", "/sell/stock", ALL)
    await camera.take("sell-shipments", "/sell/shipments")
    for number, name in ((0, "to-pack"), (1, "to-hand-over")):
        await camera.take(f"sell-shipment-{name}", f"/sell/shipments/{sue.parcels[number]}")
    await camera.take("sell-sales", "/sell/sales", ALL)
    await camera.take("sell-account", "/sell/account")
    await camera.take("sell-webhooks", "/sell/webhooks")
    await camera.take("sell-webhook", f"/sell/webhooks/{sue.endpoint}")
    await windows.close()


async def test_console(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ADMIN)
    camera, order_id = Camera(page), ann.orders[0]
    found = must(shop.admin().get("/api/v1/audit/log", params={"name": "order.completed.*"}))
    await camera.take("console", "/console", ALL)
    await camera.take("console-log", "/console/log?name=payment.*")
    await camera.take("console-event", f"/console/events/{found['items'][0]['position']}")
    await camera.take("console-stream", f"/console/streams/{order_id}")
    await camera.take("console-rows", f"/console/rows?model=orders&key={order_id}&step=2")
    await camera.take("console-order", f"/console/orders/{order_id}")
    await windows.close()


async def test_operators_console(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    dead_letters(shop, "charge", 3)
    paused_and_resumed(shop, "library_grants")
    await poisoned(shop)
    await alerted(shop)
    task_id = a_what_if(shop)
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ADMIN)
    camera = Camera(page)
    await camera.take("console-log", "/console/log", ("phone",), dark=False)
    await camera.take("console-projections", "/console/projections")
    await camera.take("console-projection", "/console/projections/orders")
    await camera.take("console-dead-letters", "/console/dead-letters")
    await camera.take("console-acts", "/console/acts")
    await camera.take("console-alerts", "/console/alerts")
    await camera.take("console-task", f"/console/tasks/{task_id}")
    for name in ("tasks", "quarantine", "ledger", "people", "settings"):
        await camera.take(f"console-{name}", f"/console/{name}", dark=False)
    await windows.close()
