"""Stock over HTTP: setting it, reading it, and reservations for other systems."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from queries.catalog import stock
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import (
    availability,
    cart_of,
    check_out,
    code_of,
    count,
    numbers,
    put_in,
    reserve,
    stocked,
)

STOCK = "/api/v1/inventory/stock"


async def test_a_seller_counts_and_sees_the_stock_of_a_product(
    shop: Shop, seller: Person, admin: Person
) -> None:
    game = await shop.game(seller, kind="PHYSICAL")
    path = f"{STOCK}/{game['id']}"
    assert await numbers(shop, seller, game) == (0, 0, 0, 0)
    assert await availability(shop, game) == {
        "product_id": game["id"],
        "available": 0,
        "in_stock": False,
    }

    counted = await count(seller, game, 8)
    seen = await seller.get(path, headers={"Min-Position": counted.headers["event-position"]})

    assert counted.status_code == 200
    assert {**counted.json(), "version": 0} == {
        "product_id": game["id"], "total": 8, "available": 8, "reserved": 0, "allocated": 0,
        "version": 0,
    }  # fmt: skip
    assert counted.json().items() <= seen.json().items()
    assert (seen.json()["sku"], seen.json()["seller_id"]) == (game["sku"], str(seller.id))
    assert seen.headers["etag"] == counted.headers["etag"] == f'"{counted.json()["version"]}"'
    assert (
        await seller.get(path, headers={"If-None-Match": seen.headers["etag"]})
    ).status_code == 304
    assert await availability(shop, game) == {
        "product_id": game["id"],
        "available": 8,
        "in_stock": True,
    }
    assert (await count(admin, game, 9)).json()["total"] == 9


async def test_stock_is_changed_only_at_the_version_that_was_seen(
    shop: Shop, seller: Person
) -> None:
    game = await stocked(shop, seller, 8)
    version = (await count(seller, game, 9)).json()["version"]

    stale = await count(seller, game, 3, expected_version=version - 1)
    assert code_of(stale) == (409, "version_conflict")
    assert stale.json()["version"] == version
    body = {"product_id": game["id"], "total_quantity": 3}
    assert code_of(
        await seller.put(STOCK, json=body, headers={"If-Match": f'"{version - 1}"'})
    ) == (
        412,
        "version_mismatch",
    )
    assert await numbers(shop, seller, game) == (9, 9, 0, 0)
    assert (await count(seller, game, 3, expected_version=version)).status_code == 200


async def test_stock_cannot_fall_below_what_carts_and_orders_hold(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    game, other = await stocked(shop, seller, 8), await shop.register()
    await put_in(buyer, game, 3)
    await put_in(other, game, 2)
    await check_out(other, token=None)

    low = await count(seller, game, 4)

    assert code_of(low) == (409, "stock_below_commitments")
    assert low.json()["committed"] == 5
    assert await numbers(shop, seller, game) == (8, 3, 3, 2)
    assert (await count(seller, game, 5)).json()["available"] == 0


@pytest.mark.parametrize("total", [-1, 1_000_001, 10**30, 1.5, True, "5", None])
async def test_a_total_that_is_none_is_refused(shop: Shop, seller: Person, total: Any) -> None:
    assert code_of(await count(seller, {"id": str(uuid4())}, total)) == (422, "invalid_quantity")


async def test_stock_is_its_sellers_business_and_availability_everybodys(
    shop: Shop, seller: Person, buyer: Person, auditor: Person
) -> None:
    game, ebook, draft = (
        await stocked(shop, seller, 5),
        await shop.game(seller),
        await shop.game(seller, status="DRAFT"),
    )
    other = await shop.register("SELLER")

    for who in (other, buyer, auditor):
        assert code_of(await count(who, game, 1)) == (403, "not_yours")
        assert code_of(await who.get(f"{STOCK}/{game['id']}", headers=await shop.reached())) == (
            403,
            "not_yours",
        )
    assert (await shop.client().get(f"{STOCK}/{game['id']}")).status_code == 401
    assert code_of(await count(seller, {"id": str(uuid4())}, 1)) == (404, "product_not_found")
    assert code_of(await count(seller, ebook, 1)) == (422, "not_physical")
    assert code_of(await count(seller, game, 1, colour="red")) == (422, "invalid_request")
    assert code_of(await seller.get(f"{STOCK}/{ebook['id']}", headers=await shop.reached())) == (
        404,
        "product_not_found",
    )
    assert await availability(shop, ebook) == {
        "product_id": ebook["id"],
        "available": None,
        "in_stock": True,
    }
    assert (await availability(shop, draft))["code"] == "product_not_found"
    await seller.delete(f"/api/v1/games/{ebook['id']}")
    assert await availability(shop, ebook) == {
        "product_id": ebook["id"],
        "available": None,
        "in_stock": False,
    }


async def test_an_auditor_sees_stock_as_it_was(
    shop: Shop, seller: Person, buyer: Person, auditor: Person
) -> None:
    game = await stocked(shop, seller, 5)
    then = await put_in(buyer, game, 2)
    await count(seller, game, 50)
    path = f"{STOCK}/{game['id']}?as_of="

    past = (await auditor.get(path + then.headers["event-position"])).json()

    assert (past["total"], past["available"], past["reserved"]) == (5, 3, 2)
    assert code_of(await auditor.get(path + "1")) == (404, "product_not_found")
    assert (await seller.get(path + "1")).status_code == 403


async def test_another_system_holds_allocates_and_sells(shop: Shop, seller: Person) -> None:
    service = await shop.register("SERVICE")
    game = await stocked(shop, seller, 5)
    key = {"Idempotency-Key": uuid4().hex}
    body = {"product_id": game["id"], "quantity": 3, "cart_id": str(uuid4())}

    held, again = [
        await service.post("/api/v1/inventory/reserve", json=body, headers=key) for _ in range(2)
    ]
    hold = {"product_id": game["id"], "reservation_id": held.json()["reservation_id"]}

    assert (held.status_code, held.json()["status"], held.json()["quantity"]) == (201, "SOFT", 3)
    assert again.json() == held.json()
    assert code_of(await reserve(service, game, 3)) == (409, "insufficient_stock")
    assert await numbers(shop, seller, game) == (5, 2, 3, 0)

    async def told(what: str, **more: object) -> tuple[int, str]:
        answer = await service.post(f"/api/v1/inventory/{what}", json={**hold, **more})
        return answer.status_code, answer.json().get("code") or answer.json()["status"]

    assert await told("confirm-sale") == (409, "not_allocated")
    assert await told("allocate", order_id=str(uuid4())) == (200, "HARD")
    assert await told("allocate", order_id=str(uuid4())) == (409, "reservation_allocated")
    assert await numbers(shop, seller, game) == (5, 2, 0, 3)
    assert await told("confirm-sale") == (200, "SOLD")
    assert await told("release") == (404, "reservation_not_found")
    assert await numbers(shop, seller, game) == (2, 2, 0, 0)
    hold["reservation_id"] = (await reserve(service, game, 2)).json()["reservation_id"]
    assert await told("release") == (200, "RELEASED")
    assert await numbers(shop, seller, game) == (2, 2, 0, 0)


async def test_another_system_names_a_hold_by_its_cart_or_order(shop: Shop, seller: Person) -> None:
    service, game = await shop.register("SERVICE"), await stocked(shop, seller, 9)
    cart, order = {"cart_id": str(uuid4())}, {"order_id": str(uuid4())}

    async def told(what: str, **more: object) -> tuple[int, str]:
        answer = await service.post(
            f"/api/v1/inventory/{what}", json={"product_id": game["id"], **more}
        )
        return answer.status_code, answer.json().get("code") or answer.json()["status"]

    assert await told("release", **cart) == (404, "reservation_not_found")
    await reserve(service, game, 3, **cart)
    assert await told("allocate", **cart) == (422, "invalid_request")
    assert await told("allocate", **order) == await told("release") == (422, "hold_not_named")
    assert await told("allocate", **cart, **order, quantity=2) == (409, "quantity_mismatch")
    assert await told("allocate", **cart, **order, quantity=3) == (200, "HARD")
    assert await told("allocate", **cart, **order) == (404, "reservation_not_found")
    assert await told("confirm-sale", order_id=str(uuid4())) == (404, "reservation_not_found")
    assert await told("confirm-sale", **order, quantity=3) == (200, "SOLD")
    first = (await reserve(service, game, 2, **cart)).json()["reservation_id"]
    await reserve(service, game, 1, **cart)
    assert await told("release", **cart) == (409, "several_reservations")
    assert await told("release", reservation_id=first, cart_id=str(uuid4())) == (
        404,
        "reservation_not_found",
    )
    assert await told("release", reservation_id=first, **cart, quantity=2) == (200, "RELEASED")
    assert await told("release", **cart, quantity=1) == (200, "RELEASED")
    assert await numbers(shop, seller, game) == (6, 6, 0, 0)


async def test_what_an_order_or_a_cart_counts_on_no_other_system_ends(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 5)
    (item,) = (await put_in(buyer, game, 2)).json()["items"]
    hold = {"product_id": game["id"], "reservation_id": item["reservation_id"]}
    taken = await admin.post("/api/v1/inventory/allocate", json={**hold, "order_id": str(uuid4())})
    assert code_of(taken) == (409, "reservation_in_use")
    assert (await cart_of(shop, buyer))["items"][0]["quantity"] == 2
    await check_out(buyer, token=None)

    for what in ("release", "confirm-sale"):
        assert code_of(await admin.post(f"/api/v1/inventory/{what}", json=hold)) == (
            409,
            "reservation_in_use",
        )

    assert await numbers(shop, seller, game) == (5, 3, 0, 2)


async def test_holds_are_for_other_systems_alone(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 5)
    hold = {"product_id": game["id"], "reservation_id": str(uuid4())}

    for who in (seller, buyer):
        assert code_of(await reserve(who, game, 1)) == (403, "role_required")
        for what in ("allocate", "release", "confirm-sale"):
            assert (await who.post(f"/api/v1/inventory/{what}", json=hold)).status_code == 403
    assert code_of(await reserve(admin, game, 0)) == (422, "invalid_quantity")
    assert code_of(await reserve(admin, {"id": str(uuid4())}, 1)) == (404, "product_not_found")
    assert code_of(await admin.post("/api/v1/inventory/release", json=hold)) == (
        404,
        "reservation_not_found",
    )
    assert code_of(await admin.post("/api/v1/inventory/release", json={})) == (
        422,
        "invalid_request",
    )


async def test_what_is_held_past_its_time_can_be_had_though_nobody_has_said_so(
    shop: Shop, seller: Person
) -> None:
    service = await shop.register("SERVICE")
    game = await stocked(shop, seller, 5)
    await reserve(service, game, 3)
    assert (await availability(shop, game))["available"] == 2

    later = shop.core.clock.now() + timedelta(hours=1)
    seen = (await stock.availability(shop.services.reads, UUID(game["id"]), later)).value

    assert seen is not None
    assert seen.available == 5


async def test_a_list_of_stock_says_what_it_is_and_whether_it_is_low(
    shop: Shop, seller: Person
) -> None:
    for title, units in (("Plenty", 6), ("Few", 5), ("Gone", 0)):
        gone = await stocked(shop, seller, units, title=title)
    await seller.delete(f"/api/v1/games/{gone['id']}")

    answer = await seller.get(STOCK, headers=await shop.reached())

    assert [(each["title"], each["status"], each["low"]) for each in answer.json()["items"]] == [
        ("Gone", "RETIRED", False),
        ("Few", "ACTIVE", True),
        ("Plenty", "ACTIVE", False),
    ]


async def test_a_seller_lists_the_own_stock_and_an_admin_everybodys(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    other = await shop.register("SELLER")
    plenty, few, gone = [await stocked(shop, seller, units) for units in (100, 5, 0)]
    uncounted, theirs = await shop.game(seller, kind="PHYSICAL"), await stocked(shop, other, 3)
    await shop.game(seller)
    await seller.delete(f"/api/v1/games/{gone['id']}")

    async def listed(who: Person, **wanted: Any) -> list[str]:
        answer = await who.get(STOCK, params=wanted, headers=await shop.reached())
        assert answer.status_code == 200, answer.text
        return [each["product_id"] for each in answer.json()["items"]]

    assert await listed(seller) == [game["id"] for game in (uncounted, gone, few, plenty)]
    assert await listed(seller, low=True) == [uncounted["id"], few["id"]]
    assert await listed(other, seller_id=other.id) == [theirs["id"]]
    assert await listed(admin, seller_id=other.id) == [theirs["id"]]
    assert (await listed(admin, low=True, limit=3)) == [theirs["id"], uncounted["id"], few["id"]]
    first = await seller.get(STOCK, params={"limit": 3})
    assert await listed(seller, limit=3, cursor=first.json()["next_cursor"]) == [plenty["id"]]
    assert (
        await seller.get(
            STOCK, params={"limit": 3}, headers={"If-None-Match": first.headers["etag"]}
        )
    ).status_code == 304
    await count(seller, plenty, 15)
    await put_in(buyer, plenty, 10)
    assert await listed(seller, low=True) == [uncounted["id"], few["id"], plenty["id"]]
    assert code_of(await other.get(STOCK, params={"seller_id": str(seller.id)})) == (
        403,
        "not_yours",
    )
    assert code_of(await buyer.get(STOCK)) == (403, "role_required")
