"""The operator's console in a real browser."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.stories import Buyer, a_buyer, must, shelf
from tests.browser.test_accessibility import must_hold
from tests.browser.windows import Windows, sign_in
from tests.support.processes.instance import ADMIN, Instance

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def ann(shop: Instance) -> Buyer:
    return a_buyer(shop, shelf(shop))


async def as_admin(windows: Windows) -> Page:
    page = await windows.open("/sign-in?next=/console")
    await sign_in(page, ADMIN)
    return page


def event(shop: Instance, **wanted: str) -> dict[str, Any]:
    """The latest event that matches."""
    found = must(shop.admin().get("/api/v1/audit/log", params={**wanted, "limit": "1"}))
    return dict(found["items"][0])


async def test_all_pages_hold(windows: Windows, shop: Instance, ann: Buyer) -> None:
    page = await as_admin(windows)
    order_id = ann.orders[0]
    completed = event(shop, stream_id=order_id, name="order.completed.*")
    windows.refusals |= {404, 422}
    await must_hold(
        page,
        "/console",
        "/console/log",
        "/console/log?stream_id=x",
        f"/console/events/{completed['position']}",
        f"/console/events/{event(shop, name='user.registered.*')['position']}",
        f"/console/streams/{order_id}",
        f"/console/rows?model=orders&key={order_id}",
        *(f"/console/orders/{each}" for each in ann.orders[:3]),
        "/console/find?id=nothing",
        "/console/why",
        f"/console/why?of={order_id}.total_cents&model=orders",
        f"/console/why?id={order_id}&field=totl",
        "/console/amendments",
        f"/console/amendments/{completed['position']}",
    )


async def test_the_overview_moves(windows: Windows, shop: Instance) -> None:
    page = await as_admin(windows)
    head = page.locator(".stat", has_text="the log ends at").get_by_role("link")
    before = await head.inner_text()
    shop.register()
    await expect(head).not_to_have_text(before)
    await expect(page.locator(".spark").first).to_be_attached()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def test_without_scripts_nothing_is_called_live(windows: Windows) -> None:
    page = await windows.signed_in(ADMIN, java_script_enabled=False)
    for path in ("/console", "/console/log?live=1"):
        await page.goto(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        for text in ("Live", "Waiting for the next event …"):
            await expect(page.get_by_text(text, exact=True)).to_be_hidden()
    await page.get_by_role("link", name="load the page again").click()
    await page.goto("/console")
    await expect(page.get_by_text(re.compile("^As of .* UTC"))).to_be_visible()
    await page.get_by_role("button", name="Look again").click()
    await expect(page).to_have_url(re.compile("/console$"))


async def test_a_phone_shows_the_filters_of_the_log_when_asked(windows: Windows) -> None:
    page = await as_admin(windows)
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto("/console/log?name=payment.*")
    name = page.get_by_label("Name", exact=True)
    await expect(name).to_be_hidden()
    await page.get_by_text("Which events (1 of 7 filters)").click()
    await expect(name).to_have_value("payment.*")
    await expect(name).to_be_visible()
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.goto("/console/log")
    await expect(name).to_be_visible()


async def test_new_events_appear_in_the_log(windows: Windows, shop: Instance) -> None:
    page = await as_admin(windows)
    await page.goto("/console/log?name=user.registered.*")
    await page.get_by_label("Follow live").check()
    await page.get_by_role("main").get_by_role("button", name="Show").click()
    await expect(page.get_by_text("Waiting for the next event")).to_be_visible()
    person = shop.register()
    position = event(shop, stream_id=str(person.id))["position"]
    await expect(page.get_by_role("link", name=str(position), exact=True)).to_be_visible()


async def test_a_slider_moves_through_the_versions(
    windows: Windows, shop: Instance, ann: Buyer
) -> None:
    page = await as_admin(windows)
    for path, label in (
        (f"/console/streams/{ann.orders[0]}", "Version"),
        (f"/console/rows?model=orders&key={ann.orders[0]}", "Step"),
    ):
        await page.goto(path)
        slider = page.get_by_label(label, exact=True)
        await slider.focus()
        await slider.press("Home")
        await expect(page.get_by_role("status").filter(has_text="1 of")).to_be_visible()
        await expect(page.get_by_role("heading", name="order.created.v1")).to_be_visible()
        await expect(page).to_have_url(re.compile("(version|step)=1$"))
