"""The contract of a work queue, for PostgreSQL and RabbitMQ alike; their one difference is
marked."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from types import SimpleNamespace
from uuid import uuid4

import aio_pika
import psycopg
import pytest
from aio_pika.exceptions import AMQPConnectionError
from psycopg_pool import AsyncConnectionPool
from yarl import URL

from adapters.queues import attempts
from adapters.queues.attempts import WORKER_LOST, attempt_job
from adapters.queues.postgres import PostgresQueue
from adapters.queues.postgres_listener import JobListener
from adapters.queues.rabbitmq import RabbitQueue, connect, rabbitmq_circuit
from commands.ports.queue import Job, JobAttempt
from eventstore.database import patience
from eventstore.log import LogUnavailable
from kit.circuit import FAILURES_TO_OPEN, OPEN_SECONDS
from tests.support import ROOT
from tests.support.queues import (
    LEASE_SECONDS,
    PostgresStation,
    RabbitStation,
    Station,
    Stuck,
    Worker,
    consuming,
    until,
    until_dead,
    until_depth,
    until_it_answers,
    until_listening,
    until_so,
)
from tests.support.servers.tcp_proxy import Wire


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that stops does not wait for handlers that never return."""
    monkeypatch.setattr(attempts, "FINISH_SECONDS", 0.1)


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Station]:
    async with contextlib.AsyncExitStack() as stack:
        yield PostgresStation(database, stack)


@pytest.fixture
async def rabbitmq(rabbitmq_url: str) -> AsyncIterator[Station]:
    url = URL(rabbitmq_url)
    async with (
        Wire(url.host or "localhost", url.port or 5672) as wire,
        contextlib.AsyncExitStack() as stack,
    ):
        yield RabbitStation(rabbitmq_url, wire, stack)


@pytest.fixture(params=["postgres", "rabbitmq"])
def station(request: pytest.FixtureRequest) -> Station:
    chosen: Station = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
async def name(rabbitmq_url: str) -> AsyncIterator[str]:
    """A queue name that no other test uses."""
    name = f"test.{uuid4().hex}"
    yield name
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection, connection.channel() as channel:
        for suffix in ("", ".dlq", ".retry.50", ".retry.100", ".retry.60000"):
            await channel.queue_delete(name + suffix)


def a_job(**body: str) -> Job:
    return Job(uuid4(), "payment.charge", body)


async def test_each_published_job_is_handed_over_once(station: Station, name: str) -> None:
    queue, worker = await station.queue(name, backoff=(0.05,)), Worker()
    jobs = [a_job(order=str(n), note="ação") for n in range(300)]
    await queue.publish(jobs)
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) >= len(jobs))
        await until_depth(queue, 0)
    by_id = {attempt.job.id: attempt for attempt in worker.attempts}
    assert by_id == {job.id: JobAttempt(job, number=1, last=False) for job in jobs}
    assert len(worker.attempts) == len(jobs)


async def test_a_job_published_while_workers_wait_is_handed_over(
    station: Station, name: str
) -> None:
    queue, worker = await station.queue(name, backoff=()), Worker()
    elsewhere = await station.queue(name, backoff=())
    async with consuming(queue, worker):
        for n in range(3):
            await elsewhere.publish([a_job()])
            await until(partial(worker.has_had, n + 1))


async def test_a_dead_job_is_found_by_what_it_is_about(station: Station, name: str) -> None:
    queue, worker = await station.queue(name, backoff=()), Worker(ValueError("a"), ValueError("b"))
    order = uuid4()
    job, other = a_job(order_id=str(order)), a_job(order_id=str(uuid4()))
    await queue.publish([job, other])
    async with consuming(queue, worker):
        await until_dead(queue, 2)
    for asked in (order, job.id):
        (found,) = (await queue.about({asked, uuid4()})).jobs
        assert (found.job, found.state, found.attempts, found.max_attempts) == (job, "dead", 1, 1)
        assert found.error
    assert (await queue.about([])).jobs == []


