"""Refunds over HTTP: pending ones, orders that cost nothing, wallets that owe, and orders that
accept no payment any more."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from adapters.webhooks.signature import sign
from tests.support.servers.provider import SECRET
from tests.support.shops.gateway import CARD, DECLINED, Person, Shop
from tests.support.shops.money import (
    WAIT,
    account,
    adjust,
    filled_wallet,
    open_wallet,
    transact,
    transfer,
)

PENDING_REFUND = "pm_card_pendingRefund"


async def buy(
    person: Person, game: dict[str, Any], method: dict[str, Any] | None
) -> httpx.Response:
    body = {"game_id": game["id"], **({"payment_method": method} if method else {})}
    return await person.post("/api/v1/orders", json=body, headers=WAIT)


def card(token: str = CARD) -> dict[str, Any]:
    return {"type": "card", "token": token}


async def refund(admin: Person, order: dict[str, Any]) -> dict[str, Any]:
    answer = await admin.post(
        f"/api/v1/orders/{order['order_id']}/refund", json={"reason": "regret"}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def tell(shop: Shop, type: str, **object: Any) -> httpx.Response:
    """Send the provider's signed notice."""
    now = int(shop.core.clock.now().timestamp())
    body = json.dumps(
        {"id": f"evt_{uuid4().hex}", "type": type, "created": now, "data": {"object": object}}
    ).encode()
    return await shop.client().post(
        "/api/v1/payments/webhook",
        content=body,
        headers={"Stripe-Signature": sign(body, SECRET, now)},
    )


async def order_of(shop: Shop, person: Person, order: dict[str, Any]) -> dict[str, Any]:
    answer = await person.get(f"/api/v1/orders/{order['order_id']}", headers=await shop.reached())
    return dict(answer.json())


async def library(shop: Shop, person: Person) -> list[str]:
    answer = await person.get("/api/v1/library", headers=await shop.reached())
    return [item["order_id"] for item in answer.json()["items"]]


