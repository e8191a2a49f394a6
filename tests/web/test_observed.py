"""What is counted and logged of the pages, and how their files are sent."""

import dataclasses
import gzip
import re

import httpx
import pytest

from api.app import create_app
from api.middleware.request_log import RequestLine
from runtime.gateway.web import with_web
from tests.support.shops.gateway import PASSWORD, Person, Shop
from tests.web.browser import Browser
from web.statics import StaticFiles


def observed(shop: Shop, lines: list[RequestLine]) -> Browser:
    """A browser at another gateway of the shop, whose lines are kept."""
    services = dataclasses.replace(shop.services, log_request=lines.append)
    return Browser(with_web(create_app(services), shop.core))


async def test_a_page_has_a_line_and_its_calls_of_the_api_name_the_same_request(
    shop: Shop,
) -> None:
    lines: list[RequestLine] = []
    page = await observed(shop, lines).get("/search?q=s3cret")

    *calls, line = lines
    assert (line.method, line.route, line.status) == ("GET", "/search", 200)
    assert line.bytes == len(page.answer.content)
    assert [call.route for call in calls] == ["/api/v1/games/search"]
    assert {call.trace_id for call in calls} == {line.trace_id}
    assert {call.correlation_id for call in calls} == {line.correlation_id}
    assert "s3cret" not in repr(line)


async def test_the_line_of_a_page_names_who_is_signed_in(shop: Shop, buyer: Person) -> None:
    lines: list[RequestLine] = []
    browser = observed(shop, lines)
    await browser.get("/")
    form = (await browser.get("/sign-in")).form("/sign-in")
    await browser.send(form, email=buyer.email, password=PASSWORD)
    orders = await browser.get("/orders")
    await browser.send(orders.form("/sign-out"))

    asked = [(each.route, each.user_id) for each in lines if not each.route.startswith("/api/")]
    assert asked == [
        ("/", None),
        ("/sign-in", None),
        ("/sign-in", buyer.id),
        ("/", buyer.id),
        ("/orders", buyer.id),
        ("/sign-out", buyer.id),
        ("/", None),
    ]


async def test_pages_are_counted_by_their_routes(shop: Shop) -> None:
    browser = observed(shop, [])
    missing = await browser.get("/games/00000000-0000-0000-0000-000000000000")
    await browser.get(f"/static/{StaticFiles().url('app.css').rsplit('/', 1)[1]}")
    await browser.get("/nowhere")

    shown = (await browser.client.get("/metrics")).text
    assert missing.status == 404
    for route, status in (("/games/{game_id}", 404), ("/static/{name}", 200), ("unmatched", 404)):
        counted = rf'http_requests_total{{method="GET",route="{re.escape(route)}",status="{status}"'
        assert re.search(counted, shown), route
    assert "ludoteca_http_requests_in_flight 1.0" in shown  # this one


@pytest.mark.parametrize(
    ("accepted", "is_zipped"),
    [("gzip, br", True), ("br;q=1.0, GZIP;q=0.5", True), ("gzip;q=0", False), ("identity", False)],
)
async def test_files_are_compressed_for_who_accepts_that(
    shop: Shop, browser: Browser, accepted: str, is_zipped: bool
) -> None:
    url = StaticFiles().url("app.css")
    raw: httpx.Response
    async with browser.client.stream("GET", url, headers={"accept-encoding": accepted}) as raw:
        sent = b"".join([part async for part in raw.aiter_raw()])
    assert (raw.headers.get("content-encoding") == "gzip") == is_zipped
    assert raw.headers["vary"] == "Accept-Encoding"
    assert b".brand" in (gzip.decompress(sent) if is_zipped else sent)

    known = {"accept-encoding": accepted, "if-none-match": raw.headers["etag"]}
    assert (await browser.client.get(url, headers=known)).status_code == 304
