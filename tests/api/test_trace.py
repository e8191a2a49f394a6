"""Where an order is, and what it waits for, over HTTP."""

from typing import Any
from uuid import uuid4

from api.middleware.context import CORRELATION_HEADER
from tests.api.test_buying import buy
from tests.support.queues import until_so
from tests.support.shops.gateway import SECURE, Person, Shop


async def _traced(who: Person, asked: str) -> dict[str, Any]:
    answer = await who.get(f"/api/v1/ops/trace/{asked}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_finished_order_waits_for_nothing(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    correlation = str(uuid4())
    game = await shop.game(seller)
    answer = await buy(buyer, game, **{CORRELATION_HEADER: correlation})
    order = answer.json()

    async def is_done() -> bool:
        return not (await _traced(auditor, order["order_id"]))["waits_for"]

    await until_so(is_done)
    found = await _traced(auditor, order["order_id"])
    assert {consumer["passed"] for consumer in found["consumers"]} == {True}
    assert found["requests"] == [correlation]
    statuses = {stream["kind"]: stream["status"] for stream in found["streams"]}
    assert (statuses["order"], statuses["payment"]) == ("COMPLETED", "CAPTURED")
    positions = {event["position"] for event in found["events"]}
    traceparent = answer.headers["traceparent"]
    for asked in (correlation, order["payment_id"], traceparent, traceparent.split("-")[1]):
        assert {event["position"] for event in (await _traced(auditor, asked))["events"]} == (
            positions
        )


async def test_an_order_waits_for_its_payer(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller), SECURE)).json()

    async def trace() -> dict[str, Any]:
        return await _traced(auditor, order["order_id"])

    found = await shop.eventually(
        trace,
        lambda found: any("confirm it at the provider" in each for each in found["waits_for"]),
    )
    assert any("the deadline order.payment is at" in each for each in found["waits_for"])


async def test_a_trace_is_for_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    path = f"/api/v1/ops/trace/{buyer.id}"
    assert [(await who.get(path)).status_code for who in (buyer, auditor, admin)] == [403, 200, 200]
    assert (await shop.client().get(path)).status_code == 401
    assert buyer.email not in (await auditor.get(path)).text
    missing = await auditor.get(f"/api/v1/ops/trace/{uuid4()}")
    assert (missing.status_code, missing.json()["code"]) == (404, "nothing_to_trace")
