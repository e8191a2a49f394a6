"""A flow is followed from anything that belongs to it, and what it waits for is told."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.queues.postgres import PostgresQueue
from commands.ports.queue import Job, JobAttempt, WorkQueue
from commands.reactors.reactor import job_for
from domain.events import Event
from domain.orders import OrderConfirmed
from eventstore import finding
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from eventstore.log import Envelope, Metadata, StreamAppend
from projections.models.deadlines import ORDER_PAYMENT
from queries.trace import flow
from queries.trace.flow import NothingToTrace, flow_of
from queries.trace.model import Trace
from queries.trace.tracing import Tracing
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues
from tests.support.events.history import (
    GAME,
    ORDER,
    PAYMENT,
    game_created,
    order_created,
    payment_requested,
)
from tests.support.queues import consuming, until_dead, until_so
from tests.support.shops.gateway import working
from tests.support.shops.projected import Shop, projecting

REQUEST, TRACE_ID = uuid4(), uuid4().hex
ASKED = Metadata("user:ana", REQUEST, traceparent=f"00-{TRACE_ID}-{'2' * 16}-01")
TOMORROW = datetime.now(UTC) + timedelta(days=1)


async def _append(shop: Shop, stream_id: UUID, metadata: Metadata, *events: Event) -> Envelope:
    version = (await shop.log.versions([stream_id]))[0]
    await shop.log.append([StreamAppend(stream_id, version, events)], metadata)
    return (await shop.log.read_stream_raw(stream_id, version))[-1][0]


async def _placed(shop: Shop, expires_at: datetime = TOMORROW) -> Envelope:
    """An order and its payment, of one request, amid other things. Returns the last event."""
    await _append(shop, GAME, Metadata("user:bob", uuid4()), game_created())
    order = await _append(shop, ORDER, ASKED, order_created(expires_at=expires_at))
    caused = Metadata("reactor:orders", REQUEST, order.event_id)
    return await _append(shop, PAYMENT, caused, payment_requested(expires_at=expires_at))


async def _trace(shop: Shop, asked: object, *queues: WorkQueue) -> Trace:
    tracing = Tracing(shop.log, shop.models, shop.operations, shop.audit, queues)
    return await tracing.trace(str(asked))


def _said(trace: Trace, *words: str) -> str:
    """The one sentence with all of these words."""
    (found,) = [wait for wait in trace.waits_for if all(word in wait for word in words)]
    return found


# -- from anything that belongs to it --------------------------------------------------------------


async def test_many_requests_of_the_same_id_hide_no_payment(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = idle_shop
    monkeypatch.setattr(flow, "_OF_REQUESTS", flow._OF_REQUESTS.replace("LIMIT 500", "LIMIT 4"))
    for _ in range(7):
        await _append(shop, uuid4(), ASKED, game_created())
    await _placed(shop)
    found = await flow_of(shop.log, str(ORDER))
    assert {ORDER, PAYMENT} <= found.streams.keys()
    assert found.left_out == 5


async def test_earlier_events_of_a_long_stream_are_counted(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, game = idle_shop, uuid4()
    monkeypatch.setattr(flow, "_OF_STREAMS", flow._OF_STREAMS.replace("LIMIT 500", "LIMIT 2"))
    await _placed(shop)
    for _ in range(4):
        await _append(shop, PAYMENT, Metadata("provider"), payment_requested())
        await _append(shop, game, Metadata("user:bob"), game_created())
    found = await _trace(shop, ORDER)
    assert [env.stream_id for env in found.events] == [ORDER, PAYMENT, PAYMENT, PAYMENT]
    assert found.left_out == 2  # of the payment's five, its request's and the latest two are there
    assert (await _trace(shop, game)).left_out == 2


async def test_whatever_is_named_of_a_flow_leads_to_all_of_it(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "NEAR_POSITIONS", 1)
    shop, last = idle_shop, await _placed(idle_shop)
    for asked, kind in (
        (ORDER, "stream"),
        (PAYMENT, "stream"),
        (REQUEST, "request"),
        (TRACE_ID, "trace"),
        (ASKED.traceparent, "trace"),
        (last.event_id, "event"),
        (last.position, "event"),
    ):
        found = await _trace(shop, asked)
        assert found.kind == kind
        assert [env.position for env in found.events] == [2, 3]
        assert {(each.stream_id, each.kind, each.status) for each in found.streams} == {
            (ORDER, "order", "PENDING_PAYMENT"),
            (PAYMENT, "payment", "REQUESTED"),
        }
        assert list(found.requests) == [REQUEST]


@pytest.mark.parametrize(
    "asked", ["0", "4", "9" * 18, "9" * 40, "order", str(UUID(int=7)), "é", "f" * 32]
)
async def test_what_the_log_does_not_have_is_told(idle_shop: Shop, asked: str) -> None:
    await _placed(idle_shop)
    with pytest.raises(NothingToTrace):
        await _trace(idle_shop, asked)


# -- what it waits for -----------------------------------------------------------------------------


async def test_a_job_that_failed_is_tried_again(idle_shop: Shop) -> None:
    shop, last = idle_shop, await _placed(idle_shop)
    queue = PostgresQueue(shop.log.pool, "ludoteca.payments", backoff=(3600, 3600))
    tried = asyncio.Event()

    async def away(_: JobAttempt) -> None:
        tried.set()
        raise ConnectionError("the provider is away")

    job = job_for(last, "charge", payment_id=PAYMENT)
    await queue.publish([job, Job(uuid4(), "charge", {"payment_id": str(uuid4())})])
    waiting = _said(await _trace(shop, ORDER, queue), "job charge")
    assert "is due, attempt 1 of 3" in waiting
    async with consuming(queue, away):
        await tried.wait()

        async def failed() -> bool:
            return (await queue.about([PAYMENT])).jobs[0].error != ""

        await until_so(failed)
    found = await _trace(shop, ORDER, queue)
    said = _said(found, "job charge", str(job.id))
    assert "is tried again at" in said
    assert "attempt 2 of 3; last error: ConnectionError: the provider is away" in said
    assert len(found.jobs) == 1


async def test_a_payment_waits_for_a_provider_that_is_away(
    idle_shop: Shop, database: str, tmp_path: Path
) -> None:
    """The shop's own reactor and worker, with nothing behind the provider's address."""
    settings = Settings(
        home=tmp_path,
        database_url=database,
        provider_url="http://127.0.0.1:1",
        fiscal_url="http://127.0.0.1:1",
        payment_retry_seconds="3600",
    )
    await _placed(idle_shop)
    async with open_core(settings) as core, open_queues(core) as queues, working(core, queues):

        async def has_failed() -> bool:
            return any(
                job.error for job in (await queues["ludoteca.payments"].about([PAYMENT])).jobs
            )

        await until_so(has_failed)
        found = await _trace(idle_shop, ORDER, *queues.values())
    said = _said(found, "job charge of ludoteca.payments")
    assert "is tried again at" in said
    assert "attempt 2 of 2; last error: ProviderUnavailable" in said


async def test_a_job_in_progress_and_a_dead_letter(idle_shop: Shop) -> None:
    shop, last = idle_shop, await _placed(idle_shop)
    queue = PostgresQueue(shop.log.pool, "ludoteca.payments", backoff=())
    begun, end = asyncio.Event(), asyncio.Event()

    async def handle(_: JobAttempt) -> None:
        begun.set()
        await end.wait()
        raise ValueError("no such card")

    job = job_for(last, "charge", payment_id=PAYMENT)
    await queue.publish([job])
    async with consuming(queue, handle):
        await begun.wait()
        assert "in progress, attempt 1 of 1" in _said(await _trace(shop, PAYMENT, queue), "charge")
        end.set()
        await until_dead(queue, 1)
    said = _said(await _trace(shop, PAYMENT, queue), "charge")
    assert f"dead letter, until `ludoteca dlq redrive {job.id}`" in said
    assert "no such card" in said


async def test_a_queue_that_does_not_answer_is_named(idle_shop: Shop) -> None:
    class Away(PostgresQueue):
        async def about(self, ids):  # type: ignore[no-untyped-def]
            raise ConnectionError("no broker")

    await _placed(idle_shop)
    found = await _trace(idle_shop, ORDER, Away(idle_shop.log.pool, "ludoteca.mail"))
    assert found.unanswered == {"ludoteca.mail": "no broker"}
    assert "ludoteca.mail does not answer" in _said(found, "no broker")


async def test_a_deadline_to_come_and_one_that_nobody_carries_out(shop: Shop) -> None:
    await _placed(shop)
    await shop.models.waiter.wait(["deadlines"], await shop.log.head(), 20)
    said = _said(await _trace(shop, ORDER), ORDER_PAYMENT)
    assert f"is at {TOMORROW:%Y-%m-%d %H:%M:%S}Z" in said
    other = uuid4()
    await _append(shop, other, Metadata(), order_created(expires_at=TOMORROW - timedelta(days=2)))
    await shop.models.waiter.wait(["deadlines"], await shop.log.head(), 20)
    assert "overdue" in _said(await _trace(shop, other), ORDER_PAYMENT)


async def test_a_consumer_that_stopped_or_was_paused(idle_shop: Shop) -> None:
    shop = idle_shop
    async with projecting(shop.url):
        await _placed(shop)
        await shop.models.waiter.wait(["orders"], 3, 20)
    await shop.operations.pause("orders")
    last = await _append(shop, ORDER, ASKED, OrderConfirmed(PAYMENT))
    found = await _trace(shop, ORDER)
    assert _said(found, "it is paused", "has to read up to 4").startswith("orders.")
    assert {each.passed for each in found.consumers} == {False}
    with connect(shop.url, "test", role="") as conn:
        conn.execute("UPDATE consumers.checkpoints SET updated_at = updated_at - interval '1 hour'")
    assert "does its process run?" in _said(await _trace(shop, last.position), "payments.")


async def test_an_event_in_quarantine(shop: Shop) -> None:
    await _placed(shop)
    broken = OrderConfirmed("no id")  # type: ignore[arg-type]
    await _append(shop, ORDER, Metadata("user:eve"), broken)
    await shop.models.waiter.wait(["orders"], await shop.log.head(), 20)
    found = await _trace(shop, PAYMENT)
    held = next(each for each in found.quarantine if each.feed.startswith("orders."))
    said = _said(found, held.feed, "could not apply order.confirmed.v1 at position 4")
    assert f"`ludoteca quarantine retry {held.id}`" in said
    assert {each.status for each in found.streams if each.kind == "order"} == {None}


async def test_a_reaction_that_a_rule_refused_is_final(idle_shop: Shop) -> None:
    shop, last = idle_shop, await _placed(idle_shop)
    with connect(shop.url, "test") as conn:
        name = checkpoints.register(conn, "settlement", 1, "")
        values = (name, last.event_id, last.position, PAYMENT, "order_cancelled", "too late")
        conn.execute(checkpoints.NOTE_REFUSAL, values)
    found = await _trace(shop, ORDER)
    assert [(each.feed, each.code) for each in found.refusals] == [(name, "order_cancelled")]
    assert not [wait for wait in found.waits_for if "order_cancelled" in wait]
