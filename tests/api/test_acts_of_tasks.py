"""A task is an act for as long as it goes on: it ends as the task does, whoever dies meanwhile."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from commands.acts import ActUnderWay, Asked
from commands.caller import SYSTEM
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from eventstore.database.under_way import holding
from kit.metrics import REBUILD_PROGRESS
from projections.engine.dropping import exclusively
from queries.audit.tasks import LOCK, AuditTask, Rebuild
from queries.engine.read_models import ReadModels
from runtime.gateway.audit_tasks import AuditTasks, tell_end
from runtime.processes.lost_acts import give_up_lost_acts
from tests.api.test_consumers import ended
from tests.support.queues import until_so
from tests.support.rebuilds import rebuilds_standing
from tests.support.shops.gateway import Person, Shop

REBUILDS = "/api/v1/ops/projections/wallets/rebuilds"
WHY = {"reason": "rows were wrong"}


async def act(shop: Shop, who: Person, act_id: str) -> dict[str, Any]:
    answer = await who.get("/api/v1/ops/acts", headers=await shop.reached())
    return next(dict(each) for each in answer.json()["items"] if each["stream_id"] == act_id)


async def act_once_ended(shop: Shop, who: Person, act_id: str) -> dict[str, Any]:
    return await shop.eventually(
        lambda: act(shop, who, act_id), lambda found: found["status"] != "BEGUN"
    )


def processes_of_tasks() -> list[int]:
    """The processes that this one has do a task."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            command = (each / "cmdline").read_bytes().split(b"\0")
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        if b"runtime.audit.tasks" in command and parent == os.getpid():
            found.append(int(each.name))
    return found


def shown_progress() -> list[dict[str, str]]:
    return [sample.labels for metric in REBUILD_PROGRESS.collect() for sample in metric.samples]


async def test_the_act_of_a_rebuild_is_under_way_with_it_and_has_its_outcome(
    shop: Shop, admin: Person, auditor: Person
) -> None:
    with rebuilds_standing(shop.core.url, "wallets"):
        begun = await admin.post(REBUILDS, json={**WHY, "replace": True})
        task_id = begun.json()["id"]
        running = await act(shop, auditor, task_id)
        assert shown_progress() == [{"projection": "wallets"}]
    assert (running["act"], running["target"], running["status"], running["affected"]) == (
        "projection.rebuild",
        "wallets",
        "BEGUN",
        None,
    )
    assert running["actor"] == f"user:{admin.id}"
    assert running["details"] == {"task_id": task_id, "replace": "even if they differ"}

    task = await ended(admin, begun)
    done = await act_once_ended(shop, auditor, task_id)
    assert (done["status"], done["error"], done["reason"]) == ("DONE", None, "rows were wrong")
    assert done["affected"] == task["result"]["rows"]
    assert done["details"]["storage"] == task["result"]["storage"]
    assert shown_progress() == []


async def test_the_act_of_a_rebuild_that_fails_is_not_done(shop: Shop, admin: Person) -> None:
    with connect(shop.core.url, "another process") as other, exclusively(other, "wallets"):
        task = await ended(admin, await admin.post(REBUILDS, json=WHY))
    failed = await act_once_ended(shop, admin, task["id"])
    assert (task["state"], failed["status"], failed["affected"]) == ("FAILED", "FAILED", None)
    assert failed["error"] == task["error"] != ""


async def test_what_is_not_begun_is_an_act_that_failed(shop: Shop, admin: Person) -> None:
    with rebuilds_standing(shop.core.url, "wallets"):
        running = await admin.post(REBUILDS, json=WHY)
        refused = await admin.post(REBUILDS, json=WHY)
        assert (refused.status_code, refused.json()["code"]) == (409, "audit_task_running")
    await ended(admin, running)
    found = (await admin.get("/api/v1/ops/acts", headers=await shop.reached())).json()["items"]
    errors = [each["error"] for each in found if each["actor"] == f"user:{admin.id}"]
    assert errors.count("audit_task_running") == 1


async def test_a_task_whose_process_is_killed_is_an_act_that_failed(
    shop: Shop, admin: Person
) -> None:
    with rebuilds_standing(shop.core.url, "wallets"):
        begun = await admin.post(REBUILDS, json=WHY)
        (process,) = processes_of_tasks()
        os.kill(process, signal.SIGKILL)
        failed = await act_once_ended(shop, admin, begun.json()["id"])
    assert (failed["status"], failed["error"]) == ("FAILED", "its process died")
    assert shown_progress() == []


