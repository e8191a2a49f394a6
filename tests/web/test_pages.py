"""What holds of all pages: who answers which path, what browsers may do with them, and how titles
of all kinds are shown."""

import re

import pytest

from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Browser, Page
from tests.web.conftest import Register
from web.app import FrontDoor, create_web
from web.visit import WebSettings

PUBLIC = (
    "/",
    "/best-selling",
    "/reduced",
    "/search",
    "/search?q=nothing+like+it",
    "/register",
    "/sign-in",
    "/forgot",
)
MAILED = ("/verify-email?token=x", "/reset-password?token=x", "/verify-email", "/reset-password")
EMPTY = ("/cart", "/library", "/orders", "/wallet")
OWN = (*EMPTY, "/profile", "/notifications")


async def test_the_api_keeps_its_paths(browser: Browser, shop: Shop) -> None:
    for path in ("/api/v1/games", "/health/live", "/openapi.json"):
        answer = await browser.client.get(path)
        assert answer.headers["content-type"].startswith("application/json"), path
    assert "swagger" in (await browser.client.get("/docs")).text


async def test_an_unknown_path_is_a_page_for_browsers_alone(browser: Browser, shop: Shop) -> None:
    page = await browser.get("/nowhere")
    assert (page.status, page.title) == (404, "Not found · Ludoteca")

    for path, accept in (("/nowhere", "*/*"), ("/api/v1/nowhere", "text/html")):
        answer = await browser.client.get(path, headers={"accept": accept})
        assert answer.json()["code"] == "not_found"


async def test_pages_and_api_share_no_path(site: FrontDoor, shop: Shop) -> None:
    with pytest.raises(ValueError, match="cart"):
        create_web(shop.app, ["/cart/{id}"], WebSettings(b"s" * 32))


def must_be_strict(page: Page) -> None:
    """No script or style but the shop's own files."""
    policy = page.answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    for tag, given in page.elements:
        assert tag != "style"
        assert not [name for name in given if name == "style" or name.startswith("on")], tag
        if tag == "script":
            assert given["src"].startswith("/static/")
    assert len(page.title) > len(" · Ludoteca")


@pytest.mark.parametrize("path", [*PUBLIC, *MAILED])
async def test_public_pages_answer(browser: Browser, shop: Shop, path: str) -> None:
    page = await browser.get(path)

    assert page.status == 200
    must_be_strict(page)


async def test_pages_of_a_new_account_are_empty_and_say_so(register: Register, shop: Shop) -> None:
    browser, _ = await register()
    for path in OWN:
        page = await browser.get(path)
        assert (page.path, page.status) == (path, 200)
        must_be_strict(page)
    for path in EMPTY:
        assert re.search("empty|no games|not ordered|no wallet", (await browser.get(path)).text)


TITLES = {
    "markup": '<script>alert(1)</script> & "co"',
    "right to left": "משחק הכיסא",
    "long": "Supercalifragilistic " * 14 + "x",
    "no letters": "!!!",
    "emoji": "🎲 Dice",
}


@pytest.mark.parametrize("kind", TITLES)
async def test_titles_of_all_kinds(browser: Browser, shop: Shop, seller: Person, kind: str) -> None:
    title = TITLES[kind]
    game = await shop.game(seller, title=title)

    async def shown() -> Page:
        return await browser.get(f"/games/{game['id']}")

    page = await shop.eventually(shown, lambda page: page.status == 200)
    assert " ".join(title.split()) in page.text
    must_be_strict(page)
    heading = next(n for n, (tag, _) in enumerate(page.elements) if tag == "h1")
    assert page.elements[heading + 1] == ("bdi", {})

    async def at_home() -> Page:
        return await browser.get("/", **await shop.reached())

    home = await shop.eventually(at_home, lambda page: " ".join(title.split()) in page.text)
    must_be_strict(home)


async def test_a_script_gets_a_part_of_the_page(browser: Browser, shop: Shop) -> None:
    part = (await browser.get("/search?q=x", **{"hx-request": "true"})).answer
    whole = (await browser.get("/search?q=x")).answer

    assert "<html" not in part.text
    assert part.text.strip() in whole.text
    assert "HX-Request" in part.headers["vary"]


@pytest.mark.parametrize(
    "path", ["/games/nope", "/games/00000000-0000-0000-0000-000000000000", "/games/a%2Fb"]
)
async def test_a_game_that_is_none_is_not_found(browser: Browser, shop: Shop, path: str) -> None:
    assert (await browser.get(path)).status == 404


async def test_files_are_kept_for_a_year_under_a_name_of_their_content(
    browser: Browser, shop: Shop
) -> None:
    page = await browser.get("/")
    files = {
        given.get("src") or given["href"]
        for tag, given in page.elements
        if tag == "script" or (tag == "link" and "href" in given)
    }
    assert {path.rpartition(".")[2] for path in files} == {"css", "js", "svg"}
    for path in files:
        assert re.fullmatch(r"/static/[a-z]+\.[0-9a-f]{16}\.(js|css|svg)", path)
        answer = await browser.client.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert (await browser.client.get("/static/app.0000000000000000.js")).status_code == 404


async def test_what_sells_best_is_in_the_window(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, title="Baba Is You")
    browser, _ = await register()
    assert "Nothing has been sold yet." in (await browser.get("/best-selling")).text
    page = await browser.get(f"/games/{game['id']}")
    await browser.send(page.form("/cart/items"))
    form = (await browser.get("/checkout")).form("/checkout")
    await browser.send(form, method="pm_card_visa")

    async def window() -> Page:
        return await browser.get("/", **await shop.reached())

    home = await shop.eventually(window, lambda page: "Best-selling" in page.text)
    assert home.links["More that sells well"] == "/best-selling"
    assert "Baba Is You" in (await browser.get("/best-selling")).text


async def test_a_game_leads_to_others_of_its_genre(
    browser: Browser, shop: Shop, seller: Person
) -> None:
    puzzle = await shop.game(seller, title="Baba Is You", genres=["Puzzle"])
    await shop.game(seller, title="Patrick's Parabox", genres=["Puzzle"])
    await shop.game(seller, title="Crysis", genres=["Action"])

    async def shown() -> Page:
        return await browser.get(f"/games/{puzzle['id']}", **await shop.reached())

    page = await shop.eventually(shown, lambda page: "Patrick's Parabox" in page.text)
    assert page.links["All of them"] == "/search?genre=Puzzle"
    assert "Crysis" not in page.text
    must_be_strict(page)
