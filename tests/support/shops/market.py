"""Carts and stock as clients use them."""

from typing import Any
from uuid import uuid4

import httpx

from tests.support.shops.gateway import CARD, Person, Shop

WAIT = {"Prefer": "wait=10"}
CART, CHECKOUT = "/api/v1/cart", "/api/v1/cart/checkout"
ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}


def by_card(token: str | None = CARD, **more: object) -> dict[str, Any]:
    """The body of a checkout: pay by this card (none: later), ship to this address."""
    method = {"payment_method": {"type": "card", "token": token}} if token else {}
    return {"shipping_address": ADDRESS, **method, **more}


async def stocked(shop: Shop, seller: Person, units: int, **fields: object) -> dict[str, Any]:
    """A physical game on sale with this many units in stock."""
    game = await shop.game(seller, kind="PHYSICAL", **fields)
    answer = await count(seller, game, units)
    assert answer.status_code == 200, answer.text
    return game


async def count(who: Person, game: dict[str, Any], units: Any, **more: object) -> httpx.Response:
    """Set the number of units."""
    return await who.put(
        "/api/v1/inventory/stock", json={"product_id": game["id"], "total_quantity": units, **more}
    )


async def put_in(
    buyer: Person, game: dict[str, Any], quantity: Any = 1, **headers: str
) -> httpx.Response:
    """Add this many to the caller's cart."""
    return await buyer.post(
        f"{CART}/items", json={"product_id": game["id"], "quantity": quantity}, headers=headers
    )


async def check_out(buyer: Person, token: str | None = CARD, **more: object) -> httpx.Response:
    """Order what is in the caller's cart."""
    return await buyer.post(CHECKOUT, json=by_card(token, **more), headers=WAIT)


async def cart_of(shop: Shop, buyer: Person) -> dict[str, Any]:
    """The caller's cart after everything so far."""
    answer = await buyer.get(CART, headers=await shop.reached())
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def numbers(shop: Shop, seller: Person, game: dict[str, Any]) -> tuple[int, int, int, int]:
    """Total, available, reserved, allocated, after everything so far."""
    answer = await seller.get(f"/api/v1/inventory/stock/{game['id']}", headers=await shop.reached())
    stock = answer.json()
    return stock["total"], stock["available"], stock["reserved"], stock["allocated"]


async def availability(shop: Shop, game: dict[str, Any]) -> dict[str, Any]:
    """The availability that everybody sees."""
    path = f"/api/v1/inventory/availability/{game['id']}"
    return dict((await shop.client().get(path, headers=await shop.reached())).json())


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json().get("code", "")


async def reserve(
    service: Person, game: dict[str, Any], quantity: Any, **more: object
) -> httpx.Response:
    """Reserve some for a cart of another system."""
    body = {"product_id": game["id"], "quantity": quantity, "cart_id": str(uuid4()), **more}
    return await service.post("/api/v1/inventory/reserve", json=body)
