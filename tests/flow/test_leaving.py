"""People leave with something under way: the shop's processes make sure that nobody pays without
getting something."""

from typing import Any

import httpx

from tests.support.processes.instance import SECURE, VISA, Instance, Person, eventually


def leave(person: Person) -> None:
    answer = person.http.delete(f"/api/v1/users/{person.id}")
    assert answer.status_code == 204, answer.text


def seen(shop: Instance, path: str) -> dict[str, Any]:
    """An ADMIN's view: a person who left cannot query any more."""
    return dict(shop.admin().get(f"/api/v1/{path}").json())


def approve(redirect_url: str) -> str:
    """Complete 3-D Secure all the same, on its page, which is still open."""
    return httpx.post(redirect_url, data={"decision": "approve"}).text


def nothing_kept(payment: dict[str, Any]) -> bool:
    """Whether no money is held: none was captured, or all of it was refunded."""
    if payment["status"] == "REFUNDED":
        return bool(payment["refunded_cents"] == payment["amount_cents"])
    return payment["status"] in {"CANCELLED", "FAILED"}


def test_who_leaves_with_three_d_secure_open_pays_for_nothing(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, SECURE).json()
    assert order["status"] == "PENDING_PAYMENT"

    leave(ann)
    approve(order["redirect_url"])

    told = seen(shop, f"orders/{order['order_id']}")
    assert (told["status"], told["cancel_reason"]) == ("CANCELLED", "account_closed")
    eventually(lambda: seen(shop, f"payments/{order['payment_id']}"), nothing_kept)
    names = {event["name"] for event in shop.events(stream=order["order_id"])}
    assert not names & {"order.confirmed.v1", "order.completed.v1"}


def test_who_leaves_with_a_deposit_open_gets_it_back(shop: Instance) -> None:
    ann = shop.register()
    wallet = ann.http.post("/api/v1/wallets", json={"currency": "USD"}).json()
    body = {
        "type": "deposit", "amount_cents": 700, "currency": "USD", "to_wallet_id": wallet["id"],
        "payment_method": {"type": "card", "token": SECURE},
    }  # fmt: skip
    deposit = ann.http.post("/api/v1/transactions", json=body).json()
    assert deposit["redirect_url"]

    leave(ann)
    approve(deposit["redirect_url"])

    failed = eventually(
        lambda: seen(shop, f"transactions/{deposit['transaction_id']}"),
        lambda found: found["status"] == "FAILED",
    )
    assert failed["code"] == "account_closed"
    eventually(lambda: seen(shop, f"payments/{failed['payment_id']}"), nothing_kept)
    assert seen(shop, f"wallets/{wallet['id']}")["balance_cents"] == 0


def test_a_seller_leaves_and_comes_back_and_the_games_with_them(shop: Instance) -> None:
    seller, anybody = shop.register(account_type="SELLER"), shop.http()
    title = "Zwischenzug Deluxe"
    body = {
        "sku": "Z-1",
        "title": title,
        "prices": [{"region": "*", "amount_cents": 1999, "currency": "USD"}],
    }
    game = seller.http.post("/api/v1/games", json={**body, "status": "ACTIVE"}).json()["id"]

    def found() -> list[str]:
        answer = anybody.get("/api/v1/games/search", params={"q": title}).json()
        return [item["id"] for item in answer["items"]]

    eventually(found, lambda ids: game in ids)
    leave(seller)
    eventually(found, lambda ids: game not in ids)
    assert eventually(
        lambda: anybody.get(f"/api/v1/games/{game}").status_code, lambda status: status == 404
    )
    refused = shop.register().buy(game, VISA)
    assert (refused.status_code, refused.json()["code"]) == (409, "game_unavailable")

    assert shop.admin().post(f"/api/v1/users/{seller.id}/reopen").status_code == 200
    eventually(found, lambda ids: game in ids)
    assert shop.register().buy(game, VISA).status_code == 201


def test_a_parcel_that_is_paid_is_not_forgotten_with_its_buyer(shop: Instance) -> None:
    ann, game = shop.register(), shop.stocked(3)
    ann.http.post("/api/v1/cart/items", json={"product_id": game, "quantity": 1})
    address = {
        "name": "Ann",
        "line1": "1 High Street",
        "city": "Lyon",
        "postal_code": "69001",
        "country": "FR",
    }
    method = {"type": "card", "token": VISA}
    bought = ann.http.post(
        "/api/v1/cart/checkout", json={"payment_method": method, "shipping_address": address}
    ).json()
    eventually(
        lambda: ann.order(bought["order_id"])["status"], lambda status: status == "CONFIRMED"
    )

    refused = ann.http.delete(f"/api/v1/users/{ann.id}", params={"forget": "true"})

    assert (refused.status_code, refused.json()["code"]) == (409, "account_has_obligations")
    (owed,) = refused.json()["obligations"]
    assert (owed["kind"], owed["order_id"]) == ("shipment", bought["order_id"])
    assert ann.order(bought["order_id"])["shipping_address"] == address