async def pending(
    shop: Shop, admin: Person, buyer: Person, game: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """An order whose refund the provider has accepted."""
    order = (await buy(buyer, game, card(PENDING_REFUND))).json()
    assert order["status"] == "COMPLETED", order
    await refund(admin, order)

    async def look() -> Any:
        return (await order_of(shop, buyer, order))["payment"]["refunds"][-1]

    return order, await shop.eventually(look, lambda each: each["provider_ref"])


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_a_refund_counts_once_it_succeeded_and_may_be_tried_again_once_it_failed(
    shop: Shop, seller: Person, buyer: Person, admin: Person, status: str
) -> None:
    order, asked = await pending(shop, admin, buyer, await shop.game(seller))
    before = await order_of(shop, buyer, order)
    assert (before["status"], before["refund_status"], before["refunded_cents"]) == (
        "COMPLETED",
        "PENDING",
        0,
    )
    assert (before["payment"]["refund_status"], before["payment"]["refunded_cents"]) == (
        "PENDING",
        0,
    )
    assert order["order_id"] in await library(shop, buyer)
    again = await admin.post(
        f"/api/v1/payments/{order['payment_id']}/refund", json={"reason": "again"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "refund_exceeds_capture")

    about = {"metadata": {"payment_id": order["payment_id"], "refund_id": asked["refund_id"]}}
    for _ in range(2):
        told = await tell(
            shop, "refund.updated", id=asked["provider_ref"], amount=1999, status=status, **about
        )
        assert told.status_code == 200

    if status == "succeeded":
        done = await shop.eventually(
            lambda: order_of(shop, buyer, order), lambda each: each["refund_status"] == "SUCCEEDED"
        )
        assert (done["status"], done["refunded_cents"]) == ("REFUNDED", 1999)
        await shop.eventually(
            lambda: library(shop, buyer), lambda owned: order["order_id"] not in owned
        )
    else:
        failed = await order_of(shop, buyer, order)
        assert (failed["status"], failed["refund_status"], failed["refunded_cents"]) == (
            "COMPLETED",
            "FAILED",
            0,
        )
        assert order["order_id"] in await library(shop, buyer)
        listed = await admin.get(
            "/api/v1/payments?refund_status=FAILED", headers=await shop.reached()
        )
        assert order["payment_id"] in {each["payment_id"] for each in listed.json()["items"]}
        assert (await buyer.get("/api/v1/payments?refund_status=FAILED")).status_code == 403

        async def told_of() -> list[str]:
            answer = await admin.get("/api/v1/notifications", headers=await shop.reached())
            return [each["template"] for each in answer.json()["items"]]

        await shop.eventually(told_of, lambda templates: "refund_failed" in templates)


METHODS = [
    None,
    {"type": "card"},
    card(),
    {"type": "wallet"},
    {"type": "wallet", "token": "zzz"},
    {"type": "wallet", "token": "00000000-0000-4000-8000-000000000001"},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("by_cart", [False, True])
async def test_a_free_game_is_bought_and_given_back_by_whatever_method(
    shop: Shop,
    seller: Person,
    buyer: Person,
    admin: Person,
    method: dict[str, Any] | None,
    by_cart: bool,
) -> None:
    game = await shop.game(seller, prices=[{"region": "*", "amount_cents": 0, "currency": "USD"}])
    if by_cart:
        await buyer.post("/api/v1/cart/items", json={"product_id": game["id"], "quantity": 1})
        body = {} if method is None else {"payment_method": method}
        bought = await buyer.post("/api/v1/cart/checkout", json=body, headers=WAIT)
    else:
        bought = await buy(buyer, game, method)
    assert bought.status_code == 201, bought.text
    order = bought.json()
    await shop.eventually(lambda: library(shop, buyer), lambda owned: order["order_id"] in owned)
    payment = (
        await buyer.get(f"/api/v1/payments/{order['payment_id']}", headers=await shop.reached())
    ).json()
    assert (payment["status"], payment["method"], payment["amount_cents"]) == (
        "CAPTURED",
        "free",
        0,
    )
    assert "zzz" not in json.dumps(payment)

    given_back = await refund(admin, order)
    assert (given_back["status"], given_back["amount_cents"]) == ("SUCCEEDED", 0)
    await shop.eventually(
        lambda: library(shop, buyer), lambda owned: order["order_id"] not in owned
    )
    done = await shop.eventually(
        lambda: order_of(shop, buyer, order), lambda each: each["status"] == "REFUNDED"
    )
    assert (done["refund_status"], done["refunded_cents"]) == ("SUCCEEDED", 0)


@pytest.mark.parametrize("token", ["zzz", "00000000-0000-4000-8000-000000000001", "pm_card_visa"])
async def test_a_wallet_is_the_buyers_own_whatever_token_comes_with_it(
    shop: Shop, seller: Person, buyer: Person, admin: Person, token: str
) -> None:
    wallet, game = await filled_wallet(buyer, admin, 5000), await shop.game(seller)
    order = (await buy(buyer, game, {"type": "wallet", "token": token})).json()
    assert order["status"] == "COMPLETED"
    assert (await refund(admin, order))["status"] == "SUCCEEDED"
    shown = await buyer.get(f"/api/v1/wallets/{wallet['id']}", headers=await shop.reached())
    assert shown.json()["balance_cents"] == 5000


# -- a deposit taken back --------------------------------------------------------------------------


async def test_a_wallet_whose_deposit_was_taken_back_is_frozen_until_what_comes_in_has_settled_it(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    wallet, other = await open_wallet(buyer), await open_wallet(await shop.register())
    deposit = (
        await transact(buyer, "deposit", 100, to_wallet_id=wallet["id"], payment_method=card())
    ).json()
    assert (await transfer(buyer, wallet, other, 80)).json()["status"] == "COMPLETED"
    payment = deposit["payment_id"]
    await tell(
        shop,
        "charge.refunded",
        id="ch_1",
        amount=100,
        amount_refunded=100,
        currency="usd",
        payment_intent="pi_1",
        metadata={"payment_id": payment},
    )

    async def look() -> dict[str, Any]:
        answer = await buyer.get(f"/api/v1/wallets/{wallet['id']}", headers=await shop.reached())
        return dict(answer.json())

    frozen = await shop.eventually(look, lambda found: found["status"] == "FROZEN")
    assert (frozen["balance_cents"], frozen["owed_cents"]) == (0, 80)
    await account(shop, admin, f"RECEIVABLE:{buyer.id}", -80)
    listed = await admin.get("/api/v1/wallets?status=FROZEN", headers=await shop.reached())
    assert wallet["id"] in {each["id"] for each in listed.json()["items"]}
    assert (await buyer.get("/api/v1/wallets?status=FROZEN")).status_code == 403
    shown = await buyer.get(f"/api/v1/transactions/{deposit['id']}", headers=await shop.reached())
    assert (shown.json()["status"], shown.json()["reversed_cents"]) == ("COMPLETED", 100)

    game = await shop.game(seller, prices=[{"region": "*", "amount_cents": 1, "currency": "USD"}])
    for refusal in (
        await transfer(buyer, wallet, other, 1),
        await buy(buyer, game, {"type": "wallet"}),
    ):
        assert (refusal.status_code, refusal.json()["code"], refusal.json()["owed_cents"]) == (
            409,
            "wallet_frozen",
            80,
        )

    after = (await adjust(admin, wallet, 30)).json()
    assert (after["status"], after["balance_cents"], after["owed_cents"]) == ("FROZEN", 0, 50)
    after = (await adjust(admin, wallet, 60)).json()
    assert (after["status"], after["balance_cents"], after["owed_cents"]) == ("ACTIVE", 10, 0)
    await account(shop, admin, f"RECEIVABLE:{buyer.id}", 0)
    await account(shop, admin, f"WALLET:{wallet['id']}", 10)
    statement = await buyer.get(
        f"/api/v1/wallets/{wallet['id']}/statement", headers=await shop.reached()
    )
    assert [
        (each["type"], each["direction"], each["amount_cents"])
        for each in statement.json()["items"]
    ] == [
        ("debt", "debit", 50),
        ("adjustment", "credit", 60),
        ("debt", "debit", 30),
        ("adjustment", "credit", 30),
        ("deposit_refund", "debit", 20),
        ("transfer", "debit", 80),
        ("deposit", "credit", 100),
    ]
    balance = await admin.get("/api/v1/ledger/trial-balance", headers=await shop.reached())
    assert {line["balance_cents"] for line in balance.json()["items"]} == {0}


# -- orders that accept no payment -----------------------------------------------------------------


async def test_a_game_in_an_unpaid_order_is_not_owned_but_pending(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    game = await shop.game(seller)
    first = (await buy(buyer, game, None)).json()
    again = await buy(buyer, game, card())
    assert (again.status_code, again.json()["code"], again.json()["order_id"]) == (
        409, "order_pending", first["order_id"],
    )  # fmt: skip
    carted = await buyer.post("/api/v1/cart/items", json={"product_id": game["id"], "quantity": 1})
    assert (carted.status_code, carted.json()["code"], carted.json()["order_id"]) == (
        409, "order_pending", first["order_id"],
    )  # fmt: skip
    paid = await buyer.post(
        "/api/v1/payments",
        json={"order_id": first["order_id"], "payment_method": card()},
        headers=WAIT,
    )
    assert paid.status_code == 201, paid.text
    again = await buy(buyer, game, card())
    assert (again.status_code, again.json()["code"]) == (409, "already_owned")


@pytest.mark.parametrize("method", [None, card(), {"type": "wallet"}], ids=str)
async def test_an_order_that_is_paid_or_cancelled_takes_no_payment_and_says_why(
    shop: Shop, seller: Person, buyer: Person, admin: Person, method: dict[str, Any] | None
) -> None:
    await filled_wallet(buyer, admin, 5000)
    paid = (await buy(buyer, await shop.game(seller), card())).json()
    cancelled = (await buy(buyer, await shop.game(seller), None)).json()
    await buyer.post(f"/api/v1/orders/{cancelled['order_id']}/cancel")
    declined = (await buy(buyer, await shop.game(seller), card(DECLINED))).json()
    for order, code in (
        (paid, "order_paid"),
        (cancelled, "order_cancelled"),
        (declined, "order_cancelled"),
    ):

        async def attempt(order: dict[str, Any] = order) -> tuple[int, str]:
            body = {"order_id": order["order_id"], **({"payment_method": method} if method else {})}
            answer = await buyer.post("/api/v1/payments", json=body)
            return answer.status_code, answer.json()["code"]

        if order is declined:
            await shop.eventually(
                lambda: order_of(shop, buyer, declined), lambda each: each["status"] == "CANCELLED"
            )
        assert await attempt() == (409, code)
