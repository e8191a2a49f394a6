"""The writer that sends all waiting appends of a process as one statement: no append suffers from
another's error."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.append import writer
from eventstore.log import (
    AlreadyDone,
    Appended,
    IdempotencyKey,
    LogUnavailable,
    Metadata,
    StreamAppend,
    VersionConflict,
)
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, admin, new_stream, noted, texts_of
from tests.support.events.tail import SOON, WRITERS, tail_held, until_waiting


@asynccontextmanager
async def _one_batch(log: PostgresLog, database: str) -> AsyncIterator[None]:
    """Appends made in the block go as one batch: the writer is kept busy until its end."""
    with tail_held(database):
        busy = asyncio.create_task(log.append([new_stream("busy")]))
        await until_waiting(database)
        yield
        await asyncio.sleep(0)  # the block's appends are queued
    await busy


# -- one batch -------------------------------------------------------------------------------------


async def test_many_appends_at_once_are_all_in_the_log_at_positions_without_gaps(
    postgres_log: PostgresLog,
) -> None:
    count = writer.MAX_BATCH + 100
    appended = await asyncio.gather(
        *(postgres_log.append([new_stream(str(n))]) for n in range(count))
    )
    assert sorted(a.position for a in appended) == list(range(1, count + 1))
    events = await postgres_log.read(limit=count)
    assert [e.env.position for e in events] == list(range(1, count + 1))
    assert {e.env.position: e.event.text for e in events} == {
        a.position: str(n) for n, a in enumerate(appended)
    }
    assert len({e.env.recorded_at for e in events}) < count / 10, (
        "a batch is one statement, at one time"
    )


async def test_a_conflict_in_a_batch_fails_its_caller_alone(
    postgres_log: PostgresLog, database: str
) -> None:
    taken = new_stream("taken")
    await postgres_log.append([taken])
    async with _one_batch(postgres_log, database):
        good = [
            asyncio.create_task(postgres_log.append([new_stream("good", "good")])) for _ in range(5)
        ]
        late = asyncio.create_task(
            postgres_log.append([StreamAppend(taken.stream_id, 0, noted("late"))])
        )
        early = asyncio.create_task(postgres_log.append([StreamAppend(uuid4(), 9, noted("early"))]))
        more = asyncio.create_task(
            postgres_log.append([StreamAppend(taken.stream_id, 1, noted("next"))])
        )
    for refused in (late, early):
        with pytest.raises(VersionConflict):
            await refused
    landed = await asyncio.gather(*good, more)
    assert [a.position - a.first_position for a in landed] == [1] * 5 + [0]
    events = {e.env.position: e.event.text for e in await postgres_log.read()}
    assert list(events) == list(range(1, 14))
    assert all(events[a.first_position] == events[a.position] == "good" for a in landed[:5])
    assert events[landed[5].position] == "next"


async def test_a_known_once_key_in_a_batch_stops_its_caller_alone(
    postgres_log: PostgresLog, database: str
) -> None:
    once = IdempotencyKey(uuid4(), result_ids={"id": "1"})
    await postgres_log.append([new_stream("first")], once=once)
    async with _one_batch(postgres_log, database):
        repeat = asyncio.create_task(postgres_log.append([new_stream("repeat")], once=once))
        other = asyncio.create_task(
            postgres_log.append([new_stream("other")], once=IdempotencyKey(uuid4()))
        )
    with pytest.raises(AlreadyDone) as done:
        await repeat
    assert done.value.done.result_ids == {"id": "1"}
    assert (await other).position == 3
    assert texts_of(await postgres_log.read()) == ["first", "busy", "other"]


async def test_appends_to_one_stream_keep_the_order_in_which_they_were_made(
    postgres_log: PostgresLog, database: str
) -> None:
    stream = uuid4()
    async with _one_batch(postgres_log, database):
        appends = [
            asyncio.create_task(postgres_log.append([StreamAppend(stream, n, noted(str(n)))]))
            for n in range(4)
        ]
    await asyncio.gather(*appends)
    assert texts_of(await postgres_log.read_stream(stream)) == ["0", "1", "2", "3"]


async def test_a_batch_that_is_sent_behind_another_does_not_share_its_fate(
    postgres_log: PostgresLog, database: str
) -> None:
    taken, stream = new_stream("taken"), uuid4()
    await postgres_log.append([taken])
    with tail_held(database):
        late = asyncio.create_task(
            postgres_log.append([StreamAppend(taken.stream_id, 0, noted("late"))])
        )
        first = asyncio.create_task(postgres_log.append([StreamAppend(stream, 0, noted("first"))]))
        await until_waiting(database)  # with these two; many more are sent behind this batch
        many = [
            asyncio.create_task(postgres_log.append([new_stream("many")]))
            for _ in range(writer.OVERLAP)
        ]
        second = asyncio.create_task(
            postgres_log.append([StreamAppend(stream, 1, noted("second"))])
        )
        await asyncio.sleep(0)
    with pytest.raises(VersionConflict):
        await late
    await asyncio.gather(*many, first, second)
    assert texts_of(await postgres_log.read_stream(stream)) == ["first", "second"]
    assert [e.env.position for e in await postgres_log.read()] == list(range(1, writer.OVERLAP + 4))


async def test_two_batches_on_their_way_outlive_a_lost_connection(
    postgres_log: PostgresLog, database: str
) -> None:
    await postgres_log.append([new_stream("before")])
    with tail_held(database):
        streams = [new_stream(str(n)) for n in range(4 * writer.OVERLAP)]
        appends = [asyncio.create_task(postgres_log.append([stream])) for stream in streams]
        await until_waiting(database)
        _hang_up(postgres_log)
    appended = await asyncio.wait_for(asyncio.gather(*appends), SOON)
    assert {e.env.event_id for e in await postgres_log.read(1)} == {
        a.event_ids[0] for a in appended
    }
    assert sorted(a.position for a in appended) == list(range(2, 4 * writer.OVERLAP + 2))


@pytest.mark.parametrize("actor", ["user:\0", "user:\ud800"])
async def test_an_append_that_the_database_refuses_fails_alone(
    postgres_log: PostgresLog, database: str, actor: str
) -> None:
    async with _one_batch(postgres_log, database):
        before = asyncio.create_task(postgres_log.append([new_stream("before")]))
        bad = asyncio.create_task(postgres_log.append([new_stream("bad")], Metadata(actor)))
        after = asyncio.create_task(postgres_log.append([new_stream("after")]))
    with pytest.raises((psycopg.DataError, UnicodeEncodeError)):
        await bad
    await asyncio.gather(before, after)
    assert texts_of(await postgres_log.read()) == ["busy", "before", "after"]


async def test_a_once_record_that_cannot_be_written_fails_alone(
    postgres_log: PostgresLog, database: str
) -> None:
    timeless = IdempotencyKey(uuid4(), expires_at=datetime(2030, 1, 1))  # the error: no time zone
    async with _one_batch(postgres_log, database):
        bad = asyncio.create_task(postgres_log.append([new_stream("bad")], once=timeless))
        good = asyncio.create_task(postgres_log.append([new_stream("good")]))
    with pytest.raises(TypeError):
        await bad
    await good
    assert texts_of(await postgres_log.read()) == ["busy", "good"]


async def test_a_refusal_that_no_version_explains_is_raised(
    postgres_log: PostgresLog, database: str
) -> None:
    admin(database, "CREATE UNIQUE INDEX one_event_an_actor ON log.events (actor)")
    try:
        await postgres_log.append([new_stream("a")], Metadata("user:1"))
        refused, landed = await asyncio.wait_for(
            asyncio.gather(
                postgres_log.append([new_stream("b")], Metadata("user:1")),
                postgres_log.append([new_stream("c")], Metadata("user:2")),
                return_exceptions=True,
            ),
            SOON,
        )
    finally:
        admin(database, "DROP INDEX log.one_event_an_actor")
    assert isinstance(refused, psycopg.errors.UniqueViolation)
    assert not isinstance(landed, BaseException)
    assert texts_of(await postgres_log.read()) == ["a", "c"]


async def test_an_append_never_reads_the_whole_log_however_small_it_was_when_its_writer_connected(
    database: str,
) -> None:
    def scans() -> int:
        return int(
            str(
                admin(
                    database, "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'events'"
                )[0][0]
            )
        )

    # Backends report their counters when they end: those of the tests before do so now.
    admin(
        database,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    async with PostgresLog.open(database, CODEC, pool_size=1) as log:
        stream = new_stream("a")
        await log.append([stream])
        admin(database, "ANALYZE log.events")  # so that reading all of it looks cheapest
        before = scans()
        for version in range(1, 8):
            await log.append(
                [StreamAppend(stream.stream_id, version, noted("b"))], once=IdempotencyKey(uuid4())
            )
        with pytest.raises(VersionConflict):
            await log.append([StreamAppend(stream.stream_id, 1, noted("late"))])
    admin(database, f"SELECT pg_terminate_backend(pid, 5000) FROM ({WRITERS}) w")
    assert scans() == before


# -- callers that leave, and closing ---------------------------------------------------------------


async def test_a_caller_that_leaves_while_queued_appends_nothing(
    postgres_log: PostgresLog, database: str
) -> None:
    async with _one_batch(postgres_log, database):
        leaver = asyncio.create_task(postgres_log.append([new_stream("left")]))
        stayer = asyncio.create_task(postgres_log.append([new_stream("stayed")]))
        await asyncio.sleep(0)
        leaver.cancel()
    await stayer
    assert leaver.cancelled()
    assert texts_of(await postgres_log.read()) == ["busy", "stayed"]


async def test_a_caller_that_leaves_during_the_commit_harms_nobody(
    postgres_log: PostgresLog, database: str
) -> None:
    with tail_held(database):
        leaver = asyncio.create_task(postgres_log.append([new_stream("left")]))
        await until_waiting(database)
        leaver.cancel()
        stayer = asyncio.create_task(postgres_log.append([new_stream("stayed")]))
        await asyncio.sleep(0)
    assert (await stayer).position == 2
    assert texts_of(await postgres_log.read()) == ["left", "stayed"]


async def test_closing_finishes_what_waits(database: str) -> None:
    with tail_held(database) as other:
        async with PostgresLog.open(database, CODEC) as log:
            in_flight = asyncio.create_task(log.append([new_stream("in flight")]))
            await until_waiting(database)
            queued = asyncio.create_task(log.append([new_stream("queued")]))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, other.rollback)  # while it closes
    assert [(await in_flight).position, (await queued).position] == [1, 2]


async def test_closing_while_the_database_hangs_leaves_nobody_waiting(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "APPEND_TIMEOUT_SECONDS", 0.05)
    with tail_held(database):
        async with PostgresLog.open(database, CODEC) as log:
            stuck = asyncio.create_task(log.append([new_stream("stuck")]))
            await until_waiting(database)
        with pytest.raises(LogUnavailable):
            await asyncio.wait_for(stuck, SOON)


async def test_an_unreachable_database_raises_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "APPEND_TIMEOUT_SECONDS", 0.1)
    async with PostgresLog.open("postgresql://nobody@/nothing?host=/nonexistent", CODEC) as log:
        for _ in range(2):  # the writer survives it
            outcomes = await asyncio.wait_for(
                asyncio.gather(
                    *(log.append([new_stream("x")]) for _ in range(5)), return_exceptions=True
                ),
                SOON,
            )
            assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)


# -- lost connections ------------------------------------------------------------------------------


async def test_an_append_outlives_a_lost_connection(
    postgres_log: PostgresLog, database: str
) -> None:
    await postgres_log.append([new_stream("before")])
    admin(database, f"SELECT pg_terminate_backend(pid, 5000) FROM ({WRITERS}) w")
    assert (await postgres_log.append([new_stream("after")])).position == 2


async def test_an_append_whose_answer_was_lost_reports_its_true_outcome(
    postgres_log: PostgresLog, database: str
) -> None:
    """The client loses the connection while the server is working: the server commits, and the
    writer must find that out."""
    taken, once = new_stream("taken"), IdempotencyKey(uuid4())
    await postgres_log.append([taken])
    with tail_held(database):
        landing = [asyncio.create_task(postgres_log.append([new_stream("a", "b")], once=once))]
        await until_waiting(database)
        _hang_up(postgres_log)
        # the old backend still waits, and so does the writer's second attempt
        await until_waiting(database, 2)
        late = asyncio.create_task(
            postgres_log.append([StreamAppend(taken.stream_id, 0, noted("late"))])
        )
        await asyncio.sleep(0)
    (appended,) = await asyncio.wait_for(asyncio.gather(*landing), SOON)
    assert (appended.first_position, appended.position) == (2, 3)
    with pytest.raises(VersionConflict):
        await late
    assert [e.env.event_id for e in await postgres_log.read(1)] == list(appended.event_ids)


def _hang_up(log: PostgresLog) -> None:
    """Cut the writer's connection on our side, as a network failure does."""
    pipeline = log._writer._sender._pipeline
    if pipeline is not None and not pipeline.lost:
        line = socket.socket(fileno=pipeline._socket)
        line.shutdown(socket.SHUT_RDWR)
        line.detach()


