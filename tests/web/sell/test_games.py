"""Listing games and changing them, in a browser without scripts."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.shops.gateway import Person, Shop, a_game
from tests.web.browser import Browser, Form, Page
from tests.web.conftest import session_of
from tests.web.test_pages import TITLES, must_be_strict
from web.countries import COUNTRIES


async def listed(desk: Browser, **typed: str) -> Page:
    """The page of a new game."""
    form = (await desk.get("/sell/games/new")).form("/sell/games")
    return await desk.send(
        form, **{"title": "Outer Wilds", "sku": uuid4().hex, "status": "DRAFT", **typed}
    )


def details(page: Page) -> Form:
    """The form about the game itself."""
    return page.form(page.path)


def wrong_fields(page: Page) -> set[str]:
    return {given["name"] for _, given in page.elements if "aria-invalid" in given}


async def stored(shop: Shop, page: Page) -> dict[str, Any]:
    """The game, as everybody sees it in the API."""
    answer = await shop.client().get(f"/api/v1/games/{page.path.rsplit('/', 1)[1]}")
    return dict(answer.json())


async def test_a_draft_is_edited_put_on_sale_and_then_seen_by_all(
    desk: Browser, browser: Browser, shop: Shop
) -> None:
    page = await listed(desk, amount="24.99", genres="Puzzle, Space ,Puzzle,", platforms="Linux")
    shop_page = page.path.removeprefix("/sell")
    assert page.status == 200
    must_be_strict(page)
    assert "Draft" in page.text
    assert (await browser.get(shop_page)).status == 404

    page = await desk.send(
        details(page), description="A knot of time.\n\nAnd a banjo.", release_date="2019-05-28"
    )
    assert "Your changes are saved." in page.text
    assert details(page).fields["description"] == "A knot of time.\n\nAnd a banjo."
    assert details(page).fields["genres"] == "Puzzle, Space"

    page = await desk.send(page.form(f"{page.path}/publish"))
    assert "On sale" in page.text
    shown = await browser.until(shop_page, lambda page: page.status == 200)
    for text in ("Outer Wilds", "$24.99", "A knot of time.", "28 May 2019", "Space"):
        assert text in shown.text
    game = await stored(shop, page)
    assert (game["genres"], game["tags"], game["platforms"]) == (["Puzzle", "Space"], [], ["Linux"])
    assert "Outer Wilds" in (await desk.get("/sell/games?status=ACTIVE")).text


async def test_what_was_emptied_is_empty(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, amount="1", publisher="Mobius", description="x", tags="a, b")
    page = await desk.send(details(page), publisher="", description="", tags="")
    page = await desk.send(page.form(f"{page.path}/publish"))

    game = await stored(shop, page)
    assert (game["publisher"], game["description"], game["tags"]) == ("", "", [])


async def test_a_game_can_go_on_sale_at_once(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, amount="1500", currency="JPY", kind="PHYSICAL", status="ACTIVE")

    game = await stored(shop, page)
    assert (game["status"], game["kind"]) == ("ACTIVE", "PHYSICAL")
    assert game["prices"] == [{"region": "*", "amount_cents": 1500, "currency": "JPY"}]


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("title", {"title": " "}),
        ("sku", {"sku": "x" * 65}),
        ("genres", {"genres": "fine, " + "x" * 65}),
        ("amount", {"amount": "1.234"}),
        ("amount", {"amount": "cheap"}),
        ("amount", {"amount": "99999999999"}),
        ("release_date", {"release_date": "yesterday"}),
        ("description", {"description": "x" * 20_001}),
    ],
    ids=["no title", "sku", "genre", "decimals", "no amount", "too dear", "no day", "too long"],
)
async def test_what_is_wrong_is_said_beside_its_field(
    desk: Browser, shop: Shop, field: str, typed: dict[str, str]
) -> None:
    page = await listed(desk, publisher="Mobius", **typed)

    assert page.status == 422
    assert wrong_fields(page) == {field}
    form = page.form("/sell/games")
    assert form.fields["publisher"] == "Mobius"
    assert form.fields[field] == typed[field].strip() or field == "title"


async def test_a_sku_is_given_once(desk: Browser, shop: Shop) -> None:
    await listed(desk, sku="ABC-1")
    page = await listed(desk, sku="ABC-1")

    assert wrong_fields(page) == {"sku"}
    assert "You have another game with this SKU." in page.text


async def test_a_game_without_a_price_is_not_put_on_sale(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, status="ACTIVE")
    assert page.status == 422
    assert "needs a price" in page.text

    page = await listed(desk)
    page = await desk.send(page.form(f"{page.path}/publish"))
    assert page.status == 422
    assert "needs a price" in page.text


async def test_a_form_that_is_sent_twice_lists_one_game(desk: Browser, shop: Shop) -> None:
    form = (await desk.get("/sell/games/new")).form("/sell/games")
    first, second = [await desk.send(form, title="Once", sku="ONCE") for _ in range(2)]

    assert first.path == second.path != "/sell/games"


# -- the preview -----------------------------------------------------------------------------------


async def test_the_preview_shows_what_is_typed_and_saves_nothing(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, amount="5")
    form = Form(f"{page.path}/preview", "post", details(page).fields)

    whole = await desk.send(form, title="Inner <b>Wilds</b>", tags="Banjo")
    assert whole.status == 200
    assert whole.text.count("Inner <b>Wilds</b>") >= 2
    assert "Banjo" in whole.text
    assert details(await desk.get(page.path)).fields["title"] == "Outer Wilds"

    part = await desk.client.post(
        form.action, data={**form.fields, "title": "Typed"}, headers={"hx-request": "true"}
    )
    assert "<html" not in part.text
    assert "Typed" in part.text


@pytest.mark.parametrize(
    "typed", [{}, {"amount": "x"}, {"release_date": "x"}, {"amount": "7", "title": ""}]
)
async def test_a_new_game_is_previewed_however_little_is_typed(
    desk: Browser, shop: Shop, typed: dict[str, str]
) -> None:
    form = (await desk.get("/sell/games/new")).form("/sell/games")
    form.action = "/sell/games/preview"
    page = await desk.send(form, **typed)

    assert page.status == 200
    assert not wrong_fields(page)
    assert ("$7.00" in page.text) == (typed.get("amount") == "7")


@pytest.mark.parametrize("kind", TITLES)
async def test_titles_of_all_kinds_are_shown(desk: Browser, shop: Shop, kind: str) -> None:
    page = await listed(desk, title=TITLES[kind])

    assert page.status == 200
    must_be_strict(page)
    assert details(page).fields["title"] == TITLES[kind].strip()
    must_be_strict(await desk.get("/sell/games"))


# -- prices ----------------------------------------------------------------------------------------


async def test_prices_are_set_by_region_changed_and_taken_out(
    desk: Browser, browser: Browser, shop: Shop
) -> None:
    page = await listed(desk, amount="20", status="ACTIVE")
    prices = f"{page.path}/prices"
    more = {"region.1": "de", "amount.1": "18.50", "currency.1": "eur"}
    page = await desk.send(page.form(prices), **more)
    assert "The prices are saved." in page.text
    assert {
        price["region"]: price["amount_cents"] for price in (await stored(shop, page))["prices"]
    } == {
        "*": 2000,
        "DE": 1850,
    }
    page = await desk.send(page.form(prices), **{"amount.0": "21"})
    assert page.form(prices).fields["amount.0"] == "21.00"

    page = await desk.send(page.form(prices), **{"amount.0": ""})
    assert [price["region"] for price in (await stored(shop, page))["prices"]] == ["DE"]

    page = await desk.send(page.form(prices), **{"amount.0": ""})
    assert page.status == 422
    assert "needs a price" in page.text


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"region.1": "XX", "amount.1": "1", "currency.1": "USD"}, "region.1"),
        ({"region.1": "DE", "amount.1": "1", "currency.1": "XXX"}, "currency.1"),
        ({"region.1": "DE", "amount.1": "1.234", "currency.1": "EUR"}, "amount.1"),
        ({"region.2": "DE", "amount.2": "99999999999", "currency.2": "EUR"}, "amount.2"),
        ({"region.1": "DE", "amount.1": "1", "currency.1": ""}, "currency.1"),
    ],
    ids=["region", "currency", "decimals", "after a blank row", "no currency"],
)
async def test_a_wrong_price_is_marked_in_its_row(
    desk: Browser, shop: Shop, typed: dict[str, str], field: str
) -> None:
    page = await listed(desk, amount="20")
    page = await desk.send(page.form(f"{page.path}/prices"), **typed)

    assert page.status == 422
    assert wrong_fields(page) == {field}
    fields = page.form(page.path).fields
    assert {name: fields[name] for name in typed} == typed


async def test_two_prices_for_one_region_are_refused(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, amount="20")
    typed = {"region.1": "*", "amount.1": "1", "currency.1": "USD"}
    page = await desk.send(page.form(f"{page.path}/prices"), **typed)

    assert page.status == 422
    assert "two prices for one region" in page.text


async def test_a_game_with_a_price_everywhere_can_be_edited(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    regions = ["*", *(code for code, _ in COUNTRIES[:23])]
    prices = [{"region": each, "amount_cents": 100, "currency": "USD"} for each in regions]
    game = await shop.game(seller, prices=prices)
    path = f"/sell/games/{game['id']}"

    page = await desk.send((await desk.get(path)).form(f"{path}/prices"), **{"amount.20": "2"})

    assert page.status == 200
    changed = (await stored(shop, page))["prices"]
    assert [price["amount_cents"] for price in changed] == [100] * 20 + [200] + [100] * 3


# -- others ----------------------------------------------------------------------------------------


async def test_a_change_of_another_window_is_not_overwritten(desk: Browser, shop: Shop) -> None:
    page = await listed(desk)
    await desk.send(details(page), title="First")

    late = await desk.send(details(page), title="Second")
    assert late.status == 412
    assert "changed meanwhile" in late.text
    assert details(late).fields["title"] == "Second"
    assert details(await desk.get(page.path)).fields["title"] == "First"

    again = await desk.send(details(late))
    assert details(again).fields["title"] == "Second"


async def test_nobody_edits_anothers_game(desk: Browser, other: Person, shop: Shop) -> None:
    theirs = await shop.game(other)
    path = f"/sell/games/{theirs['id']}"
    assert (await desk.get(path)).status == 404
    mine = await listed(desk)
    for step in ("", "/prices", "/publish", "/retire", "/preview", "/pictures/from-url"):
        form = Form(f"{path}{step}", "post", {**details(mine).fields, "sure": "yes"})
        assert (await desk.send(form)).status in {403, 404}, step
    now = await other.get(f"/api/v1/games/{theirs['id']}")
    assert (now.json()["title"], now.json()["status"]) == ("Celeste", "ACTIVE")


async def test_what_is_no_game_is_not_found(desk: Browser, shop: Shop) -> None:
    for path in ("/sell/games/nope", f"/sell/games/{uuid4()}", "/sell/games/a%2Fb"):
        assert (await desk.get(path)).status == 404


async def test_a_game_goes_off_sale_for_good_once_confirmed(
    desk: Browser, browser: Browser, shop: Shop
) -> None:
    page = await listed(desk, amount="1", status="ACTIVE")
    path, shop_page = page.path, page.path.removeprefix("/sell")
    unsure = await desk.send(page.form(f"{path}/retire"))
    assert wrong_fields(unsure) == {"sure"}
    on_sale = await browser.until(shop_page, lambda page: page.status == 200)
    assert "not on sale" not in on_sale.text

    games = await desk.send(page.form(f"{path}/retire"), sure="yes")

    assert games.path == "/sell/games"
    await browser.until(shop_page, lambda page: "not on sale" in page.text)
    page = await desk.get(path)
    assert "off sale for good" in page.text
    assert [form.action for form in page.forms if form.action.startswith(path)] == []
    fields = {"csrf": session_of(desk).csrf, "title": "x", "sku": "x"}
    assert (await desk.send(Form(path, "post", fields))).status == 422


async def test_the_games_are_listed_page_by_page(desk: Browser, seller: Person, shop: Shop) -> None:
    for number in range(21):
        await seller.post("/api/v1/games", json=a_game(title=f"Game {number}"))

    first = await desk.get("/sell/games")
    rest = await desk.get(first.links["More"])

    assert "Game 20" in first.text
    assert "Game 0" in rest.text
    assert "More" not in rest.links


async def test_games_are_searched_by_title_and_sku(desk: Browser, shop: Shop) -> None:
    await listed(desk, title="Tunic", sku="FOX-7")
    await listed(desk, title="Gris", sku="ART-1")

    page = await desk.until("/sell/games?q=fox", lambda page: "Tunic" in page.text)
    assert "Gris" not in page.text
    assert page.form("/sell/games").fields["q"] == "fox"
    assert "None of these games" in (await desk.get("/sell/games?q=zzz&status=DRAFT")).text
    part = await desk.get("/sell/games?q=tun", **{"hx-request": "true"})
    assert ("Tunic" in part.text, "List a game" in part.text) == (True, False)


async def test_a_game_on_sale_that_is_not_in_stock_says_so(desk: Browser, shop: Shop) -> None:
    page = await listed(desk, kind="PHYSICAL", amount="20", status="ACTIVE")
    page = await desk.until(page.path, lambda page: "Count your stock" in page.links)
    assert "None of it is in stock" in page.text
