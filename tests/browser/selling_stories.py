"""A seller who has something on each page of the desk."""

import io
from dataclasses import dataclass
from uuid import uuid4

from PIL import Image, ImageOps

from tests.browser.stories import ADDRESS, must
from tests.support.processes.instance import VISA, Instance, Person, eventually


@dataclass
class Seller:
    """Somebody with games of both kinds, sales, and parcels to pack and to hand over."""

    person: Person
    games: list[str]
    parcels: list[str]
    endpoint: str


TITLES = (
    ("Azul", "PHYSICAL", 3990),
    ("Wingspan", "PHYSICAL", 5490),
    ("Cascadia", "PHYSICAL", 3490),
    ("Azul, the app", "DIGITAL", 990),
    ("לוח ומשחק", "DIGITAL", 1490),
)


def a_seller(shop: Instance) -> Seller:
    """Let somebody sell for a while."""
    sue = shop.register(account_type="SELLER", name="Sue’s games")
    picture = must(sue.http.post("/api/v1/catalog/images", files={"file": a_sunset()}))
    games = [
        _list(sue, title, kind, cents, [picture["image_id"]] if title == "Wingspan" else [])
        for title, kind, cents in TITLES
    ]
    for game_id, units in zip(games, (12, 4, 1), strict=False):
        body = {"product_id": game_id, "total_quantity": units}
        must(sue.http.put("/api/v1/inventory/stock", json=body))
    _list(sue, "An idea for later", "DIGITAL", 500, [], status="DRAFT")
    endpoint = {"url": "https://sue.example/ludoteca", "events": ["order.*", "shipment.*"]}
    made = must(sue.http.post("/api/v1/webhook-endpoints", json=endpoint))
    for basket in ([0, 1], [0], [3], [4], [3, 4], [0]):
        _buy(shop, [games[index] for index in basket])

    def shipments() -> list[str]:
        found = must(sue.http.get("/api/v1/shipments"))["items"]
        return [each["id"] for each in found] if len(found) == 3 else []

    parcels = eventually(shipments)
    must(sue.http.put(f"/api/v1/shipments/{parcels[1]}/process"))
    return Seller(sue, games, parcels, made["id"])


def a_sunset() -> bytes:
    """A picture."""
    light = Image.radial_gradient("L").resize((300, 400))
    file = io.BytesIO()
    ImageOps.colorize(light, "#ffd166", "#1b2a4b", "#ef476f").save(file, "PNG")
    return file.getvalue()


def _list(
    seller: Person, title: str, kind: str, cents: int, image_ids: list[str], status: str = "ACTIVE"
) -> str:
    prices = [{"region": "*", "amount_cents": cents, "currency": "USD"}]
    if title == "Wingspan":
        prices += [
            {"region": "DE", "amount_cents": 4990, "currency": "EUR"},
            {"region": "JP", "amount_cents": 7800, "currency": "JPY"},
        ]
    body = {
        "sku": uuid4().hex[:8].upper(),
        "title": title,
        "kind": kind,
        "status": status,
        "publisher": "Sue’s games",
        "genres": ["Board game", "Family"],
        "tags": ["Tiles", "Birds"] if title == "Wingspan" else ["Tiles"],
        "platforms": ["Android", "iOS"] if kind == "DIGITAL" else [],
        "description": DESCRIPTION,
        "release_date": "2024-03-01",
        "prices": prices,
        "image_ids": image_ids,
    }
    return str(must(seller.http.post("/api/v1/games", json=body))["id"])


DESCRIPTION = """For one to five players, an hour or so.

Collect, combine, and do not let the others see what you are after."""


def _buy(shop: Instance, games: list[str]) -> None:
    buyer = shop.register()
    for game_id in games:
        must(buyer.http.post("/api/v1/cart/items", json={"product_id": game_id, "quantity": 1}))
    body = {"payment_method": {"type": "card", "token": VISA}, "shipping_address": ADDRESS}
    must(buyer.http.post("/api/v1/cart/checkout", json=body))
