"""`ludoteca dlq`, with both brokers."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from uuid import UUID, uuid4

import pytest

from adapters.queues.postgres import PostgresQueue
from adapters.queues.rabbitmq import RabbitQueue, connect
from commands.ports.queue import Job, JobAttempt, WorkQueue
from eventstore.database.postgres import open_pool
from tests.support.shops.commands import PATIENCE, Ludoteca, Shop

Kill = Callable[[str, Sequence[Job]], None]
"""Publishes jobs to a queue and lets them fail for good."""

BACKOFF = "0.05"
PAYMENTS, MAIL = "ludoteca.payments", "ludoteca.mail"


async def _fail(_attempt: JobAttempt) -> None:
    raise RuntimeError("the processor is down")


async def _kill(queue: WorkQueue, jobs: Sequence[Job]) -> None:
    dead = len(await queue.dead_letters()) + len(jobs)
    await queue.publish(jobs)
    consuming = asyncio.create_task(queue.consume(_fail, concurrency=2))
    async with asyncio.timeout(PATIENCE):
        while len(await queue.dead_letters()) < dead:  # noqa: ASYNC110 what is waited for happens on a server
            await asyncio.sleep(0.05)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)


@pytest.fixture
def postgres(shop: Shop) -> Kill:
    async def kill(name: str, jobs: Sequence[Job]) -> None:
        async with open_pool(shop.url, 4) as pool:
            await _kill(
                PostgresQueue(pool, name, backoff=[float(BACKOFF)], poll_seconds=0.05), jobs
            )

    return lambda name, jobs: asyncio.run(kill(name, jobs))


@pytest.fixture
def rabbitmq(shop: Shop, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Kill:
    monkeypatch.setenv("LUDOTECA_RABBITMQ_URL", rabbitmq_url)

    async def kill(name: str, jobs: Sequence[Job]) -> None:
        async with await connect(rabbitmq_url) as connection:
            await _kill(RabbitQueue(connection, name, backoff=[float(BACKOFF)]), jobs)

    return lambda name, jobs: asyncio.run(kill(name, jobs))


@pytest.fixture(params=["postgres", "rabbitmq"])
def kill(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kill:
    monkeypatch.setenv("LUDOTECA_PAYMENT_RETRY_SECONDS", BACKOFF)
    killer: Kill = request.getfixturevalue(request.param)
    return killer


def _job(kind: str = "payment.charge") -> Job:
    return Job(uuid4(), kind, {"payment_id": str(uuid4())})


def _ids(letters: list[dict[str, dict[str, str]]]) -> list[UUID]:
    return [UUID(letter["job"]["id"]) for letter in letters]


def test_the_dead_of_both_queues_are_listed_with_their_reason(
    ludoteca: Ludoteca, kill: Kill
) -> None:
    payment, mail = _job(), _job("mail.send")
    kill(PAYMENTS, [payment])
    kill(MAIL, [mail])
    letters = ludoteca.json("dlq", "list")
    assert _ids(letters) == [payment.id, mail.id]
    assert [letter["queue"] for letter in letters] == [PAYMENTS, MAIL]
    shown = ludoteca("dlq", "list").stdout
    assert f"payment_id={payment.body['payment_id']}" in shown
    assert "the processor is down" in shown


def test_one_dead_letter_is_shown_in_full(ludoteca: Ludoteca, kill: Kill) -> None:
    job = _job()
    kill(PAYMENTS, [job])
    shown = ludoteca("dlq", "show", job.id).stdout
    assert str(job.id) in shown
    assert '"attempts": 2' in shown
    missing = ludoteca("dlq", "show", uuid4())
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_a_redriven_job_is_back_at_work(ludoteca: Ludoteca, kill: Kill) -> None:
    first, second, mail = _job(), _job(), _job("mail.send")
    kill(PAYMENTS, [first, second])
    kill(MAIL, [mail])
    assert ludoteca("dlq", "redrive", first.id).stdout == "1 redriven\n"
    assert set(_ids(ludoteca.json("dlq", "list"))) == {second.id, mail.id}
    assert set(ludoteca.json("dlq", "redrive", "--all")["redriven"]) == {
        str(second.id),
        str(mail.id),
    }
    assert ludoteca.json("dlq", "list") == []
    assert ludoteca("dlq", "list").stdout == "no dead letters\n"


def test_however_many_are_redriven_each_queue_is_looked_through_once(
    ludoteca: Ludoteca, kill: Kill, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, set[UUID]]] = []
    for kind in (PostgresQueue, RabbitQueue):

        async def redrive_all(
            queue: WorkQueue,
            job_ids: Collection[UUID],
            do: Callable[[WorkQueue, Collection[UUID]], Awaitable[Collection[UUID]]] = (
                kind.redrive_all  # type: ignore[assignment]
            ),
        ) -> Collection[UUID]:
            asked.append((queue.name, set(job_ids)))
            return await do(queue, job_ids)

        monkeypatch.setattr(kind, "redrive_all", redrive_all)
    jobs = [_job() for _ in range(3)]
    kill(PAYMENTS, jobs)
    assert ludoteca("dlq", "redrive", "--all").stdout == "3 redriven\n"
    assert [wanted for name, wanted in asked if name == PAYMENTS] == [{job.id for job in jobs}]
    assert ludoteca.json("dlq", "list") == []


def test_only_dead_letters_can_be_redriven(ludoteca: Ludoteca, kill: Kill) -> None:
    job = _job()
    kill(PAYMENTS, [job])
    other = uuid4()
    report = ludoteca.json("dlq", "redrive", other, job.id, code=1)
    assert report == {"redriven": [str(job.id)], "not_dead": [str(other)]}


def test_what_is_discarded_is_told_asked_for_and_gone(
    ludoteca: Ludoteca, shop: Shop, kill: Kill
) -> None:
    shop.list_games(1)
    shop.project()
    first, second, mail = _job("charge"), _job("charge"), _job("mail")
    kill(PAYMENTS, [first, second])
    kill(MAIL, [mail])
    why = ("--reason", "of a test")
    asked = ludoteca("dlq", "discard", first.id, *why)
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert f"charge {first.id}: Nothing waits for it: its payment is not known." in asked.stderr
    assert "nothing was discarded: say --yes" in asked.stderr
    unreasoned = ludoteca("dlq", "discard", first.id, "--yes")
    assert (unreasoned.exit_code, "say why, with --reason" in unreasoned.stderr) == (2, True)
    assert len(ludoteca.json("dlq", "list")) == 3

    other = uuid4()
    done = ludoteca.json("dlq", "discard", first.id, other, "--yes", *why, code=1)
    assert done == {"discarded": [str(first.id)], "not_dead": [str(other)]}
    assert set(_ids(ludoteca.json("dlq", "list"))) == {second.id, mail.id}
    assert ludoteca("dlq", "discard", "--all", "--yes", *why).stdout == "2 discarded\n"
    assert ludoteca.json("dlq", "list") == []


def test_a_broker_that_is_away_is_said_to_be(
    ludoteca: Ludoteca, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_RABBITMQ_URL", "amqp://guest:hunter22@127.0.0.1:1/")
    result = ludoteca("dlq", "list")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("the RabbitMQ of LUDOTECA_RABBITMQ_URL: ")
    assert "hunter22" not in result.output
