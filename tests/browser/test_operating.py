"""An operator at work: a rebuild that is watched to its end, an event that cannot be applied, dead
letters; and every page of it held to what holds of all pages."""

from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from tests.browser.operating_stories import (
    a_what_if,
    alerted,
    dead_letters,
    paused_and_resumed,
    poisoned,
)
from tests.browser.stories import a_buyer, shelf
from tests.browser.test_accessibility import must_hold
from tests.browser.windows import Windows
from tests.support.processes.instance import ADMIN, Instance

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def dead_kind(shop: Instance) -> str:
    """Two dead letters of a kind of their own."""
    kind = f"charge-{uuid4().hex[:6]}"
    dead_letters(shop, kind)
    return kind


async def test_a_rebuild_is_watched_to_its_end(windows: Windows) -> None:
    page = await windows.signed_in(ADMIN)
    await page.goto("/console/projections/users")
    await (
        page.get_by_role("heading", name="Rebuild")
        .locator("..")
        .get_by_label("Reason")
        .fill("to be sure")
    )
    await page.get_by_role("button", name="Rebuild").click()
    await expect(page.get_by_text("The rebuild has begun.")).to_be_visible()
    await expect(page.get_by_text("The new rows are the same as the live ones")).to_be_visible()


async def test_an_event_that_cannot_be_applied_is_found_and_tried_again(
    windows: Windows, shop: Instance
) -> None:
    stream = await poisoned(shop)
    page = await windows.signed_in(ADMIN)

    async def is_listed() -> None:
        await page.goto("/console/quarantine?name=game.updated.v1")
        await expect(page.get_by_text(str(stream)).first).to_be_visible()

    await page.goto("/console/projections")
    await expect(page.locator("#parked-games")).to_be_visible()
    await is_listed()
    await page.get_by_role("button", name="Try").click()
    await page.get_by_label("Reason").fill("the fold is mended")
    await page.get_by_role("main").get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("will be tried again")


async def test_dead_letters_of_a_filter_are_redriven_by_keyboard(
    windows: Windows, dead_kind: str
) -> None:
    page = await windows.signed_in(ADMIN)
    await page.goto("/console/dead-letters")
    await page.get_by_label("Kind").fill(dead_kind)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Redrive all").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("2 dead letters with kind")).to_be_visible()
    await page.get_by_label("Reason").fill("the provider is back")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("2 dead letters redriven.")


async def test_pages_for_operators(windows: Windows, shop: Instance, dead_kind: str) -> None:
    buyer = a_buyer(shop, shelf(shop))
    paused_and_resumed(shop, "library_grants")
    await alerted(shop)
    task_id = a_what_if(shop)
    page = await windows.signed_in(ADMIN)
    windows.refusals.add(422)
    await must_hold(
        page,
        "/console/projections",
        "/console/projections/orders",
        "/console/quarantine",
        "/console/quarantine?feed=none",
        f"/console/dead-letters?kind={dead_kind}",
        "/console/tasks",
        f"/console/tasks/{task_id}",
        "/console/acts",
        "/console/alerts",
        "/console/alerts?status=RESOLVED",
        "/console/ledger",
        "/console/ledger/transactions",
        "/console/people",
        f"/console/people/{buyer.person.id}",
        "/console/proofs",
        f"/console/bundles?id={buyer.orders[0]}",
        "/console/differences",
        f"/console/differences?from=1&to=2999-01-01&about=order&id={buyer.orders[0]}",
        "/console/differences?from=1&to=yesterday",
        "/console/self-audit",
        "/console/catalog?q=order",
        "/console/settings",
    )
    await _confirm(page, dead_kind)


async def _confirm(page: Page, kind: str) -> None:
    await page.goto(f"/console/dead-letters?kind={kind}")
    buttons = [page.get_by_role("button", name=name) for name in ("Redrive", "Discard")]
    for link in [await button.get_attribute("href") for button in buttons]:
        assert link is not None
        await must_hold(page, link)
