"""Pictures of the pages, in docs/screens: `make screens`. Not a test: pytest runs it for its
fixtures only when it is named. `SCREENS` is another folder for them.

Each page is taken in the light and in the dark, at a desk and on a phone. The shop is filled with
the sample of games that new shops get, and what is in the stories.
"""

import io
import os
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.async_api import Browser, Page
from starlette.routing import compile_path

from runtime.bootstrap import SAMPLE
from tests.browser.operating_stories import (
    a_replay,
    a_verification,
    a_what_if,
    alerted,
    dead_letters,
    paused_and_resumed,
    poisoned,
)
from tests.browser.selling_stories import Seller, a_seller
from tests.browser.stories import Buyer, Shelf, a_buyer, must
from tests.browser.test_selling import carrier
from tests.browser.windows import Windows, sign_in
from tests.support import ROOT
from tests.support.processes.instance import ADMIN, VISA, Instance, eventually
from web.app import ROUTERS

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = Path(os.environ.get("SCREENS", ROOT / "docs" / "screens"))
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
TALLEST = 1500
"""Pixels; the rest of a page is cut off."""
QUALITY = 45

IN_USD = {"currency": "USD"}
NO_PICTURE = {
    "/cart/live",
    "/orders/{order_id}/live",
    "/console/live",
    "/console/log/live",
    "/search/suggest",
    "/paid",
    "/profile/export",
    "/console/proofs/checkpoints/{size}",
    "/console/proofs/consistency",
}
"""What is no page of its own: parts of pages that move, files, ways to other pages."""

CATAN = """Trade, build, settle: the island has room for three or four, and never enough ore.

Everybody begins with two settlements. Roads lead to new places, cities pay twice, and the robber
sits where it hurts. Whoever has ten points first wins."""


class Camera:
    """Takes pictures of what a window shows."""

    taken: ClassVar[set[str]] = set()
    """The paths of all pages of which there are pictures."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def take(self, name: str, path: str, status: int = 200) -> None:
        """Pictures of the page at a path."""
        answer = await self._page.goto(path)
        assert answer is not None
        assert answer.status == status, path
        await self.keep(name)

    async def keep(self, name: str) -> None:
        """Pictures of the page that is shown."""
        self.taken.add(urlsplit(self._page.url).path)
        for size, (width, height) in SIZES.items():
            await self._page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                await self._page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                await self._page.evaluate("document.fonts.ready")
                shot = await self._page.screenshot(full_page=True)
                _keep(shot, FOLDER / f"{name}-{scheme}-{size}.webp")


def _keep(shot: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    cut = image.crop((0, 0, image.width, min(image.height, TALLEST)))
    cut.save(path, quality=QUALITY, method=6)


@pytest.fixture(scope="module", autouse=True)
def folder() -> None:
    FOLDER.mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def sample(shop: Instance) -> list[str]:
    """The ids of the sample's games that have a price."""
    shop.cli("load", "games", str(SAMPLE), check=False)
    page = shop.http().get("/api/v1/games", params={"limit": 60, "sort": "newest"})
    return [game["id"] for game in must(page)["items"] if game["prices"]]


@pytest.fixture(scope="module")
def sue(shop: Instance, sample: list[str]) -> Seller:
    return a_seller(shop)


@pytest.fixture(scope="module")
def ann(shop: Instance, sample: list[str], sue: Seller) -> Buyer:
    """A buyer with a filled library, who also pays from a wallet and sends money to a friend."""
    box = shop.game(4500, "Catan", kind="PHYSICAL", description=CATAN)
    stock = {"product_id": box, "total_quantity": 40}
    must(shop.admin().put("/api/v1/inventory/stock", json=stock))
    buyer = a_buyer(shop, Shelf(sample[0], box), name="Ann Lee", email="ann.lee@example.com")
    orders = [must(buyer.person.buy(game, VISA))["order_id"] for game in sample[3:12]]
    eventually(lambda: all(buyer.person.completed(order) for order in orders))
    friend = must(shop.register(name="Ben Okafor").http.post("/api/v1/wallets", json=IN_USD))["id"]
    gift = {"type": "transfer", "amount_cents": 1500, "currency": "USD"}
    wallets = {"from_wallet_id": buyer.wallet, "to_wallet_id": friend}
    must(buyer.person.http.post("/api/v1/transactions", json={**gift, **wallets}))
    paid = {"game_id": sample[13], "payment_method": {"type": "wallet"}}
    must(buyer.person.http.post("/api/v1/orders", json=paid))
    return buyer


