"""What operators do over HTTP is recorded: who, what, why, and to how many things."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.shops.gateway import Person, Shop

ACTS = "/api/v1/ops/acts"
WHY = {"reason": "a test of alarms"}


async def acts_of(admin: Person, **filters: str) -> list[dict[str, Any]]:
    answer = await admin.get(ACTS, params={"actor": f"user:{admin.id}", **filters})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_an_act_is_recorded_with_who_did_it_and_why(shop: Shop, admin: Person) -> None:
    paused = await admin.post("/api/v1/ops/projections/notifications/pause", json=WHY)
    resumed = await admin.post("/api/v1/ops/projections/notifications/resume")
    assert (paused.status_code, resumed.status_code) == (200, 200)

    second, first = await acts_of(admin)
    assert (first["act"], first["target"], first["reason"], first["status"], first["affected"]) == (
        "projection.pause",
        "notifications",
        "a test of alarms",
        "DONE",
        1,
    )
    assert (second["act"], second["reason"]) == ("projection.resume", None)
    assert first["actor"] == second["actor"] == f"user:{admin.id}"
    assert first["position"] < int(paused.headers["event-position"]) < second["position"]


@pytest.mark.parametrize(
    ("path", "code", "act"),
    [
        ("projections/nothing/pause", "projection_not_found", "projection.pause"),
        (f"dead-letters/{uuid4()}/redrive", "dead_letter_not_found", "dead_letter.redrive"),
        (f"quarantine/{uuid4()}/retry", "quarantine_not_found", "quarantine.retry"),
    ],
    ids=["a projection", "a dead letter", "a stream in quarantine"],
)
async def test_what_fails_is_recorded_as_that(
    admin: Person, path: str, code: str, act: str
) -> None:
    assert (await admin.post(f"/api/v1/ops/{path}", json=WHY)).json()["code"] == code
    (failed,) = await acts_of(admin)
    assert (failed["act"], failed["status"], failed["error"]) == (act, "FAILED", code)


async def test_the_timeline_is_filtered_and_paged(admin: Person) -> None:
    for verb in ("pause", "resume", "pause", "resume"):
        await admin.post(f"/api/v1/ops/projections/notifications/{verb}", json=WHY)
    assert len(await acts_of(admin, act="projection.*")) == 4
    assert len(await acts_of(admin, act="projection.pause", target="notifications")) == 2
    assert await acts_of(admin, target="orders") == []
    assert await acts_of(admin, status="FAILED") == []

    everything = await acts_of(admin)
    noon = everything[1]["at"]
    assert [each["position"] for each in await acts_of(admin, since=noon)] == [
        each["position"] for each in everything[:2]
    ]
    assert len(await acts_of(admin, until=noon)) == 2

    page = (await admin.get(ACTS, params={"limit": 3, "actor": f"user:{admin.id}"})).json()
    rest = await acts_of(admin, cursor=page["next_cursor"])
    assert [*page["items"], *rest] == everything


async def test_closing_anothers_account_is_an_act_and_ones_own_is_not(
    shop: Shop, admin: Person
) -> None:
    closed, leaving = await shop.register(), await shop.register()
    answer = await admin.delete(f"/api/v1/users/{closed.id}", params={"reason": "fraud"})
    assert answer.status_code == 204
    assert (
        await leaving.delete(f"/api/v1/users/{leaving.id}", params={"reason": "bored"})
    ).status_code == 204

    (act,) = await acts_of(admin, act="account.close")
    assert (act["target"], act["reason"]) == (str(closed.id), "fraud")
    every = await admin.get(ACTS, params={"act": "account.close", "target": str(leaving.id)})
    assert every.json()["items"] == []
    said = await admin.get("/api/v1/audit/events", params={"stream_id": str(leaving.id)})
    assert "bored" not in said.text


async def test_a_reason_says_something_and_no_card_number(admin: Person) -> None:
    path = "/api/v1/ops/projections/notifications/pause"
    assert (await admin.post(path, json={"reason": " "})).status_code == 422
    refused = await admin.post(path, json={"reason": "4242 4242 4242 4242"})
    assert refused.json()["code"] == "card_data_refused"
    assert await acts_of(admin) == []


async def test_auditors_read_the_timeline_and_others_do_not(shop: Shop, admin: Person) -> None:
    await admin.post("/api/v1/ops/projections/notifications/resume", json=WHY)
    auditor, buyer = await shop.register("AUDITOR"), await shop.register()
    seen = await auditor.get(ACTS, headers=await shop.reached())
    assert "projection.resume" in {each["act"] for each in seen.json()["items"]}
    assert (await buyer.get(ACTS)).status_code == 403
    assert (await auditor.get("/api/v1/operations/acts")).status_code == 200
