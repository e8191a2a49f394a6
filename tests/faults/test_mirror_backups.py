"""A backup of a PostgreSQL that mirrors KurrentDB, restored: it gets from there what came since."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from eventstore.log import IdempotencyKey, LogUnavailable
from eventstore.postgres_log import PostgresLog
from runtime.backup.making import backup
from runtime.settings import Settings
from runtime.wiring.log_of_record import WrongLog, check_log_of_record
from tests.support.events.notes import CODEC, new_stream, texts_of
from tests.support.processes.restoring import restore
from tests.support.servers import shared
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.kurrent.logs import appended_once, mirrored_log

pytestmark = pytest.mark.server


def silent(_what: str, _done: int, _all: int) -> None:
    pass


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template="template1")
    yield url
    shared.drop_database(url)


async def test_a_mirror_that_is_restored_gets_what_came_since(
    database: str, empty_database: str, tmp_path: Path
) -> None:
    once, folder = IdempotencyKey(uuid4(), b"f", {"id": "7"}), tmp_path / "backup"
    with KurrentDouble() as kurrent:
        async with mirrored_log(kurrent.url, database) as log:
            await log.append([new_stream("a")], once=once)
            await asyncio.to_thread(backup, database, folder, None, silent)
            await log.append([new_stream("b")])
            before = [event.env for event in await log.read()]
        await asyncio.to_thread(restore, empty_database, folder, None, silent)
        await refuses_a_second_history(empty_database)
        async with mirrored_log(kurrent.url, empty_database) as log:
            await appended_once(log, new_stream("c"))
            events = await log.read()
            assert texts_of(events) == ["a", "b", "c"]
            assert [event.env for event in events[:2]] == before
            done = await log.done(once.key)
            assert done is not None
            assert (done.result_ids, done.position) == ({"id": "7"}, 1)


async def refuses_a_second_history(database: str) -> None:
    """What was restored still mirrors KurrentDB, also before a mirror runs."""
    with pytest.raises(WrongLog):
        await asyncio.to_thread(check_log_of_record, Settings(), database)
    async with PostgresLog.open(database, CODEC) as log:
        with pytest.raises(LogUnavailable):
            await log.append([new_stream("beside KurrentDB")])