async def test_front_door(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    windows = Windows(chromium, shop)
    page = await windows.open("/sign-in")
    camera = Camera(page)
    for name in ("sign-in", "register", "forgot", "verify-email", "reset-password"):
        await camera.take(name, f"/{name}")
    await camera.take("not-found", "/nowhere", 404)
    await windows.close()


async def test_shop(
    chromium: Browser, shop: Instance, ann: Buyer, sue: Seller, sample: list[str]
) -> None:
    windows = Windows(chromium, shop)
    page = await windows.open("/sign-in")
    await sign_in(page, ann.person.email)
    camera = Camera(page)
    await camera.take("home", "/")
    await camera.take("best-selling", "/best-selling")
    await camera.take("reduced", "/reduced")
    await camera.take("search", "/search?q=dark")
    await camera.take("search-nothing", "/search?q=zzzzzz+qqq")
    await camera.take("game", f"/games/{sample[1]}")
    await camera.take("game-box", f"/games/{sue.games[1]}")
    await camera.take("cart", "/cart")
    await camera.take("checkout", "/checkout")
    for order, name in zip(ann.orders, ("completed", "to-send", "bank", "declined"), strict=True):
        await camera.take(f"order-{name}", f"/orders/{order}")
    for name in ("orders", "library", "profile", "notifications"):
        await camera.take(name, f"/{name}")
    await camera.take("wallets", "/wallet")
    await camera.take("wallet", f"/wallet/{ann.wallet}")
    await camera.take("console-refused", "/console", 403)
    await camera.take("sell-become", "/sell", 403)
    await windows.close()


async def test_outside_the_shop(
    chromium: Browser, shop: Instance, ann: Buyer, sample: list[str]
) -> None:
    """The bank's, the carrier's and the tax office's pages, which are simulated."""
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ann.person.email)
    camera = Camera(page)
    await page.goto(f"/orders/{ann.orders[1]}")
    await page.get_by_role("link", name="Receipt").first.click()
    await camera.keep("outside-receipt")
    open_order = must(ann.person.buy(sample[12], None))["order_id"]
    for order, link in ((ann.orders[2], "Continue at your bank"), (open_order, "Pay now")):
        await page.goto(f"/orders/{order}")
        await page.get_by_role("button", name=link).click()
        await page.get_by_text("This is a simulated bank").wait_for()
        await camera.keep("outside-till" if link == "Pay now" else "outside-bank")
    await camera.take("outside-carrier", carrier(shop))
    await windows.close()


async def test_desk(chromium: Browser, shop: Instance, sue: Seller) -> None:
    windows = Windows(chromium, shop)
    page = await windows.signed_in(sue.person.email)
    camera = Camera(page)
    await camera.take("sell", "/sell")
    await camera.take("sell-new", "/sell/games/new")
    await camera.take("sell-game", f"/sell/games/{sue.games[1]}")
    for name in ("games", "stock", "shipments", "sales", "account", "webhooks"):
        await camera.take(f"sell-{name}", f"/sell/{name}")
    for number, name in enumerate(("to-pack", "to-hand-over", "on-the-way")):
        await camera.take(f"sell-shipment-{name}", f"/sell/shipments/{sue.parcels[number]}")
    await camera.take("sell-webhook", f"/sell/webhooks/{sue.endpoint}")
    await page.goto("/sell/webhooks")
    await page.get_by_label("Address").fill("https://hooks.harbour-games.example/stock")
    await page.get_by_role("button", name="Create it").click()
    await camera.keep("sell-webhook-secret")
    await windows.close()


def position(shop: Instance, **wanted: str) -> int:
    """Where the latest event is that matches."""
    found: dict[str, Any] = must(shop.admin().get("/api/v1/audit/log", params=wanted))
    return int(found["items"][0]["position"])


