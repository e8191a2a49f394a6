"""A parcel from its sale to its delivery, with the carrier that comes with the program."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.processes.instance import VISA, Instance, eventually, running
from tests.support.servers import shared

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    port = {"LUDOTECA_CARRIER_PORT": str(shared.free_port())}
    with running(tmp_path_factory.mktemp("home"), database, port) as instance:
        instance.start("carrier")
        yield instance
    shared.drop_database(database)


def handed_over(shop: Instance, tracking_number: str) -> str:
    """A paid order whose parcel the carrier has; returns its id."""
    buyer, game = shop.register(), shop.stocked(1)
    buyer.http.post("/api/v1/cart/items", json={"product_id": game, "quantity": 1})
    paid = buyer.http.post(
        "/api/v1/cart/checkout",
        json={"payment_method": {"type": "card", "token": VISA}, "shipping_address": ADDRESS},
        headers={"Prefer": "wait=10"},
    )
    assert paid.status_code == 201, paid.text
    order_id = str(paid.json()["order_id"])
    shown = eventually(
        lambda: dict(shop.admin().get(f"/api/v1/orders/{order_id}").json()),
        lambda order: order["status"] == "CONFIRMED",
    )
    path = f"/api/v1/shipments/{shown['shipments'][0]['id']}"
    assert shop.admin().put(f"{path}/process").status_code == 200
    parcel = {"carrier": "UPS", "tracking_number": tracking_number}
    assert shop.admin().put(f"{path}/ship", json=parcel).status_code == 200
    return order_id


def carrier(shop: Instance) -> httpx.Client:
    url = f"http://127.0.0.1:{shop.environment['LUDOTECA_CARRIER_PORT']}"
    client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def is_up() -> bool:
        try:
            return client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    eventually(is_up)
    return client


def status_of(shop: Instance, order_id: str) -> str:
    return str(shop.admin().get(f"/api/v1/orders/{order_id}").json()["status"])


def test_a_parcel_that_the_carrier_delivers_ends_its_order(shop: Instance) -> None:
    order_id = handed_over(shop, "1Z999AA10123456784")
    parcels = carrier(shop)
    assert "1Z999AA10123456784" in parcels.get("/").text

    assert parcels.post("/parcels/1Z999AA10123456784/delivered").status_code == 202

    eventually(lambda: status_of(shop, order_id), lambda status: status == "DELIVERED")
    assert parcels.get("/parcels").json() == []


def test_a_delivery_while_the_api_is_down_is_told_once_it_is_back(shop: Instance) -> None:
    order_id = handed_over(shop, "1Z999AA10123456785")
    parcels = carrier(shop)
    shop.kill("api")
    assert parcels.post("/parcels/1Z999AA10123456785/delivered").status_code == 202
    shop.start("api")
    shop.await_ready()

    eventually(lambda: status_of(shop, order_id), lambda status: status == "DELIVERED")
