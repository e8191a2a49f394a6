"""The log on KurrentDB while KurrentDB, the way to it, or the mirror fails: nothing
acknowledged is lost, nothing happens twice, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from time import monotonic
from uuid import UUID, uuid4

import psycopg
import pytest

from adapters.kurrentdb import kurrent_log
from adapters.kurrentdb.kurrent_log import KurrentLog
from adapters.kurrentdb.mirror import Mirror
from adapters.kurrentdb.wire import once_name
from eventstore.chain import ChainVerifier
from eventstore.log import (
    AlreadyDone,
    IdempotencyKey,
    Log,
    LogUnavailable,
    Metadata,
    StreamAppend,
    StreamRead,
    VersionConflict,
)
from tests.support.events.notes import CODEC, Counted, admin, new_stream, noted, texts_of
from tests.support.servers.faulty_proxy import Proxy
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.tls import Authority

pytestmark = pytest.mark.server

LONG = 20.0
"""Seconds: more than any wait of the log's, also on a busy machine."""


@asynccontextmanager
async def mirroring(kurrentdb_url: str, database: str) -> AsyncIterator[None]:
    mirror = asyncio.create_task(
        Mirror(kurrentdb_url, database, CODEC.kinds, silent_seconds=0.3).run()
    )
    try:
        yield
    finally:
        mirror.cancel()
        await asyncio.wait([mirror])


@asynccontextmanager
async def opened(kurrentdb_url: str, database: str) -> AsyncIterator[KurrentLog]:
    """The log, and a mirror."""
    async with (
        mirroring(kurrentdb_url, database),
        KurrentLog.mirrored(kurrentdb_url, database, CODEC, pool_size=3) as log,
    ):
        yield log


@pytest.fixture
async def log(kurrent: KurrentDouble, database: str) -> AsyncIterator[KurrentLog]:
    async with opened(kurrent.url, database) as log:
        yield log


async def unavailable(call: Awaitable[object]) -> None:
    """The call must end in time, by LogUnavailable."""
    began = monotonic()
    with pytest.raises(LogUnavailable):
        await call
    assert monotonic() - began < LONG


async def appended_once(log: Log, append: StreamAppend) -> None:
    """Append, again and again while the log is unavailable; as a client does that has a key."""
    once = IdempotencyKey(uuid4())
    async with asyncio.timeout(LONG):
        while True:
            try:
                await log.append([append], once=once)
            except LogUnavailable:
                await asyncio.sleep(0.05)
            except AlreadyDone:
                return
            else:
                return


# -- the way to KurrentDB --------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [1, 2, 3], ids=["once", "twice", "three times"])
@pytest.mark.parametrize("committed", [True, False], ids=["after", "before"])
async def test_a_connection_that_is_cut_in_the_middle_of_an_append_appends_it_once(
    kurrent: KurrentDouble, log: KurrentLog, committed: bool, cuts: int
) -> None:
    stream, other, once = uuid4(), uuid4(), IdempotencyKey(uuid4())
    await log.append([StreamAppend(stream, 0, noted("a"))])
    for _ in range(cuts):
        kurrent.cut_next_append(committed=committed)
    appended = await log.append(
        [StreamAppend(stream, 1, noted("b")), StreamAppend(other, 0, noted("c"))], once=once
    )
    assert texts_of(await log.read()) == ["a", "b", "c"]
    assert (appended.first_position, appended.position) == (2, 3)
    done = await log.done(once.key)
    assert done is not None
    assert done.position == 3


@pytest.mark.parametrize("committed", [True, False], ids=["after", "before"])
async def test_of_an_append_in_doubt_its_key_tells_whether_it_happened(
    kurrent: KurrentDouble, log: KurrentLog, committed: bool
) -> None:
    append, once = new_stream("a"), IdempotencyKey(uuid4(), b"f", {"id": "7"})
    kurrent.cut_next_append(committed=committed, freezes=True)
    await unavailable(log.append([append], once=once))
    kurrent.thaw()
    if committed:
        with pytest.raises(AlreadyDone) as repeat:
            await log.append([append], once=once)
        assert repeat.value.done.result_ids == {"id": "7"}
    else:  # what was under way when the server hung may come then
        with suppress(AlreadyDone):
            await log.append([append], once=once)
    assert texts_of(await log.read()) == ["a"]


async def test_a_change_of_leader_loses_and_repeats_nothing(database: str) -> None:
    stream, count = uuid4(), 30
    with KurrentDouble(3) as kurrent:
        async with opened(kurrent.url, database) as log:
            for n in range(count):
                if n % 10 == 5:
                    kurrent.change_leader(silent=True)
                await appended_once(log, StreamAppend(stream, n, [Counted(n)]))
            assert [e.event.by for e in await log.read_stream(stream)] == list(range(count))


async def test_a_node_that_hangs_is_left_for_the_new_leader(database: str) -> None:
    with KurrentDouble(3) as kurrent:
        async with opened(kurrent.url, database) as log:
            await log.append([new_stream("a")])
            kurrent.freeze(0)
            kurrent.change_leader(silent=True)
            await appended_once(log, new_stream("b"))
            assert texts_of(await log.read()) == ["a", "b"]


async def test_a_follower_alone_takes_nothing(database: str) -> None:
    with KurrentDouble(2) as kurrent:
        async with opened(kurrent.url_of(1), database) as log:
            await unavailable(log.append([new_stream("a")]))
            await unavailable(log.prove_writer())
            assert kurrent.store.log == []