@pytest.mark.parametrize("alive", [True, False])
def test_a_task_that_noted_no_end_is_an_act_that_failed_even_while_its_session_lasts(
    alive: bool,
) -> None:
    """PostgreSQL does not notice at once that a killed process is gone, if its session waits."""
    now, act_id = datetime.now(UTC), uuid4()
    asked = msgspec.json.encode(Rebuild("wallets")).decode()
    task = AuditTask(act_id, asked, "system", now, "", now, now, 0, 0, None, "", "", None, alive)
    under_way = ActUnderWay(act_id, None)
    tell_end(under_way, task)
    assert under_way.error == "its process died"


async def test_other_tasks_are_acts_until_they_have_ended(shop: Shop, auditor: Person) -> None:
    replayed = await ended(
        auditor, await auditor.post("/api/v1/audit/replays", json={"until": "1", **WHY})
    )
    done = await act_once_ended(shop, auditor, replayed["id"])
    assert (done["act"], done["target"], done["status"]) == ("replay.ask", "1", "DONE")
    assert done["affected"] == len(replayed["result"]["read_models"])
    assert done["details"]["schema"] == "ludoteca_at_1"

    asked = {"from": "2020-01-01T00:00:00Z", "platform_fee_bps": 0, **WHY}
    whatif = await ended(auditor, await auditor.post("/api/v1/audit/whatif", json=asked))
    done = await act_once_ended(shop, auditor, whatif["id"])
    assert (done["act"], done["status"], done["affected"]) == ("whatif.ask", "DONE", None)
    assert "postings_that_differ" in done["details"]


async def test_a_process_that_stops_leaves_its_task_to_be_given_up(
    shop: Shop, admin: Person
) -> None:
    stopping = AuditTasks(shop.core.url, shop.core.log.pool, shop.core.commands.acts)
    models = ReadModels(shop.core.log.pool)
    with rebuilds_standing(shop.core.url, "wallets"):
        task_id = await stopping.start(Rebuild("wallets"), SYSTEM, "a test")
        await act(shop, admin, str(task_id))
        await give_up_lost_acts(shop.core, models)
        assert (await act(shop, admin, str(task_id)))["status"] == "BEGUN"
        await stopping.close()
        assert (await act(shop, admin, str(task_id)))["status"] == "BEGUN"

    async def is_given_up() -> bool:
        await give_up_lost_acts(shop.core, models)
        return bool((await act(shop, admin, str(task_id)))["status"] == "FAILED")

    await until_so(is_given_up)
    assert (await act(shop, admin, str(task_id)))["error"] == "its process died"


async def test_a_task_that_outlives_who_asked_for_it_ends_its_act_all_the_same(
    shop: Shop, admin: Person
) -> None:
    models, task_id = ReadModels(shop.core.log.pool), uuid4()
    await shop.core.commands.acts.begin(
        SYSTEM, "replay.ask", "a test", Asked("1", {"task_id": str(task_id)}, task_id)
    )
    await act(shop, admin, str(task_id))
    with connect(shop.core.url, "the task's process") as conn:
        assert checkpoints.try_lead(conn, LOCK)
        conn.execute(
            "INSERT INTO consumers.audit_tasks (id, asked, asked_by)"
            """ VALUES (%s, '{"type": "replay", "position": 1}', 'test')""",
            (task_id,),
        )
        await give_up_lost_acts(shop.core, models)
        assert (await act(shop, admin, str(task_id)))["status"] == "BEGUN"
        conn.execute(
            "UPDATE consumers.audit_tasks SET ended_at = clock_timestamp(),"
            """ result = '{"read_models": [{}, {}]}' WHERE id = %s""",
            (task_id,),
        )
    await give_up_lost_acts(shop.core, models)
    done = await act(shop, admin, str(task_id))
    assert (done["status"], done["affected"]) == ("DONE", 2)


async def test_an_act_is_given_up_once_nobody_holds_it(shop: Shop, admin: Person) -> None:
    models, asked = ReadModels(shop.core.log.pool), Asked("orders")
    async with holding(shop.core.url, [asked.act_id]):
        (begun,) = await shop.core.commands.acts.begin(SYSTEM, "projection.pause", None, asked)
        await act(shop, admin, str(asked.act_id))
        await give_up_lost_acts(shop.core, models)
        assert (await act(shop, admin, str(asked.act_id)))["status"] == "BEGUN"

    async def is_given_up() -> bool:  # PostgreSQL ends a session a moment later
        await give_up_lost_acts(shop.core, models)
        return bool((await act(shop, admin, str(asked.act_id)))["error"] == "interrupted")

    await until_so(is_given_up)
    listed = await admin.get("/api/v1/ops/acts", params={"status": "INTERRUPTED"})
    assert str(asked.act_id) in {each["stream_id"] for each in listed.json()["items"]}

    begun.affected = 1
    await shop.core.commands.acts.end(SYSTEM, [begun])
    assert (await act(shop, admin, str(asked.act_id)))["status"] == "DONE"
