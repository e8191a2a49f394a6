"""A seller who has something on each page of the desk."""

from dataclasses import dataclass
from uuid import uuid4

from tests.browser.pictures import a_cover
from tests.browser.stories import ADDRESS, must
from tests.support.processes.instance import VISA, Instance, Person, eventually


@dataclass
class Seller:
    """Somebody with games of both kinds, sales, and parcels: to pack, to hand over, on the way."""

    person: Person
    games: list[str]
    parcels: list[str]
    endpoint: str


SHOP = "Harbour Games"
BUYERS = (
    "Ben Okafor",
    "Carla Núñez",
    "Dmitri Volkov",
    "Emre Yıldız",
    "Freya Lindqvist",
    "Grace Kim",
    "Hugo Martin",
)
TITLES = (
    ("Azul", "PHYSICAL", 3990),
    ("Wingspan", "PHYSICAL", 5490),
    ("Cascadia", "PHYSICAL", 3490),
    ("Azul, the app", "DIGITAL", 990),
    ("לוח ומשחק", "DIGITAL", 1490),
)


def a_seller(shop: Instance) -> Seller:
    """Let somebody sell for a while."""
    sue = shop.register(account_type="SELLER", name=SHOP, email="sue@harbour-games.example")
    picture = must(sue.http.post("/api/v1/catalog/images", files={"file": a_cover()}))
    games = [
        _list(sue, title, kind, cents, [picture["image_id"]] if title == "Wingspan" else [])
        for title, kind, cents in TITLES
    ]
    for game_id, units in zip(games, (12, 4, 1), strict=False):
        body = {"product_id": game_id, "total_quantity": units}
        must(sue.http.put("/api/v1/inventory/stock", json=body))
    _list(sue, "An idea for later", "DIGITAL", 500, [], status="DRAFT")
    endpoint = {
        "url": "https://hooks.harbour-games.example/orders",
        "events": ["order.*", "shipment.*"],
    }
    made = must(sue.http.post("/api/v1/webhook-endpoints", json=endpoint))
    for name, basket in zip(BUYERS, ([0, 1], [0], [3], [4], [3, 4], [0], [2]), strict=True):
        _buy(shop, name, [games[index] for index in basket])

    def shipments() -> list[str]:
        found = must(sue.http.get("/api/v1/shipments"))["items"]
        return [each["id"] for each in found] if len(found) == 4 else []

    parcels = eventually(shipments)
    for parcel in parcels[1:3]:
        must(sue.http.put(f"/api/v1/shipments/{parcel}/process"))
    sent = {"carrier": "DHL", "tracking_number": "JD014600006281923"}
    must(sue.http.put(f"/api/v1/shipments/{parcels[2]}/ship", json=sent))
    return Seller(sue, games, parcels, made["id"])


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
        "publisher": SHOP,
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


def _buy(shop: Instance, name: str, games: list[str]) -> None:
    buyer = shop.register(name=name)
    for game_id in games:
        must(buyer.http.post("/api/v1/cart/items", json={"product_id": game_id, "quantity": 1}))
    body = {
        "payment_method": {"type": "card", "token": VISA},
        "shipping_address": {**ADDRESS, "name": name},
    }
    must(buyer.http.post("/api/v1/cart/checkout", json=body))
