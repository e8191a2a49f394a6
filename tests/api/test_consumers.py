"""The consumers of the log over HTTP: who leads them, rebuilding and comparing read models as
tasks, and rolling back."""

import asyncio
from typing import Any

from eventstore.database.postgres import connect
from projections.engine.dropping import exclusively
from projections.registry import read_models
from tests.support.queues import until_so
from tests.support.shops.gateway import Person, Shop


async def ended(who: Person, answer: Any) -> dict[str, Any]:
    """The task that an answer began, once it has ended."""
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(60):
        while True:
            task = (await who.get(answer.headers["location"])).json()
            if task["state"] != "RUNNING":
                return dict(task)
            await asyncio.sleep(0.05)  # what is waited for happens in another process


async def test_each_consumer_is_shown_with_its_leader(shop: Shop, auditor: Person) -> None:
    async def are_led() -> bool:
        found = (await auditor.get("/api/v1/ops/consumers")).json()["items"]
        return bool(found) and all(each["led_by"] for each in found if each["state"] == "live")

    await until_so(are_led)
    found = {
        each["name"]: each for each in (await auditor.get("/api/v1/ops/consumers")).json()["items"]
    }
    assert {each.projection.name for each in read_models()} <= found.keys()
    orders, settlement = found["orders"], found["settlement"]
    assert (orders["keeps_rows"], orders["known"], orders["state"]) == (True, True, "live")
    assert (settlement["keeps_rows"], settlement["storage"]) == (False, "")
    assert "(backend " in orders["led_by"]
    one = await auditor.get("/api/v1/ops/consumers/orders")
    assert one.json()["feed"] == orders["feed"]
    assert (await auditor.get("/api/v1/ops/consumers/nothing")).status_code == 404


async def test_how_long_a_paused_one_is_behind_is_told(
    shop: Shop, admin: Person, seller: Person
) -> None:
    name = "games"
    await admin.post(f"/api/v1/ops/projections/{name}/pause")
    try:

        async def is_behind() -> bool:
            await shop.game(seller)
            found = (await admin.get(f"/api/v1/ops/consumers/{name}")).json()
            return found["state"] == "paused" and bool(found["lag"])

        await until_so(is_behind)
        found = (await admin.get(f"/api/v1/ops/consumers/{name}")).json()
        assert found["lag"] == found["head"] - found["position"]
        assert found["behind_seconds"] >= 0
    finally:
        await admin.post(f"/api/v1/ops/projections/{name}/resume")


async def test_a_rebuild_is_watched_compared_and_rolled_back(
    shop: Shop, seller: Person, admin: Person, auditor: Person
) -> None:
    await shop.game(seller)
    refused = await admin.post("/api/v1/ops/projections/users/rollback")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_earlier")
    before = (await admin.get("/api/v1/ops/consumers/users")).json()

    path = "/api/v1/ops/projections/users"
    done = await ended(admin, await admin.post(f"{path}/rebuilds", json={}))
    assert (done["kind"], done["state"], done["error"]) == ("rebuild", "DONE", "")
    assert done["code"] == ""
    assert done["result"]["rows"] > 0
    after = (await admin.get("/api/v1/ops/consumers/users")).json()
    assert after["storage"] == done["result"]["storage"] != before["storage"]
    assert after["goes_back"]

    compared = await ended(auditor, await auditor.post(f"{path}/comparisons"))
    assert (compared["state"], compared["result"]["equal"]) == ("DONE", True)

    back = await admin.post(f"{path}/rollback")
    assert back.json() == {"projection": "users", "storage": before["storage"]}
    again = (await admin.get("/api/v1/ops/consumers/users")).json()
    assert again["storage"] == before["storage"]


async def test_rows_that_differ_are_told_and_replaced_only_if_asked(
    shop: Shop, seller: Person, admin: Person
) -> None:
    game = await shop.game(seller, title="As it is")
    await shop.client().get(f"/api/v1/games/{game['id']}", headers=await shop.reached())
    storage = (await admin.get("/api/v1/ops/consumers/games")).json()["storage"]
    async with shop.core.log.pool.connection() as conn:
        await conn.execute(
            f"UPDATE read.{storage} SET title = 'As it is not' WHERE game_id = %s".encode(),
            (game["id"],),
        )
    path = "/api/v1/ops/projections/games"
    compared = await ended(admin, await admin.post(f"{path}/comparisons"))
    assert (compared["state"], compared["result"]["equal"]) == ("DONE", False)
    assert any(game["id"] in key for key in compared["result"]["differing_keys"])

    refused = await ended(admin, await admin.post(f"{path}/rebuilds", json={}))
    assert (refused["state"], refused["code"]) == ("FAILED", "rows_differ")
    assert game["id"] in refused["error"]
    assert (await admin.get("/api/v1/ops/consumers/games")).json()["storage"] == storage

    done = await ended(admin, await admin.post(f"{path}/rebuilds", json={"replace": True}))
    assert (done["state"], done["asked"]["replace"]) == ("DONE", True)
    shown = await shop.client().get(f"/api/v1/games/{game['id']}")
    assert shown.json()["title"] == "As it is"


async def test_a_rebuild_elsewhere_is_told(shop: Shop, admin: Person) -> None:
    with connect(shop.core.url, "another process") as other, exclusively(other, "wallets"):
        failed = await ended(
            admin, await admin.post("/api/v1/ops/projections/wallets/rebuilds", json={})
        )
        assert (failed["state"], failed["code"]) == ("FAILED", "busy")
        refused = await admin.post("/api/v1/ops/projections/wallets/rollback")
        assert (refused.status_code, refused.json()["code"]) == (409, "rebuild_running")


async def test_only_an_admin_rebuilds_and_only_read_models(auditor: Person, admin: Person) -> None:
    for act in ("rebuilds", "rollback"):
        path = f"/api/v1/ops/projections/users/{act}"
        assert (await auditor.post(path, json={})).status_code == 403
    for name in ("nothing", "settlement"):
        for act in ("rebuilds", "comparisons", "rollback"):
            answer = await admin.post(f"/api/v1/ops/projections/{name}/{act}", json={})
            assert (answer.status_code, answer.json()["code"]) == (404, "projection_not_found")
