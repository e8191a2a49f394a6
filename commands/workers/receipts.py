"""Fiscal receipts, one for each seller of a paid order: the reactor that queues them, and the
worker that gets them from the operator.

The worker first takes the receipt's number in the log, then calls the operator with that number,
then records the outcome. If it is killed in between, the next attempt uses the same number, which
the operator recognises.

When the operator refuses, the worker reads the operator's book: a log that went back to an earlier
moment does not know what was issued since. It records what the book has in the log. Then the
receipt takes the number under which the operator has it, or else the next free one.
"""

import logging
from collections.abc import Callable
from uuid import UUID

from commands.aggregates import BOOK, ORDER, RECEIPT
from commands.fiscal_reconciliation import jobs_of, record_issued
from commands.handler import CommandHandler
from commands.ports.fiscal import (
    FiscalOperator,
    IssuedReceipt,
    KnownReceipt,
    OperatorRefused,
    OperatorUnavailable,
)
from commands.ports.queue import JobAttempt, JobWorker, WorkQueue
from commands.reactors.reactor import Reactor, on_behalf
from domain import receipts
from domain.events import Event
from domain.orders import OrderConfirmed
from domain.receipts import Receipt
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

ACTOR = "worker:fiscal"

MAX_RENUMBERINGS = 20
"""How often one attempt may renumber a receipt. Each time it records another page of the operator's
book."""


def fiscal_receipts(handler: CommandHandler, queue: WorkQueue) -> Reactor:
    """Queues a receipt for each seller who earned money with a paid order, in the book of the year
    (UTC) of the payment.
    """

    async def confirmed(_: OrderConfirmed, env: Envelope) -> None:
        if jobs := await jobs_of(handler, env):
            await queue.publish(jobs)

    return Reactor("fiscal_receipts", {OrderConfirmed: confirmed}, starts_from="now")


