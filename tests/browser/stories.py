"""People who have something on each of their pages."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.processes.instance import DECLINED, SECURE, VISA, Instance, Person, eventually

ADDRESS = {
    "name": "Ann Lee",
    "line1": "1 High Street",
    "city": "Portland",
    "postal_code": "97201",
    "country": "US",
}


@dataclass
class Shelf:
    """Two games on sale: one to download, and a box in stock."""

    digital: str
    box: str


def shelf(shop: Instance, digital: str = "Hollow Knight", box: str = "Catan") -> Shelf:
    """Put both on sale, and wait until they can be bought."""
    one = shop.game(1499, digital, description="A kingdom below, forgotten.\nGo and look.")
    two = shop.game(4500, box, kind="PHYSICAL", description="For three or four players.")
    stock = {"product_id": two, "total_quantity": 40}
    must(shop.admin().put("/api/v1/inventory/stock", json=stock))
    paths = [f"/api/v1/games/{game_id}" for game_id in (one, two)]
    eventually(lambda: all(shop.http().get(path).is_success for path in paths))
    return Shelf(one, two)


@dataclass
class Buyer:
    """Somebody with orders (one completed, one to be sent, one that waits for the bank, one that
    was declined), a wallet, and both kinds of games in the cart."""

    person: Person
    orders: list[str]
    wallet: str


def a_buyer(shop: Instance, on_sale: Shelf, **fields: str) -> Buyer:
    """Let somebody buy what is on sale."""
    ann = shop.register(**fields)
    wallet = must(ann.http.post("/api/v1/wallets", json={"currency": "USD"}))["id"]
    deposit = {
        "type": "deposit",
        "amount_cents": 10_000,
        "currency": "USD",
        "to_wallet_id": wallet,
        "payment_method": {"type": "card", "token": VISA},
    }
    must(ann.http.post("/api/v1/transactions", json=deposit))
    orders = [_order_of_a_box(ann, on_sale.box, token) for token in (VISA, SECURE, DECLINED)]
    bought = must(ann.buy(on_sale.digital))["order_id"]
    eventually(lambda: ann.completed(bought))
    _put_into_the_cart(ann, on_sale.box, 2)
    return Buyer(ann, [bought, *orders], wallet)


def _order_of_a_box(buyer: Person, box: str, token: str) -> str:
    _put_into_the_cart(buyer, box, 1)
    body = {"payment_method": {"type": "card", "token": token}, "shipping_address": ADDRESS}
    answer = buyer.http.post("/api/v1/cart/checkout", json=body)
    assert answer.status_code in {201, 402}, answer.text
    return str(answer.json()["order_id"])


def _put_into_the_cart(buyer: Person, game_id: str, quantity: int) -> None:
    must(buyer.http.post("/api/v1/cart/items", json={"product_id": game_id, "quantity": quantity}))


def must(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer that is no refusal."""
    assert answer.is_success, answer.text
    return dict(answer.json()) if answer.content else {}
