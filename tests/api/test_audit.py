"""The log over HTTP, as auditors see it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.middleware.context import CORRELATION_HEADER
from tests.support.shops.gateway import Person, Shop


async def test_the_log_is_for_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    for path in (
        "/audit/events",
        "/audit/verify",
        f"/audit/streams/{buyer.id}",
        "/ops/projections",
    ):
        statuses = [
            (await who.get(f"/api/v1{path}")).status_code for who in (buyer, auditor, admin)
        ]
        assert statuses == [403, 200, 200], path
    assert (await shop.client().get("/api/v1/audit/events")).status_code == 401


async def test_an_event_tells_who_did_it_and_by_which_request(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    correlation = str(uuid4())
    game = await seller.post(
        "/api/v1/games",
        json={"sku": uuid4().hex, "title": "Gris"},
        headers={CORRELATION_HEADER: correlation},
    )

    answer = await auditor.get(
        f"/api/v1/audit/events?correlation_id={correlation}&name=game.created.v1"
    )

    (event,) = answer.json()["items"]
    assert event["stream_id"] == game.json()["id"]
    assert event["actor"] == f"user:{seller.id}"
    assert event["traceparent"] == game.headers["traceparent"]
    assert event["payload"]["title"] == "Gris"
    assert event["recorded_at"].endswith("Z")


async def test_the_log_is_read_page_by_page(shop: Shop, seller: Person, auditor: Person) -> None:
    since = await shop.core.log.head()
    for _ in range(3):
        await shop.game(seller)
    end = await shop.core.log.head()

    path = f"/api/v1/audit/events?after={since}&limit=2"
    positions: list[int] = []
    while path and len(positions) < end - since:
        page = await auditor.get(path)
        positions += [event["position"] for event in page.json()["items"]]
        path = page.headers.get("link", "").split(">")[0][1:]

    assert positions[: end - since] == list(range(since + 1, end + 1))


async def test_a_stream_is_read_page_by_page_from_any_position(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    game = (await shop.game(seller))["id"]
    for title in ("Braid", "Celeste", "Doom"):
        await seller.put(f"/api/v1/games/{game}", json={"title": title})
        await shop.game(seller)  # others are in between
    positions = [each.env.position for each in await shop.core.log.read_stream(game)]

    for after in range(positions[0] - 2, positions[-1] + 2):
        found, path = [], f"/api/v1/audit/events?stream_id={game}&after={after}&limit=2"
        while path:
            page = await auditor.get(path)
            found += [event["position"] for event in page.json()["items"]]
            path = (
                page.headers.get("link", "").split(">")[0][1:]
                if len(page.json()["items"]) == 2
                else ""
            )
        assert found == [position for position in positions if position > after]


async def test_what_is_personal_stays_closed(buyer: Person, auditor: Person) -> None:
    events = await auditor.get(f"/api/v1/audit/streams/{buyer.id}")
    state = await auditor.get(f"/api/v1/audit/streams/{buyer.id}/state")

    assert events.json()["items"][0]["name"] == "user.registered.v1"
    assert state.json()["kind"] == "user"
    assert buyer.email not in events.text + state.text


async def test_a_stream_can_be_seen_as_it_was(shop: Shop, seller: Person, auditor: Person) -> None:
    game = await shop.game(seller, title="Before")
    created, *_ = await shop.core.log.read_stream(game["id"])
    await seller.put(f"/api/v1/games/{game['id']}", json={"title": "After"})
    path = f"/api/v1/audit/streams/{game['id']}/state"

    async def title(**moment: Any) -> str:
        return str((await auditor.get(path, params=moment)).json()["state"]["listing"]["title"])

    assert await title() == "After"
    assert await title(as_of=created.env.position) == "Before"
    assert await title(as_of=created.env.occurred_at.isoformat()) == "Before"
    earlier = created.env.occurred_at - timedelta(seconds=1)
    assert (await auditor.get(path, params={"as_of": earlier.isoformat()})).status_code == 404
    unescaped = datetime.now(UTC).isoformat()
    assert (await auditor.get(f"{path}?as_of={unescaped}")).status_code == 200


@pytest.mark.parametrize(
    ("moment", "status"), [("yesterday", 422), ("2026-01-01T00:00:00", 422), (10**9, 400)]
)
async def test_a_moment_that_cannot_be_is_refused(
    auditor: Person, moment: Any, status: int
) -> None:
    answer = await auditor.get(
        f"/api/v1/audit/streams/{auditor.id}/state", params={"as_of": moment}
    )

    assert answer.status_code == status


async def test_an_order_and_a_library_can_be_seen_as_they_were_by_auditors_only(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    free = [{"region": "*", "amount_cents": 0, "currency": "USD"}]
    game = await shop.game(seller, prices=free)
    placed = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"]}, headers={"Prefer": "wait=10"}
    )
    order_id = placed.json()["order_id"]
    created, *_ = await shop.core.log.read_stream(order_id)
    path, before = f"/api/v1/orders/{order_id}", {"as_of": created.env.position}

    async def owned() -> Any:
        library = f"/api/v1/library?user_id={buyer.id}&as_of={await shop.core.log.head()}"
        return (await auditor.get(library)).json()["items"]

    past = await auditor.get(path, params=before)
    assert (past.status_code, past.json()["status"]) == (200, "PENDING_PAYMENT")
    assert past.headers["event-position"] == str(created.env.position)
    assert (await buyer.get(path, params=before)).status_code == 403
    assert len(await shop.eventually(owned)) == 1
    assert (await auditor.get(f"/api/v1/library?user_id={buyer.id}", params=before)).json()[
        "items"
    ] == []
    assert (await seller.get(f"/api/v1/library?user_id={buyer.id}")).status_code == 403


async def test_the_chain_of_hashes_holds(shop: Shop, auditor: Person) -> None:
    answer = (await auditor.get("/api/v1/audit/verify")).json()

    assert answer["valid"] is True
    assert answer["fault"] is None
    assert 0 < answer["verified_upto"] <= await shop.core.log.head()


async def test_projections_are_seen_paused_resumed_and_rebuilt(shop: Shop, admin: Person) -> None:
    feeds = (await admin.get("/api/v1/ops/projections")).json()["items"]
    assert {"users", "games", "orders", "payments", "library"} <= {
        feed["projection"] for feed in feeds
    }

    assert (await admin.post("/api/v1/ops/projections/notifications/pause")).json()[
        "status"
    ] == "paused"
    paused = (await admin.get("/api/v1/ops/projections")).json()["items"]
    assert [feed["paused"] for feed in paused if feed["projection"] == "notifications"] == [True]
    assert (await admin.post("/api/v1/ops/projections/notifications/resume")).json()[
        "status"
    ] == "running"
    assert (await admin.post("/api/v1/ops/projections/games/rebuild")).status_code == 202
    assert shop.rebuilt == ["games"]
    for verb in ("pause", "resume", "rebuild"):
        assert (await admin.post(f"/api/v1/ops/projections/nothing/{verb}")).status_code == 404


async def test_what_a_paused_projection_has_not_seen_is_behind(
    shop: Shop, admin: Person, seller: Person
) -> None:
    await admin.post("/api/v1/ops/projections/library/pause")
    try:
        feed = (
            "SELECT position FROM consumers.feeds JOIN consumers.checkpoints USING (feed) WHERE"
            " projection = 'library'"
        )

        async def position() -> int:
            async with shop.core.log.pool.connection() as conn:
                row = await (await conn.execute(feed)).fetchone()
            assert row is not None
            return int(row[0])

        async def stands_still() -> bool:
            before = await position()
            game = await seller.post("/api/v1/games", json={"sku": uuid4().hex, "title": "x"})
            await shop.services.reads.waiter.wait(["games"], int(game.headers["event-position"]), 5)
            return await position() == before

        await shop.eventually(stands_still)
        answer = await seller.get("/api/v1/library", headers=await shop.reached())
    finally:
        await admin.post("/api/v1/ops/projections/library/resume")

    assert (answer.status_code, answer.json()["code"]) == (503, "read_model_behind")
    assert answer.headers["retry-after"] == "1"


async def test_a_dead_letter_is_seen_and_redriven(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    game = await shop.game(seller)
    method = {"type": "card", "token": "pm_card_processorDown"}
    placed = await buyer.post(
        "/api/v1/orders",
        json={"game_id": game["id"], "payment_method": method},
        headers={"Prefer": "wait=10"},
    )
    assert placed.status_code == 402

    async def dead() -> list[dict[str, object]]:
        letters = (await auditor.get("/api/v1/ops/dead-letters")).json()["items"]
        return [
            each
            for each in letters
            if each["body"].get("payment_id") == placed.json()["payment_id"]
        ]

    (letter,) = await shop.eventually(dead)
    assert (letter["queue"], letter["kind"]) == ("ludoteca.payments", "charge")
    assert letter["error"]
    assert (
        await auditor.post(f"/api/v1/ops/dead-letters/{letter['id']}/redrive")
    ).status_code == 202
    assert (await auditor.post(f"/api/v1/ops/dead-letters/{uuid4()}/redrive")).status_code == 404


async def test_nothing_is_in_quarantine(auditor: Person) -> None:
    assert (await auditor.get("/api/v1/ops/quarantine")).json() == {
        "items": [],
        "next_cursor": None,
    }
    assert (await auditor.post(f"/api/v1/ops/quarantine/{uuid4()}/retry")).status_code == 404
