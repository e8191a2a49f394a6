"""Fiscal receipts: what a seller took for an order, reported to the fiscal operator under a number.

A seller's receipts of a year are a book. It gives out the numbers 1, 2, 3 … without gaps, one per (order, seller): a
receipt that the operator would not take keeps its number, and is created under it when it is tried again.
The book and the receipt are streams of their own; a number and the receipt that gets it are appended together.

What the operator has issued is the truth. A log that went back to an earlier moment does not know the numbers given
since: what the operator's book shows is entered here (`find`), be the order known or lost, and a receipt whose number
turns out to be another's gets the next one (`renumber`).
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import derived
from domain.orders import OrderLine

Status = Literal["REQUESTED", "CREATED", "FAILED"]


def book_id(seller_id: UUID, year: int) -> UUID:
    """The stream of a seller's book of a year."""
    return derived("fiscal.book", seller_id, year)


def receipt_id(order_id: UUID, seller_id: UUID) -> UUID:
    """The stream of the one receipt that a seller gives for an order."""
    return derived("fiscal.receipt", order_id, seller_id)


# -- events ------------------------------------------------------------------------------------------------------------


@event("payment.fiscal.number.given.v1", kind="fiscal_book")
class FiscalNumberGiven(Event, frozen=True):
    """The number is this order's: the book gave it out, or the operator's book has it so (the last such event of a
    number holds)."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int


@event("payment.fiscal.number.freed.v1", kind="fiscal_book")
class FiscalNumberFreed(Event, frozen=True):
    """The operator has this order under another number, and this one not at all: the next receipt gets it."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int


@event("payment.fiscal.receipt.requested.v1", kind="receipt")
class FiscalReceiptRequested(Event, frozen=True):
    """The operator is to be told; `amount_cents` is what the order's lines of this seller cost."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str


@event("payment.fiscal.receipt.created.v1", kind="receipt")
class FiscalReceiptCreated(Event, frozen=True):
    """The operator has it; `url` is where people see it."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    url: str | None = None


@event("payment.fiscal.receipt.failed.v1", kind="receipt")
class FiscalReceiptFailed(Event, frozen=True):
    """The operator did not take it, after so many attempts. It keeps its number, for an operator's redrive."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    code: str
    attempts: int


@event("payment.fiscal.receipt.renumbered.v1", kind="receipt")
class FiscalReceiptRenumbered(Event, frozen=True):
    """The operator had given `previous_number` to another receipt, which the log did not know: it is told of this one
    under `number`."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    previous_number: int


