"""What the fiscal operator has issued, entered in the log, which may not know it: it went back to an earlier moment."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec

from commands.aggregates import BOOK, ORDER, RECEIPT
from commands.handler import SYSTEM, CommandBus
from commands.ports.fiscal import FiscalOperator, KnownReceipt
from domain import receipts
from domain.receipts import FiscalReceiptFound
from eventstore.repository import Unit


class Found(msgspec.Struct, frozen=True):
    """A receipt of the operator's that the log did not know. `order_is_known` is false where the log has lost it."""

    receipt: KnownReceipt
    order_is_known: bool


async def enter(unit: Unit, known: Sequence[KnownReceipt]) -> list[KnownReceipt]:
    """Record what the operator has issued. Returns those that the log did not know."""
    found = []
    for each in known:
        receipt_id = receipts.receipt_id(each.order_id, each.seller_id)
        seen = FiscalReceiptFound(**msgspec.structs.asdict(each))
        of_book, of_receipt = receipts.find(await unit.load(RECEIPT, receipt_id), seen)
        if of_book:
            book_id = receipts.book_id(each.seller_id, each.year)
            await unit.load(BOOK, book_id)
            unit.emit(book_id, of_book)
        if of_receipt:
            unit.emit(receipt_id, of_receipt)
            found.append(each)
    return found


async def reconcile(bus: CommandBus, operator: FiscalOperator, issued_since: datetime | None = None) -> list[Found]:
    """Enter every receipt that the operator has issued (since a moment), page by page; it may be repeated. Returns
    those that the log did not know. Raises OperatorUnavailable, OperatorRefused.
    """
    found: list[Found] = []
    after: str | None = None
    while page := await operator.receipts_since(issued_since, after):
        entered = (await bus.run(partial(enter, known=page), SYSTEM)).value
        for each in entered:
            order = await bus.repository.state(ORDER, each.order_id)
            found.append(Found(each, order is not None))
        after = page[-1].reference
    return found
