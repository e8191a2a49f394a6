"""Why a figure is what it is, over HTTP."""

from uuid import uuid4

from api.middleware.context import CORRELATION_HEADER
from tests.api.test_buying import buy
from tests.support.shops.gateway import Person, Shop

PATH = "/api/v1/audit/why"


async def test_an_order_s_status_leads_back_to_the_request_that_placed_it(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    correlation = str(uuid4())
    game = await shop.game(seller)
    order = (await buy(buyer, game, **{CORRELATION_HEADER: correlation})).json()

    asked = {"id": order["order_id"], "field": "status", "model": "orders"}
    answer = await auditor.get(PATH, params=asked)

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert answer.headers["event-position"] == str(found["position"])
    assert (found["value"], found["exists"], found["stopped_by"]) == ("COMPLETED", True, [])
    first, *_, last = found["steps"]
    assert (first["before"], first["event"]["name"]) == (None, "order.created.v1")
    assert (first["event"]["actor"], first["causes"]) == (f"user:{buyer.id}", [])
    assert last["event"]["name"] == "order.completed.v1"
    origin = last["causes"][-1]
    assert (origin["actor"], origin["correlation_id"]) == (f"user:{buyer.id}", correlation)
    assert origin["name"] == "payment.requested.v1"

    asked["as_of"] = str(first["event"]["position"])
    past = (await auditor.get(PATH, params=asked)).json()
    assert (past["value"], len(past["steps"])) == (first["after"], 1)


async def test_figures_are_explained_to_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    asked = {"id": str(buyer.id), "field": "email", "model": "users"}
    statuses = [(await who.get(PATH, params=asked)).status_code for who in (buyer, auditor, admin)]
    assert statuses == [403, 200, 200]
    assert (await shop.client().get(PATH, params=asked)).status_code == 401
    assert buyer.email not in (await auditor.get(PATH, params=asked)).text


async def test_an_unknown_figure_is_named(auditor: Person) -> None:
    for asked, status, code in (
        ({"id": str(uuid4()), "field": "total_cents"}, 404, "row_not_found"),
        ({"id": str(uuid4()), "field": "totl"}, 422, "unknown_field"),
        ({"id": "7", "field": "total_cents"}, 422, "invalid_key"),
        ({"id": "7", "field": "total_cents", "model": "x"}, 422, "unknown_model"),
        ({"id": str(uuid4())}, 422, "invalid_request"),
        ({"id": str(auditor.id), "field": "status", "as_of": "0"}, 404, "row_not_found"),
        ({"id": str(auditor.id), "field": "status", "as_of": "9" * 12}, 400, "position_unknown"),
    ):
        answer = await auditor.get(PATH, params=asked)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_read_models_are_found_by_the_key_of_a_row(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()["order_id"]

    async def models(**query: str) -> set[str]:
        answer = await auditor.get("/api/v1/audit/models", params=query)
        assert answer.status_code == 200, answer.text
        return {each["model"] for each in answer.json()["items"]}

    assert {"orders", "wallets", "ledger_accounts"} <= await models()
    assert await models(id=order) == {"orders", "sales"}
    assert await models(id=f"{order}/{seller.id}") == {"seller_orders"}
    assert await models(id="CASH/USD") == {"ledger_accounts"}
    assert await models(id=str(uuid4())) == set()
    refused = await auditor.get("/api/v1/audit/models", params={"id": ""})
    assert refused.status_code == 422
