"""A fiscal receipt per seller of a paid order: who asks for it, and the worker that gets it from the operator.

The worker first takes the receipt's number in the log, then calls the operator under that number, then records what
came of it. Killed anywhere in between, it is done again with the same number, and the operator knows the number.
"""

import logging
from collections.abc import Callable
from uuid import UUID

import msgspec

from commands.aggregates import BOOK, ORDER, RECEIPT
from commands.handler import IMPORTER, CommandBus
from commands.ports.fiscal import FiscalOperator, OperatorRefused, OperatorUnavailable
from commands.ports.queue import Delivery, WorkQueue
from commands.reactors.reactor import Reactor, job_for, on_behalf
from domain import receipts
from domain.events import Event
from domain.orders import OrderConfirmed, OrderCreated
from domain.receipts import Receipt
from eventstore.log import Envelope
from eventstore.repository import Unit

log = logging.getLogger(__name__)

ACTOR = "worker:fiscal"


def fiscal_receipts(bus: CommandBus, queue: WorkQueue) -> Reactor:
    """Puts a job on the fiscal queue for each seller who took money by an order, in the book of the year (UTC) in which
    the order was paid. An imported order was sold, and reported, elsewhere.
    """

    async def confirmed(_: OrderConfirmed, env: Envelope) -> None:
        placed = (await bus.repository.log.read_stream(env.stream_id, limit=1))[0]
        if placed.env.actor == IMPORTER.actor:
            return
        order: OrderCreated = placed.event
        year = str(env.occurred_at.year)
        jobs = []
        for seller_id in receipts.amounts(order.lines):
            job = job_for(env, "receipt", order_id=env.stream_id, seller_id=seller_id)
            job_id = receipts.receipt_id(env.stream_id, seller_id)
            jobs.append(msgspec.structs.replace(job, id=job_id, body={**job.body, "year": year}))
        if jobs:
            await queue.publish(jobs)

    return Reactor("fiscal_receipts", {OrderConfirmed: confirmed}, starts_from="now")


class ReceiptWorker:
    """Handles the jobs of the fiscal queue; `body` has order_id, seller_id and year."""

    def __init__(self, bus: CommandBus, operator: FiscalOperator) -> None:
        self._bus, self._operator = bus, operator

    async def handle(self, delivery: Delivery) -> None:
        """Get the receipt. Raises OperatorUnavailable and OperatorRefused: again later, or dead after the last try."""
        receipt_id, receipt = await self._numbered(delivery)
        if receipt.status == "CREATED":
            return
        try:
            issued = await self._operator.issue(
                seller_id=receipt.seller_id,
                year=receipt.year,
                number=receipt.number,
                order_id=receipt.order_id,
                amount_cents=receipt.amount_cents,
                currency=receipt.currency,
                idempotency_key=f"{receipt.seller_id}/{receipt.year}/{receipt.number}",
            )
        except (OperatorUnavailable, OperatorRefused) as error:
            if delivery.last:
                code = error.code if isinstance(error, OperatorRefused) else "operator_unavailable"
                await self._record(delivery, receipt_id, lambda now: receipts.mark_failed(now, code, delivery.attempt))
            raise
        log.info("receipt %s is %s at the fiscal operator", receipt_id, issued.ref)
        await self._record(delivery, receipt_id, lambda now: receipts.mark_created(now, issued.url))

    async def _numbered(self, delivery: Delivery) -> tuple[UUID, Receipt]:
        """The receipt, with the number that it has or now gets from the book."""
        body = delivery.job.body
        order_id, seller_id, year = UUID(body["order_id"]), UUID(body["seller_id"]), int(body["year"])
        receipt_id, book_id = receipts.receipt_id(order_id, seller_id), receipts.book_id(seller_id, year)

        async def decision(unit: Unit) -> Receipt:
            receipt = await unit.load(RECEIPT, receipt_id)
            if receipt is None:
                order = await unit.load(ORDER, order_id)
                assert order is not None
                given = receipts.give_number(await unit.load(BOOK, book_id), order_id, seller_id, year)
                requested = receipts.request(given, receipts.amounts(order.lines)[seller_id], order.currency)
                unit.emit(book_id, [given])
                unit.emit(receipt_id, [requested])
                receipt = await unit.load(RECEIPT, receipt_id)
                assert receipt is not None
            return receipt

        return receipt_id, (await self._bus.run(decision, on_behalf(ACTOR, delivery.job))).value

    async def _record(self, delivery: Delivery, receipt_id: UUID, decide: Callable[[Receipt], list[Event]]) -> None:
        async def decision(unit: Unit) -> None:
            receipt = await unit.load(RECEIPT, receipt_id)
            assert receipt is not None
            unit.emit(receipt_id, decide(receipt))

        await self._bus.run(decision, on_behalf(ACTOR, delivery.job))