async def test_a_waiting_job_is_found_or_counted(station: Station, name: str) -> None:
    """RabbitMQ does not show its waiting jobs."""
    queue = await station.queue(name, backoff=(60,))
    order = uuid4()
    await queue.publish([a_job(order_id=str(order))])
    await until_depth(queue, 1)
    found = await queue.about([order])
    assert (len(found.jobs), found.unseen) == ((1, 0) if station.KIND == "postgres" else (0, 1))
    assert all(each.state == "waiting" and each.attempts == 0 for each in found.jobs)


async def test_a_job_that_nobody_takes_gets_older(station: Station, name: str) -> None:
    queue, worker = await station.queue(name, backoff=(60,)), Worker(ValueError("once"))
    assert await queue.oldest_seconds() == 0
    await queue.publish([a_job()])

    async def is_old() -> bool:
        return await queue.oldest_seconds() > 0.1

    await until_so(is_old)
    async with consuming(queue, worker):
        await until(lambda: worker.has_had(1))

    async def none_is_due() -> bool:
        return await queue.oldest_seconds() == 0

    await until_so(none_is_due)
    assert await queue.depth() == 1, "it waits for another attempt"


async def test_publishing_nothing_is_fine(station: Station, name: str) -> None:
    queue = await station.queue(name, backoff=())
    await queue.publish([])
    assert await queue.depth() == 0


async def test_queues_do_not_see_each_others_jobs(station: Station, name: str) -> None:
    queue, other = (
        await station.queue(name, backoff=()),
        await station.queue(name + ".retry.50", backoff=()),
    )
    worker, job, others = Worker(), a_job(), a_job()
    await other.publish([others])
    await queue.publish([job])
    async with consuming(queue, worker):
        await until(lambda: worker.has_had(1))
        await until_depth(queue, 0)
    assert [attempt.job for attempt in worker.attempts] == [job]
    await until_depth(other, 1)


async def test_an_id_published_twice_is_one_job_on_postgres_and_two_deliveries_on_rabbitmq(
    station: Station, name: str
) -> None:
    """THE DIFFERENCE: RabbitMQ does not know ids, so there the handler's idempotency makes it
    one."""
    times = {"postgres": 1, "rabbitmq": 2}[station.KIND]
    queue, worker, job = await station.queue(name, backoff=()), Worker(), a_job()
    await queue.publish([job])
    await queue.publish([job])
    await until_depth(queue, times)
    async with consuming(queue, worker):
        await until(lambda: worker.has_had(times))
        await until_depth(queue, 0)
    assert [attempt.job for attempt in worker.attempts] == [job] * times


async def test_on_postgres_an_id_that_is_worked_on_or_dead_is_not_taken_again(
    postgres: Station, name: str
) -> None:
    queue, stuck, failing, job = (
        await postgres.queue(name, backoff=()),
        Stuck(),
        Worker(ValueError("no")),
        a_job(),
    )
    await queue.publish([job])
    async with consuming(queue, failing):
        await until_dead(queue, 1)
    await queue.publish([job])
    assert await queue.depth() == 0
    await queue.redrive(job.id)
    async with consuming(queue, stuck):
        await stuck.began.wait()
        await queue.publish([job])
        assert await queue.depth() == 1
        stuck.go_on.set()
        await until_depth(queue, 0)
    assert len(stuck.attempts) == 1


async def test_a_job_that_fails_is_tried_again_after_each_wait_until_it_succeeds(
    station: Station, name: str
) -> None:
    queue, job = await station.queue(name, backoff=(0.05, 0.1)), a_job()
    worker = Worker(ValueError("first"), ValueError("second"))
    await queue.publish([job])
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) == 3)
        await until_depth(queue, 0)
    assert worker.attempts == [
        JobAttempt(job, 1, False),
        JobAttempt(job, 2, False),
        JobAttempt(job, 3, True),
    ]
    first, second, third = worker.times
    assert second - first >= 0.05
    assert third - second >= 0.1
    assert await queue.dead_letters() == []


async def test_a_job_that_waits_for_its_retry_counts_and_holds_up_no_other(
    station: Station, name: str
) -> None:
    queue, worker = await station.queue(name, backoff=(60,)), Worker(ValueError("later"))
    await queue.publish([a_job()])
    async with consuming(queue, worker, concurrency=1):
        await until(lambda: len(worker.attempts) == 1)
        other = a_job()
        await queue.publish([other])
        await until(lambda: len(worker.attempts) == 2)
        await until_depth(queue, 1)
    assert worker.attempts[1].job == other


