"""From the first page to the library, in a browser without scripts."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from api.app import create_app
from kit.clock import ManualClock
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Browser, Page
from tests.web.conftest import Register, session_of, web_of
from tests.web.console.following import following
from web.app import FrontDoor

ADDRESS = {
    "shipping_address.name": "Ann",
    "shipping_address.line1": "1 High Street",
    "shipping_address.city": "Portland",
    "shipping_address.postal_code": "97201",
    "shipping_address.country": "US",
}


async def into_the_cart(browser: Browser, game_id: str, **typed: str) -> Page:
    """Put a game into the cart, as soon as its page offers it."""
    page = await browser.until(f"/games/{game_id}", _offers_it)
    return await browser.send(page.form("/cart/items"), **typed)


def _offers_it(page: Page) -> bool:
    return "/cart/items" in {form.action for form in page.forms}


async def check_out(browser: Browser, method: str, **typed: str) -> Page:
    form = (await browser.get("/checkout")).form("/checkout")
    return await browser.send(form, method=method, **typed)


async def test_a_game_is_found_bought_and_owned(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, title="Outer Wilds")
    browser, home = await register()
    assert "Welcome" in home.text

    await shop.client().get("/api/v1/games/search", headers=await shop.reached())
    results = await browser.get("/search?q=outer+wlids")
    assert f"/games/{game['id']}" in results.answer.text

    cart = await into_the_cart(browser, game["id"])
    assert (cart.path, cart.status) == ("/cart", 200)
    assert "Outer Wilds" in cart.text
    assert "$19.99" in cart.text

    order = await check_out(browser, "pm_card_visa")
    assert order.path.startswith("/orders/")
    assert "Completed" in order.text

    async def receipt() -> Page:
        return await browser.get(order.path, **await shop.reached())

    seen = await shop.eventually(receipt, lambda page: "Receipt issued" in page.text)
    (number,) = [text for text in seen.links if text.startswith("Receipt 20")]
    assert "/receipts/" in seen.links[number]

    library = await browser.get("/library")
    assert "Outer Wilds" in library.text
    assert "Outer Wilds" in (await browser.get("/orders")).text


async def test_a_box_is_sent_to_the_address(shop: Shop, seller: Person, register: Register) -> None:
    game = await shop.game(seller, title="Catan", kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 3}
    )
    browser, _ = await register()

    too_many = await into_the_cart(browser, game["id"], quantity="4")
    assert too_many.status == 422
    assert "There are not that many left." in too_many.text

    cart = await into_the_cart(browser, game["id"], quantity="2")
    assert "$39.98" in cart.text
    order = await check_out(browser, "pm_card_visa", **ADDRESS)
    assert "1 High Street" in order.text
    assert "2 × $19.99" in order.text


async def test_a_missing_address_is_asked_for_beside_its_fields(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 1}
    )
    browser, _ = await register()
    await into_the_cart(browser, game["id"])

    again = await check_out(browser, "pm_card_visa", **ADDRESS | {"shipping_address.city": ""})

    assert again.status == 422
    (wrong,) = [given["name"] for _, given in again.elements if "aria-invalid" in given]
    assert wrong == "shipping_address.city"
    assert again.form("/checkout").fields["shipping_address.line1"] == "1 High Street"


async def test_a_refusal_leads_to_what_is_in_its_way(
    shop: Shop, seller: Person, register: Register
) -> None:
    (paid, unpaid), (browser, _) = [await shop.game(seller) for _ in range(2)], await register()
    before_paying = (await browser.until(f"/games/{paid['id']}", _offers_it)).form("/cart/items")
    for game, method in ((paid, "pm_card_visa"), (unpaid, "page")):
        await into_the_cart(browser, game["id"])
        order = await check_out(browser, method)

    owned = await browser.send(before_paying)
    pending = await into_the_cart(browser, unpaid["id"])

    assert owned.links["To your library"] == "/library"
    assert pending.links["To the order"] == order.path


async def test_a_game_that_one_has_leads_to_the_library_and_not_into_the_cart(
    shop: Shop, seller: Person, register: Register
) -> None:
    game, (browser, _) = await shop.game(seller), await register()
    await into_the_cart(browser, game["id"])
    order = await check_out(browser, "pm_card_visa")

    mine = await browser.until(f"/games/{game['id']}", lambda page: not _offers_it(page))
    anothers, _ = await register()

    assert mine.links["library"] == "/library"
    assert mine.links["The order"] == order.path
    assert _offers_it(await anothers.get(f"/games/{game['id']}"))


async def test_the_next_checkout_begins_with_the_address_of_the_last(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 9}
    )
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    germany = {"shipping_address.country": "DE", "shipping_address.name": "Bärbel"}
    await check_out(browser, "page", **ADDRESS | germany)

    await into_the_cart(browser, game["id"])
    fields = (await browser.get("/checkout")).form("/checkout").fields

    assert {name: fields[name] for name in ADDRESS} == ADDRESS | germany


async def test_a_wallet_with_too_little_is_no_way_to_pay(
    shop: Shop, seller: Person, register: Register
) -> None:
    browser, _ = await register()
    await browser.send((await browser.get("/wallet")).form("/wallet"), currency="USD")
    await into_the_cart(browser, (await shop.game(seller))["id"])

    def wallets(page: Page) -> list[str]:
        return [
            given.get("disabled", "no")
            for _, given in page.elements
            if given.get("value") == "wallet"
        ]

    page = await browser.get("/checkout")
    assert "not enough for this order" in page.text
    assert wallets(page) == [""]
    unpaid = await check_out(browser, "page")
    assert wallets(unpaid) == []


async def test_the_way_of_paying_stays_chosen_when_something_else_is_wrong(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 1}
    )
    browser, _ = await register()
    await into_the_cart(browser, game["id"])

    wrong = ADDRESS | {"shipping_address.city": ""}
    again = await check_out(browser, "pm_card_authenticationRequired", **wrong)

    assert again.form("/checkout").fields["method"] == "pm_card_authenticationRequired"


async def test_a_form_that_is_sent_twice_orders_once(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    form = (await browser.get("/checkout")).form("/checkout")

    first = await browser.send(form, method="pm_card_visa")
    second = await browser.send(form, method="pm_card_visa")

    assert first.path == second.path
    assert first.path.startswith("/orders/")


async def test_what_another_window_put_into_the_cart_is_not_ordered_unseen(
    shop: Shop, seller: Person, register: Register
) -> None:
    browser, _ = await register()
    await into_the_cart(browser, (await shop.game(seller))["id"])
    form = (await browser.get("/checkout")).form("/checkout")
    await into_the_cart(browser, (await shop.game(seller))["id"])

    again = await browser.send(form, method="pm_card_visa")

    assert (again.status, "Your cart has changed" in again.text) == (409, True)
    assert "Order and pay $39.98" in again.text
    assert "not ordered anything" in (await browser.get("/orders")).text
    order = await browser.send(again.form("/checkout"), method="pm_card_visa")
    assert "$39.98" in order.text


async def test_a_checkout_after_the_time_of_the_cart_shows_what_was_in_it(
    shop: Shop, seller: Person, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, _ = await register()
    game = await shop.game(seller, title="Root", kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 3}
    )
    await into_the_cart(browser, game["id"], quantity="2")
    form = (await browser.get("/checkout")).form("/checkout")
    with monkeypatch.context() as later:
        clock = ManualClock(shop.core.clock.now() + timedelta(minutes=16))
        later.setattr(shop.core.handler, "clock", clock)
        services = dataclasses.replace(shop.services, clock=clock)
        window = Browser(web_of(dataclasses.replace(shop, app=create_app(services))))
        window.client.cookies = browser.client.cookies
        expired = await window.send(form, method="pm_card_visa", **ADDRESS)

    assert (expired.status, "Your cart has expired" in expired.text) == (409, True)
    assert "Root" in expired.text
    cart = await browser.send(expired.form("/cart/again"))
    assert (cart.path, "It is in your cart again." in cart.text) == ("/cart", True)
    assert "$39.98" in cart.text


async def test_what_another_window_has_ordered_is_not_ordered_again(
    shop: Shop, seller: Person, register: Register
) -> None:
    browser, _ = await register()
    await into_the_cart(browser, (await shop.game(seller, title="Inside"))["id"])
    first, second = [(await browser.get("/checkout")).form("/checkout") for _ in range(2)]
    await browser.send(first, method="pm_card_visa")

    late = await browser.send(second, method="pm_card_visa")

    assert (late.path, "nothing more was ordered" in late.text) == ("/orders", True)
    assert late.text.count("$19.99") == 1


async def test_after_a_declined_card_another_pays(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])

    declined = await check_out(browser, "pm_card_chargeDeclined")
    assert declined.path.startswith("/orders/")
    assert "payment failed" in declined.text
    assert "You can pay with another card or pay from your wallet." in declined.text

    async def cancelled() -> Page:
        return await browser.get(declined.path, **await shop.reached())

    again = await shop.eventually(cancelled, lambda page: "into the cart again" in page.text)
    cart = await browser.send(again.form(f"{declined.path}/again"))
    assert (cart.path, "Celeste" in cart.text) == ("/cart", True)
    paid = await check_out(browser, "pm_card_visa")
    assert (paid.path != declined.path, "Completed" in paid.text) == (True, True)


async def test_every_unpaid_order_leads_to_its_payment_page(
    shop: Shop, seller: Person, register: Register
) -> None:
    browser, _ = await register()
    placed = []
    for _ in range(2):
        await into_the_cart(browser, (await shop.game(seller))["id"])
        placed.append((await check_out(browser, "page")).path)

    for path in placed:
        page = await browser.get(path)
        order = (await shop.client(session_of(browser).access_token).get(f"/api/v1{path}")).json()
        assert page.links["Pay now"].endswith(f"/pay/{order['payment_id']}")


async def test_a_card_with_3d_secure_leads_to_the_bank(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])

    order = await check_out(browser, "pm_card_authenticationRequired")

    bank = order.links["Continue at your bank"]
    assert "/3ds/" in bank

    token = session_of(browser).access_token
    told = await shop.client(token).get(f"/api/v1{order.path}")
    page = await browser.get(f"/paid?payment_id={told.json()['payment_id']}")
    assert page.path == order.path


async def test_an_order_moves_while_it_is_looked_at(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    order = await check_out(browser, "page")
    assert "Waiting for payment" in order.text

    # ids are in capital letters in some programs' links
    spelled = order.path.replace("/orders/", "").upper()
    live = asyncio.create_task(browser.client.get(f"/orders/{spelled}/live"))
    await browser.send(order.form(f"{order.path}/cancel"))
    stream = await asyncio.wait_for(live, 20)

    assert stream.headers["content-type"].startswith("text/event-stream")
    events = stream.text.split("\n\n")
    assert "event: order" in events[0]
    assert "Cancelled" in events[-3]
    assert events[-2] == "event: end\ndata:"


async def test_a_paid_order_is_followed_until_all_of_it_is_refunded(
    shop: Shop, site: FrontDoor, seller: Person, admin: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    order = await check_out(browser, "pm_card_visa")
    assert "Completed" in order.text
    assert [given["sse-connect"] for _, given in order.elements if "sse-connect" in given] == [
        f"{order.path}/live"
    ]

    async with following(site, browser, f"{order.path}/live") as stream:
        await stream.until("Completed")
        for refund in ({"amount_cents": 500}, {"amount_cents": 300}, {}):
            body = {"reason": "dented", **refund}
            answer = await admin.post(f"/api/v1{order.path}/refund", json=body)
            assert answer.status_code == 201, answer.text
            if refund:
                total = {500: "$5.00", 300: "$8.00"}[refund["amount_cents"]]
                await stream.until(f'<span class="money">{total}</span> refunded.')
        await stream.until("event: end")
        await stream.ended()

    refunded = await browser.get(order.path)
    assert not any("sse-connect" in given for _, given in refunded.elements)


async def test_a_cart_that_ends_elsewhere_ends_on_the_page_too(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    await seller.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": 4}
    )
    browser, _ = await register()
    cart = await into_the_cart(browser, game["id"], quantity="2")
    assert "2 more left." in cart.text

    live = asyncio.create_task(browser.client.get("/cart/live"))
    await browser.send(cart.form("/cart/discard"))
    events = (await asyncio.wait_for(live, 20)).text.split("\n\n")

    assert "event: cart" in events[0]
    assert "Your cart is empty" in events[-3]
    assert events[-2] == "event: end\ndata:"


async def test_a_declined_deposit_says_what_can_be_tried(register: Register, shop: Shop) -> None:
    ann, _ = await register()
    wallet = await ann.send((await ann.get("/wallet")).form("/wallet"), currency="USD")

    form = wallet.form(f"{wallet.path}/deposit")
    declined = await ann.send(form, amount="20", method="pm_card_chargeDeclined")

    assert declined.status == 422
    assert "Card declined. You can pay with another card." in declined.text
    marked = [given["name"] for _, given in declined.elements if "aria-invalid" in given]
    assert marked == []


async def test_who_comes_back_from_the_bank_reads_what_became_of_the_deposit(
    register: Register, shop: Shop
) -> None:
    ann, _ = await register()
    wallet = await ann.send((await ann.get("/wallet")).form("/wallet"), currency="USD")
    form = wallet.form(f"{wallet.path}/deposit")

    async def back_from(method: str) -> Page:
        await ann.send(form, amount="20", method=method, once=method)
        token = session_of(ann).access_token
        (moved, *_) = (await shop.client(token).get("/api/v1/transactions")).json()["items"]
        return await ann.get(f"/paid?payment_id={moved['payment_id']}", **await shop.reached())

    declined = await back_from("pm_card_chargeDeclined")
    assert declined.path == "/wallet"
    assert "The payment failed. The card was declined. Nothing was charged." in declined.text
    assert "You have paid: the money is in your wallet." in (await back_from("pm_card_visa")).text
    asked = await back_from("pm_card_authenticationRequired")
    assert "The payment is under way" in asked.text


async def test_nobody_follows_anothers_order(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    (ann, _), (bob, _) = await register(), await register()
    await into_the_cart(ann, game["id"])
    order = await check_out(ann, "pm_card_visa")

    assert (await bob.get(order.path)).status == 403
    assert (await bob.get(f"{order.path}/live")).status == 403


async def test_money_is_paid_in_and_sent(register: Register, shop: Shop) -> None:
    (ann, _), (bob, _) = await register(), await register()
    wallets = []
    for browser in (ann, bob):
        form = (await browser.get("/wallet")).form("/wallet")
        wallets.append(await browser.send(form, currency="USD"))
    mine, theirs = wallets

    paid = await ann.send(mine.form(f"{mine.path}/deposit"), amount="20.50", method="pm_card_visa")
    assert "You paid in $20.50." in paid.text

    wrong = await ann.send(mine.form(f"{mine.path}/transfer"), amount="1.234", to_wallet_id="x")
    assert wrong.status == 422
    assert wrong.text.count("This is not an amount in USD.") == 1
    assert wrong.form(f"{mine.path}/deposit").fields["amount"] == ""
    nobody = await ann.send(mine.form(f"{mine.path}/transfer"), amount="1", to_wallet_id="x")
    assert "This is not a number as the shop gives it." in nobody.text

    number = theirs.path.rsplit("/", 1)[1]
    sent = await ann.send(mine.form(f"{mine.path}/transfer"), amount="0.50", to_wallet_id=number)
    assert "You sent $0.50." in sent.text
    assert "$20.00" in sent.text
    assert "$0.50" in (await bob.get(theirs.path)).text


async def test_a_payment_in_a_statement_leads_to_its_order(
    shop: Shop, seller: Person, register: Register
) -> None:
    game, (browser, _) = await shop.game(seller), await register()
    form = (await browser.get("/wallet")).form("/wallet")
    wallet = await browser.send(form, currency="USD")
    deposit = wallet.form(f"{wallet.path}/deposit")
    await browser.send(deposit, amount="50", method="pm_card_visa")
    await into_the_cart(browser, game["id"])
    order = await check_out(browser, "wallet")

    statement = await browser.until(wallet.path, lambda page: "Payment" in page.links)

    assert (await browser.get(statement.links["Payment"])).path == order.path


async def test_where_no_card_can_be_taken_the_page_says_so(
    shop: Shop, seller: Person, register: Register
) -> None:
    game = await shop.game(seller)
    browser, _ = await register()
    await into_the_cart(browser, game["id"])
    cardless = Browser(web_of(shop, cards=(), has_pay_page=False))
    cardless.client.cookies = browser.client.cookies

    page = await cardless.get("/checkout")
    assert "cards are taken by the shop's apps" in page.text
    assert ("button", {"class": "wide", "disabled": ""}) in page.elements

    wallet = await browser.send((await browser.get("/wallet")).form("/wallet"), currency="USD")
    assert ("button", {"class": "wide", "disabled": ""}) in (
        await cardless.get("/checkout")
    ).elements
    paying_in = wallet.form(f"{wallet.path}/deposit")
    await browser.send(paying_in, amount="50", method="pm_card_visa")
    page = await cardless.get("/checkout")
    assert page.form("/checkout").fields["method"] == "wallet"
    assert ("button", {"class": "wide"}) in page.elements
