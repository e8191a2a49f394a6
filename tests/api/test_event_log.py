"""Looking through the log over HTTP, and following it."""

import json
from typing import Any
from uuid import uuid4

import pytest

from api.routes import event_log
from queries.audit import log_search
from tests.api.test_live import goodbye, greet, hear, serving
from tests.support.shops.gateway import Person, Shop

PATH = "/api/v1/audit/log"
SOCKET = "/api/v1/ws/log"


async def search(who: Person, **wanted: Any) -> dict[str, Any]:
    answer = await who.get(PATH, params=wanted)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_newest_events_come_first(shop: Shop, seller: Person, auditor: Person) -> None:
    games = [await shop.game(seller) for _ in range(3)]
    wanted = {"actor": f"user:{seller.id}", "name": "game.created.*", "limit": 2}

    page = await search(auditor, **wanted)
    rest = await search(auditor, **wanted, cursor=page["next_cursor"])

    found = [each["stream_id"] for each in [*page["items"], *rest["items"]]]
    assert found == [game["id"] for game in reversed(games)]
    assert rest["next_cursor"] is None
    assert rest["searched_after"] == 0
    positions = [each["position"] for each in page["items"]]
    between = await search(auditor, since=positions[1], until=positions[0], name="game.created.*")
    assert [each["position"] for each in between["items"]] == positions
    at = page["items"][0]["occurred_at"]
    assert (await search(auditor, since=at, **wanted))["items"][0] == page["items"][0]
    assert not (await search(auditor, until="2001-01-01T00:00:00Z"))["items"]


async def test_a_search_for_text_says_how_far_it_has_looked(
    shop: Shop, seller: Person, auditor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = f'Say "{uuid4().hex}" 100%_\\'
    game = await shop.game(seller, title=title)
    for _ in range(3):
        await shop.register()
    monkeypatch.setattr(log_search, "MAX_TEXT_POSITIONS", 2)
    looked, cursor = 0, None
    while True:
        page = await search(auditor, text=title.upper(), **({"cursor": cursor} if cursor else {}))
        assert page["searched_upto"] - page["searched_after"] <= 2
        looked, cursor = looked + 1, page["next_cursor"]
        if page["items"]:
            break
    assert looked > 1
    assert [each["stream_id"] for each in page["items"]] == [game["id"]]
    assert not (await search(auditor, text=title, stream_id=uuid4()))["items"]


async def test_personal_fields_are_not_found_by_their_text(
    shop: Shop, buyer: Person, auditor: Person
) -> None:
    assert not (await search(auditor, text=buyer.email))["items"]


async def test_the_log_is_for_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    for path in (PATH, f"{PATH}/1"):
        for who, status in ((buyer, 403), (auditor, 200), (admin, 200)):
            assert (await who.get(path)).status_code == status
        assert (await shop.client().get(path)).status_code == 401
    disclose = f"{PATH}/1/disclose"
    assert (await auditor.post(disclose, json={"reason": "x"})).status_code == 403


async def test_personal_fields_are_disclosed_once_that_is_recorded(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    (registered,) = (await search(admin, stream_id=buyer.id))["items"][-1:]
    path = f"{PATH}/{registered['position']}"
    shown = (await admin.get(path)).json()
    assert "email" in shown["personal_fields"]
    assert shown["payload"]["email"] == "[encrypted]"

    for body in ({}, {"reason": ""}, {"reason": "x" * 1001}):
        assert (await admin.post(f"{path}/disclose", json=body)).status_code == 422
    before = await shop.core.log.head()
    answer = await admin.post(f"{path}/disclose", json={"reason": "asked by mail"})

    assert answer.json()["fields"]["email"] == buyer.email
    assert answer.headers["cache-control"] == "no-store"
    assert not {"password_hash", "hash"} & answer.json()["fields"].keys()
    (made,) = (await search(admin, since=before + 1, name="disclosure.*"))["items"]
    assert made["stream_id"] == answer.json()["disclosure_id"]
    assert made["payload"]["person_ids"] == [str(buyer.id)]

    position = made["position"]
    none = await admin.post(f"{PATH}/{position}/disclose", json={"reason": "asked by mail"})
    assert (none.status_code, none.json()["code"]) == (404, "no_personal_data")
    beyond = await admin.get(f"{PATH}/{10**9}")
    assert (beyond.status_code, beyond.json()["code"]) == (404, "event_not_found")


# -- following -------------------------------------------------------------------------------------


async def test_events_are_sent_as_they_are_appended(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    async with (
        serving(shop.services, routers=[event_log.router]) as server,
        server.connect(SOCKET) as ws,
    ):
        head = await shop.core.log.head()
        hello = {"name": "game.*", "after_position": head}
        await ws.send(json.dumps({"token": auditor.tokens["access_token"], **hello}))
        await shop.register()
        game = await shop.game(seller)
        batch = await hear(ws)
        assert [each["stream_id"] for each in batch["items"]] == [game["id"]]
        assert batch["items"][0]["payload"]["title"] == game["title"]
        assert not batch["left_out"]


async def test_who_may_not_follow_is_told_why(shop: Shop, buyer: Person, admin: Person) -> None:
    async with serving(shop.services, routers=[event_log.router]) as server:
        async with server.connect(SOCKET) as ws:
            assert (await greet(ws, buyer))["code"] == "role_required"
            assert await goodbye(ws) == (1008, "role_required")
        async with server.connect(SOCKET) as ws:
            assert (await greet(ws, admin, after_position=10**12))["code"] == "position_unknown"
        odd: tuple[dict[str, str], ...] = ({"stream_id": "x"}, {"name": "\0"}, {"text": ""})
        for filters in odd:
            async with server.connect(SOCKET) as ws:
                assert (await greet(ws, admin, **filters))["code"] == "invalid_request"