async def test_a_job_that_fails_its_last_attempt_is_dead_and_says_why(
    station: Station, name: str
) -> None:
    queue, worker, job = (
        await station.queue(name, backoff=(0.05,)),
        Worker(ValueError("a"), KeyError("b")),
        a_job(n="1"),
    )
    await queue.publish([job])
    async with consuming(queue, worker):
        await until_dead(queue, 1)
    assert [attempt.last for attempt in worker.attempts] == [False, True]
    (dead,) = await queue.dead_letters()
    assert (dead.job, dead.queue, dead.error, dead.attempts) == (job, name, "KeyError: 'b'", 2)
    assert dead.died_at is not None
    await until_depth(queue, 0)


async def test_an_error_that_no_store_could_hold_is_kept_as_far_as_possible(
    station: Station, name: str
) -> None:
    queue, worker = (
        await station.queue(name, backoff=()),
        Worker(ValueError("nul \x00, half \ud800, " + "x" * 9000)),
    )
    await queue.publish([a_job()])
    async with consuming(queue, worker):
        await until_dead(queue, 1)
    (dead,) = await queue.dead_letters()
    assert dead.error.startswith("ValueError: nul \ufffd, half ?, xxx")
    assert len(dead.error) == 2000


async def test_a_handler_whose_own_call_was_cancelled_has_failed_and_the_worker_goes_on(
    station: Station, name: str
) -> None:
    queue, worker = await station.queue(name, backoff=()), Worker(asyncio.CancelledError("inner"))
    await queue.publish([a_job()])
    async with consuming(queue, worker, concurrency=1):
        await until_dead(queue, 1)
        await queue.publish([a_job()])
        await until(lambda: len(worker.attempts) == 2)
        await until_depth(queue, 0)


async def test_looking_at_the_dead_neither_loses_nor_reorders_them(
    station: Station, name: str
) -> None:
    queue, jobs = await station.queue(name, backoff=()), [a_job() for _ in range(3)]
    async with consuming(queue, Worker(*[ValueError("no")] * 3), concurrency=1):
        for n, job in enumerate(jobs, start=1):
            await queue.publish([job])
            await until_dead(queue, n)
    for _ in range(30):
        assert [dead.job for dead in await queue.dead_letters(limit=2)] == jobs[:2]
        assert [dead.job for dead in await queue.dead_letters()] == jobs


async def test_a_dead_job_that_is_redriven_has_fresh_attempts_and_leaves_the_others_dead(
    station: Station, name: str
) -> None:
    queue, jobs = await station.queue(name, backoff=()), [a_job() for _ in range(3)]
    await queue.publish(jobs)
    async with consuming(queue, Worker(*[ValueError("no")] * 3), concurrency=1):
        await until_dead(queue, 3)
    worker = Worker()
    assert await queue.redrive(jobs[1].id)
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) == 1)
        await until_depth(queue, 0)
    assert worker.attempts == [JobAttempt(jobs[1], number=1, last=True)]
    assert {dead.job.id for dead in await queue.dead_letters()} == {jobs[0].id, jobs[2].id}
    assert not await queue.redrive(jobs[1].id)


async def test_many_dead_jobs_are_redriven_at_once(station: Station, name: str) -> None:
    queue, jobs = await station.queue(name, backoff=()), [a_job() for _ in range(4)]
    await queue.publish(jobs)
    async with consuming(queue, Worker(*[ValueError("no")] * 4), concurrency=1):
        await until_dead(queue, 4)
    chosen = [job.id for job in jobs[1:]]
    assert set(await queue.redrive_all([*chosen, uuid4()])) == set(chosen)
    worker = Worker()
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) == 3)
        await until_depth(queue, 0)
    assert {attempt.job.id for attempt in worker.attempts} == set(chosen)
    assert {dead.job.id for dead in await queue.dead_letters()} == {jobs[0].id}
    assert not await queue.redrive_all(chosen)


