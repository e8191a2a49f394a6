"""The mirror of KurrentDB in PostgreSQL: the same for every mirror, whatever fails on the way."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from kurrentdbclient import AsyncKurrentDBClient, NewRecord, StreamState
from kurrentdbclient.exceptions import DeadlineExceededError

from adapters.kurrentdb import mirror as mirror_module
from adapters.kurrentdb import wire
from adapters.kurrentdb.client import open_client
from adapters.kurrentdb.log_copy import to_kurrentdb
from adapters.kurrentdb.mirror import Halted, Mirror, Seal
from adapters.kurrentdb.mirror_state import LATE, must_keep_up, require_going
from adapters.kurrentdb.wire import Copied, CopiedOnce
from eventstore.chain import ChainVerifier, Fault
from eventstore.log import LogUnavailable
from eventstore.postgres_log import PostgresLog
from kit.uuid7 import uuid7
from tests.support.events.notes import CODEC, admin, new_stream
from tests.support.servers import shared
from tests.support.servers.kurrent import KurrentDouble

SOON = 20
SILENT = 0.2


class Writer:
    """Appends notes to KurrentDB, as the program does."""

    def __init__(self, client: AsyncKurrentDBClient) -> None:
        self._client = client

    async def append(
        self, *texts: str, stream: UUID | None = None, after: int = 0, key: UUID | None = None
    ) -> UUID:
        """A new stream, or more of one. Returns its id."""
        stream = stream or uuid4()
        records = [] if key is None else [self._once(key, stream, after + len(texts))]
        records += [
            wire.event_record(
                Copied(
                    event_id=uuid7(),
                    stream_id=stream,
                    version=after + number + 1,
                    name="test.noted.v1",
                    payload=msgspec.json.encode({"text": text}),
                    actor="user:ána",
                    correlation_id=uuid4(),
                    causation_id=None,
                    traceparent=None,
                    occurred_at=datetime.now(UTC),
                    number=number,
                    of=len(texts),
                )
            )
            for number, text in enumerate(texts)
        ]
        await self._client.append_records(records, [])
        return stream

    def _once(self, key: UUID, stream_id: UUID, version: int) -> NewRecord:
        expires = datetime.now(UTC) + timedelta(days=1)
        return wire.once_record(CopiedOnce(key, b"\1\2", {"id": "x"}, expires, stream_id, version))


@pytest.fixture
def kurrent() -> Iterator[KurrentDouble]:
    with KurrentDouble() as double:
        yield double


@pytest.fixture
async def writer(kurrent: KurrentDouble) -> AsyncIterator[Writer]:
    async with open_client(kurrent.url) as client:
        yield Writer(client)


@pytest.fixture
def second_database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template=postgres_template)
    yield url
    shared.drop_database(url)


@asynccontextmanager
async def mirroring(kurrent: KurrentDouble, url: str, **options: Any) -> AsyncIterator[PostgresLog]:
    """A running mirror, and the log that it copies into."""
    options = {"silent_seconds": SILENT, **options}
    mirror = Mirror(kurrent.url, url, CODEC.kinds, **options)
    async with PostgresLog.open(url, CODEC, pool_size=2) as log:
        task = asyncio.create_task(mirror.run())
        try:
            yield log
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def reaches(log: PostgresLog, position: int) -> None:
    async with asyncio.timeout(SOON):
        await log.watcher.beyond(position - 1)


def rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT * FROM log.events ORDER BY position").fetchall()


def checkpoint(url: str) -> tuple[Any, ...] | None:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT commit_position, position, halted FROM log.mirror").fetchone()


async def halts(url: str, why: str) -> None:
    async with asyncio.timeout(SOON):
        while why not in str(checkpoint(url)):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def is_intact(log: PostgresLog) -> bool:
    found = [step async for step in log.verify(ChainVerifier(), upto=await log.head())]
    return not any(isinstance(step, Fault) for step in found)


# -- what is copied --------------------------------------------------------------------------------


async def test_events_and_keys_are_copied_in_their_order(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    key = uuid4()
    first = await writer.append("a", "b", key=key)
    kurrent.append_foreign("orders-1", "OrderPlaced", b"{}")
    async with mirroring(kurrent, database) as log:
        await reaches(log, 2)
        await writer.append("c", stream=first, after=2)
        await reaches(log, 3)
        found = await log.read()
        assert [each.event.text for each in found] == ["a", "b", "c"]
        assert [each.env.position for each in found] == [1, 2, 3]
        assert [each.env.version for each in found] == [1, 2, 3]
        assert found[0].env.recorded_at == found[1].env.recorded_at
        assert {each.env.actor for each in found} == {"user:ána"}
        done = await log.done(key)
        assert done is not None
        assert (done.position, done.fingerprint, done.result_ids) == (2, b"\1\2", {"id": "x"})
        assert await is_intact(log)


async def test_every_mirror_has_the_same_hashes(
    kurrent: KurrentDouble, writer: Writer, database: str, second_database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        for number in range(20):
            await writer.append(*(f"{number}.{n}" for n in range(number % 3 + 1)))
        await reaches(log, 39)
    async with mirroring(kurrent, second_database) as log:
        await reaches(log, 39)
    assert rows(database) == rows(second_database)


async def test_a_key_that_the_server_no_longer_has_changes_nothing_else(
    kurrent: KurrentDouble, writer: Writer, database: str, second_database: str
) -> None:
    key = uuid4()
    await writer.append("a", "b", key=key)
    async with mirroring(kurrent, database) as log:
        await reaches(log, 2)
    kurrent.store.delete(wire.once_name(key), 0, for_ever=False)
    kurrent.store.scavenge()
    async with mirroring(kurrent, second_database) as anew:
        await reaches(anew, 2)
        assert await anew.done(key) is None
    assert rows(second_database) == rows(database)


async def test_a_mirror_that_starts_again_goes_on_where_it_was(
    kurrent: KurrentDouble, writer: Writer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    for position in range(1, 4):
        await writer.append("a", key=uuid4())
        async with mirroring(kurrent, database) as log:
            await reaches(log, position)
    assert caplog.messages == []


async def test_events_out_of_their_order_stop_the_mirror(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    await writer.append("a")
    first = kurrent.store.log[0].position
    await writer.append("b", "c")
    last = kurrent.store.log[-1]
    kurrent.go_back(first)
    async with open_client(kurrent.url) as client:
        moved = NewRecord(last.stream, last.type, last.data, last.metadata)
        await client.append_records(moved)
    async with mirroring(kurrent, database):
        await halts(database, "not in their order")
    assert len(rows(database)) == 1


async def test_a_mirror_that_is_cut_down_again_and_again_copies_everything_once(
    kurrent: KurrentDouble, writer: Writer, database: str, second_database: str
) -> None:
    chance = random.Random(7)
    streams = [await writer.append(str(n), str(-n), key=uuid4()) for n in range(40)]
    async with PostgresLog.open(database, CODEC, pool_size=1) as log:
        while await log.head() < 80:
            task = asyncio.create_task(Mirror(kurrent.url, database).run())
            await asyncio.sleep(chance.random() * 0.06)
            if chance.random() < 0.5:
                await asyncio.to_thread(_end_sessions, database)
                await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await is_intact(log)
    async with mirroring(kurrent, second_database) as log:
        await reaches(log, 80)
    assert rows(database) == rows(second_database)
    assert len({row[2] for row in rows(database)}) == len(streams)


async def test_two_mirrors_at_once_copy_everything_once(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log, mirroring(kurrent, database):
        for number in range(30):
            await writer.append(str(number))
        await reaches(log, 30)
        assert [each.event.text for each in await log.read()] == [str(n) for n in range(30)]
        assert await is_intact(log)
    found = checkpoint(database)
    assert found is not None
    assert found[1:] == (30, None)


def _end_sessions(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ludoteca mirror' AND datname = current_database()"
        )


# -- when KurrentDB fails --------------------------------------------------------------------------


async def test_a_subscription_that_falls_silent_is_opened_anew(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("before")
        await reaches(log, 1)
        kurrent.silence_subscriptions()
        await writer.append("unheard")
        await reaches(log, 2)
        assert [each.event.text for each in await log.read()] == ["before", "unheard"]


async def test_a_subscription_that_nothing_is_to_be_heard_of_stays_open(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("before")
        await reaches(log, 1)
        opened = kurrent.calls["Subscribe"]
        looked = kurrent.calls["Read"]
        async with asyncio.timeout(SOON):
            while kurrent.calls["Read"] < looked + 3:  # noqa: ASYNC110 - it is in threads
                await asyncio.sleep(0.02)
        assert kurrent.calls["Subscribe"] == opened


async def test_what_fails_is_outlived(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        kurrent.end_subscriptions()
        await writer.append("2")
        await reaches(log, 2)
        await asyncio.to_thread(kurrent.stop)
        await asyncio.to_thread(kurrent.start)
        await writer.append("3")
        await reaches(log, 3)
        await asyncio.to_thread(_end_sessions, database)
        await writer.append("4")
        await reaches(log, 4)
        assert [each.event.text for each in await log.read()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
async def test_a_new_leader_is_followed(database: str, silent: bool) -> None:
    with KurrentDouble(nodes=3) as kurrent:
        async with open_client(kurrent.url) as client, mirroring(kurrent, database) as log:
            writer = Writer(client)
            await writer.append("1")
            await reaches(log, 1)
            kurrent.change_leader(silent=silent)
            await writer.append("2")
            await reaches(log, 2)


async def test_a_mirror_that_does_not_run_is_late(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with PostgresLog.open(database, CODEC, pool_size=1) as log:
        with pytest.raises(LogUnavailable, match="never ran"):
            await must_keep_up(log.pool)
        await writer.append("1")
        async with mirroring(kurrent, database):
            await reaches(log, 1)
            await must_keep_up(log.pool)
        _was_seen_a_minute_ago(database)
        with pytest.raises(LogUnavailable, match="60 s behind"):
            await must_keep_up(log.pool)


async def test_a_mirror_with_nothing_to_copy_is_not_late(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        _was_seen_a_minute_ago(database)
        async with asyncio.timeout(SOON):
            while (await require_going(log.pool) or timedelta()) > LATE:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await must_keep_up(log.pool)


def _was_seen_a_minute_ago(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE log.mirror SET seen_at = clock_timestamp() - interval '1 minute'")


# -- seals -----------------------------------------------------------------------------------------


async def test_a_mirror_built_anew_checks_each_seal(
    kurrent: KurrentDouble, writer: Writer, database: str, second_database: str
) -> None:
    async with mirroring(kurrent, database, seal_events=2) as log:
        for number in range(6):
            await writer.append(str(number))
            await reaches(log, number + 1)
        seals = await _seals(kurrent, 2)
    hashes = {row[0]: row[11].hex() for row in rows(database)}
    assert all(hashes[seal.position] == seal.hash for seal in seals)
    async with mirroring(kurrent, second_database) as log:
        await reaches(log, 6)
        await writer.append("goes on")
        await reaches(log, 7)


async def test_a_broken_seal_stops_the_mirror_and_is_named(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("sealed")
        await reaches(log, 1)
        wrong = Seal(1, 0, "00" * 32)
        kurrent.append_foreign(wire.SEALS, "ludoteca.seal.v1", msgspec.json.encode(wrong))
        await writer.append("behind it")
        await halts(database, "the seal of position 1 is broken")
        assert len(rows(database)) == 1
        with pytest.raises(LogUnavailable, match="seal"):
            await require_going(log.pool)


async def test_what_is_none_of_ours_stops_the_mirror_and_is_named(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        kurrent.append_foreign(wire.stream_name(uuid4()), "test.noted.v1", b"{}")
        await halts(database, "is none of ours")
    await writer.append("2")
    kurrent.append_foreign(wire.SEALS, "ludoteca.seal.v1", b"rubbish")
    with pytest.raises(Halted, match="ludoteca-seals, is none of ours"):
        await Mirror(kurrent.url, database).catch_up(lambda *_: None)


async def test_a_name_that_postgresql_cannot_store_stops_the_mirror(
    kurrent: KurrentDouble, database: str
) -> None:
    metadata = msgspec.json.encode({"append": "0/1", "actor": "system"})
    record = NewRecord(wire.stream_name(uuid4()), "a\0b", b"{}", metadata)
    async with open_client(kurrent.url) as client:
        await client.append_records([record], [])
    with pytest.raises(Halted, match="cannot store"):
        await Mirror(kurrent.url, database).catch_up(lambda *_: None)


async def test_among_the_records_of_others_a_silent_subscription_is_noticed(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        for number in range(200):
            kurrent.append_foreign(f"other-{number}", "Other", b"{}")
        kurrent.silence_subscriptions()
        kurrent.append_foreign("other", "Other", b"{}")
        await writer.append("2")
        await reaches(log, 2)


async def test_without_its_seals_the_mirror_goes_on(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with open_client(kurrent.url) as client:
        await client.tombstone_stream(wire.SEALS, current_version=StreamState.ANY)
    async with mirroring(kurrent, database, seal_events=1) as log:
        for number in range(3):
            await writer.append(str(number))
            await reaches(log, number + 1)
        assert kurrent.calls["Subscribe"] == 1


async def test_a_seal_that_was_not_taken_is_made_up_for_though_nothing_is_appended(
    kurrent: KurrentDouble, writer: Writer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal, failures = AsyncKurrentDBClient.append_to_stream, [DeadlineExceededError()]

    async def fails_once(client: AsyncKurrentDBClient, *given: Any, **options: Any) -> int:
        if failures:
            raise failures.pop()
        return await seal(client, *given, **options)

    monkeypatch.setattr(AsyncKurrentDBClient, "append_to_stream", fails_once)
    monkeypatch.setattr(mirror_module, "SEAL_SECONDS", 0.3)
    await writer.append("the last one for long")
    async with mirroring(kurrent, database, seal_events=1):
        assert (await _seals(kurrent, 1))[-1].position == 1
    assert failures == []
    assert kurrent.calls["Subscribe"] == 1


async def _seals(kurrent: KurrentDouble, count: int) -> list[Seal]:
    async with open_client(kurrent.url) as client, asyncio.timeout(SOON):
        while True:
            with suppress(Exception):
                found = await client.get_stream(wire.SEALS)
                if len(found) >= count:
                    return [msgspec.json.decode(each.data, type=Seal) for each in found]
            await asyncio.sleep(0.02)


# -- histories that part ---------------------------------------------------------------------------


async def test_a_kurrentdb_that_went_back_is_noticed_and_gets_the_rest_again(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1", "2")
        await reaches(log, 2)
        found = checkpoint(database)
        assert found is not None
        await writer.append("3", "4", "5")
        await reaches(log, 5)
        before = rows(database)
        kurrent.go_back(found[0])
        kurrent.end_subscriptions()
        await halts(database, "events 3 to 5, which KurrentDB lacks")
        with pytest.raises(LogUnavailable, match="log copy"):
            await require_going(log.pool)

        await to_kurrentdb(database, kurrent.url, lambda *_: None)
        await writer.append("6")
        await reaches(log, 6)
        assert rows(database)[:5] == before
        await require_going(log.pool)


async def test_a_kurrentdb_that_lost_everything_is_filled_again(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1", "2", key=uuid4())
        await reaches(log, 2)
        before = rows(database)
        kurrent.go_back(0)
        kurrent.end_subscriptions()
        await halts(database, "events 1 to 2, which KurrentDB lacks")
        await to_kurrentdb(database, kurrent.url, lambda *_: None)
        await writer.append("3")
        await reaches(log, 3)
        assert rows(database)[:2] == before


async def test_two_histories_are_not_mixed(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        found = checkpoint(database)
        assert found is not None
        await writer.append("2")
        await reaches(log, 2)
        before = rows(database)
    kurrent.go_back(found[0])
    await writer.append("another")
    with pytest.raises(Halted, match="another event at position 2"):
        await Mirror(kurrent.url, database).catch_up(lambda *_: None)
    assert rows(database) == before


async def test_events_that_were_appended_beside_the_mirror_are_named(
    kurrent: KurrentDouble, writer: Writer, database: str
) -> None:
    async with mirroring(kurrent, database) as log:
        await writer.append("1")
        await reaches(log, 1)
        admin(database, "ALTER TABLE log.events DISABLE TRIGGER only_the_mirror")
        await log.append([new_stream("beside")])
        await writer.append("2")
        await halts(database, "another event at position 2")
