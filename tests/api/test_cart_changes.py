"""A checkout lists line by line what has changed since the cart was filled; the next checkout
accepts the changes shown."""

import dataclasses
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from kit.clock import ManualClock
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import (
    CART,
    CHECKOUT,
    WAIT,
    by_card,
    cart_of,
    check_out,
    code_of,
    numbers,
    put_in,
    stocked,
)
from tests.support.shops.small_gateway import client_of


def in_dollars(cents: int, region: str = "*") -> dict[str, Any]:
    return {"region": region, "amount_cents": cents, "currency": "USD"}


def told(answer: httpx.Response) -> list[tuple[str, int, int]]:
    """The changes for which a checkout was refused."""
    assert code_of(answer) == (409, "cart_changed"), answer.text
    return [(each["code"], each["was"], each["now"]) for each in answer.json()["changes"]]


async def edit(seller: Person, game: dict[str, Any], **changes: object) -> None:
    answer = await seller.put(f"/api/v1/games/{game['id']}", json=changes)
    assert answer.status_code == 200, answer.text


async def test_a_price_that_was_raised_is_shown_before_it_is_paid(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 5, prices=[in_dollars(100)])
    (item,) = (await put_in(buyer, game, 2)).json()["items"]
    await edit(seller, game, prices=[in_dollars(6000)])
    before = await shop.core.log.head()

    shown = await check_out(buyer)

    assert shown.json()["changes"] == [
        {
            "item_id": item["id"],
            "code": "price",
            "was": 100,
            "now": 6000,
            "was_currency": "USD",
            "currency": "USD",
        }
    ]
    assert told(shown) == [("price", 100, 6000)]
    assert int(shown.headers["event-position"]) > before
    cart = await cart_of(shop, buyer)
    assert (cart["items"][0]["unit_price_cents"], cart["total_cents"]) == (6000, 12000)
    assert await numbers(shop, seller, game) == (5, 3, 2, 0)
    bought = await check_out(buyer)
    assert (bought.status_code, bought.json()["amount_cents"]) == (201, 12000)


async def test_a_price_of_a_region_that_goes_or_a_buyer_who_moves_changes_the_cart(
    shop: Shop, seller: Person
) -> None:
    staying, moving = await shop.register(region="BR"), await shop.register(region="BR")
    prices = [in_dollars(6000), in_dollars(100, "BR")]
    ebook, other = await shop.game(seller, prices=prices), await shop.game(seller, prices=prices)
    await put_in(staying, ebook)
    await put_in(moving, other)
    await edit(seller, ebook, prices=[in_dollars(6000)])
    moved = await moving.put(f"/api/v1/users/{moving.id}", json={"region": "US"})
    assert moved.status_code == 200, moved.text

    for who in (staying, moving):
        assert told(await check_out(who)) == [("price", 100, 6000)]
        assert (await check_out(who)).json()["amount_cents"] == 6000


async def test_a_cart_goes_over_to_the_currency_of_its_buyers_new_region(
    shop: Shop, seller: Person
) -> None:
    buyer = await shop.register(region="BR")
    euros = {"region": "*", "amount_cents": 900, "currency": "EUR"}
    game = await stocked(shop, seller, 5, prices=[in_dollars(100, "BR"), euros])
    await put_in(buyer, game)
    await buyer.put(f"/api/v1/users/{buyer.id}", json={"region": "DE"})

    changed = await check_out(buyer)

    assert told(changed) == [("price", 100, 900)]
    assert (
        changed.json()["changes"][0]["was_currency"],
        changed.json()["changes"][0]["currency"],
    ) == ("USD", "EUR")
    assert (await cart_of(shop, buyer))["currency"] == "EUR"
    bought = (await check_out(buyer)).json()
    assert (bought["amount_cents"], bought["currency"]) == (900, "EUR")