async def test_dead_jobs_that_are_discarded_are_gone_and_no_others(
    station: Station, name: str
) -> None:
    queue, jobs = await station.queue(name, backoff=()), [a_job() for _ in range(4)]
    await queue.publish(jobs[:3])
    async with consuming(queue, Worker(*[ValueError("no")] * 3), concurrency=1):
        await until_dead(queue, 3)
    await queue.publish(jobs[3:])
    await until_depth(queue, 1)
    chosen = [jobs[0].id, jobs[2].id, jobs[3].id, uuid4()]
    assert set(await queue.discard(chosen)) == {jobs[0].id, jobs[2].id}
    assert [letter.job.id for letter in await queue.dead_letters()] == [jobs[1].id]
    assert await queue.depth() == 1  # what is not dead stays
    assert not await queue.discard(chosen)
    assert not await queue.redrive(jobs[0].id)


async def test_dead_letters_are_deleted_once_they_died_long_enough_ago(
    station: Station, name: str
) -> None:
    queue, jobs = await station.queue(name, backoff=()), [a_job() for _ in range(3)]
    await queue.publish(jobs[:2])
    async with consuming(queue, Worker(*[ValueError("no")] * 2), concurrency=1):
        await until_dead(queue, 2)
    await queue.publish(jobs[2:])
    await until_depth(queue, 1)
    assert await queue.delete_dead(datetime.now(UTC) - timedelta(days=1)) == 0
    assert {dead.job.id for dead in await queue.dead_letters()} == {jobs[0].id, jobs[1].id}
    # RabbitMQ keeps whole seconds
    assert await queue.delete_dead(datetime.now(UTC) + timedelta(seconds=1)) == 2
    assert await queue.dead() == 0
    assert await queue.depth() == 1  # what is not dead stays


async def test_redriving_what_is_not_dead_does_nothing(station: Station, name: str) -> None:
    queue, job = await station.queue(name, backoff=()), a_job()
    await queue.publish([job])
    assert not await queue.redrive(job.id)
    assert not await queue.redrive(uuid4())
    await until_depth(queue, 1)


async def test_as_many_jobs_as_allowed_are_worked_on_at_once(station: Station, name: str) -> None:
    queue, together, now, most = await station.queue(name, backoff=()), asyncio.Barrier(4), 0, 0

    async def handler(attempt: JobAttempt) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await together.wait()  # passes only when four are here at once
        now -= 1

    await queue.publish([a_job() for _ in range(12)])
    async with consuming(queue, handler, concurrency=4):
        await until_depth(queue, 0)
    assert most == 4


async def test_a_job_being_worked_on_counts_and_is_not_given_to_another_worker(
    station: Station, name: str
) -> None:
    queue, elsewhere = (
        await station.queue(name, backoff=(0.05,)),
        await station.queue(name, backoff=(0.05,)),
    )
    stuck, idle, second = Stuck(), Worker(), a_job()
    await queue.publish([a_job()])
    async with consuming(queue, stuck, concurrency=1):
        await stuck.began.wait()
        assert await queue.depth() == 1
        async with consuming(elsewhere, idle):
            await elsewhere.publish([second])
            await until(lambda: len(idle.attempts) == 1)
        stuck.go_on.set()
        await until_depth(queue, 0)
    assert [attempt.job for attempt in idle.attempts] == [second]


async def test_a_worker_that_is_stopped_ends_the_job_at_hand_and_begins_no_other(
    station: Station, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FINISH_SECONDS", 60)
    queue, stuck, worker = await station.queue(name, backoff=(0.05,)), Stuck(), Worker()
    jobs = [a_job(), a_job()]
    await queue.publish(jobs)
    stopping = asyncio.create_task(queue.consume(stuck, concurrency=1))
    await stuck.began.wait()
    stopping.cancel()
    assert await asyncio.wait({stopping}, timeout=0.2) == (set(), {stopping})
    stuck.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    async with consuming(queue, worker):
        await until(lambda: worker.has_had(1))
        await until_depth(queue, 0)
    assert [attempt.job for attempt in stuck.attempts] == jobs[:1]
    assert worker.attempts == [JobAttempt(jobs[1], number=1, last=False)]


async def test_a_job_whose_worker_is_stopped_is_handed_to_the_next_as_another_attempt(
    station: Station, name: str
) -> None:
    queue, stuck, worker, job = (
        await station.queue(name, backoff=(0.05,)),
        Stuck(),
        Worker(),
        a_job(),
    )
    await queue.publish([job])
    async with consuming(queue, stuck):
        await stuck.began.wait()
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) == 1)
        await until_depth(queue, 0)
    assert worker.attempts == [JobAttempt(job, number=2, last=True)]


