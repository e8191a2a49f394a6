"""Acting on everything that a filter shows: dead letters and streams in quarantine."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from api.routes.selections import MOST
from tests.support.queues import until_so
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.stuck import QUEUE, killed, poisoned, selected

LETTERS = "/api/v1/ops/dead-letters"
QUARANTINE = "/api/v1/ops/quarantine"


def ids_of(found: dict[str, Any], name: str = "id") -> set[str]:
    return {each[name] for each in found["items"]}


def texts(ids: Sequence[UUID]) -> set[str]:
    return {str(each) for each in ids}


async def test_what_a_filter_shows_is_redriven_and_nothing_else(
    shop: Shop, admin: Person, auditor: Person
) -> None:
    mine, others = await killed(shop, "mine", 3), await killed(shop, "other", 2)
    found = await selected(auditor, LETTERS, kind="mine", error="PROVIDER is", queue=QUEUE)
    assert (found["count"], ids_of(found), found["more"]) == (3, texts(mine), False)
    (queue,) = [each for each in found["queues"] if each["name"] == QUEUE]
    assert queue["dead"] >= 5
    assert (await selected(auditor, LETTERS, kind="mine", error="none such"))["count"] == 0

    later = await killed(shop, "mine", 1)
    body = {"kind": "mine", "before": found["before"], "expected": 3}
    assert (await auditor.post(f"{LETTERS}/redrive", json=body)).status_code == 403
    done = await admin.post(f"{LETTERS}/redrive", json=body)
    assert done.json() == {"done": 3, "gone": 0}
    left = ids_of(await selected(auditor, LETTERS))
    assert left & texts([*mine, *others, *later]) == texts([*others, *later])


async def test_a_filter_finds_what_died_after_more_than_are_shown(
    shop: Shop, admin: Person
) -> None:
    await killed(shop, "of an outage", MOST + 1)
    late = await killed(shop, "late", 2)
    found = await selected(admin, LETTERS, kind="late")
    assert ids_of(found) == texts(late)
    assert ids_of(await selected(admin, LETTERS, id=str(late[1]))) == texts(late[1:])
    body = {"kind": "late", "before": found["before"], "expected": 2}
    done = await admin.post(f"{LETTERS}/redrive", json=body)
    assert done.json() == {"done": 2, "gone": 0}

    outage = await selected(admin, LETTERS, kind="of an outage")
    assert (outage["count"], outage["more"]) == (MOST, True)
    everything = await selected(admin, LETTERS)
    assert everything["more"]
    body = {"before": everything["before"], "expected": everything["count"]}
    assert (await admin.post(f"{LETTERS}/redrive", json=body)).status_code == 200


async def test_a_filter_that_shows_another_number_does_nothing(shop: Shop, admin: Person) -> None:
    await killed(shop, "twice", 2)
    found = await selected(admin, LETTERS, kind="twice")
    body = {"kind": "twice", "before": found["before"], "expected": 2}
    assert (await admin.post(f"{LETTERS}/redrive", json=body)).status_code == 200
    again = await admin.post(f"{LETTERS}/redrive", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "selection_changed")
    assert again.json()["count"] == 0


async def test_what_is_discarded_is_gone_and_kept_in_the_log_with_the_reason(
    shop: Shop, admin: Person, auditor: Person
) -> None:
    given_up, others = await killed(shop, "given up", 3), await killed(shop, "kept", 1)
    found = await selected(auditor, LETTERS, kind="given up")
    assert {each["undone"] for each in found["items"]} == {
        "It is not known what waits for this job."
    }
    body = {"kind": "given up", "before": found["before"], "expected": 3}
    assert (await admin.post(f"{LETTERS}/discard", json=body)).status_code == 422
    body["reason"] = "of a test"
    assert (await auditor.post(f"{LETTERS}/discard", json=body)).status_code == 403
    changed = await admin.post(f"{LETTERS}/discard", json={**body, "expected": 2})
    assert (changed.status_code, changed.json()["code"]) == (409, "selection_changed")
    done = await admin.post(f"{LETTERS}/discard", json=body)
    assert (done.status_code, done.json()) == (200, {"done": 3, "gone": 0})
    left = ids_of(await selected(auditor, LETTERS))
    assert left & texts([*given_up, *others]) == texts(others)

    recorded = await admin.get(
        "/api/v1/ops/acts",
        params={"act": "dead_letter.discard", "actor": f"user:{admin.id}"},
        headers=await shop.reached(),
    )
    acts = recorded.json()["items"]
    assert {each["target"] for each in acts} == texts(given_up)
    for act in acts:
        assert (act["status"], act["affected"], act["reason"]) == ("DONE", 1, "of a test")
        kept = {name: act["details"][name] for name in ("queue", "kind", "error")}
        assert kept == {
            "queue": QUEUE,
            "kind": "given up",
            "error": "The provider is down",
        }


async def test_one_dead_letter_is_discarded_by_its_id(
    shop: Shop, admin: Person, auditor: Person
) -> None:
    first, second = await killed(shop, "one of two", 2)
    found = await selected(auditor, LETTERS, id=str(first))
    assert ids_of(found) == {str(first)}
    path = f"{LETTERS}/{first}/discard"
    assert (await admin.post(path, json={})).status_code == 422
    assert (await auditor.post(path, json={"reason": "of a test"})).status_code == 403
    assert (await admin.post(path, json={"reason": "of a test"})).status_code == 204
    again = await admin.post(path, json={"reason": "of a test"})
    assert (again.status_code, again.json()["code"]) == (404, "dead_letter_not_found")
    assert ids_of(await selected(auditor, LETTERS, kind="one of two")) == {str(second)}


async def test_streams_in_quarantine_are_tried_again_by_a_filter(
    shop: Shop, admin: Person, auditor: Person
) -> None:
    streams = await poisoned(shop, 2)

    async def feeds_with_both() -> list[str]:
        found = await selected(auditor, QUARANTINE, name="game.updated.v1")
        feeds = [each["feed"] for each in found["items"] if each["stream_id"] in texts(streams)]
        return sorted(each for each in feeds if feeds.count(each) == 2)

    async def are_both_there() -> bool:
        return bool(await feeds_with_both())

    await until_so(are_both_there)
    feed = (await feeds_with_both())[0]
    shown = await selected(auditor, QUARANTINE, feed=feed)
    assert texts(streams) <= ids_of(shown, "stream_id")
    later = await poisoned(shop, 1)
    body = {"feed": feed, "before": shown["before"], "expected": shown["count"]}
    wrong = await admin.post(f"{QUARANTINE}/retry", json={**body, "expected": 1})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "selection_changed")
    assert (await auditor.post(f"{QUARANTINE}/retry", json=body)).status_code == 403
    done = await admin.post(f"{QUARANTINE}/retry", json=body)
    assert (done.status_code, done.json()["done"]) == (202, shown["count"])

    async def are_tried() -> bool:
        now = await selected(auditor, QUARANTINE, feed=feed)
        attempts = {each["stream_id"]: each["attempts"] for each in now["items"]}
        return (
            all(attempts.get(each, 0) > 1 for each in texts(streams))
            and attempts.get(str(later[0])) == 1
        )

    await until_so(are_tried)
