"""Requests to pages that no browser sends by itself: none is a fault of the program."""

import httpx
import pytest
from starlette.types import Message

from tests.support.shops.gateway import PASSWORD, Person, Shop
from tests.web.browser import Browser
from tests.web.conftest import Register, session_of
from tests.web.console.following import following
from tests.web.test_buying import check_out, into_the_cart
from web.app import FrontDoor


def must_be_answered(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 19, "٣", "-1", "1e3", ""])
async def test_a_number_of_any_length(browser: Browser, shop: Shop, digits: str) -> None:
    for name in ("price_min", "price_max"):
        must_be_answered(await browser.client.get("/search", params={name: digits}))


async def test_an_event_id_of_any_length(
    shop: Shop, site: FrontDoor, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    order = await check_out(browser, "pm_card_visa")
    for digits in ("9" * 5000, "9" * 30, "x"):
        seen = {"last-event-id": digits}
        async with following(site, browser, f"{order.path}/live", seen) as stream:
            await stream.until("event: order")
        assert stream.content_type.startswith("text/event-stream")


CHARSETS = ("idna", "punycode", "unicode_escape", "undefined", "utf-7", "utf-16", "rot13", "x")


@pytest.mark.parametrize("charset", CHARSETS)
async def test_a_form_in_another_charset_is_refused(
    browser: Browser, shop: Shop, charset: str
) -> None:
    fields = (await browser.get("/sign-in")).form("/sign-in").fields
    fields |= {"email": "\\ud800" + "é" * 30_000, "password": PASSWORD}
    body = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    answer = await browser.client.post(
        "/sign-in",
        content=f"{body}--x--\r\n".encode(),
        headers={"content-type": f"multipart/form-data; boundary=x; charset={charset}"},
    )
    assert answer.status_code == 415
    must_be_answered(answer)


@pytest.mark.parametrize("path", ["/☃", "/search?q=☃", "/%E2%98%83"])
async def test_a_script_is_led_to_a_path_of_any_letters(
    browser: Browser, register: Register, shop: Shop, path: str
) -> None:
    ann, _ = await register()
    user = session_of(ann).user
    assert user is not None
    form = (await browser.get("/sign-in")).form("/sign-in")
    answer = await browser.client.post(
        "/sign-in",
        data={**form.fields, "next": path, "email": str(user.email), "password": PASSWORD},
        headers={"hx-request": "true"},
    )
    assert answer.status_code == 204
    assert answer.headers["hx-redirect"].isascii()


async def test_no_path_leads_to_the_host_that_a_request_names(browser: Browser, shop: Shop) -> None:
    for path in ("/sign-in/", "/search/", "/orders/1/", "/static/"):
        answer = await browser.client.get(path, headers={"host": "evil.example"})
        assert answer.status_code == 404, path


async def sent_in_parts(site: FrontDoor, browser: Browser, path: str, *parts: Message) -> int:
    """The status of the answer to a form that comes in these parts; asking for more is an error."""
    request = browser.client.build_request("POST", path)
    coming, statuses = iter(parts), list[int]()

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    fields = {**request.headers, "content-type": "application/x-www-form-urlencoded"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "server": ("shop", 80),
        "client": ("127.0.0.1", 1234),
    }
    await site(scope, receive, send)
    (status,) = statuses
    return status


async def test_a_form_that_is_cut_off_is_no_fault_of_the_shop(
    site: FrontDoor, browser: Browser, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    await browser.get("/sign-in")
    begun = {"type": "http.request", "body": b"email=a", "more_body": True}

    status = await sent_in_parts(site, browser, "/sign-in", begun, {"type": "http.disconnect"})

    assert status == 400
    assert not caplog.records


async def test_a_form_of_whom_the_page_does_not_admit_is_not_received(
    site: FrontDoor, register: Register
) -> None:
    browser, _ = await register()
    for path in ("/sell/games/x/pictures", "/console/amendments/1/skip"):
        assert await sent_in_parts(site, browser, path) == 403


async def test_a_form_that_cannot_be_ours_is_not_received(
    site: FrontDoor, browser: Browser, shop: Shop
) -> None:
    assert await sent_in_parts(site, browser, "/sign-in") == 403  # nobody has seen the form
    await browser.get("/sign-in")
    assert await sent_in_parts(site, browser, "/sell/games/x/pictures") == 303  # to sign in
