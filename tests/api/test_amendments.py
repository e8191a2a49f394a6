"""Broken events and how they are to be read, over HTTP, in a whole shop."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from commands.aggregates import SHIPMENT
from domain.catalog import GameUpdated
from domain.events import Event
from domain.fulfilment import ShipmentStatusUpdated
from domain.orders import OrderConfirmed
from eventstore.log import Metadata, StreamAppend
from kit.forgotten import ENCRYPTED
from projections.models.shipments import Shipment
from tests.api.test_buying import buy
from tests.support.past import shipment
from tests.support.queues import until_so
from tests.support.shops.gateway import Person, Shop

OPS = "/api/v1/ops"


async def _append(shop: Shop, stream_id: UUID, event: Event) -> int:
    """Append as no decision would. Returns the position."""
    (version,) = await shop.core.log.versions([stream_id])
    landed = await shop.core.log.append(
        [StreamAppend(stream_id, version, [event])], Metadata("system")
    )
    return landed.position


async def _declare(who: Person, position: int, **body: Any) -> tuple[int, Any]:
    answer = await who.put(
        f"{OPS}/amendments/{position}",
        content=json.dumps({"reason": "a test", **body}),
        headers={"Content-Type": "application/json"},
    )
    return answer.status_code, answer.json()


async def _held(who: Person, stream_id: object) -> list[dict[str, Any]]:
    found = (await who.get(f"{OPS}/quarantine")).json()["items"]
    return [each for each in found if each["stream_id"] == str(stream_id)]


async def _is_past(who: Person, position: int) -> bool:
    """Whether nobody holds a stream because of this event any more."""
    found = (await who.get(f"{OPS}/quarantine")).json()["items"]
    return position not in {each["position"] for each in found}


async def test_a_broken_event_is_shown_and_read_with_a_corrected_payload(
    shop: Shop, seller: Person, admin: Person, auditor: Person
) -> None:
    game = await shop.game(seller, title="Braid")
    game_id = UUID(game["id"])
    broken = GameUpdated(title=["no", "text"])  # type: ignore[arg-type]
    position = await _append(shop, game_id, broken)
    await _append(shop, game_id, GameUpdated(description="later"))

    async def is_held() -> bool:
        feeds = {each["feed"].split(".")[0] for each in await _held(auditor, game_id)}
        return {"games", "games_text"} <= feeds

    await until_so(is_held)
    entry = (await _held(auditor, game_id))[0]
    found = (await auditor.get(f"{OPS}/quarantine/{entry['id']}")).json()
    assert found["event"]["payload"] == {"title": ["no", "text"]}
    assert {hold["feed"].split(".")[0] for hold in found["held_by"]} >= {"games", "games_text"}
    assert found["reading"] is None
    assert (await auditor.get(f"{OPS}/amendments/{position}")).json()["event"] == found["event"]

    status, reading = await _declare(
        admin, position, reading="amend", payload={"title": "Celeste"}, reason="typed wrongly"
    )
    assert (status, reading["payload"]) == (200, {"title": "Celeste"})
    assert (reading["reason"], reading["declared_by"]) == ("typed wrongly", f"user:{admin.id}")

    known = {"Min-Position": str(reading["declared_at"])}
    shown = (await seller.get(f"/api/v1/games/{game_id}", headers=known)).json()
    assert (shown["title"], shown["description"]) == ("Celeste", "later")
    await until_so(partial(_is_past, auditor, position))
    again, _ = await _declare(
        admin, position, reading="amend", payload={"title": "Celeste"}, reason="typed wrongly"
    )
    assert again == 200
    (listed,) = [
        each
        for each in (await auditor.get(f"{OPS}/amendments")).json()["items"]
        if each["position"] == position
    ]
    assert listed["declared_at"] == reading["declared_at"], "nothing was declared twice"
    # the aggregate reads it so, too: the seller can go on
    changed = await seller.put(f"/api/v1/games/{game_id}", json={"description": "by its seller"})
    assert (changed.status_code, changed.json()["title"]) == (200, "Celeste")
    state = f"/api/v1/audit/streams/{game_id}/state"
    assert (await auditor.get(state)).json()["state"]["listing"]["title"] == "Celeste"
    stored = await auditor.get("/api/v1/audit/events", params={"after": position - 1, "limit": 1})
    assert stored.json()["items"][0]["payload"] == {"title": ["no", "text"]}, "it stays in the log"


async def test_a_delivery_at_a_time_that_nothing_holds_is_skipped(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    shipment_id = uuid4()
    (events,) = shipment().values()
    for event in events:
        await _append(shop, shipment_id, event)
    impossible = "10000-01-01T00:00:00+01:00"
    broken = ShipmentStatusUpdated(status="DELIVERED", at=impossible)  # type: ignore[arg-type]
    position = await _append(shop, shipment_id, broken)
    when = datetime(2026, 3, 1, tzinfo=UTC)
    await _append(shop, shipment_id, ShipmentStatusUpdated(status="PROCESSING", at=when))

    async def is_held() -> bool:
        return any(e["feed"].startswith("shipments") for e in await _held(admin, shipment_id))

    await until_so(is_held)
    status, _ = await _declare(admin, position, reading="skip")
    assert status == 200

    await until_so(partial(_is_past, admin, position))
    query = "SELECT * FROM @shipments WHERE shipment_id = %(id)s"
    (row,) = (await shop.services.reads.rows(Shipment, query, id=shipment_id)).value
    state = await shop.core.repository.state(SHIPMENT, shipment_id)
    assert state is not None
    assert (row.status, row.delivered_at, state.status) == ("PROCESSING", None, "PROCESSING")


async def test_a_reactor_tries_again_what_was_amended(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    broken = OrderConfirmed("no id")  # type: ignore[arg-type]
    position = await _append(shop, UUID(order["order_id"]), broken)

    async def holders() -> set[str]:
        found = (await admin.get(f"{OPS}/quarantine")).json()["items"]
        return {e["feed"].split(".")[0] for e in found if e["position"] == position}

    async def both_hold_it() -> bool:
        return await holders() >= {"people_told", "orders"}

    async def none_of_them_does() -> bool:
        return not await holders() & {"people_told", "orders"}

    await until_so(both_hold_it)
    status, _ = await _declare(admin, position, reading="skip")
    assert status == 200
    await until_so(none_of_them_does)


async def test_personal_fields_stay_closed_and_may_stay_as_they_are(
    shop: Shop, buyer: Person, admin: Person, auditor: Person
) -> None:
    registered, *_ = await shop.core.log.read_stream_raw(buyer.id)
    position = registered[0].position
    events = (await auditor.get(f"/api/v1/audit/streams/{buyer.id}")).json()["items"]
    payload = {**events[0]["payload"], "region": "DE", "name": "Anna"}
    assert payload["email"] == ENCRYPTED

    status, reading = await _declare(admin, position, reading="amend", payload=payload)

    assert (status, reading["payload"]["region"]) == (200, "DE")
    assert reading["payload"]["name"] == reading["payload"]["email"] == ENCRYPTED
    log: Any = shop.core.log
    declared = (await log.read_raw(reading["declared_at"] - 1, upto=reading["declared_at"]))[0][1]
    assert b"Anna" not in declared
    assert buyer.email.encode() not in declared

    async def is_renamed() -> bool:
        shown = (await buyer.get(f"/api/v1/users/{buyer.id}")).json()
        return (shown["name"], shown["email"], shown["region"]) == ("Anna", buyer.email, "DE")

    await until_so(is_renamed)
    status, _ = await _declare(admin, position, reading="as_recorded")
    assert status == 200

    async def is_as_before() -> bool:
        shown = (await buyer.get(f"/api/v1/users/{buyer.id}")).json()
        return (shown["name"], shown["region"]) == ("Ann", "US")

    await until_so(is_as_before)


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def test_what_cannot_be_declared_is_refused(
    shop: Shop, seller: Person, admin: Person, auditor: Person
) -> None:
    await shop.game(seller)
    (found,) = (
        await auditor.get("/api/v1/audit/events", params={"name": "game.created.v1", "limit": 1})
    ).json()["items"]
    position = found["position"]
    cases: list[tuple[int, dict[str, Any], int, str]] = [
        (position, {"reading": "skip", "reason": ""}, 422, "invalid_request"),
        (position, {"reading": "skip", "reason": " "}, 422, "invalid_request"),
        (position, {"reading": "skip", "reason": None}, 422, "invalid_request"),
        (position, {"reading": "amend"}, 422, "invalid_request"),
        (position, {"reading": "skip", "payload": {}}, 422, "invalid_request"),
        (position, {"reading": "forget"}, 422, "invalid_request"),
        (position, {"reading": "amend", "payload": {}}, 422, "invalid_payload"),
        (
            position,
            {"reading": "amend", "payload": {**found["payload"], "kind": "LIQUID"}},
            422,
            "invalid_payload",
        ),
        (
            position,
            {"reading": "amend", "payload": {**found["payload"], "titel": "x"}},
            422,
            "invalid_payload",
        ),
        *(
            (
                position,
                {"reading": "amend", "payload": {**found["payload"], "description": odd}},
                422,
                "invalid_payload",
            )
            for odd in ("\ud800", 10**400, 2**70, ["x"], {"a": "b"}, _nested(500))
        ),
        (position, {"reading": "as_recorded"}, 409, "not_amended"),
        (10**12, {"reading": "skip"}, 404, "event_not_found"),
        (0, {"reading": "skip"}, 422, "invalid_request"),
    ]
    for at, body, status, code in cases:
        found_status, answer = await _declare(admin, at, **body)
        assert (found_status, answer["code"]) == (status, code), (body, answer)
    status, answer = await _declare(auditor, position, reading="skip")
    assert (status, answer["code"]) == (403, "role_required")
    assert (await auditor.get(f"{OPS}/quarantine/{uuid4()}")).status_code == 404
    assert (await auditor.get(f"{OPS}/amendments/{10**12}")).status_code == 404
    assert (await seller.get(f"{OPS}/amendments/{position}")).status_code == 403
    assert (await seller.get(f"{OPS}/amendments")).status_code == 403
