"""Who enters the console, what leads to its pages, and the overview."""

from uuid import uuid4

import pytest

from domain.alerts import Seen
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Browser
from tests.web.conftest import Register, web_of
from tests.web.console.conftest import Operator
from tests.web.console.following import following
from tests.web.test_pages import must_be_strict
from web.app import FrontDoor, create_web
from web.navigation import CONSOLE
from web.visit import WebSettings

PATHS = [entry.path for _, entries in CONSOLE for entry in entries]


@pytest.mark.parametrize("role", ["AUDITOR", "ADMIN"])
async def test_every_entry_of_the_navigation_is_a_page(
    shop: Shop, operator: Operator, role: str
) -> None:
    browser = await operator(role)
    for path in PATHS:
        page = await browser.get(path)
        assert (page.path, page.status) == (path, 200)
        must_be_strict(page)
        links = [
            given
            for tag, given in page.elements
            if tag == "a" and given.get("aria-current") == "page"
        ]
        assert [given["href"] for given in links] == [path]
        assert [tag for tag, _ in page.elements].count("h1") == 1


async def test_buyers_are_told_that_the_console_is_for_operators(
    shop: Shop, register: Register
) -> None:
    browser, _ = await register()
    for path in (*PATHS, "/console/live", "/console/log/live", "/console/events/1"):
        page = await browser.get(path)
        assert (page.status, page.title) == (403, "Console · Ludoteca")
        assert "AUDITOR" in page.text


async def test_strangers_sign_in_first(browser: Browser, shop: Shop) -> None:
    page = await browser.get("/console/log?name=x")
    assert page.path == "/sign-in"
    assert page.form("/sign-in").fields["next"] == "/console/log?name=x"


async def test_what_is_not_there_is_said_in_the_console(shop: Shop, operator: Operator) -> None:
    browser = await operator("AUDITOR")
    for path in ("/console/nowhere", f"/console/streams/{uuid4()}", "/console/events/999999999"):
        page = await browser.get(path)
        assert page.status == 404, path
        assert "/console" in page.links.values()


async def test_a_name_of_the_environment_stands_in_the_head(shop: Shop) -> None:
    paths = ["/api/v1"]
    named = create_web(shop.app, paths, WebSettings(b"s" * 32, environment="production"))
    person, browser = await shop.register("ADMIN"), Browser(named)
    form = (await browser.get("/sign-in")).form("/sign-in")
    await browser.send(form, email=person.email, password="correct horse battery")
    assert "PRODUCTION" in (await browser.get("/console")).text


# -- the overview ----------------------------------------------------------------------------------


async def test_the_overview_moves(
    shop: Shop, site: FrontDoor, operator: Operator, seller: Person
) -> None:
    browser = await operator("AUDITOR")
    assert "Dead letters" in (await browser.get("/console")).text
    async with following(site, browser, "/console/live") as stream:
        await stream.until("Events a second")
        await shop.game(seller)
        head = await shop.core.log.head()
        assert "event: figures" in await stream.until(f"{head:,}")
    assert stream.content_type.startswith("text/event-stream")


async def test_streams_end_when_the_process_stops(shop: Shop, operator: Operator) -> None:
    site = web_of(shop)
    browser = await operator("ADMIN")
    async with following(site, browser, "/console/live") as stream:
        await stream.until("figures")
        site.end_streams()
        await stream.ended()


async def test_open_alerts_stand_on_the_overview(shop: Shop, operator: Operator) -> None:
    seen = Seen("ludoteca", "DeadLetters", {"queue": uuid4().hex}, "critical", "1 <job> gave up")
    await shop.commands.alerts.raise_alert(seen)
    browser = await operator("AUDITOR")
    page = await shop.eventually(
        lambda: browser.get("/console"), lambda page: "1 <job> gave up" in page.text
    )
    assert "Critical" in page.text
    assert page.links["DeadLetters"] == f"/console/streams/{seen.alert_id}"

    assert "No alert is open." not in page.text

    await shop.commands.alerts.resolve(seen.alert_id)
    page = await shop.eventually(
        lambda: browser.get("/console"), lambda page: "1 <job> gave up" not in page.text
    )
    assert page.links["No alert"] == "/console/alerts"
