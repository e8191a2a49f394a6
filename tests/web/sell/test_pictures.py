"""Pictures of games: sent as files or named by a URL, ordered, and removed."""

import asyncio
from typing import Any

import pytest

from runtime.processes.servers import limits_of
from runtime.settings import Settings
from tests.support.images import an_image
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Browser, Page
from tests.web.sell.conftest import signed_in
from web.app import FrontDoor
from web.sell.games import MAX_FILE_BYTES, MAX_FILES

PNG, JPEG = ("a.png", an_image()), ("b.jpg", an_image("JPEG", (30, 40)))


async def opened(desk: Browser, game: dict[str, Any]) -> Page:
    return await desk.get(f"/sell/games/{game['id']}")


async def images_of(shop: Shop, game: dict[str, Any]) -> list[str]:
    answer = await shop.client().get(f"/api/v1/games/{game['id']}", headers=await shop.reached())
    return list(answer.json()["image_ids"])


async def test_files_become_pictures_and_the_first_is_the_cover(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    game = await shop.game(seller)
    page = await opened(desk, game)
    pictures = f"{page.path}/pictures"

    page = await desk.upload(page.form(pictures), PNG, JPEG)
    assert page.status == 200
    first, second = await images_of(shop, game)
    shown = [given["src"] for tag, given in page.elements if tag == "img"]
    assert f"/api/v1/images/{first}?size=thumb" in shown
    assert (await desk.client.get(f"/api/v1/images/{first}")).headers["content-type"] == "image/png"

    page = await desk.send(page.form(f"{pictures}/{second}/first"))
    assert await images_of(shop, game) == [second, first]

    page = await desk.send(page.form(f"{pictures}/{second}/remove"))
    assert await images_of(shop, game) == [first]
    page = await desk.send(page.form(f"{pictures}/{first}/remove"))
    assert await images_of(shop, game) == []
    assert "drawn from the title" in page.text


def test_as_many_as_may_be_sent_at_once_fit_into_a_request() -> None:
    assert limits_of(Settings()).message_bytes > MAX_FILES * MAX_FILE_BYTES


async def test_what_is_no_picture_is_named_and_the_others_are_added(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    game = await shop.game(seller)
    page = await opened(desk, game)

    page = await desk.upload(page.form(f"{page.path}/pictures"), ("notes.txt", b"x" * 100), PNG)

    assert page.status == 422
    assert "notes.txt: This is not a PNG, JPEG or WebP picture." in page.text
    assert len(await images_of(shop, game)) == 1


async def test_without_a_file_the_form_asks_for_one(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    page = await opened(desk, await shop.game(seller))
    page = await desk.upload(page.form(f"{page.path}/pictures"))

    assert page.status == 422
    assert "Choose a picture first." in page.text


async def test_what_is_too_large_is_refused(desk: Browser, seller: Person, shop: Shop) -> None:
    page = await opened(desk, await shop.game(seller))
    form = page.form(f"{page.path}/pictures")
    large = b"\x89PNG" + b"x" * (MAX_FILE_BYTES + 64 * 1024)

    one = await desk.upload(form, ("large.png", large), PNG)
    assert one.status == 422
    assert "large.png: That is too large." in one.text

    all_together = await desk.upload(form, *[("large.png", large)] * MAX_FILES)
    assert all_together.status == 413

    too_many = await desk.upload(form, *[PNG] * (MAX_FILES + 1))
    assert too_many.status == 400
    assert "Too many files at once" in too_many.text


async def test_other_forms_take_no_files(desk: Browser, seller: Person, shop: Shop) -> None:
    page = await opened(desk, await shop.game(seller))

    assert (await desk.upload(page.form(page.path), PNG)).status == 400


async def test_two_windows_that_add_pictures_at_once_both_do(
    desk: Browser, seller: Person, shop: Shop, site: FrontDoor
) -> None:
    game = await shop.game(seller)
    windows = [desk, await signed_in(site, seller)]
    pages = [await opened(window, game) for window in windows]
    forms = [page.form(f"{page.path}/pictures") for page in pages]

    done = await asyncio.gather(
        *(
            window.upload(form, file)
            for window, form, file in zip(windows, forms, (PNG, JPEG), strict=True)
        )
    )

    assert [page.status for page in done] == [200, 200]
    assert len(await images_of(shop, game)) == 2


async def test_a_script_gets_the_way_on_or_what_is_wrong(
    desk: Browser, seller: Person, shop: Shop
) -> None:
    page = await opened(desk, await shop.game(seller))
    form = page.form(f"{page.path}/pictures")

    done = await desk.upload(form, PNG, **{"hx-request": "true"})
    assert (done.status, done.answer.headers["hx-redirect"]) == (204, page.path)

    wrong = await desk.upload(form, ("x.png", b"x"), **{"hx-request": "true"})
    assert wrong.status == 422
    assert "<html" not in wrong.answer.text
    assert "x.png: This is not" in wrong.text
    assert "enctype" in wrong.answer.text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://127.0.0.1/a.png", "only from public https addresses"),
        ("http://example.com/a.png", "only from public https addresses"),
        ("", "url"),
    ],
    ids=["private", "not https", "none"],
)
async def test_an_address_that_is_refused_is_said_so(
    desk: Browser, seller: Person, shop: Shop, url: str, text: str
) -> None:
    game = await shop.game(seller)
    page = await opened(desk, game)
    page = await desk.send(page.form(f"{page.path}/pictures/from-url"), url=url)

    assert page.status == 422
    (wrong,) = [given["name"] for _, given in page.elements if "aria-invalid" in given]
    assert wrong == "url"
    assert text in page.answer.text
    assert await images_of(shop, game) == []


async def test_nobody_adds_pictures_to_anothers_game(
    desk: Browser, seller: Person, other: Person, shop: Shop
) -> None:
    page = await opened(desk, await shop.game(seller))
    form = page.form(f"{page.path}/pictures")
    theirs = await shop.game(other)
    form.action = f"/sell/games/{theirs['id']}/pictures"

    assert (await desk.upload(form, PNG)).status == 404
    assert await images_of(shop, theirs) == []
