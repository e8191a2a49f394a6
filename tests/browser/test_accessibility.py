"""Every page: axe-core finds nothing in light and dark, and nothing is cut off at 320 pixels
(WCAG 2.2, 1.4.10)."""

from uuid import uuid4

import pytest
from playwright.async_api import Page

from tests.browser.axe import must_be_accessible
from tests.browser.stories import Shelf, a_buyer, shelf
from tests.browser.windows import Windows
from tests.support.processes.instance import Instance

pytestmark = pytest.mark.asyncio(loop_scope="session")

NARROW, USUAL = {"width": 320, "height": 640}, {"width": 1280, "height": 800}

PUBLIC = (
    "/",
    "/best-selling",
    "/reduced",
    "/search",
    "/search?q=nothing+like+it",
    "/search?q=hollow+kngiht",
    "/register",
    "/sign-in",
    "/forgot",
    "/verify-email",
    "/reset-password",
    "/nowhere",
)
OWN = ("/cart", "/library", "/orders", "/wallet", "/profile", "/notifications")
ODD_TITLES = {
    "markup": '<b>bold</b> & "co"',
    "right to left": "משחק הכיסא",
    "long": "Supercalifragilistic " * 13,
    "one word": "Ab" * 135,
}


async def must_hold(page: Page, *paths: str) -> None:
    """Hold pages to all of it."""
    for path in paths:
        await page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        await page.goto(path)
        over = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{path} is {over} pixels too wide"
        await page.set_viewport_size(USUAL)  # type: ignore[arg-type]
        await must_be_accessible(page)


@pytest.fixture(scope="module")
def shelved(shop: Instance) -> Shelf:
    return shelf(shop)


async def test_public_pages(windows: Windows, shelved: Shelf) -> None:
    windows.refusals.add(404)
    page = await windows.open(None)
    await must_hold(page, *PUBLIC, f"/games/{shelved.digital}", f"/games/{shelved.box}")


async def test_pages_of_a_new_account(windows: Windows) -> None:
    page = await windows.of_new_account()
    await must_hold(page, *OWN)


async def test_pages_of_a_buyer(windows: Windows, shop: Instance, shelved: Shelf) -> None:
    buyer = a_buyer(shop, shelved)
    page = await windows.signed_in(buyer.person.email)
    orders = [f"/orders/{order}" for order in buyer.orders]
    await must_hold(page, *OWN, *orders, "/checkout", f"/wallet/{buyer.wallet}")


@pytest.mark.parametrize("kind", ODD_TITLES)
async def test_titles_of_all_kinds(windows: Windows, shop: Instance, kind: str) -> None:
    title = f"{ODD_TITLES[kind]}{uuid4().hex[:6]}"
    odd = shelf(shop, title, f"{title} boxed")
    buyer = a_buyer(shop, odd)
    page = await windows.signed_in(buyer.person.email)
    await must_hold(page, f"/games/{odd.digital}", "/cart", "/orders", f"/orders/{buyer.orders[0]}")


async def test_forms_in_error(windows: Windows) -> None:
    windows.refusals.add(422)
    page = await windows.open("/register")
    await page.get_by_label("Name", exact=True).fill("Ann")
    await page.get_by_label("E-mail").fill("ann@localhost")
    await page.get_by_label("Password").fill("short but long")
    await page.get_by_label("Country").select_option("US")
    await page.get_by_role("button", name="Register").click()
    await page.get_by_role("alert").wait_for()
    await must_be_accessible(page)
