"""Fiscal receipts: what a seller earned with an order, reported to the fiscal operator under a
number.

A seller's receipts of a year form a book. It gives out the numbers 1, 2, 3 … without gaps, one per
(order, seller): a receipt refused by the operator keeps its number, and a retry creates it under
that number. The book and the receipt are separate streams; a number and its receipt are appended
together.

The operator's book is the truth. A log restored to an earlier time lacks the numbers given out
since: `find` enters what the operator has, whether or not the log knows the order, and `renumber`
gives the next number to a receipt whose number turns out to belong to another.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import derived
from domain.orders import OrderLine

Status = Literal["REQUESTED", "CREATED", "FAILED"]


def book_id(seller_id: UUID, year: int) -> UUID:
    """The stream of a seller's book for a year."""
    return derived("fiscal.book", seller_id, year)


def receipt_id(order_id: UUID, seller_id: UUID) -> UUID:
    """The stream of a seller's one receipt for an order."""
    return derived("fiscal.receipt", order_id, seller_id)


# -- events ----------------------------------------------------------------------------------------


@event("payment.fiscal.number.given.v1", kind="fiscal_book")
class FiscalNumberGiven(Event, frozen=True):
    """The number belongs to this order: the book gave it out, or the operator's book shows it. The
    last such event for a number counts."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int


@event("payment.fiscal.number.freed.v1", kind="fiscal_book")
class FiscalNumberFreed(Event, frozen=True):
    """The number is free for the next receipt: the operator issued this order's receipt under
    another number, and none under this one."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int


@event("payment.fiscal.receipt.requested.v1", kind="receipt")
class FiscalReceiptRequested(Event, frozen=True):
    """The receipt is to be reported to the operator; `amount_cents` is the total of this seller's
    lines of the order."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str


@event("payment.fiscal.receipt.created.v1", kind="receipt")
class FiscalReceiptCreated(Event, frozen=True):
    """The operator issued the receipt; `url` shows it to people."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    url: str | None = None


@event("payment.fiscal.receipt.failed.v1", kind="receipt")
class FiscalReceiptFailed(Event, frozen=True):
    """The operator did not accept the receipt after `attempts` attempts. The receipt keeps its
    number, and an operator of the shop can redrive it."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    code: str
    attempts: int


@event("payment.fiscal.receipt.renumbered.v1", kind="receipt")
class FiscalReceiptRenumbered(Event, frozen=True):
    """The receipt has a new `number`, as the fiscal operator had issued `previous_number` for a
    receipt unknown to the log. It is reported again under the new one."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    previous_number: int


@event("payment.fiscal.receipt.found.v1", kind="receipt")
class FiscalReceiptFound(Event, frozen=True):
    """The operator was found to have issued a receipt that the log did not know as such, under this
    number and for this amount. `reference` is the operator's own; the order may be one that the log
    has lost."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    reference: str
    url: str | None = None


# -- state -----------------------------------------------------------------------------------------


class Book(msgspec.Struct, frozen=True):
    """A seller's book for a year: its highest number, and the ranges (first, last) of lower numbers
    that are unused."""

    last_number: int = 0
    free: tuple[tuple[int, int], ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: Status = "REQUESTED"


def evolve_book(state: Book | None, event: Event) -> Book | None:
    book = state or Book()
    match event:
        case FiscalNumberGiven() if event.number > book.last_number:
            skipped = (book.last_number + 1, event.number - 1)
            return Book(
                event.number, book.free if skipped[0] > skipped[1] else (*book.free, skipped)
            )
        case FiscalNumberGiven():
            return Book(book.last_number, _without(book.free, event.number))
        case FiscalNumberFreed():
            return Book(book.last_number, tuple(sorted({*book.free, (event.number, event.number)})))
    return state


def _without(ranges: tuple[tuple[int, int], ...], number: int) -> tuple[tuple[int, int], ...]:
    left: list[tuple[int, int]] = []
    for first, last in ranges:
        parts = (
            [(first, number - 1), (number + 1, last)]
            if first <= number <= last
            else [(first, last)]
        )
        left += [part for part in parts if part[0] <= part[1]]
    return tuple(left)


def evolve(state: Receipt | None, event: Event) -> Receipt | None:
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


# -- decisions -------------------------------------------------------------------------------------


def amounts(lines: tuple[OrderLine, ...]) -> dict[UUID, int]:
    """What each seller of an order earned, in the order of the lines. Sellers who earned nothing
    issue no receipt."""
    taken: dict[UUID, int] = {}
    for line in lines:
        taken[line.seller_id] = taken.get(line.seller_id, 0) + line.quantity * line.unit_price_cents
    return {seller_id: cents for seller_id, cents in taken.items() if cents}


def give_number(book: Book | None, order_id: UUID, seller_id: UUID, year: int) -> FiscalNumberGiven:
    """Give out the book's lowest unused number, for a receipt that has none yet."""
    book = book or Book()
    number = book.free[0][0] if book.free else book.last_number + 1
    return FiscalNumberGiven(order_id=order_id, seller_id=seller_id, number=number, year=year)


def request(given: FiscalNumberGiven, amount_cents: int, currency: str) -> FiscalReceiptRequested:
    """Request the receipt for a number that was just given out."""
    return FiscalReceiptRequested(
        **msgspec.structs.asdict(given), amount_cents=amount_cents, currency=currency
    )


def mark_created(receipt: Receipt, url: str | None) -> list[Event]:
    """Mark the receipt as issued, even after a failure. Idempotent."""
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
    """Mark the receipt as failed after the last attempt. No-op once it is created or failed."""
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
    """Give the receipt the number just given out, as the operator has
    issued its own for another."""
    return FiscalReceiptRenumbered(**msgspec.structs.asdict(given), previous_number=receipt.number)


def find(
    receipt: Receipt | None, seen: FiscalReceiptFound
) -> tuple[list[FiscalNumberGiven], list[Event]]:
    """Record a receipt found at the operator, known to the log or not. Returns the events of the
    book of `seen.year`, and those of the receipt; both are empty when the log has it all."""
    has_number = receipt is not None and (receipt.year, receipt.number) == (seen.year, seen.number)
    if receipt is not None and has_number and receipt.status == "CREATED":
        return [], []
    given = FiscalNumberGiven(
        order_id=seen.order_id, seller_id=seen.seller_id, number=seen.number, year=seen.year
    )
    return [] if has_number else [given], [seen]


def free_number(receipt: Receipt) -> FiscalNumberFreed:
    """Free the receipt's number, under which the operator has issued nothing."""
    return FiscalNumberFreed(
        order_id=receipt.order_id,
        seller_id=receipt.seller_id,
        number=receipt.number,
        year=receipt.year,
    )