class ReceiptWorker(JobWorker):
    """Handles the jobs of the fiscal queue. Their `body` has order_id, seller_id and year."""

    def __init__(self, handler: CommandHandler, operator: FiscalOperator) -> None:
        self._handler = handler
        self._operator = operator

    async def handle(self, attempt: JobAttempt) -> None:
        """Get the receipt. Raises OperatorUnavailable, OperatorRefused: the job is retried, and
        dead after the last attempt."""
        numbered = await self._numbered(attempt)
        if numbered is None:
            logger.warning(
                "no receipt for order %s, which the log does not have",
                attempt.job.body["order_id"],
            )
            return
        receipt_id, receipt = numbered
        try:
            await self._issue(attempt, receipt_id, receipt)
        except (OperatorUnavailable, OperatorRefused) as error:
            if attempt.last:
                code = error.code if isinstance(error, OperatorRefused) else "operator_unavailable"
                await self._record(
                    attempt,
                    receipt_id,
                    lambda now: receipts.mark_failed(now, code, attempt.number),
                )
            raise

    async def _issue(self, attempt: JobAttempt, receipt_id: UUID, receipt: Receipt) -> None:
        for left in reversed(range(MAX_RENUMBERINGS + 1)):
            if receipt.status == "CREATED":
                return
            try:
                issued = await self._ask(receipt)
            except OperatorRefused as refused:
                if not left:
                    raise
                receipt = await self._as_operator_has_it(attempt, receipt_id, receipt, refused)
            else:
                break
        logger.info("receipt %s is %s at the fiscal operator", receipt_id, issued.ref)
        await self._record(attempt, receipt_id, lambda now: receipts.mark_created(now, issued.url))

    async def _ask(self, receipt: Receipt) -> IssuedReceipt:
        return await self._operator.issue(
            seller_id=receipt.seller_id,
            year=receipt.year,
            number=receipt.number,
            order_id=receipt.order_id,
            amount_cents=receipt.amount_cents,
            currency=receipt.currency,
            # The key names the order, too: a lost order may have had the same number, and the
            # operator would repeat its answer to that one.
            idempotency_key=(
                f"{receipt.seller_id}/{receipt.year}/{receipt.number}/{receipt.order_id}"
            ),
        )

    async def _as_operator_has_it(
        self, attempt: JobAttempt, receipt_id: UUID, receipt: Receipt, refused: OperatorRefused
    ) -> Receipt:
        """The receipt after a refusal: as the operator issued it earlier or, if another order has
        its number there, with another number. Raises the refusal when the operator's book does not
        explain it.
        """
        try:
            known = await self._operator.receipts_from(
                receipt.seller_id, receipt.year, receipt.number
            )
            own = await self._operator.receipt_of(receipt.seller_id, receipt.order_id)
        except OperatorRefused:  # it does not show this book, or has none
            raise refused from None
        is_taken = any(
            each.number == receipt.number and each.order_id != receipt.order_id for each in known
        )
        if own is None and not is_taken:
            raise refused

        async def decision(unit: UnitOfWork) -> tuple[list[KnownReceipt], Receipt]:
            current = await unit.get(RECEIPT, receipt_id)
            found = await record_issued(unit, [*known, *([] if own is None else [own])])
            # by another worker
            was_renumbered = (current.year, current.number) != (receipt.year, receipt.number)
            if own is None and current.status != "CREATED" and not was_renumbered:
                book_id = receipts.book_id(current.seller_id, current.year)
                book = await unit.load(BOOK, book_id)
                given = receipts.give_number(
                    book, current.order_id, current.seller_id, current.year
                )
                unit.emit(book_id, [given])
                unit.emit(receipt_id, [receipts.renumber(current, given)])
            after = await unit.get(RECEIPT, receipt_id)
            return found, after

        found, after = (await self._handler.handle(decision, on_behalf(ACTOR, attempt.job))).value
        logger.warning(
            "the fiscal operator refused number %s/%s of seller %s for order %s (%s): it is %s/%s"
            " now; the operator had %s receipts that the log did not know: %s",
            receipt.number,
            receipt.year,
            receipt.seller_id,
            receipt.order_id,
            refused,
            after.number,
            after.year,
            len(found),
            ", ".join(each.reference for each in found) or "-",
        )
        if (after.amount_cents, after.currency) != (receipt.amount_cents, receipt.currency):
            logger.error(
                "the fiscal operator has order %s of seller %s for %s %s, and not for %s %s",
                receipt.order_id,
                receipt.seller_id,
                after.amount_cents,
                after.currency,
                receipt.amount_cents,
                receipt.currency,
            )
        return after

    async def _numbered(self, attempt: JobAttempt) -> tuple[UUID, Receipt] | None:
        """The receipt with its number, which it takes from the book if it has none yet. None if the
        log has lost the order."""
        body = attempt.job.body
        order_id, seller_id, year = (
            UUID(body["order_id"]),
            UUID(body["seller_id"]),
            int(body["year"]),
        )
        receipt_id, book_id = (
            receipts.receipt_id(order_id, seller_id),
            receipts.book_id(seller_id, year),
        )

        async def decision(unit: UnitOfWork) -> Receipt | None:
            receipt = await unit.load(RECEIPT, receipt_id, likely_new=True)
            if receipt is None:
                # its lines never change
                order = await unit.load(ORDER, order_id, check=False)
                if order is None:
                    return None
                given = receipts.give_number(
                    await unit.load(BOOK, book_id), order_id, seller_id, year
                )
                requested = receipts.request(
                    given, receipts.amounts(order.lines)[seller_id], order.currency
                )
                unit.emit(book_id, [given])
                unit.emit(receipt_id, [requested])
                receipt = await unit.load(RECEIPT, receipt_id)
            return receipt

        receipt = (await self._handler.handle(decision, on_behalf(ACTOR, attempt.job))).value
        return None if receipt is None else (receipt_id, receipt)

    async def _record(
        self, attempt: JobAttempt, receipt_id: UUID, decide: Callable[[Receipt], list[Event]]
    ) -> None:
        async def decision(unit: UnitOfWork) -> None:
            receipt = await unit.get(RECEIPT, receipt_id)
            unit.emit(receipt_id, decide(receipt))

        await self._handler.handle(decision, on_behalf(ACTOR, attempt.job))
