"""What if and replays over HTTP: tasks that go on by themselves, one at a time."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from projections.registry import read_models
from queries.audit.tasks import KEPT, LOCK, Replay
from runtime.audit.tasks import Begun, Said, Task, do
from runtime.host.module_process import module_process
from tests.api.test_buying import buy
from tests.support.queues import until_so
from tests.support.shops.gateway import Person, Shop
from tests.support.tampering import tamper

LONG_AGO = "2020-01-01T00:00:00Z"


async def _ended(who: Person, location: str) -> dict[str, Any]:
    """A task once it has ended."""
    async with asyncio.timeout(60):
        while True:
            answer = await who.get(location)
            assert answer.status_code == 200, answer.text
            if answer.json()["state"] != "RUNNING":
                return dict(answer.json())
            await asyncio.sleep(0.05)  # what is waited for happens in another process


async def test_what_if_tells_what_would_have_been_posted(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    await buy(buyer, await shop.game(seller))
    payable = f"SELLER_PAYABLE:{seller.id}"

    async def is_posted() -> bool:
        account = await seller.get(f"/api/v1/ledger/accounts/{payable}")
        return account.status_code == 200

    await until_so(is_posted)
    asked = {"from": LONG_AGO, "platform_fee_bps": 0}
    answer = await auditor.post("/api/v1/audit/whatif", json=asked)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["kind"], answer.json()["asked_by"]) == ("whatif", f"user:{auditor.id}")

    done = await _ended(auditor, answer.headers["location"])
    assert (done["state"], done["error"]) == ("DONE", "")
    (mine,) = [each for each in done["result"]["ledger"] if each["account_id"] == payable]
    assert mine["difference_cents"] > 0
    listed = (await auditor.get("/api/v1/audit/tasks")).json()["items"]
    assert done["id"] in {each["id"] for each in listed}


async def test_a_replay_stays_until_it_is_dropped(
    shop: Shop, seller: Person, auditor: Person, admin: Person
) -> None:
    game = await shop.game(seller, title="Before")
    position = (await shop.core.log.read_stream(game["id"]))[-1].env.position
    await seller.put(f"/api/v1/games/{game['id']}", json={"title": "After"})
    answer = await auditor.post("/api/v1/audit/replays", json={"until": str(position)})
    assert answer.status_code == 202, answer.text
    done = await _ended(auditor, answer.headers["location"])
    assert (done["state"], done["result"]["schema"]) == ("DONE", f"ludoteca_at_{position}")

    listed = (await auditor.get("/api/v1/audit/replays")).json()["items"]
    (mine,) = [each for each in listed if each["position"] == position]
    assert (mine["state"], mine["kept"]) == ("complete", True)
    by_number = await auditor.post("/api/v1/audit/replays", json={"until": position})
    assert by_number.status_code == 202, by_number.text
    again = await _ended(auditor, by_number.headers["location"])
    assert again["asked"]["position"] == position
    for wrong in (True, 1.5, -1, None):
        refused = await auditor.post("/api/v1/audit/replays", json={"until": wrong})
        assert refused.status_code == 422
    assert mine["read_models"] == len(read_models())
    then = await auditor.get(f"/api/v1/games?sort=title&as_of={position}")
    assert "Before" in then.text

    path = f"/api/v1/audit/replays/{position}"
    assert (await auditor.delete(path)).status_code == 403
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.delete(path)).json()["code"] == "replay_not_found"


async def test_the_log_is_verified_and_the_first_fault_is_named(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    async def verified() -> dict[str, Any]:
        answer = await auditor.post("/api/v1/audit/verifications")
        assert answer.status_code == 202, answer.text
        assert (answer.json()["kind"], answer.json()["asked"]) == ("verification", {})
        return await _ended(auditor, answer.headers["location"])

    game = await shop.game(seller)
    position = (await shop.core.log.read_stream(game["id"]))[-1].env.position
    done = await verified()
    assert (done["state"], done["result"]["intact"]) == ("DONE", True)
    assert done["result"]["position"] >= position
    assert done["result"]["per_second"] > 0
    reached, digest = done["result"]["anchor"].split(":")
    with connect(shop.core.url, "a test") as conn:
        stored = conn.execute("SELECT hash FROM log.events WHERE position = %s", (int(reached),))
        assert stored.fetchone() == (bytes.fromhex(digest),)

    change = "UPDATE log.events SET actor = %s WHERE position = %s"
    tamper(shop.core.url, change, "nobody", position)
    try:
        done = await verified()
    finally:
        tamper(shop.core.url, change, f"user:{seller.id}", position)
    assert (done["state"], done["result"]["intact"]) == ("DONE", False)
    assert done["result"]["position"] == position - 1
    assert done["result"]["faults"][0]["position"] == position


async def test_one_task_is_under_way_at_a_time_in_all_processes(
    shop: Shop, auditor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.audit.tasks.PATIENCE_SECONDS", 0.0)
    begun: list[Said] = []
    task = Task(shop.core.url, uuid4(), "test", Replay(0))
    with connect(shop.core.url, "another process") as other:
        assert checkpoints.try_lead(other, LOCK)
        await asyncio.to_thread(do, task, begun.append)
        assert begun == [Begun(begun=False)]
        asked = msgspec.json.encode(Replay(0)).decode()
        other.execute(
            "INSERT INTO consumers.audit_tasks (id, asked, asked_by) VALUES (%s, %s, 'test')",
            (task.id, asked),
        )
        refused = await auditor.post("/api/v1/audit/replays", json={"until": "0"})
        assert (refused.status_code, refused.json()["code"]) == (409, "audit_task_running")
        path = f"/api/v1/audit/tasks/{task.id}"
        assert (await auditor.get(path)).json()["state"] == "RUNNING"
    dead = await _ended(auditor, path)
    assert (dead["state"], dead["error"]) == ("FAILED", "its process died")

    answer = await auditor.post("/api/v1/audit/replays", json={"until": "0"})
    assert answer.status_code == 202, answer.text
    assert (await _ended(auditor, answer.headers["location"]))["state"] == "DONE"


async def test_of_many_who_ask_at_once_nobody_costs_a_process_in_vain(
    auditor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0

    @asynccontextmanager
    async def counted(module: str, told: bytes) -> AsyncIterator[Process]:
        nonlocal started
        started += 1
        async with module_process(module, told) as process:
            yield process

    monkeypatch.setattr("runtime.gateway.audit_tasks.module_process", counted)
    answers = await asyncio.gather(*(auditor.post("/api/v1/audit/verifications") for _ in range(6)))
    begun = [each.headers["location"] for each in answers if each.status_code == 202]
    refused = {each.json()["code"] for each in answers if each.status_code != 202}
    assert started == len(begun) >= 1
    assert refused <= {"audit_task_running"}
    for location in begun:
        assert (await _ended(auditor, location))["state"] == "DONE"


async def test_what_fails_is_told_and_old_tasks_go(shop: Shop, auditor: Person) -> None:
    tasks = [Task(shop.core.url, uuid4(), "test", Replay(1)) for _ in range(KEPT + 1)]
    with connect(shop.core.url, "another process") as other:
        assert checkpoints.try_lead(other, "ludoteca_at_1")
        for task in tasks:
            await asyncio.to_thread(do, task, lambda _: None)
    found = await auditor.get(f"/api/v1/audit/tasks/{tasks[-1].id}")
    assert (found.json()["state"], "another process" in found.json()["error"]) == ("FAILED", True)
    assert (await auditor.get(f"/api/v1/audit/tasks/{tasks[0].id}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("whatif", {"from": LONG_AGO}, "invalid_request"),
        ("whatif", {"from": LONG_AGO, "until": LONG_AGO, "low_stock": 1}, "invalid_request"),
        (
            "whatif",
            {"from": LONG_AGO, "tax_free_prices": [{"region": "DE", "tax_bps": 1}] * 2},
            "invalid_request",
        ),
        ("replays", {"until": "yesterday"}, "invalid_as_of"),
        ("replays", {"until": "9" * 12}, "position_unknown"),
    ],
    ids=["nothing", "no time", "a region twice", "no moment", "beyond the end"],
)
async def test_what_makes_no_sense_is_refused(
    auditor: Person, path: str, body: dict[str, Any], code: str
) -> None:
    answer = await auditor.post(f"/api/v1/audit/{path}", json=body)
    assert (answer.status_code < 500, answer.json()["code"]) == (True, code)


async def test_tasks_are_for_auditors_and_admins(buyer: Person) -> None:
    asked = {"from": LONG_AGO, "low_stock": 1}
    assert (await buyer.post("/api/v1/audit/whatif", json=asked)).status_code == 403
    assert (await buyer.post("/api/v1/audit/verifications")).status_code == 403
    assert (await buyer.get("/api/v1/audit/tasks")).status_code == 403