class Told:
    """The outcomes reported to the callers under faults, by the text of their event."""

    def __init__(self) -> None:
        self.landed: dict[str, Appended] = {}
        self.refused: set[str] = set()
        self.unsure: set[str] = set()
        self.progress = asyncio.Event()

    async def append(
        self,
        log: PostgresLog,
        text: str,
        stream: UUID,
        version: int,
        once: IdempotencyKey | None = None,
    ) -> None:
        try:
            self.landed[text] = await log.append(
                [StreamAppend(stream, version, noted(text))], once=once
            )
        except (VersionConflict, AlreadyDone):
            self.refused.add(text)
        except LogUnavailable:
            self.unsure.add(text)
        self.progress.set()


@pytest.mark.parametrize("how", ["backend killed", "line cut"])
async def test_in_a_storm_of_lost_connections_every_answer_is_true(
    postgres_log: PostgresLog, database: str, how: str
) -> None:
    told, shared, rng, storms = Told(), [uuid4() for _ in range(3)], random.Random(4910), 0

    async def caller(no: int) -> None:
        for n in range(20):
            text = f"{no}/{n}"
            if n % 3:
                await told.append(
                    postgres_log, text, uuid4(), 0, IdempotencyKey(uuid4()) if n % 2 else None
                )
            else:  # contended: another caller may be first
                stream = shared[no % 3]
                version = len(await postgres_log.read_stream_raw(stream))
                await told.append(postgres_log, text, stream, version)

    async def storm() -> None:
        nonlocal storms
        while True:
            await told.progress.wait()
            told.progress.clear()
            await asyncio.sleep(rng.uniform(0, 0.01))
            storms += 1
            if how == "line cut":
                _hang_up(postgres_log)
            else:
                await asyncio.to_thread(
                    admin, database, f"SELECT pg_terminate_backend(pid) FROM ({WRITERS}) w"
                )

    disturbance = asyncio.create_task(storm())
    await asyncio.wait_for(asyncio.gather(*(caller(no) for no in range(10))), 60)
    disturbance.cancel()

    stored: dict[str, list[tuple[int, UUID]]] = {}
    for event in await postgres_log.read(limit=10_000):
        stored.setdefault(event.event.text, []).append((event.env.position, event.env.event_id))
    assert len(told.landed) > 130
    assert storms > 5
    assert all(stored[text] == [(a.position, a.event_ids[0])] for text, a in told.landed.items())
    assert not told.refused & stored.keys()
    assert all(len(stored.get(text, [])) <= 1 for text in told.unsure)
    assert stored.keys() == told.landed.keys() | (told.unsure & stored.keys())


async def test_reads_and_subscriptions_outlive_a_server_that_hung_up(
    postgres_log: PostgresLog, database: str
) -> None:
    async def next_texts() -> list[str]:
        return texts_of(await asyncio.wait_for(anext(pages), SOON))

    await postgres_log.append([new_stream("a")])
    pages = postgres_log.subscribe()
    assert await next_texts() == ["a"]
    admin(
        database,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'ludoteca%'",
    )
    await postgres_log.append([new_stream("b")])
    assert texts_of(await postgres_log.read()) == ["a", "b"]
    assert await next_texts() == ["b"]
