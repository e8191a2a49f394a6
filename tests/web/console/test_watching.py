"""The console's pages of events and of the self-audit."""

from tests.support.shops.gateway import Shop
from tests.web.console.operators import Operator, eventually


async def test_events_are_found_by_their_meaning(shop: Shop, auditor_browser: Operator) -> None:
    browser = auditor_browser.browser
    page = await browser.get("/console/catalog?q=disclosure")
    assert "disclosure.made.v1" in page.text
    assert "order.created.v1" not in page.text
    assert "No event is like that" in (await browser.get("/console/catalog?q=nonesuch")).text


async def test_what_does_not_hold_is_shown(shop: Shop, auditor_browser: Operator) -> None:
    await shop.commands.findings.open("money_is_balanced", "1234", "it does not add up", 1)
    browser = auditor_browser.browser

    async def is_shown() -> bool:
        page = await browser.get("/console/self-audit")
        return "it does not add up" in page.text and "Nothing has been looked at yet" in page.text

    await eventually(is_shown)
    assert (await browser.get("/console/self-audit?all=yes")).status == 200
