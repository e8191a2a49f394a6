"""What a page shows when the API refuses, or cannot answer."""

import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.support.shops.gateway import Shop
from tests.web.browser import HTML, Browser
from tests.web.conftest import SEALER, SECRET, Register
from web.app import create_web
from web.sessions import Session, User
from web.visit import WebSettings


def with_api(status: int, code: str, retry_after: str = "") -> Browser:
    """A browser at pages whose API answers everything with this problem."""

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/problem+json")]
        if retry_after:
            headers.append((b"retry-after", retry_after.encode()))
        body = json.dumps({"code": code, "detail": "no"}).encode()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return Browser(create_web(api, ["/api/v1/games"], WebSettings(SECRET)))


async def test_a_page_that_cannot_be_made_says_so_and_asks_again() -> None:
    page = await with_api(503, "database_unavailable", "7").get("/search?q=a&sort=title")

    assert (page.status, page.answer.headers["retry-after"]) == (503, "7")
    assert "Nothing was lost" in page.text
    assert page.links["Try again"] == "/search?q=a&sort=title"
    assert ("p", {"data-retry": "7"}) in page.elements


async def test_a_form_that_could_not_be_sent_is_not_sent_again_by_itself() -> None:
    browser = with_api(503, "database_unavailable")
    form = (await browser.get("/sign-in")).form("/sign-in")

    page = await browser.send(form, email="ann@example.com", password="secret")

    assert (page.status, "it counts once" in page.text) == (503, True)
    assert not any("data-retry" in given for _, given in page.elements)


@pytest.mark.parametrize("access_ends", [0.0, 4e9], ids=["due", "fresh"])
async def test_one_is_signed_out_of_the_browser_even_while_the_api_is_away(
    access_ends: float,
) -> None:
    browser = with_api(503, "database_unavailable")
    user = User("00000000-0000-4000-8000-000000000001", "Ann", None, "BUYER", "US", True)
    session = Session("csrf", user, "token", "refresh", access_ends)
    browser.client.cookies.set("session", SEALER.seal(session), domain="shop.local")

    answer = await browser.client.post("/sign-out", data={"csrf": "csrf"}, follow_redirects=False)

    kept = SEALER.open(answer.cookies["session"])
    assert kept is not None
    assert (answer.status_code, kept.user, kept.access_token) == (303, None, "")
    assert "not available" in kept.notice


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [
        (400, "invalid_cursor", 404),
        (422, "invalid_request", 404),
        (403, "forbidden", 403),
        (429, "rate_limited", 429),
        (500, "internal_error", 500),
        (502, "bad_gateway", 502),
    ],
)
async def test_each_refusal_is_a_page(status: int, code: str, shown: int) -> None:
    page = await with_api(status, code).get("/games/00000000-0000-0000-0000-000000000000")

    assert page.status == shown
    assert page.links["To the shop"] == "/"
    assert code not in page.text


async def test_an_answer_that_no_page_understands_is_an_error_page() -> None:
    page = await with_api(200, "what").get("/")

    assert (page.status, "It is our fault" in page.text) == (500, True)


async def test_a_fault_of_the_api_is_not_taken_for_an_empty_state() -> None:
    stream_id = "00000000-0000-4000-8000-000000000001"
    event = {
        "position": 7,
        "event_id": stream_id,
        "stream_id": stream_id,
        "version": 1,
        "name": "game.created.v1",
        "occurred_at": "2026-01-01T00:00:00Z",
        "actor": "system",
    }

    async def events(_: Request) -> Response:
        return JSONResponse({"items": [event]})

    async def state(_: Request) -> Response:
        return JSONResponse({"code": "internal_error"}, 500)

    stream = "/api/v1/audit/streams/{stream_id}"
    routes = [
        Route("/api/v1/audit/log", events),
        Route(stream, events),
        Route(f"{stream}/state", state),
    ]
    browser = Browser(create_web(Starlette(routes=routes), ["/api/v1"], WebSettings(SECRET)))
    auditor = User(stream_id, "Ann", None, "AUDITOR", "US", True)
    session = Session("csrf", auditor, "token", "refresh", access_ends=4e9)
    browser.client.cookies.set("session", SEALER.seal(session))

    page = await browser.get(f"/console/streams/{stream_id}")

    assert (page.status, "It is our fault" in page.text) == (500, True)


async def test_what_a_page_does_not_do_is_told_with_what_it_does(browser: Browser) -> None:
    answer: httpx.Response = await browser.client.delete("/search", headers=HTML)

    assert (answer.status_code, "This page does not do that" in answer.text) == (405, True)
    assert "GET" in answer.headers["allow"]


async def test_the_own_data_is_a_file(register: Register, shop: Shop) -> None:
    ann, _ = await register()
    link = (await ann.get("/profile")).links["Download your data"]

    answer = await ann.client.get(link)

    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["account"]["name"] == "Ann"


async def test_what_was_told_is_shown(register: Register, shop: Shop) -> None:
    ann, _ = await register()

    async def told() -> str:
        return (await ann.get("/notifications", **await shop.reached())).text

    text = await shop.eventually(told, lambda text: "Welcome" in text)
    assert "(only in the mail)" in text
