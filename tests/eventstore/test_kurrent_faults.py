"""The log on KurrentDB while KurrentDB or the way to it fails: nothing
acknowledged is lost, nothing happens twice, and nobody waits for ever."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.kurrentdb.kurrent_log import KurrentLog
from eventstore.chain import ChainVerifier
from eventstore.log import (
    AlreadyDone,
    IdempotencyKey,
    Log,
    LogUnavailable,
    StreamAppend,
    VersionConflict,
)
from tests.support.events.notes import CODEC, Counted, new_stream, noted, texts_of
from tests.support.servers.faulty_proxy import Proxy
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.kurrent.logs import (
    LONG,
    appended_once,
    mirrored_log,
    mirroring,
    unavailable,
)
from tests.support.servers.kurrent.process import KurrentProcess
from tests.support.servers.tls import Authority

pytestmark = pytest.mark.server


@pytest.fixture
def log(kurrent_log: KurrentLog) -> KurrentLog:
    return kurrent_log


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
        async with mirrored_log(kurrent.url, database) as log:
            for n in range(count):
                if n % 10 == 5:
                    kurrent.change_leader(silent=True)
                await appended_once(log, StreamAppend(stream, n, [Counted(n)]))
            assert [e.event.by for e in await log.read_stream(stream)] == list(range(count))


async def test_a_node_that_hangs_is_left_for_the_new_leader(database: str) -> None:
    with KurrentDouble(3) as kurrent:
        async with mirrored_log(kurrent.url, database) as log:
            await log.append([new_stream("a")])
            kurrent.freeze(0)
            kurrent.change_leader(silent=True)
            await appended_once(log, new_stream("b"))
            assert texts_of(await log.read()) == ["a", "b"]


async def test_a_follower_alone_takes_nothing(database: str) -> None:
    with KurrentDouble(2) as kurrent:
        async with mirrored_log(kurrent.url_of(1), database) as log:
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


async def test_what_a_killed_or_hanging_server_had_acknowledged_is_there(
    database: str, tmp_path: Path
) -> None:
    server, stream = KurrentProcess(tmp_path), uuid4()
    try:
        async with mirrored_log(server.url, database) as log:
            for n in range(7):
                appending = asyncio.create_task(
                    appended_once(log, StreamAppend(stream, n, [Counted(n)]))
                )
                if n == 2:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                elif n == 5:
                    server.hang()
                    await unavailable(log.append([new_stream("meanwhile")]))
                    server.go_on()
                await appending
            assert [e.event.by for e in await log.read_stream(stream)] == list(range(7))
    finally:
        server.kill()


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
        async with mirrored_log(kurrent.url, database) as log:
            await log.append([new_stream("a")])
            assert texts_of(await log.read()) == ["a"]


@pytest.mark.parametrize("wrong", ["expired", "of another server", "of a stranger"])
async def test_a_server_with_a_wrong_certificate_gets_no_data(
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
        async with (
            mirrored_log(kurrent.url, database) as here,
            mirrored_log(kurrent.url, database) as there,
        ):
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