@event("payment.fiscal.receipt.found.v1", kind="receipt")
class FiscalReceiptFound(Event, frozen=True):
    """The operator has it, as the log did not know: under this number, for this amount. `reference` is its name there.
    The order may be one that the log has lost."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    reference: str
    url: str | None = None


# -- state -------------------------------------------------------------------------------------------------------------


class Book(msgspec.Struct, frozen=True):
    """A seller's book of a year: its highest number, and the ranges (first, last) of lower ones that nobody has."""

    last_number: int = 0
    free: tuple[tuple[int, int], ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    """A receipt as it stands."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: Status = "REQUESTED"


def evolve_book(state: Book | None, event: Event) -> Book | None:
    """The book after one more event."""
    book = state or Book()
    match event:
        case FiscalNumberGiven() if event.number > book.last_number:
            skipped = (book.last_number + 1, event.number - 1)
            return Book(event.number, book.free if skipped[0] > skipped[1] else (*book.free, skipped))
        case FiscalNumberGiven():
            return Book(book.last_number, _without(book.free, event.number))
        case FiscalNumberFreed():
            return Book(book.last_number, tuple(sorted({*book.free, (event.number, event.number)})))
    return state


def _without(ranges: tuple[tuple[int, int], ...], number: int) -> tuple[tuple[int, int], ...]:
    left: list[tuple[int, int]] = []
    for first, last in ranges:
        parts = [(first, number - 1), (number + 1, last)] if first <= number <= last else [(first, last)]
        left += [part for part in parts if part[0] <= part[1]]
    return tuple(left)


def evolve(state: Receipt | None, event: Event) -> Receipt | None:
    """The receipt after one more event."""
    match state, event:
        case _, FiscalReceiptRequested():
            return Receipt(**msgspec.structs.asdict(event))
        case Receipt(), FiscalReceiptCreated():
            return msgspec.structs.replace(state, status="CREATED")
        case Receipt(), FiscalReceiptFailed():
            return msgspec.structs.replace(state, status="FAILED")
        case Receipt(), FiscalReceiptRenumbered():
            return msgspec.structs.replace(state, number=event.number, year=event.year)
        case _, FiscalReceiptFound():
            return Receipt(
                order_id=event.order_id,
                seller_id=event.seller_id,
                number=event.number,
                year=event.year,
                amount_cents=event.amount_cents,
                currency=event.currency,
                status="CREATED",
            )
    return state


# -- decisions ---------------------------------------------------------------------------------------------------------


def amounts(lines: tuple[OrderLine, ...]) -> dict[UUID, int]:
    """What each seller of an order took, in the order of the lines; who took nothing gives no receipt."""
    taken: dict[UUID, int] = {}
    for line in lines:
        taken[line.seller_id] = taken.get(line.seller_id, 0) + line.quantity * line.unit_price_cents
    return {seller_id: cents for seller_id, cents in taken.items() if cents}


def give_number(book: Book | None, order_id: UUID, seller_id: UUID, year: int) -> FiscalNumberGiven:
    """The book's next number, the lowest that nobody has, for a receipt that has none yet."""
    book = book or Book()
    number = book.free[0][0] if book.free else book.last_number + 1
    return FiscalNumberGiven(order_id=order_id, seller_id=seller_id, number=number, year=year)


def request(given: FiscalNumberGiven, amount_cents: int, currency: str) -> FiscalReceiptRequested:
    """The receipt of a number that was just given out."""
    return FiscalReceiptRequested(**msgspec.structs.asdict(given), amount_cents=amount_cents, currency=currency)


def mark_created(receipt: Receipt, url: str | None) -> list[Event]:
    """The operator has it, be it after an earlier failure; saying so again changes nothing."""
    if receipt.status == "CREATED":
        return []
    return [
        FiscalReceiptCreated(
            order_id=receipt.order_id,
            seller_id=receipt.seller_id,
            number=receipt.number,
            year=receipt.year,
            amount_cents=receipt.amount_cents,
            currency=receipt.currency,
            url=url,
        )
    ]


def mark_failed(receipt: Receipt, code: str, attempts: int) -> list[Event]:
    """Every attempt failed; of a receipt that is created, or known to have failed, this says nothing new."""
    if receipt.status != "REQUESTED":
        return []
    return [
        FiscalReceiptFailed(
            order_id=receipt.order_id,
            seller_id=receipt.seller_id,
            number=receipt.number,
            year=receipt.year,
            code=code,
            attempts=attempts,
        )
    ]


def renumber(receipt: Receipt, given: FiscalNumberGiven) -> FiscalReceiptRenumbered:
    """The number that it has is another's at the operator: it gets the one that was just given out."""
    return FiscalReceiptRenumbered(**msgspec.structs.asdict(given), previous_number=receipt.number)


def find(receipt: Receipt | None, seen: FiscalReceiptFound) -> tuple[list[Event], list[Event]]:
    """What the operator has of a receipt, or of one that is not known here. Returns the events of the book of
    `seen.year`, and the receipt's; none where this is known."""
    has_number = receipt is not None and (receipt.year, receipt.number) == (seen.year, seen.number)
    if receipt is not None and has_number and receipt.status == "CREATED":
        return [], []
    given = FiscalNumberGiven(order_id=seen.order_id, seller_id=seen.seller_id, number=seen.number, year=seen.year)
    return [] if has_number else [given], [seen]


def free_number(receipt: Receipt) -> FiscalNumberFreed:
    """The number that the receipt had, which the operator has given to nobody."""
    return FiscalNumberFreed(
        order_id=receipt.order_id, seller_id=receipt.seller_id, number=receipt.number, year=receipt.year
    )