async def test_a_job_whose_worker_process_is_killed_is_handed_to_another(
    station: Station, name: str
) -> None:
    queue, worker, job = await station.queue(name, backoff=(0.05,)), Worker(), a_job()
    await queue.publish([job])
    worker_process = "tests.support.processes.dying_worker"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        worker_process,
        station.KIND,
        station.url,
        name,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"attempt 1\n"
    process.kill()
    await process.wait()
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) == 1)
        await until_depth(queue, 0)
    assert worker.attempts == [JobAttempt(job, number=2, last=True)]


async def test_a_job_whose_worker_dies_every_time_is_dead_in_the_end(
    station: Station, name: str
) -> None:
    queue, worker, job = await station.queue(name, backoff=(0.05,)), Worker(), a_job()
    await queue.publish([job])
    for _ in range(2):
        stuck = Stuck()
        async with consuming(queue, stuck):
            await stuck.began.wait()
    async with consuming(queue, worker):
        await until_dead(queue, 1)
    assert worker.attempts == []
    (dead,) = await queue.dead_letters()
    assert (dead.job, dead.error, dead.attempts) == (job, WORKER_LOST, 2)


async def test_a_worker_lost_in_the_last_attempt_is_reported_once_and_the_job_is_dead(
    station: Station, name: str
) -> None:
    queue, worker, told, job = (
        await station.queue(name, backoff=()),
        Worker(),
        Worker(ValueError("x")),
        a_job(),
    )
    await queue.publish([job])
    stuck = Stuck()
    async with consuming(queue, stuck):
        await stuck.began.wait()
    async with consuming(queue, worker, lost=told):
        await until_dead(queue, 1)
    assert (worker.attempts, told.attempts) == ([], [JobAttempt(job, number=1, last=True)])
    (dead,) = await queue.dead_letters()
    assert (dead.error, dead.attempts) == (f"{WORKER_LOST}; then ValueError: x", 1)


async def test_a_handler_that_crashes_on_the_report_is_not_called_again(
    station: Station, name: str
) -> None:
    queue, worker, job = await station.queue(name, backoff=()), Worker(), a_job()
    await queue.publish([job])
    stuck, dying = Stuck(), Stuck()
    async with consuming(queue, stuck):
        await stuck.began.wait()
    async with consuming(queue, worker, lost=dying):
        await dying.began.wait()
    async with consuming(queue, worker, lost=worker):
        await until_dead(queue, 1)
    assert worker.attempts == []


