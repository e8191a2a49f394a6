"""What is the log on KurrentDB's own: it waits for its mirror, and has its keys in two places."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from adapters.kurrentdb import kurrent_log
from adapters.kurrentdb.kurrent_log import KurrentLog
from adapters.kurrentdb.wire import once_name
from eventstore.chain import ChainVerifier
from eventstore.log import (
    AlreadyDone,
    IdempotencyKey,
    LogUnavailable,
    Metadata,
    StreamAppend,
    StreamRead,
    VersionConflict,
)
from eventstore.postgres_log import PostgresLog
from tests.support.databases.going_back import Earlier
from tests.support.events.notes import CODEC, Counted, admin, new_stream, noted, texts_of
from tests.support.servers import shared
from tests.support.servers.faulty_proxy import Proxy
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.kurrent.logs import (
    LONG,
    appended_once,
    mirrored_log,
    mirroring,
    unavailable,
)

pytestmark = pytest.mark.server


@pytest.fixture
def log(kurrent_log: KurrentLog) -> KurrentLog:
    return kurrent_log


# -- the mirror ------------------------------------------------------------------------------------


async def test_without_a_mirror_an_append_is_not_acknowledged_but_happens(
    kurrent: KurrentDouble, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kurrent_log, "MIRROR_SECONDS", 0.5)
    stream, once = uuid4(), IdempotencyKey(uuid4())
    async with KurrentLog.mirrored(kurrent.url, database, CODEC, pool_size=3) as log:
        await unavailable(log.append([StreamAppend(stream, 0, noted("a"))], once=once))
        await unavailable(log.done(once.key))
        # who decides on what the mirror has does not learn that he lost before he can see to whom
        await unavailable(log.append([StreamAppend(stream, 0, noted("b"))]))
        async with mirroring(kurrent.url, database):
            monkeypatch.undo()
            with pytest.raises(AlreadyDone) as repeat:
                await log.append([StreamAppend(stream, 0, noted("a"))], once=once)
            assert repeat.value.done.position == 1
            with pytest.raises(VersionConflict):
                await log.append([StreamAppend(stream, 0, noted("b"))])
            assert texts_of(await log.read_stream(stream)) == ["a"]


async def test_who_waits_for_the_mirror_learns_when_postgresql_is_down(
    kurrent: KurrentDouble, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kurrent_log, "MIRROR_SECONDS", 10 * LONG)
    with Proxy(database) as proxy:
        async with KurrentLog.mirrored(
            kurrent.url, proxy.url, CODEC, pool_size=3, watched=True
        ) as log:
            waiting = asyncio.create_task(unavailable(log.append([new_stream("a")])))
            await asyncio.to_thread(kurrent.store.wait_for_records, 1)
            proxy.freeze()
            await waiting


async def test_while_the_mirror_has_come_to_a_halt_nothing_is_appended(
    kurrent: KurrentDouble, database: str
) -> None:
    async with mirrored_log(kurrent.url, database) as log:
        await log.append([new_stream("a")])
    admin(database, "SELECT log.halt_mirror('another history')")
    there = len(kurrent.store.log)
    async with KurrentLog.mirrored(kurrent.url, database, CODEC, pool_size=3) as log:
        with pytest.raises(LogUnavailable, match="another history"):
            await log.append([new_stream("b")])
    assert len(kurrent.store.log) == there


async def test_who_appends_to_postgresql_alone_is_refused_beside_a_mirror(
    log: KurrentLog, database: str
) -> None:
    await log.append([new_stream("a")])
    async with PostgresLog.open(database, CODEC, pool_size=3) as alone:
        await unavailable(alone.append([new_stream("b")]))
        await log.append([new_stream("c")])
        assert texts_of(await alone.read()) == ["a", "c"]


async def test_a_lost_connection_to_the_mirror_s_database_is_survived(
    log: KurrentLog, database: str
) -> None:
    stream = uuid4()
    for n in range(10):
        appending = asyncio.create_task(log.append([StreamAppend(stream, n, [Counted(n)])]))
        if n % 3 == 1:
            await asyncio.to_thread(
                admin,
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        try:
            await appending
        except LogUnavailable:  # in doubt: the version tells
            async with asyncio.timeout(LONG):
                while await log.versions([stream]) == [n]:
                    with_version = [StreamAppend(stream, n, [Counted(n)])]
                    try:
                        await log.append(with_version)
                    except (LogUnavailable, VersionConflict, psycopg.Error):
                        await asyncio.sleep(0.05)
    assert [e.event.by for e in await log.read_stream(stream)] == list(range(10))


async def test_a_mirror_whose_database_goes_back_gets_the_rest_again(
    kurrent: KurrentDouble, postgres_url: str, postgres_template: str
) -> None:
    url = shared.create_database(postgres_url, template=postgres_template)
    try:
        earlier = Earlier(url)
        async with mirrored_log(kurrent.url, url) as log:
            await log.append([new_stream("a")])
            await asyncio.to_thread(earlier.keep)
            await appended_once(log, new_stream("b"))
            before = [event.env for event in await log.read()]
            await asyncio.to_thread(earlier.go_back)
            await appended_once(log, new_stream("c"))
            after = await log.read()
            assert [event.env for event in after[:2]] == before
            assert texts_of(after) == ["a", "b", "c"]
    finally:
        shared.drop_database(url)


async def test_the_mirror_has_the_rows_that_an_append_to_postgresql_would_have_written(
    log: KurrentLog,
) -> None:
    metadata = Metadata("user:ána", uuid4(), uuid4(), "00-0af7651916cd43dd-01")
    for n in range(3):
        await log.append([new_stream(f"ñ{n}", "\x7f"), new_stream("")], metadata)
    raw = await log.read_raw()
    assert [payload for _, payload in raw] == [
        payload
        for n in range(3)
        for payload in (f'{{"text":"ñ{n}"}}'.encode(), b'{"text":"\x7f"}', b'{"text":""}')
    ]
    verifier = ChainVerifier()
    steps = [step async for step in log.verify(verifier, upto=9)]
    assert steps == [9]
    assert len({env.recorded_at for env, _ in raw}) == 3  # an append has one time


# -- keys and versions -----------------------------------------------------------------------------


async def test_a_key_that_was_used_again_is_not_purged(
    kurrent: KurrentDouble, log: KurrentLog, database: str
) -> None:
    now = datetime.now(UTC)
    over = IdempotencyKey(uuid4(), expires_at=now - timedelta(seconds=1))
    again = IdempotencyKey(over.key, expires_at=now + timedelta(hours=1))
    await log.append([new_stream("a")], once=over)
    # a process deletes the key from KurrentDB, and stops; another one uses it again
    kurrent.store.delete(once_name(over.key), 0, for_ever=False)
    await log.append([new_stream("b")], once=again)
    assert await log.purge_expired() == 0
    with pytest.raises(AlreadyDone):
        await log.append([new_stream("c")], once=again)
    # the mirror is behind: it still has the key as it was
    admin(database, "UPDATE log.once SET expires_at = %s", over.expires_at)
    await log.purge_expired()
    with pytest.raises((AlreadyDone, VersionConflict)):
        await log.append([new_stream("c")], once=again)
    assert texts_of(await log.read()) == ["a", "b"]


async def test_keys_are_purged_when_kurrentdb_is_there_again(
    kurrent: KurrentDouble, log: KurrentLog
) -> None:
    once = IdempotencyKey(uuid4(), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await log.append([new_stream("a")], once=once)
    kurrent.freeze()
    assert await log.purge_expired() == 0
    kurrent.thaw()
    assert await log.purge_expired() == 1
    assert await log.done(once.key) is None


async def test_a_log_that_was_restored_keeps_the_keys_of_its_time_until_it_goes_on(
    log: KurrentLog, database: str
) -> None:
    await log.append([new_stream("a")])
    once = IdempotencyKey(uuid4(), expires_at=datetime.now(UTC) - timedelta(days=35))
    await log.append([new_stream("b")], once=once)
    admin(database, "ALTER TABLE log.events DISABLE TRIGGER append_only")
    admin(database, "UPDATE log.events SET recorded_at = recorded_at - interval '400 days'")
    assert await log.purge_expired() == 0
    await log.append([new_stream("c")])
    assert await log.purge_expired() == 1


async def test_an_append_may_rest_on_a_stream_that_it_adds_to(log: KurrentLog) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, noted("a"))], reads=[StreamRead(stream, 0)])
    with pytest.raises(VersionConflict):
        await log.append([StreamAppend(stream, 1, noted("b"))], reads=[StreamRead(stream, 0)])


async def test_before_26_1_what_an_append_rests_on_is_looked_at_before_it(database: str) -> None:
    read, added = new_stream("read"), uuid4()
    with KurrentDouble(version="25.1") as kurrent:
        async with mirrored_log(kurrent.url, database) as log:
            await log.append([read])
            await log.append(
                [StreamAppend(added, 0, noted("a"))], reads=[StreamRead(read.stream_id, 1)]
            )
            for version in (0, 2):
                with pytest.raises(VersionConflict):
                    await log.append(
                        [StreamAppend(added, 1, noted("b"))],
                        reads=[StreamRead(read.stream_id, version)],
                    )
            await log.prove_writer()
            assert texts_of(await log.read()) == ["read", "a"]
            assert kurrent.calls["AppendSession"] > 0
