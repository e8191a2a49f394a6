"""From the first page to the library, in a real browser."""

import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.windows import Windows, sign_in
from tests.support.processes.instance import Instance, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECURE = "Card with 3-D Secure (test card)"
VISA = "Visa (test card)"

CONNECTIONS = 6
"""How many a browser has to one site over HTTP/1.1."""

HIDDEN = """are => {
  Object.defineProperty(document, "hidden", {value: are, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def a_game(shop: Instance) -> tuple[str, str]:
    """The id and title of a game that no other has, once it is found."""
    title = f"Outer {uuid4().hex[:12].translate(str.maketrans('0123456789', 'ghijklmnop'))}"
    game_id = shop.game(title=title)
    found = shop.http().get
    eventually(lambda: title in found("/api/v1/games/search", params={"q": title}).text)
    return game_id, title


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("main").get_by_role("button", name=name)


def status(page: Page) -> Locator:
    """What the page of an order says of it."""
    return page.locator("#order").get_by_role("status").first


async def into_the_cart(page: Page, game_id: str) -> None:
    await page.goto(f"/games/{game_id}")
    await button(page, "Put into the cart").click()
    await expect(page.get_by_role("heading", name="Your cart")).to_be_visible()


async def check_out(page: Page, card: str) -> None:
    await page.get_by_role("button", name="Check out").click()
    await page.get_by_label(card).check()
    await button(page, "Order and pay").click()
    await expect(page.get_by_role("heading", name="Your order", level=1)).to_be_visible()


async def test_a_purchase_with_3d_secure_comes_back_to_the_shop(
    windows: Windows, shop: Instance
) -> None:
    _, title = a_game(shop)
    page = await windows.of_new_account()

    await page.get_by_role("combobox", name="Search games").fill(title[:-1])
    await page.keyboard.press("Enter")
    await page.get_by_role("main").get_by_role("link", name=title).click()
    await button(page, "Put into the cart").click()
    await check_out(page, SECURE)

    await page.get_by_role("button", name="Continue at your bank").click()
    await expect(page.get_by_role("heading", name="Confirm your payment")).to_be_visible()
    assert not page.url.startswith(shop.base)
    await page.get_by_role("button", name="Approve").click()

    await page.wait_for_url(f"{shop.base}/orders/*")  # by itself, after some seconds
    await expect(status(page)).to_have_text("Completed")
    await page.get_by_role("main").get_by_role("link", name="library").click()
    await expect(page.get_by_role("link", name=title)).to_be_visible()


async def test_an_order_moves_while_it_is_looked_at(windows: Windows, shop: Instance) -> None:
    game_id, _ = a_game(shop)
    page = await windows.of_new_account()
    await into_the_cart(page, game_id)
    await check_out(page, "By card, on the payment provider's page")
    await expect(status(page)).to_have_text("Waiting for payment")

    till = await page.context.new_page()
    await till.goto(page.url)
    await till.get_by_role("button", name="Pay now").click()
    await till.get_by_role("button", name="A card that pays").click()

    await expect(status(page)).to_have_text("Completed")
    await expect(page.get_by_role("link", name="Receipt")).to_be_visible()
    await expect(page.get_by_role("button", name="Pay now")).to_have_count(0)


async def test_an_address_is_confirmed_by_the_link_in_the_mail(
    windows: Windows, shop: Instance
) -> None:
    email = f"{uuid4().hex}@example.com"
    page = await windows.of_new_account(email=email)
    await page.goto("/profile")
    await expect(page.get_by_text("not verified yet")).to_be_visible()

    link = eventually(lambda: mailed_link(shop.home / "mail", email))
    elsewhere = await windows.open(link)
    await button(elsewhere, "Confirm").click()
    await expect(elsewhere.get_by_text("your e-mail address is verified")).to_be_visible()

    await page.reload()
    await expect(page.get_by_text("not verified yet")).to_have_count(0)


def mailed_link(folder: Path, email: str) -> str:
    """The link in the mail to somebody; empty until it is there."""
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*") if path.is_file())
    mail = next((text for text in texts if email in text and "token=" in text), "")
    found = re.search(r"http\S+token=[\w.-]+", mail)
    return found[0] if found else ""


async def test_a_refund_is_told(windows: Windows, shop: Instance) -> None:
    game_id, title = a_game(shop)
    page = await windows.of_new_account()
    await into_the_cart(page, game_id)
    await check_out(page, VISA)
    await expect(status(page)).to_have_text("Completed")

    order_id = page.url.rsplit("/", 1)[1]
    order = shop.admin().get(f"/api/v1/orders/{order_id}").json()
    refund = shop.admin().post(
        f"/api/v1/payments/{order['payment_id']}/refund", json={"reason": "asked for"}
    )
    assert refund.status_code < 300, refund.text
    eventually(lambda: shop.admin().get(f"/api/v1/orders/{order_id}").json()["refunded_cents"])

    await page.reload()
    await expect(page.get_by_text("$19.99 refunded")).to_be_visible()
    await page.goto("/library")
    await expect(page.get_by_role("link", name=title)).to_have_count(0)


async def test_whichever_way_texts_run_a_page_begins_on_its_left(
    windows: Windows, shop: Instance
) -> None:
    page = await windows.of_new_account(name="שם ארוך מאוד " * 6)
    await page.goto(f"/games/{shop.game(title='משחק הכיסא: הסוף', publisher='דוד המלך')}")
    card = await left_of(page, page.get_by_role("region", name="Price"))
    for text in ("משחק הכיסא: הסוף", "דוד המלך"):
        title = page.locator("article").get_by_text(text, exact=True).last
        assert abs(await left_of(page, title) - card) < 2
    name, arrow = page.locator(".menu bdi"), page.locator(".menu").get_by_text("▾")
    await expect(arrow).to_be_in_viewport()
    assert await left_of(page, arrow) > await left_of(page, name)


async def left_of(page: Page, at: Locator) -> float:
    """Where the text, or the box, of an element begins."""
    return float(
        await at.evaluate(
            """at => {
              const text = document.createRange();
              text.selectNodeContents(at);
              const boxes = [...(at.matches("section") ? at : text).getClientRects()];
              return Math.min(...boxes.map(box => box.left));
            }"""
        )
    )


async def test_by_keyboard_alone(windows: Windows, shop: Instance) -> None:
    game_id, _ = a_game(shop)
    page = await windows.of_new_account()
    await page.goto(f"/games/{game_id}")

    await tab_to(page, "Skip to the content")
    await page.keyboard.press("Enter")
    await tab_to(page, "Put into the cart")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Your cart")).to_be_visible()
    await tab_to(page, "Check out")
    await page.keyboard.press("Space")  # a link that says it is a button
    await expect(page.get_by_role("heading", name="Check out")).to_be_visible()
    await tab_to(page, "By card, on the payment provider's page")
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_label(VISA)).to_be_checked()
    await tab_to(page, "Order and pay $19.99")
    await page.keyboard.press("Enter")

    await expect(status(page)).to_have_text("Completed")
    await tab_to(page, "Ann ▾")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Wallet")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="Wallet")).to_be_hidden()


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until what has the focus says this; wherever it is, that can be seen."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        here = await page.evaluate(
            """() => {
              const at = document.activeElement, box = at.getBoundingClientRect();
              const said = at.labels?.length ? at.labels[0].innerText : at.innerText;
              const ring = getComputedStyle(at).outlineStyle;
              if (at === document.body) return ["", true];  // between the last and the first
              return [said?.trim() ?? "", ring !== "none" && box.width > 0 && box.height > 0];
            }"""
        )
        assert here[1], f"the focus on {here[0]!r} cannot be seen"
        if here[0] == text:
            return
    raise AssertionError(f"{text!r} cannot be reached by Tab")


async def test_without_scripts(windows: Windows, shop: Instance) -> None:
    game_id, title = a_game(shop)
    page = await windows.of_new_account(options={"java_script_enabled": False})
    await page.goto(f"/search?q={title[:-1]}")
    await page.get_by_role("main").get_by_role("link", name=title).click()
    assert page.url.endswith(game_id)
    await button(page, "Put into the cart").click()
    await check_out(page, "By card, on the payment provider's page")

    await page.get_by_role("button", name="Pay now").click()
    await page.get_by_role("button", name="A card that pays").click()
    await page.get_by_role("link", name="Back to the shop").click()

    await page.wait_for_url(f"{shop.base}/orders/*")
    path = f"/api/v1/orders/{page.url.rsplit('/', 1)[1]}"
    eventually(lambda: shop.admin().get(path).json()["status"] == "COMPLETED")
    await page.goto("/library")
    await expect(page.get_by_role("link", name=title)).to_be_visible()


async def test_a_session_that_ends_in_another_window(windows: Windows, shop: Instance) -> None:
    game_id, title = a_game(shop)
    email = f"{uuid4().hex}@example.com"
    page = await windows.of_new_account(email=email)
    await page.goto(f"/games/{game_id}")

    other = await page.context.new_page()
    await other.goto("/")
    await other.get_by_text("Ann ▾").click()
    await other.get_by_role("button", name="Sign out").click()
    await expect(other.get_by_role("link", name="Sign in")).to_be_visible()

    await button(page, "Put into the cart").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await sign_in(page, email)
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)
    await into_the_cart(page, game_id)


async def test_two_windows_have_one_cart(windows: Windows, shop: Instance) -> None:
    windows.refusals.add(409)
    (one, _), (two, title) = a_game(shop), a_game(shop)
    page = await windows.of_new_account()
    other = await page.context.new_page()
    await into_the_cart(page, one)
    await into_the_cart(other, two)

    await page.reload()
    await expect(page.get_by_role("link", name=title)).to_be_visible()
    await page.get_by_role("button", name="Check out").click()
    await page.get_by_label(VISA).check()
    await check_out(other, VISA)
    await button(page, "Order and pay").click()

    await expect(page.get_by_text("nothing more was ordered")).to_be_visible()
    await expect(page.get_by_role("listitem").filter(has_text="and 1 more")).to_have_count(1)


async def test_pages_in_other_tabs_leave_connections_to_the_one_that_is_looked_at(
    windows: Windows, shop: Instance
) -> None:
    page = await windows.of_new_account()
    await into_the_cart(page, a_game(shop)[0])
    tabs = [await page.context.new_page() for _ in range(CONNECTIONS)]
    for tab in tabs:
        await tab.goto("/cart")
        await tab.evaluate(HIDDEN, True)  # a browser without a screen shows all of them

    other = await page.context.new_page()
    await other.goto("/cart")
    await button(other, "Empty the cart").click()
    await tabs[0].evaluate(HIDDEN, False)

    await expect(tabs[0].get_by_text("Your cart is empty.")).to_be_visible()
