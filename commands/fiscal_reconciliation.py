"""Reconciling sellers' books with those of the fiscal operator: receipts that it issued and the log
does not have, and receipts that are still missing. They differ after the log went back to an
earlier moment, or a broker lost its jobs.
"""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec

from commands.aggregates import BOOK, ORDER, RECEIPT
from commands.caller import IMPORTER, SYSTEM
from commands.handler import CommandHandler
from commands.ports.fiscal import FiscalOperator, KnownReceipt
from commands.ports.queue import Job, WorkQueue
from commands.reactors.reactor import job_for
from domain import receipts
from domain.orders import OrderConfirmed, OrderCreated
from domain.receipts import FiscalNumberFreed, FiscalNumberGiven, FiscalReceiptFound
from eventstore.log import Envelope, first_event
from eventstore.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)


class MissedReceipt(msgspec.Struct, frozen=True):
    """A receipt of the operator that was missing in the log. `order_is_known` is false when the log
    has lost its order."""

    receipt: KnownReceipt
    order_is_known: bool


async def record_issued(unit: UnitOfWork, known: Sequence[KnownReceipt]) -> list[KnownReceipt]:
    """Record receipts that the operator has issued. If the log had requested one of them with
    another number, that number becomes free again. Returns the receipts that the log did not have.
    """
    found = []
    issued = {(each.seller_id, each.year, each.number) for each in known}
    for each in known:
        if each.number < 1 or each.amount_cents < 1 or not re.fullmatch("[A-Z]{3}", each.currency):
            logger.warning("the fiscal operator has a receipt that is none of ours: %s", each)
            continue
        receipt_id = receipts.receipt_id(each.order_id, each.seller_id)
        receipt = await unit.load(RECEIPT, receipt_id)
        seen = FiscalReceiptFound(**msgspec.structs.asdict(each))
        of_book, of_receipt = receipts.find(receipt, seen)
        if of_book:
            if (
                receipt
                and receipt.status != "CREATED"
                and (each.seller_id, receipt.year, receipt.number) not in issued
            ):
                await _emit_in_book(unit, receipts.free_number(receipt))
            for given in of_book:
                await _emit_in_book(unit, given)
        if of_receipt:
            unit.emit(receipt_id, of_receipt)
            found.append(each)
    return found


async def _emit_in_book(unit: UnitOfWork, event: FiscalNumberGiven | FiscalNumberFreed) -> None:
    book_id = receipts.book_id(event.seller_id, event.year)
    await unit.load(BOOK, book_id)
    unit.emit(book_id, [event])


async def reconcile(
    handler: CommandHandler, operator: FiscalOperator, issued_since: datetime | None = None
) -> list[MissedReceipt]:
    """Record every receipt that the operator has issued (since a moment). Idempotent. Returns those
    that the log did not have. Raises OperatorUnavailable, OperatorRefused.
    """
    found: list[MissedReceipt] = []
    after: str | None = None
    while page := await operator.receipts_since(issued_since, after):
        entered = (await handler.handle(partial(record_issued, known=page), SYSTEM)).value
        for each in entered:
            order = await handler.state(ORDER, each.order_id)
            found.append(MissedReceipt(each, order is not None))
        if page[-1].reference == after:
            break  # the operator repeats its last page
        after = page[-1].reference
    return found


async def jobs_of(handler: CommandHandler, confirmed: Envelope) -> list[Job]:
    """A receipt job for each seller of a paid order; always the same jobs. None for an imported
    order, which was sold and reported elsewhere."""
    placed = await first_event(handler.log, confirmed.stream_id)
    assert placed is not None
    if placed.env.actor == IMPORTER.actor:
        return []
    order: OrderCreated = placed.event
    jobs = []
    for seller_id in receipts.amounts(order.lines):
        job = job_for(confirmed, "receipt", order_id=confirmed.stream_id, seller_id=seller_id)
        body = {**job.body, "year": str(confirmed.occurred_at.year)}
        jobs.append(
            msgspec.structs.replace(
                job, id=receipts.receipt_id(confirmed.stream_id, seller_id), body=body
            )
        )
    return jobs


async def queue_missing(
    handler: CommandHandler, queue: WorkQueue, paid_since: datetime
) -> list[Job]:
    """Queue the receipts of orders paid since a moment that are neither issued nor failed, as a
    broker may have lost their jobs. Returns the queued jobs. A job that was not lost is done once
    all the same.
    """
    log, asked = handler.log, list[Job]()
    head, position = await log.head(), 0
    while page := await log.read(position, upto=head, names=[OrderConfirmed.NAME]):
        position = page[-1].env.position
        missing = [
            job
            for recorded in page
            if recorded.env.occurred_at >= paid_since
            for job in await jobs_of(handler, recorded.env)
            if await _is_missing(handler, job)
        ]
        await queue.publish(missing)
        asked += missing
    return asked


async def _is_missing(handler: CommandHandler, job: Job) -> bool:
    receipt = await handler.state(RECEIPT, job.id)
    return receipt is None or receipt.status == "REQUESTED"
