"""The console's pages about money, people and settings."""

from tests.support.shops.gateway import Person, Shop
from tests.web.console.operators import Operator, eventually


async def a_sale(shop: Shop, seller: Person) -> Person:
    """Somebody who bought a game by card."""
    buyer = await shop.register()
    game = await shop.game(seller, title="משחק הכיסא")
    method = {"type": "card", "token": "pm_card_visa"}
    body = {"game_id": game["id"], "payment_method": method}
    assert (await buyer.post("/api/v1/orders", json=body)).status_code == 201
    return buyer


async def test_the_ledger_is_read_now_and_as_of_a_moment(
    shop: Shop, seller: Person, admin_browser: Operator
) -> None:
    await a_sale(shop, seller)
    browser, payable = admin_browser.browser, f"SELLER_PAYABLE:{seller.id}"

    async def is_posted() -> bool:
        page = await browser.get("/console/ledger")
        assert "Balanced" in page.text or "Nothing has been posted yet" in page.text
        links = page.links
        return payable in links and "$17.99" in (await browser.get(links[payable])).text

    await eventually(is_posted)
    postings = await browser.get("/console/ledger/transactions")
    assert payable in postings.links

    then = await browser.get("/console/ledger?as_of=0")
    assert "Nothing had been posted by then." in then.text
    refused = await browser.get("/console/ledger?as_of=tomorrow")
    assert refused.status == 422
    assert "neither a position of the log nor a time" in refused.text


async def test_an_auditor_reads_accounts_as_of_a_moment(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    await a_sale(shop, seller)
    browser = auditor_browser.browser
    page = await browser.get("/console/ledger")
    assert "As an AUDITOR you read this as of a moment" in page.text
    head = await shop.core.log.head()
    page = await browser.get(f"/console/ledger?as_of={head}")
    assert page.status == 200
    assert "PLATFORM" in page.text


async def test_people_are_masked_until_an_admin_asks(
    shop: Shop, seller: Person, admin_browser: Operator, auditor_browser: Operator
) -> None:
    buyer = await a_sale(shop, seller)
    path = f"/console/people/{buyer.id}"
    page = await admin_browser.browser.until(path, lambda page: "$19.99" in page.text)
    assert buyer.email not in page.answer.text
    assert "A•••" in page.text

    form = page.form(f"{path}/disclosure")
    assert (await admin_browser.browser.send(form, reason="")).status == 422
    shown = await admin_browser.browser.send(form, reason="she asked for her address")
    assert buyer.email in shown.text
    assert shown.answer.headers["cache-control"] == "no-store"
    assert buyer.email not in (await admin_browser.browser.get(path)).answer.text

    seen = await auditor_browser.browser.get(path)
    assert "A•••" not in seen.text
    assert path + "/disclosure" not in {form.action for form in seen.forms}
    listed = await auditor_browser.browser.get("/console/people?account_type=BUYER")
    assert str(buyer.id) in listed.links


async def test_settings_are_found_by_their_meaning(shop: Shop, auditor_browser: Operator) -> None:
    browser = auditor_browser.browser
    page = await browser.get("/console/settings")
    assert "LUDOTECA_PORT" in page.text
    found = await browser.get("/console/settings?q=how+long+an+order+may+stay+unpaid")
    assert "LUDOTECA_PAYMENT_TTL_SECONDS" in found.text
    assert "LUDOTECA_PORT " not in found.text
    assert "No setting is like that" in (await browser.get("/console/settings?q=nonesuch")).text
