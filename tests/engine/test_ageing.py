"""What grows is deleted once it is older than its setting says, and not before."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from adapters.notifications.folder import MessageFolder, delete_older
from commands.caller import SYSTEM
from commands.handler import CommandHandler
from eventstore.consumers import checkpoints
from eventstore.log import IdempotencyKey
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from kit.clock import SYSTEM_CLOCK
from runtime.processes.ageing import delete_refusals, drop_storages, fulfil
from tests.support.events.notes import TALLY
from tests.support.events.tallies import Counted, tallies
from tests.support.shops.engine import Desk, has_table

DAY = timedelta(days=1)


async def _append_under(desk: Desk, once: IdempotencyKey, keep: timedelta | None) -> object:
    """Append under a key; returns when the key expires."""

    async def decision(unit: UnitOfWork) -> None:
        unit.create(TALLY, uuid4(), [Counted(1)])

    await CommandHandler(Repository(desk.log), SYSTEM_CLOCK, keep).handle(decision, SYSTEM, once)
    ((expires_at,),) = desk.execute("SELECT expires_at FROM log.once WHERE key = %s", once.key)
    return expires_at


async def test_a_reactors_key_expires_and_a_requests_keeps_its_own_time(desk: Desk) -> None:
    soon = datetime.now(UTC) + DAY
    assert await _append_under(desk, IdempotencyKey(uuid4()), None) is None
    assert await _append_under(desk, IdempotencyKey(uuid4(), expires_at=soon), 365 * DAY) == soon
    aged = await _append_under(desk, IdempotencyKey(uuid4()), 365 * DAY)
    assert isinstance(aged, datetime)
    assert timedelta(0) <= datetime.now(UTC) + 365 * DAY - aged < DAY


async def test_a_log_that_was_restored_keeps_the_keys_of_its_time_until_it_goes_on(
    desk: Desk,
) -> None:
    stream = uuid4()
    await desk.append(stream, Counted(1))
    desk.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
    desk.execute("UPDATE log.events SET recorded_at = recorded_at - interval '400 days'")
    desk.execute(
        "INSERT INTO log.once (key, fingerprint, refs, position, expires_at)"
        " VALUES (gen_random_uuid(), '', '{}', 1, now() - interval '35 days')",
    )
    assert await desk.log.purge_expired() == 0
    await desk.append(stream, Counted(2))
    assert await desk.log.purge_expired() == 1


async def test_refusals_are_deleted_once_they_are_old(desk: Desk) -> None:
    for days in (1, 3):
        desk.execute(
            "INSERT INTO consumers.refusals (feed, event_id, position, stream_id, code, detail, at)"
            " VALUES ('a', %s, 1, %s, 'no', '', now() - %s * interval '1 day')",
            *(uuid4(), uuid4(), days),
        )
    now = datetime.now(UTC)
    assert await delete_refusals(desk.log.pool, now - 2 * DAY, 2 * DAY) == 0  # by our clock
    assert await delete_refusals(desk.log.pool, now, 2 * DAY) == 1
    assert desk.execute("SELECT count(*) FROM consumers.refusals") == [(1,)]


async def test_storages_that_nothing_feeds_are_dropped_once_they_are_old(desk: Desk) -> None:
    models = {"tallies": tallies()}
    with desk.running(*models.values()):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    with desk.connect() as conn:
        conn.execute("CREATE TABLE read.tallies_0 (id int)")
        checkpoints.register(conn, "tallies", 0, "tallies_0")
    assert drop_storages(desk.database, models, DAY) == 0
    desk.execute("UPDATE consumers.checkpoints SET updated_at = now() - interval '2 days'")
    assert drop_storages(desk.database, models, DAY) == 1
    with desk.connect() as conn:
        assert not has_table("read.tallies_0")(conn)
        assert has_table("read.tallies_1")(conn)  # queries read it, however old
        assert {row.name for row in checkpoints.subscriptions(conn)} == {"tallies.1"}


def test_message_files_are_deleted_once_they_are_old(tmp_path: Path) -> None:
    folder = MessageFolder(tmp_path / "mail")
    for name in ("old", "new"):
        folder.write(name, b"Hello")
    os.utime(tmp_path / "mail" / "old", (0, 0))
    (tmp_path / "mail" / "kept").mkdir()
    os.utime(tmp_path / "mail" / "kept", (0, 0))
    assert delete_older(tmp_path / "mail", datetime.now(UTC) - DAY) == 1
    assert sorted(os.listdir(tmp_path / "mail")) == ["kept", "new"]
    assert delete_older(tmp_path / "push", datetime.now(UTC)) == 0


async def test_a_duty_that_fails_keeps_no_other_from_being_done() -> None:
    done: list[str] = []

    def duty(name: str, error: Exception | None = None) -> Callable[[], Awaitable[int]]:
        async def run() -> int:
            if error:
                raise error
            done.append(name)
            return 1

        return run

    await fulfil({"a": duty("a"), "b": duty("b", ValueError("no broker")), "c": duty("c")})
    assert done == ["a", "c"]
    with pytest.raises(psycopg.OperationalError):  # the leader looks for its database
        await fulfil({"b": duty("b", psycopg.OperationalError("gone"))})