async def test_console(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ADMIN)
    camera, order = Camera(page), ann.orders[0]
    completed = position(shop, name="order.completed.*", stream_id=order)
    await camera.take("console", "/console")
    await camera.take("console-log", "/console/log?name=payment.*")
    await camera.take("console-event", f"/console/events/{completed}")
    await camera.take("console-unproven", f"/console/events/{completed}/proof", 409)
    await camera.take("console-streams", "/console/streams")
    await camera.take("console-stream", f"/console/streams/{order}")
    await camera.take("console-rows", f"/console/rows?model=orders&key={order}&step=2")
    await camera.take("console-orders", "/console/orders")
    await camera.take("console-order", f"/console/orders/{ann.orders[1]}")
    await camera.take("console-why", f"/console/why?of={ann.wallet}.balance_cents")
    await camera.take("console-why-choice", f"/console/why?id={order}")
    await camera.take("console-nothing", "/console/find?id=nothing", 404)
    await camera.take("console-person", f"/console/people/{ann.person.id}")
    await camera.take("console-ledger-transactions", "/console/ledger/transactions")
    await page.goto("/console/ledger")
    await page.get_by_role("link", name="platform").first.click()
    await camera.keep("console-ledger-account")
    for name in ("catalog", "ledger", "people"):
        await camera.take(f"console-{name}", f"/console/{name}")
    await camera.take("console-settings", "/console/settings?q=payment")
    await windows.close()


async def test_console_at_work(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    """What an operator does something about."""
    dead_letters(shop, "charge", 3)
    paused_and_resumed(shop, "library_grants")
    await poisoned(shop)
    await alerted(shop)
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ADMIN)
    camera = Camera(page)
    await camera.take("console-projection", "/console/projections/orders")
    for name in ("dead-letters", "quarantine"):
        await camera.take(f"console-{name}-all", f"/console/{name}/all")
    await camera.take("console-dead-letters-discard", "/console/dead-letters/discard")
    for name in ("projections", "dead-letters", "quarantine", "alerts"):
        await camera.take(f"console-{name}", f"/console/{name}")
    await _amend(page, camera, position(shop, name="game.updated.*"))
    await camera.take("console-amendments", "/console/amendments")
    await camera.take("console-acts", "/console/acts")
    await windows.close()


async def _amend(page: Page, camera: Camera, at: int) -> None:
    """Have an event skipped, and see what that means first."""
    await camera.take("console-amendment", f"/console/amendments/{at}")
    card = page.locator("form", has=page.get_by_role("heading", name="Not at all"))
    await card.get_by_label("Reason").fill("the game was never listed")
    await card.get_by_role("button").click()
    await page.get_by_role("heading", name="Skip it?").wait_for()
    await camera.keep("console-amendment-confirm")
    await page.get_by_role("button", name="Skip it").click()
    await page.get_by_text("It is skipped from now on.").wait_for()


async def test_console_of_auditors(chromium: Browser, shop: Instance, ann: Buyer) -> None:
    """What an auditor asks for, and what others can check."""
    tasks = {"what-if": a_what_if(shop), "verification": a_verification(shop)}
    a_replay(shop, position(shop, name="payment.*") // 2)
    must(shop.admin().post("/api/v1/audit/checkpoints"))
    windows = Windows(chromium, shop)
    page = await windows.signed_in(ADMIN)
    camera = Camera(page)
    for name, task_id in tasks.items():
        await camera.take(f"console-task-{name}", f"/console/tasks/{task_id}")
    for name in ("tasks", "proofs", "self-audit"):
        await camera.take(f"console-{name}", f"/console/{name}")
    await camera.take("console-bundles", f"/console/bundles?id={ann.orders[1]}")
    about = f"/console/differences?from=1&to=2999-01-01&about=order&id={ann.orders[1]}"
    await camera.take("console-differences", about)
    await windows.close()


async def test_every_page_has_a_picture() -> None:
    pages = {page.path for router in ROUTERS for page in router.pages if page.method == "GET"}
    patterns = {path: compile_path(path)[0] for path in pages - NO_PICTURE}
    missing = [
        path
        for path, pattern in patterns.items()
        if not any(pattern.match(taken) for taken in Camera.taken)
    ]
    assert missing == []