async def test_a_server_that_hangs_holds_nobody(kurrent: KurrentDouble, log: KurrentLog) -> None:
    await log.append([new_stream("a")])
    kurrent.freeze()
    await asyncio.gather(
        unavailable(log.append([new_stream("b")])),
        unavailable(log.done(uuid4())),
        unavailable(log.prove_writer()),
        unavailable(log.prove_writer(another=True)),
    )
    assert texts_of(await log.read()) == ["a"]  # the mirror answers
    kurrent.thaw()
    await appended_once(log, new_stream("c"))
    await log.prove_writer()


async def test_a_server_that_was_away_is_found_again(
    kurrent: KurrentDouble, log: KurrentLog
) -> None:
    await log.append([new_stream("a")])
    kurrent.stop()
    await unavailable(log.append([new_stream("b")]))
    kurrent.start()
    await appended_once(log, new_stream("c"))
    assert texts_of(await log.read()) == ["a", "c"]


async def test_a_network_that_falls_silent_holds_nobody(
    kurrent: KurrentDouble, database: str
) -> None:
    with Proxy(kurrent.url) as proxy:
        async with (
            mirroring(kurrent.url, database),
            KurrentLog.mirrored(proxy.url, database, CODEC, pool_size=3) as log,
        ):
            await log.append([new_stream("a")])
            proxy.freeze()
            await unavailable(log.append([new_stream("b")]))
            proxy.heal()
            await appended_once(log, new_stream("c"))


async def test_a_proof_appends_nothing(kurrent: KurrentDouble, log: KurrentLog) -> None:
    await log.prove_writer()
    await log.prove_writer(another=True)
    assert kurrent.store.log == []


async def test_login_and_authority_come_from_the_url(database: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("127.0.0.1")
    with KurrentDouble(tls=pair, ca_file=authority.file, login="ana:a /@: secret") as kurrent:
        async with opened(kurrent.url, database) as log:
            await log.append([new_stream("a")])
            assert texts_of(await log.read()) == ["a"]


@pytest.mark.parametrize("wrong", ["expired", "of another server", "of a stranger"])
async def test_a_server_with_a_wrong_certificate_is_told_nothing(
    database: str, tmp_path: Path, wrong: str
) -> None:
    authority = Authority(tmp_path)
    name = "127.0.0.2" if wrong == "of another server" else "127.0.0.1"
    pair = authority.pair(name, expired=wrong == "expired")
    if wrong == "of a stranger":
        authority = Authority(tmp_path)  # its file replaces that of the one that is known
    with KurrentDouble(tls=pair, ca_file=authority.file, login="ana:secret") as kurrent:
        async with KurrentLog.mirrored(kurrent.url, database, CODEC, pool_size=3) as log:
            await unavailable(log.append([new_stream("a")]))
            assert not kurrent.calls


# -- many faults at once ---------------------------------------------------------------------------

WORKERS, TIMES = 4, 12


async def add_notes(
    log: Log, streams: Sequence[UUID], worker: int, faults: Iterator[Callable[[], None]]
) -> None:
    """Add notes to the streams in turn, each with a key, until each is in; before each, a fault."""
    for n in range(TIMES):
        stream, once = streams[(worker + n) % len(streams)], IdempotencyKey(uuid4())
        next(faults)()
        async with asyncio.timeout(3 * LONG):
            while True:
                (version,) = await log.versions([stream])
                text = noted(f"{worker}-{n}")
                try:
                    await log.append([StreamAppend(stream, version, text)], once=once)
                except LogUnavailable:
                    await asyncio.sleep(0.02)
                except VersionConflict:
                    pass
                except AlreadyDone:
                    break
                else:
                    break


async def test_under_many_faults_everything_happens_once_and_in_one_order(database: str) -> None:
    with KurrentDouble(3) as kurrent:
        faults: Iterator[Callable[[], None]] = cycle(
            [
                lambda: kurrent.cut_next_append(committed=True),
                lambda: kurrent.cut_next_append(committed=False),
                lambda: None,
                kurrent.end_subscriptions,
                kurrent.silence_subscriptions,
                kurrent.change_leader,
                lambda: kurrent.change_leader(silent=True),
            ]
        )
        streams = [uuid4() for _ in range(3)]
        async with opened(kurrent.url, database) as here, opened(kurrent.url, database) as there:
            await asyncio.gather(
                *(add_notes((here, there)[n % 2], streams, n, faults) for n in range(WORKERS))
            )
            events = await here.read()
            assert sorted(texts_of(events)) == sorted(
                f"{worker}-{n}" for worker in range(WORKERS) for n in range(TIMES)
            )
            steps = [step async for step in here.verify(ChainVerifier(), upto=len(events))]
            assert steps == [len(events)]
        ids = {str(event.env.event_id) for event in events}
        order = [record.id for record in kurrent.store.log if record.id in ids]
        assert order == [str(event.env.event_id) for event in events]


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
    async with opened(kurrent.url, database) as log:
        await log.append([new_stream("a")])
    admin(database, "SELECT log.halt_mirror('another history')")
    there = len(kurrent.store.log)
    async with KurrentLog.mirrored(kurrent.url, database, CODEC, pool_size=3) as log:
        with pytest.raises(LogUnavailable, match="another history"):
            await log.append([new_stream("b")])
    assert len(kurrent.store.log) == there


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


async def test_what_an_append_adds_to_it_may_also_rest_on(log: KurrentLog) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, noted("a"))], reads=[StreamRead(stream, 0)])
    with pytest.raises(VersionConflict):
        await log.append([StreamAppend(stream, 1, noted("b"))], reads=[StreamRead(stream, 0)])


async def test_before_26_1_what_an_append_rests_on_is_looked_at_before_it(database: str) -> None:
    read, added = new_stream("read"), uuid4()
    with KurrentDouble(version="25.1") as kurrent:
        async with opened(kurrent.url, database) as log:
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