async def test_what_is_not_sold_here_any_more_leaves_the_cart_and_what_it_held_is_free(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    retired, moved, kept = [
        await stocked(shop, seller, 5, prices=[in_dollars(100)]) for _ in range(3)
    ]
    for game in (retired, moved, kept):
        await put_in(buyer, game, 2)
    await seller.delete(f"/api/v1/games/{retired['id']}")
    await edit(seller, moved, prices=[in_dollars(100, "JP")])

    assert told(await check_out(buyer)) == [("unavailable", 2, 0), ("unavailable", 2, 0)]

    assert [item["product_id"] for item in (await cart_of(shop, buyer))["items"]] == [kept["id"]]
    assert (
        await numbers(shop, seller, moved) == await numbers(shop, seller, retired) == (5, 5, 0, 0)
    )
    assert (await check_out(buyer)).json()["amount_cents"] == 200


async def test_a_digital_game_bought_meanwhile_by_another_order_leaves_the_cart(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    ebook = await shop.game(seller)
    await put_in(buyer, ebook)
    card = {"type": "card", "token": "pm_card_visa"}
    bought = await buyer.post(
        "/api/v1/orders", json={"game_id": ebook["id"], "payment_method": card}, headers=WAIT
    )
    assert bought.json()["status"] == "COMPLETED"

    assert told(await check_out(buyer)) == [("unavailable", 1, 0)]
    assert code_of(await check_out(buyer)) == (409, "cart_empty")


async def test_what_was_shown_under_a_key_is_shown_again_and_never_bought_unseen(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    ebook = await shop.game(seller, prices=[in_dollars(100)])
    await put_in(buyer, ebook)
    await edit(seller, ebook, prices=[in_dollars(500)])
    key = {"Idempotency-Key": uuid4().hex, **WAIT}

    first, again = [await buyer.post(CHECKOUT, json=by_card(), headers=key) for _ in range(2)]

    assert told(first) == told(again) == [("price", 100, 500)]
    assert again.headers["idempotent-replayed"] == "true"
    assert (await cart_of(shop, buyer))["status"] == "ACTIVE"
    assert (await check_out(buyer)).json()["amount_cents"] == 500


async def test_more_of_a_line_is_priced_anew(shop: Shop, buyer: Person, seller: Person) -> None:
    game = await stocked(shop, seller, 9, prices=[in_dollars(100)])
    (item,) = (await put_in(buyer, game, 1)).json()["items"]
    await edit(seller, game, prices=[in_dollars(150)])

    more = await buyer.put(f"{CART}/items/{item['id']}", json={"quantity": 3})

    assert (more.json()["items"][0]["unit_price_cents"], more.json()["total_cents"]) == (150, 450)

    await edit(seller, game, prices=[in_dollars(200)])
    another = await put_in(buyer, game, 1)
    assert [item["unit_price_cents"] for item in another.json()["items"]] == [200, 200]
    assert another.json()["total_cents"] == 800
    assert (await check_out(buyer)).json()["amount_cents"] == 800


async def test_one_buyer_cannot_hold_all_there_is(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 100)

    refused = await put_in(buyer, game, 11)

    assert code_of(refused) == (409, "quantity_limit")
    assert refused.json()["limit"] == 10
    (item,) = (await put_in(buyer, game, 10)).json()["items"]
    assert code_of(await put_in(buyer, game, 1)) == (409, "quantity_limit")
    assert code_of(await buyer.put(f"{CART}/items/{item['id']}", json={"quantity": 11})) == (
        409,
        "quantity_limit",
    )
    assert await numbers(shop, seller, game) == (100, 90, 10, 0)


async def test_a_cart_that_is_thrown_away_holds_nothing(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 5)
    first = await put_in(buyer, game, 2)
    stale = {"If-Match": '"1"'}
    assert code_of(await buyer.delete(CART, headers=stale)) == (412, "version_mismatch")

    gone = await buyer.delete(CART, headers={"If-Match": first.headers["etag"]})

    assert (gone.status_code, gone.content) == (204, b"")
    assert (await cart_of(shop, buyer))["id"] is None
    assert await numbers(shop, seller, game) == (5, 5, 0, 0)
    assert (await buyer.delete(CART)).status_code == 204
    assert (await put_in(buyer, game, 2)).json()["id"] != first.json()["id"]
    assert (await seller.delete(CART)).status_code == 403


# -- to pay ----------------------------------------------------------------------------------------


async def test_the_checkout_leads_to_a_page_to_pay_on(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    await put_in(buyer, await stocked(shop, seller, 2))
    order = (await check_out(buyer, token=None)).json()
    url = order["checkout_url"]

    async with httpx.AsyncClient() as browser:
        page = await browser.get(url)
        assert (page.status_code, "19.99" in page.text) == (200, True)
        asked = await browser.post(url, data={"payment_method": "pm_card_authenticationRequired"})
        assert asked.status_code == 303
        assert (await browser.get(url)).headers["location"] == asked.headers["location"]
        approved = await browser.post(asked.headers["location"], data={"decision": "approve"})
        assert "approved" in approved.text
        assert "approved" in (await browser.get(url)).text
        assert (await browser.get(f"{url[:-1]}x")).status_code == 404


# -- its time --------------------------------------------------------------------------------------


async def test_a_cart_whose_time_ran_out_is_shown_once_with_what_was_in_it(
    shop: Shop, buyer: Person, seller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, other = await stocked(shop, seller, 5), await shop.register()
    added = (await put_in(buyer, game, 2)).json()
    replaced = (await put_in(other, game)).json()
    clock = ManualClock(shop.core.clock.now() + timedelta(minutes=16))
    monkeypatch.setattr(shop.core.handler, "clock", clock)
    later = create_app(dataclasses.replace(shop.services, clock=clock))

    async def seen(who: Person) -> dict[str, Any]:
        headers = {"authorization": who.client.headers["authorization"], **await shop.reached()}
        return dict((await client_of(later).get(CART, headers=headers)).json())

    first, second = await seen(buyer), await seen(buyer)

    assert (first["id"], first["status"], first["items"]) == (
        added["id"],
        "EXPIRED",
        added["items"],
    )
    assert (second["id"], second["status"], second["items"]) == (None, "ACTIVE", [])
    assert await numbers(shop, seller, game) == (5, 4, 1, 0), (
        "the other's is over, too, but nobody has said so yet"
    )
    anew = (await put_in(other, game, 2)).json()
    assert anew["id"] != replaced["id"]
    assert (await seen(other))["items"] == anew["items"], (
        "who has begun another one need not hear of it"
    )
