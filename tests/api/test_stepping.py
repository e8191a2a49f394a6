"""Rows of read models, event by event, over HTTP."""

from typing import Any
from uuid import uuid4

from tests.api.test_buying import buy
from tests.support.shops.gateway import Person, Shop

PATH = "/api/v1/audit/steps"


async def step(who: Person, **asked: Any) -> dict[str, Any]:
    answer = await who.get(PATH, params=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_each_step_begins_where_the_one_before_ended(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    asked = {"model": "orders", "id": order["order_id"]}

    last = await step(auditor, **asked)
    assert last["number"] == last["count"] == len(last["steps"]) > 2
    assert last["after"]["status"] == "COMPLETED"

    row = None
    for head in last["steps"]:
        found = await step(auditor, **asked, step=head["number"])
        assert found["before"] == row
        assert (found["before"] != found["after"]) == head["changed"]
        assert found["event"]["position"] == head["position"]
        row = found["after"]
    assert row == last["after"]

    past = await step(auditor, **asked, as_of=last["steps"][0]["position"])
    assert past["count"] == 1


async def test_personal_values_stay_closed(shop: Shop, buyer: Person, admin: Person) -> None:
    found = await step(admin, model="users", id=buyer.id)
    assert found["after"]["email"] == "[encrypted]"
    assert buyer.email not in str(found)


async def test_what_cannot_be_stepped_through_is_said(auditor: Person) -> None:
    for asked, status, code in (
        ({"model": "orders", "id": str(uuid4())}, 404, "row_not_found"),
        ({"model": "users", "id": str(auditor.id), "step": "99"}, 404, "row_not_found"),
        ({"model": "orders", "id": "7"}, 422, "invalid_key"),
        ({"model": "x", "id": "7"}, 422, "unknown_model"),
        ({"id": "7"}, 422, "invalid_request"),
    ):
        answer = await auditor.get(PATH, params=asked)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_read_models_are_listed_for_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    path = "/api/v1/audit/models"
    for who, status in ((buyer, 403), (auditor, 200), (admin, 200)):
        assert (await who.get(path)).status_code == status
    found = {each["model"]: each for each in (await auditor.get(path)).json()["items"]}
    assert found["orders"]["key"] == ["order_id"]
    assert "status" in found["orders"]["fields"]