async def test_waiting_for_our_database_is_no_attempt(
    station: Station, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_TIMEOUT_SECONDS", 0.0)
    queue, job = await station.queue(name, backoff=(0.05,)), a_job()
    away = [
        psycopg.errors.ReadOnlySqlTransaction(),
        LogUnavailable(),
        psycopg.errors.UndefinedTable(),
    ]
    worker = Worker(*away, psycopg.errors.DiskFull(), ValueError("its own"))
    await queue.publish([job])
    async with consuming(queue, worker):
        await until(lambda: len(worker.attempts) >= 6)
    assert [attempt.number for attempt in worker.attempts] == [1] * 5 + [2]


async def test_an_attempt_is_begun_again_while_our_database_is_away() -> None:
    worker = Worker(LogUnavailable(), LogUnavailable())
    delivered = JobAttempt(a_job(), number=1, last=True)
    assert await attempt_job(delivered.job, 1, max_attempts=1, handler=worker, lost=None) is None
    assert worker.attempts == [delivered] * 3


async def test_a_connection_lost_while_working_costs_no_job_and_the_worker_goes_on(
    station: Station, name: str
) -> None:
    queue, stuck, after = await station.queue(name, backoff=(0.05, 0.05)), Stuck(), a_job()
    await queue.publish([a_job()])
    async with consuming(queue, stuck):
        await stuck.began.wait()
        await station.cut()
        stuck.go_on.set()
        await queue.publish([after])
        await until(lambda: after in [attempt.job for attempt in stuck.attempts])
        await until_depth(queue, 0)
    assert await queue.dead_letters() == []


async def test_publishing_over_a_lost_connection_waits_for_it_and_loses_nothing(
    station: Station, name: str
) -> None:
    queue, worker = await station.queue(name, backoff=()), Worker()
    jobs = [a_job() for _ in range(3)]
    await queue.publish(jobs[:1])
    await station.cut()
    await queue.publish(jobs[1:2])
    publishing = asyncio.create_task(queue.publish(jobs[2:]))
    await station.cut()
    await publishing
    elsewhere = await station.queue(name, backoff=())
    async with consuming(elsewhere, worker):
        await until(
            lambda: {attempt.job.id for attempt in worker.attempts} == {job.id for job in jobs}
        )


async def test_on_postgres_a_lease_is_renewed_for_as_long_as_the_handler_runs(
    postgres: Station, name: str
) -> None:
    queue, elsewhere = (
        await postgres.queue(name, backoff=()),
        await postgres.queue(name, backoff=()),
    )
    stuck, idle = Stuck(), Worker()
    await queue.publish([a_job()])
    async with consuming(queue, stuck), contextlib.AsyncExitStack() as stack:
        await stuck.began.wait()
        await stack.enter_async_context(consuming(elsewhere, idle))
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as conn:
            renewed = "SELECT max(due_at) > now() + make_interval(secs => %s) FROM queue.jobs"
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < began + 3 * LEASE_SECONDS:
                (held,) = await (await conn.execute(renewed, (LEASE_SECONDS / 3,))).fetchone() or (
                    False,
                )
                assert held, "the lease is about to end"
                await asyncio.sleep(0.02)
        stuck.go_on.set()
        await until_depth(queue, 0)
    assert idle.attempts == []
    assert len(stuck.attempts) == 1


async def test_on_postgres_polling_finds_a_job_whose_notification_was_lost(
    postgres: Station, name: str
) -> None:
    queue, worker = await postgres.queue(name, backoff=()), Worker()
    async with consuming(queue, worker):
        async with await psycopg.AsyncConnection.connect(postgres.url) as conn:
            await conn.execute(
                "INSERT INTO queue.jobs (queue, id, kind, body) VALUES (%s, %s, 'quiet', '{}')",
                (name, uuid4()),
            )
        await until(lambda: len(worker.attempts) == 1)


async def test_on_postgres_a_job_that_is_too_large_is_refused_at_once(
    postgres: Station, name: str
) -> None:
    """psycopg raises an OperationalError for it, as for a lost connection, which would be waited
    for."""
    queue = await postgres.queue(name, backoff=())
    async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as conn:
        await conn.execute("CREATE UNIQUE INDEX ON queue.jobs ((body ->> 'text'))")
    noise = random.Random(1).randbytes(20_000).hex()  # it cannot be made much smaller
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        await asyncio.wait_for(queue.publish([a_job(text=noise)]), 10)
    await queue.publish([a_job(text="small")])
    assert await queue.depth() == 1


async def test_on_postgres_the_programs_role_can_do_all_that_a_queue_does(
    database: str, name: str
) -> None:
    worker, job = Worker(ValueError("no")), a_job()
    kwargs = {"options": "-c role=ludoteca_app"}
    async with AsyncConnectionPool(
        database, kwargs=kwargs, min_size=1, max_size=1, open=False
    ) as pool:
        queue = PostgresQueue(pool, name, backoff=())
        await queue.publish([job])
        async with consuming(queue, worker):
            await until_dead(queue, 1)
            assert await queue.redrive(job.id)
            await until_depth(queue, 0)


async def test_on_postgres_queues_of_a_process_listen_over_one_connection(
    database: str, name: str
) -> None:
    async with AsyncConnectionPool(database, min_size=1, max_size=4, open=False) as pool:
        listener = JobListener(database, poll_seconds=60)
        first, second = (
            PostgresQueue(pool, f"{name}.{number}", poll_seconds=60, listener=listener)
            for number in range(2)
        )
        async with consuming(first, Worker()):
            async with consuming(second, Worker()):
                await until_listening(pool, 1)
                for queue in (first, second, first, second):
                    await queue.publish([a_job()])
                    await until_depth(queue, 0)
            await first.publish([a_job()])  # the other one has stopped
            await until_depth(first, 0)
            await until_listening(pool, 1)
        await until_listening(pool, 0)
        async with consuming(second, Worker()):
            await until_listening(pool, 1)
            await second.publish([a_job()])
            await until_depth(second, 0)


@pytest.mark.parametrize(
    "body",
    [b"not a job \xff", b'{"kind": "\xff"}', b'{"body": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"],
    ids=["no JSON", "no UTF-8", "nested deeply"],
)
async def test_on_rabbitmq_what_is_no_job_is_dead_at_once_and_can_be_looked_at(
    rabbitmq: Station, rabbitmq_url: str, name: str, body: bytes
) -> None:
    queue, worker, job = await rabbitmq.queue(name, backoff=(0.05,)), Worker(), a_job()
    await queue.publish([])
    assert await queue.depth() == 0
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(body), name)
    await queue.publish([job])
    async with consuming(queue, worker):
        await until_dead(queue, 1)
        await until_depth(queue, 0)
    (dead,) = await queue.dead_letters()
    assert (dead.job.kind, dead.error) == ("unreadable", "rejected")
    assert dead.died_at is not None
    assert [attempt.job for attempt in worker.attempts] == [job]


async def test_on_rabbitmq_publishing_to_a_queue_that_was_removed_is_an_error(
    rabbitmq: Station, rabbitmq_url: str, name: str
) -> None:
    queue = await rabbitmq.queue(name, backoff=())
    await queue.publish([a_job()])
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        await channel.queue_delete(name)
    with pytest.raises(aio_pika.exceptions.PublishError):
        await queue.publish([a_job()])


async def test_an_absent_rabbitmq_raises_at_once_and_is_found_when_it_is_back(
    rabbitmq_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.queues.rabbitmq.ANSWER_SECONDS", 0.2)
    url = URL(rabbitmq_url)
    wire = Wire(url.host or "localhost", url.port or 5672)
    async with wire:
        pass  # its port stays the same, and nothing listens there
    async with await connect(
        str(url.with_host("127.0.0.1").with_port(wire.port)), reconnect_seconds=0.05
    ) as connection:
        queue = RabbitQueue(connection, name, backoff=())
        for asked in (queue.depth(), queue.dead_letters(), queue.redrive(uuid4())):
            with pytest.raises(AMQPConnectionError):
                await asked
        async with wire:
            monkeypatch.undo()
            job, worker = a_job(), Worker()
            await queue.publish([job])
            async with consuming(queue, worker):
                await until(lambda: [each.job for each in worker.attempts] == [job])


async def test_rabbitmq_that_hangs_is_asked_a_few_times_then_left_alone_and_tried_again_later(
    rabbitmq_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = URL(rabbitmq_url)
    async with Wire(url.host or "localhost", url.port or 5672) as wire:
        shared = rabbitmq_circuit()
        async with await connect(
            str(url.with_host("127.0.0.1").with_port(wire.port))
        ) as connection:
            queues = [
                RabbitQueue(connection, f"{name}.{n}", backoff=(), circuit=shared) for n in range(2)
            ]
            for queue in queues:
                await until_it_answers(queue)
            wire.hold()
            monkeypatch.setattr("adapters.queues.rabbitmq.ANSWER_SECONDS", 0.05)
            for _ in range(FAILURES_TO_OPEN):
                with pytest.raises(AMQPConnectionError, match=r"^(?!.*left alone)"):
                    await queues[0].depth()
            for queue in queues:
                with pytest.raises(AMQPConnectionError, match="left alone"):
                    await queue.depth()
            wire.let_go()
            monkeypatch.undo()
            every_look_is_later = SimpleNamespace(
                time=partial(next, count(time.time(), OPEN_SECONDS + 1))
            )
            monkeypatch.setattr("purgatory.domain.model.time", every_look_is_later)
            for queue in queues:
                await until_it_answers(queue)
