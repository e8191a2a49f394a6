"""Carts and their checkout, over HTTP."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.idempotency import StoredAnswers
from commands.aggregates import CART as CARTS
from commands.aggregates import ORDER
from tests.support.shops.gateway import DECLINED, SECURE, Person, Shop
from tests.support.shops.market import (
    CART,
    CHECKOUT,
    WAIT,
    availability,
    by_card,
    cart_of,
    check_out,
    code_of,
    count,
    numbers,
    put_in,
    stocked,
)
from tests.support.shops.money import refused


async def test_of_five_three_are_taken_three_more_refused_and_the_last_two_are_had(
    shop: Shop, seller: Person
) -> None:
    a, b, c = [await shop.register() for _ in range(3)]
    game = await stocked(shop, seller, 5)

    assert (await put_in(a, game, 3)).status_code == 201
    too_many = await put_in(b, game, 3)
    assert code_of(too_many) == (409, "insufficient_stock")
    assert too_many.json()["available"] == 2
    ordered = await check_out(a, token=None)
    assert ordered.status_code == 201, ordered.text
    assert (await put_in(c, game, 2)).status_code == 201

    assert await availability(shop, game) == {
        "product_id": game["id"],
        "available": 0,
        "in_stock": False,
    }
    assert await numbers(shop, seller, game) == (5, 0, 2, 3)


async def test_a_cart_holds_what_is_put_into_it_until_it_is_taken_out(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 10, title="Chess")

    added = await put_in(buyer, game, 2)
    (item,) = added.json()["items"]
    seen = await buyer.get(CART, headers={"Min-Position": added.headers["event-position"]})

    assert added.status_code == 201
    assert seen.json() == added.json()
    assert seen.headers["etag"] == added.headers["etag"]
    assert (
        await buyer.get(CART, headers={"If-None-Match": seen.headers["etag"]})
    ).status_code == 304
    assert {**added.json(), "id": "", "items": [], "expires_at": ""} == {
        "id": "", "status": "ACTIVE", "items": [], "total_cents": 3998, "currency": "USD",
        "expires_at": "",
    }  # fmt: skip
    assert {**item, "id": "", "reservation_id": ""} == {
        "id": "", "product_id": game["id"], "sku": game["sku"], "seller_id": str(seller.id),
        "title": "Chess",
        "quantity": 2, "unit_price_cents": 1999, "currency": "USD", "reservation_id": "",
    }  # fmt: skip
    more = await buyer.put(f"{CART}/items/{item['id']}", json={"quantity": 7})
    assert (more.json()["items"][0]["quantity"], more.json()["total_cents"]) == (7, 7 * 1999)
    assert more.json()["expires_at"] > added.json()["expires_at"]
    assert await numbers(shop, seller, game) == (10, 3, 7, 0)
    emptied = await buyer.delete(f"{CART}/items/{item['id']}")
    assert (emptied.json()["items"], emptied.json()["id"]) == ([], added.json()["id"])
    assert await numbers(shop, seller, game) == (10, 10, 0, 0)


async def test_an_empty_cart_is_shown_to_who_has_none(shop: Shop, buyer: Person) -> None:
    empty: dict[str, Any] = {
        "id": None,
        "status": "ACTIVE",
        "items": [],
        "total_cents": 0,
        "currency": None,
        "expires_at": None,
    }

    assert await cart_of(shop, buyer) == empty
    assert (await buyer.get(f"{CART}/summary")).json()["sellers"] == []
    assert code_of(await check_out(buyer)) == (409, "cart_empty")


async def test_a_summary_adds_up_lines_and_sellers(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    other = await shop.register("SELLER")
    chess, go, dice = (
        await stocked(shop, seller, 10),
        await shop.game(other),
        await stocked(
            shop, seller, 10, prices=[{"region": "*", "amount_cents": 50, "currency": "USD"}]
        ),
    )
    for game, quantity in ((chess, 2), (go, 1), (dice, 3), (chess, 1)):
        assert (await put_in(buyer, game, quantity)).status_code == 201

    summary = (await buyer.get(f"{CART}/summary", headers=await shop.reached())).json()

    assert [(line["product_id"], line["subtotal_cents"]) for line in summary["lines"]] == [
        (chess["id"], 3998), (go["id"], 1999), (dice["id"], 150), (chess["id"], 1999),
    ]  # fmt: skip
    assert summary["sellers"] == [
        {"seller_id": str(seller.id), "quantity": 6, "subtotal_cents": 3998 + 150 + 1999},
        {"seller_id": str(other.id), "quantity": 1, "subtotal_cents": 1999},
    ]
    assert (summary["quantity"], summary["total_cents"]) == (7, 3998 + 150 + 1999 + 1999)


async def test_a_paid_checkout_of_several_sellers_and_lines_sells_all_of_it(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    other = await shop.register("SELLER")
    chess, go, ebook = (
        await stocked(shop, seller, 10),
        await stocked(shop, other, 5),
        await shop.game(other),
    )
    for game, quantity in ((chess, 2), (go, 1), (chess, 3), (ebook, 1)):
        assert (await put_in(buyer, game, quantity)).status_code == 201

    bought = await check_out(buyer)
    order = bought.json()

    assert bought.status_code == 201, bought.text
    assert bought.headers["location"] == f"/api/v1/orders/{order['order_id']}"
    assert order["checkout_url"] == f"{shop.client().base_url}/orders/{order['order_id']}"
    assert bought.headers["preference-applied"] == "wait=10"
    assert (order["status"], order["amount_cents"], order["currency"]) == (
        "CONFIRMED",
        7 * 1999,
        "USD",
    )
    assert await numbers(shop, seller, chess) == (5, 5, 0, 0)
    assert await numbers(shop, other, go) == (4, 4, 0, 0)
    assert (await cart_of(shop, buyer))["id"] is None
    seen = (await buyer.get(bought.headers["location"], headers=await shop.reached())).json()
    assert [line["quantity"] for line in seen["lines"]] == [2, 1, 3, 1]


async def test_a_checkout_without_a_method_awaits_one_and_one_with_3d_secure_the_buyer(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, other = await stocked(shop, seller, 2), await shop.register()
    await put_in(buyer, game)
    await put_in(other, game)

    later, secure = (
        (await check_out(buyer, token=None)).json(),
        (await check_out(other, SECURE)).json(),
    )

    assert later["client_secret"]
    assert secure["checkout_url"] == secure["redirect_url"]
    assert secure["checkout_url"].startswith("http")
    assert {later["status"], secure["status"]} == {"PENDING_PAYMENT"}


async def test_a_declined_payment_releases_all_that_was_held(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, ebook = await stocked(shop, seller, 3), await shop.game(seller)
    await put_in(buyer, game, 3)
    await put_in(buyer, ebook)

    failed = await check_out(buyer, DECLINED)

    assert code_of(failed) == (402, "payment_failed")

    async def held() -> tuple[int, int, int, int]:
        return await numbers(shop, seller, game)

    assert await shop.eventually(held, lambda found: found == (3, 3, 0, 0))
    order = (
        await buyer.get(f"/api/v1/orders/{failed.json()['order_id']}", headers=await shop.reached())
    ).json()
    assert order["status"] == "CANCELLED"
    assert (
        (await put_in(buyer, game, 3)).status_code
        == (await put_in(buyer, ebook)).status_code
        == 201
    )


async def test_a_cart_is_checked_out_by_its_key_once(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 5)
    key = {"Idempotency-Key": uuid4().hex}

    first, again = [await put_in(buyer, game, 2, **key) for _ in range(2)]
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert code_of(await put_in(buyer, game, 3, **key)) == (422, "idempotency_key_reused")

    key = {"Idempotency-Key": uuid4().hex, **WAIT}
    bought = [await buyer.post(CHECKOUT, json=by_card(), headers=key) for _ in range(2)]
    assert bought[0].json() == bought[1].json()
    assert await numbers(shop, seller, game) == (3, 3, 0, 0)


async def test_a_repeat_whose_answer_was_lost_shows_what_became_of_it_in_another_process(
    shop: Shop, buyer: Person, seller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None: ...

    monkeypatch.setattr(StoredAnswers, "keep", lost)
    known, game = shop.core.repository._cache, await stocked(shop, seller, 5)
    in_cart, ordering, calling_off = [
        {"Idempotency-Key": uuid4().hex, "Prefer": "respond-async"}
        for _ in ("items", "checkout", "cancel")
    ]

    added = (await put_in(buyer, game, 2, **in_cart)).json()
    before = dict(known)
    await buyer.put(f"{CART}/items/{added['items'][0]['id']}", json={"quantity": 3})
    known.update(before)  # as if another process had made the change
    again = await put_in(buyer, game, 2, **in_cart)
    assert [item["quantity"] for item in again.json()["items"]] == [3]

    order_id = (await buyer.post(CHECKOUT, json=by_card(None), headers=ordering)).json()["order_id"]
    before, path = dict(known), f"/api/v1/orders/{order_id}/cancel"
    assert (await buyer.post(path, headers=calling_off)).json()["status"] == "CANCELLED"
    for repeat in (
        partial(buyer.post, CHECKOUT, json=by_card(None), headers=ordering),
        partial(buyer.post, path, headers=calling_off),
    ):
        known.update(before)
        assert (await repeat()).json()["status"] == "CANCELLED"


async def test_a_client_that_does_not_wait_gets_202(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    await put_in(buyer, await shop.game(seller))

    answer = await buyer.post(CHECKOUT, json={}, headers={"Prefer": "respond-async"})

    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING_PAYMENT")


async def test_many_who_want_the_last_ones_at_once_get_no_more_than_there_are(
    shop: Shop, seller: Person
) -> None:
    game = await stocked(shop, seller, 3)
    buyers = [await shop.register() for _ in range(6)]

    answers = await asyncio.gather(*(put_in(buyer, game) for buyer in buyers))

    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 3
    assert await numbers(shop, seller, game) == (3, 0, 3, 0)


QUANTITIES: list[Any] = [0, -1, 1_000_001, 10**30, 1.5, 1.0, True, "1", None]


@pytest.mark.parametrize("quantity", QUANTITIES)
async def test_a_quantity_that_is_none_is_refused_and_nothing_changes(
    shop: Shop, buyer: Person, seller: Person, quantity: Any
) -> None:
    body = {"product_id": str(uuid4()), "quantity": quantity}

    added = await refused(shop, buyer, f"{CART}/items", body)
    changed = await buyer.put(f"{CART}/items/{uuid4()}", json={"quantity": quantity})

    assert code_of(added) == code_of(changed) == (422, "invalid_quantity")


async def test_what_cannot_be_had_is_refused_by_its_own_code_and_nothing_changes(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    real, euro = await shop.register(), [{"region": "*", "amount_cents": 100, "currency": "EUR"}]
    game, ebook, abroad = (
        await stocked(shop, seller, 5),
        await shop.game(seller),
        await shop.game(seller, prices=euro),
    )
    retired, draft = await shop.game(seller), await shop.game(seller, status="DRAFT")
    nowhere = await stocked(
        shop, seller, 1, prices=[{"region": "JP", "amount_cents": 100, "currency": "USD"}]
    )
    dear = await stocked(
        shop, seller, 1000, prices=[{"region": "*", "amount_cents": 10_000_000, "currency": "USD"}]
    )
    await seller.delete(f"/api/v1/games/{retired['id']}")
    await put_in(buyer, game)
    (foreign,) = (await put_in(real, game)).json()["items"]
    await put_in(buyer, ebook)
    before = await cart_of(shop, buyer)

    async def told(game: dict[str, Any], quantity: int = 1) -> tuple[int, str]:
        body = {"product_id": game["id"], "quantity": quantity}
        return code_of(await refused(shop, buyer, f"{CART}/items", body))

    assert await told({"id": str(uuid4())}) == (404, "product_not_found")
    assert await told(draft) == (404, "product_not_found")
    assert await told(retired) == (409, "game_unavailable")
    assert await told(nowhere) == (409, "game_unavailable")
    assert await told(abroad) == (409, "currency_mismatch")
    assert await told(game, 4) == (409, "insufficient_stock")
    assert await told(game, 1_000_000) == (409, "insufficient_stock")
    assert await told(dear, 11) == (409, "amount_too_large")
    assert await told(ebook) == (409, "already_in_cart")
    assert await told(await shop.game(seller), 2) == (422, "invalid_quantity")
    for item_id in (foreign["id"], uuid4()):
        path = f"{CART}/items/{item_id}"
        assert code_of(await buyer.put(path, json={"quantity": 1})) == (404, "item_not_found")
        assert code_of(await buyer.delete(path)) == (404, "item_not_found")
    mine = before["items"][0]["id"]
    assert code_of(await buyer.put(f"{CART}/items/{mine}", json={"quantity": 5})) == (
        409,
        "insufficient_stock",
    )
    stale = {"If-Match": '"1"'}
    assert code_of(await buyer.delete(f"{CART}/items/{mine}", headers=stale)) == (
        412,
        "version_mismatch",
    )
    assert await cart_of(shop, buyer) == before
    assert await numbers(shop, seller, game) == (5, 3, 2, 0)


async def test_an_emptied_cart_gives_way_to_one_in_another_currency(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    dollars = await stocked(shop, seller, 5)
    euros = await stocked(
        shop, seller, 5, prices=[{"region": "*", "amount_cents": 100, "currency": "EUR"}]
    )
    first = (await put_in(buyer, dollars)).json()
    await buyer.delete(f"{CART}/items/{first['items'][0]['id']}")

    second = (await put_in(buyer, euros)).json()

    assert second["id"] != first["id"]
    assert second["currency"] == "EUR"
    left = await shop.core.repository.state(CARTS, UUID(first["id"]))
    assert left is not None
    assert left.status == "EXPIRED"
    assert await cart_of(shop, buyer) == second
    assert (await check_out(buyer)).json()["status"] == "CONFIRMED"
    assert (await cart_of(shop, buyer))["id"] is None


async def test_a_game_that_is_owned_is_not_put_into_a_cart(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    ebook = await shop.game(seller)
    await put_in(buyer, ebook)
    assert (await check_out(buyer)).json()["status"] == "COMPLETED"

    assert code_of(await put_in(buyer, ebook)) == (409, "already_owned")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "shipping_address_required"),
        ({"shipping_address": {}}, "invalid_request"),
        (
            by_card(shipping_address={**by_card()["shipping_address"], "country": "France"}),
            "invalid_request",
        ),
        (
            by_card(shipping_address={**by_card()["shipping_address"], "name": "  "}),
            "invalid_request",
        ),
        (
            by_card(shipping_address={**by_card()["shipping_address"], "phone": "1"}),
            "invalid_request",
        ),
        (
            by_card(shipping_address={**by_card()["shipping_address"], "line2": 5}),
            "invalid_request",
        ),
        (by_card(coupon="X"), "invalid_request"),
    ],
)
async def test_a_checkout_that_makes_no_sense_is_refused_and_leaves_no_trace(
    shop: Shop, seller: Person, body: dict[str, Any], code: str
) -> None:
    buyer = await shop.register()
    await put_in(buyer, await stocked(shop, seller, 1))

    assert code_of(await refused(shop, buyer, CHECKOUT, body)) == (422, code)


async def test_an_address_is_kept_encrypted(shop: Shop, buyer: Person, seller: Person) -> None:
    await put_in(buyer, await stocked(shop, seller, 1))
    street = f"{uuid4().hex} Street"

    bought = await check_out(
        buyer, shipping_address={**by_card()["shipping_address"], "line1": street}
    )

    order = await shop.core.repository.state(ORDER, UUID(bought.json()["order_id"]))
    assert order is not None
    assert order.shipping_address is not None
    assert order.shipping_address["line1"] == street
    async with shop.core.log.pool.connection() as conn:
        found = await conn.execute(
            "SELECT count(*) FROM log.events WHERE encode(payload, 'escape') LIKE %s",
            (f"%{street}%",),
        )
        assert await found.fetchone() == (0,)


async def test_carts_are_for_buyers_and_admins(
    shop: Shop, seller: Person, auditor: Person, admin: Person
) -> None:
    for who in (seller, auditor):
        assert code_of(await who.get(CART)) == (403, "role_required")
        assert (await put_in(who, {"id": str(uuid4())})).status_code == 403
    assert (await admin.get(CART)).status_code == 200
    assert (await shop.client().get(CART)).status_code == 401
    assert (await shop.client().post(CHECKOUT, json={})).status_code == 401


async def test_a_hold_that_an_operator_gave_up_is_taken_anew(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 2)
    (item,) = (await put_in(buyer, game, 2)).json()["items"]
    hold = {"product_id": game["id"], "reservation_id": item["reservation_id"]}
    assert (await admin.post("/api/v1/inventory/release", json=hold)).status_code == 200
    assert await numbers(shop, seller, game) == (2, 2, 0, 0)

    assert (await count(seller, game, 1)).status_code == 200
    changed = await check_out(buyer)
    assert code_of(changed) == (409, "cart_changed")
    assert changed.json()["changes"] == [
        {"item_id": item["id"], "code": "stock", "was": 2, "now": 1}
    ]
    await count(seller, game, 2)
    assert (await check_out(buyer)).json()["amount_cents"] == 1999
    assert await numbers(shop, seller, game) == (1, 1, 0, 0)


async def test_an_admin_sees_what_became_of_carts(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    kroner = [{"region": "*", "amount_cents": 1000, "currency": "SEK"}]
    game = await stocked(shop, seller, 50, prices=kroner)
    fickle, slow = await shop.register(), await shop.register()
    for who, quantity in ((buyer, 2), (fickle, 3), (slow, 1)):
        assert (await put_in(who, game, quantity)).status_code == 201
    assert (await check_out(buyer)).json()["status"] == "CONFIRMED"
    assert (await check_out(fickle, DECLINED)).status_code == 402
    path = "/api/v1/admin/analytics/carts"

    async def report(**wanted: str) -> dict[str, Any]:
        answer = await admin.get(
            path, params={"currency": "SEK", **wanted}, headers=await shop.reached()
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    found = await shop.eventually(
        report, lambda seen: seen["overall"]["completed"] + seen["overall"]["abandoned"] == 2
    )
    counts = {
        "created": 3, "with_items": 3, "open": 1, "checked_out": 2, "completed": 1, "abandoned": 1,
        "expired": 0,
        "payment_failed": 1, "discarded": 0, "conversion_rate": 0.5, "abandonment_rate": 0.5,
    }  # fmt: skip
    figures = {**counts, "currency": "SEK", "completed_cents": 2000, "abandoned_cents": 3000}
    whole, today = (
        {"next_cursor": None, "totals": [figures], "overall": counts},
        datetime.now(UTC).date().isoformat(),
    )
    assert found == {"items": [{**figures, "day": today}], **whole}
    assert await report(group_by="seller") == {
        "items": [{**figures, "seller_id": str(seller.id)}],
        **whole,
    }
    assert await report(group_by="game") == {"items": [{**figures, "game_id": game["id"]}], **whole}
    past = await report(**{"from": "2020-01-01", "to": "2020-01-31"})
    assert (past["items"], past["totals"], past["overall"]["conversion_rate"]) == ([], [], None)
    for wanted, status in (
        ({"from": "2026-02-01", "to": "2026-01-01"}, 422),
        ({"cursor": "?"}, 400),
    ):
        assert (await admin.get(path, params=wanted)).status_code == status
    assert [(await who.get(path)).status_code for who in (buyer, seller, shop.client())] == [
        403,
        403,
        401,
    ]


async def test_sales_of_sellers_are_what_the_ledger_owes_them(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    def francs(cents: int) -> dict[str, Any]:
        return {"prices": [{"region": "*", "amount_cents": cents, "currency": "CHF"}]}

    other = await shop.register("SELLER")
    for game, quantity in (
        (await stocked(shop, seller, 5, **francs(1234)), 2),
        (await shop.game(other, **francs(777)), 1),
        (await stocked(shop, seller, 5, **francs(35)), 3),
    ):
        assert (await put_in(buyer, game, quantity)).status_code == 201
    order = (await check_out(buyer)).json()
    refund = {"amount_cents": 1001, "reason": "late"}
    assert (
        await admin.post(f"/api/v1/orders/{order['order_id']}/refund", json=refund)
    ).status_code == 201

    async def owed(account_id: str) -> int | None:
        path = f"/api/v1/ledger/accounts/{account_id}?currency=CHF"
        cents: int | None = (
            (await admin.get(path, headers=await shop.reached())).json().get("balance_cents")
        )
        return cents

    async def figures() -> tuple[dict[str, int], dict[str, int | None]]:
        params = {"group_by": "seller", "currency": "CHF"}
        answer = await admin.get(
            "/api/v1/admin/analytics/sales", params=params, headers=await shop.reached()
        )
        sold = {
            f"SELLER_PAYABLE:{each['seller_id']}": (
                each["gross_cents"] - each["refunded_cents"] - each["fee_cents"]
            )
            for each in answer.json()["items"]
        }
        sold["PLATFORM_REVENUE"] = sum(each["fee_cents"] for each in answer.json()["totals"])
        return sold, {account_id: await owed(account_id) for account_id in sold}

    paid = 2 * 1234 + 777 + 3 * 35
    sold, _ = await shop.eventually(
        figures, lambda found: sum(found[0].values()) == paid - 1001 and found[0] == found[1]
    )
    assert len(sold) == 3
