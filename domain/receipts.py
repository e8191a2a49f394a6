"""Fiscal receipts: what a seller took for an order, reported to the fiscal operator under a number.

A seller's receipts of a year are a book. It gives out the numbers 1, 2, 3 … without gaps, one per (order, seller) and
for ever: a receipt that the operator would not take keeps its number, and is created under it when it is tried again.
The book and the receipt are streams of their own; a number and the receipt that gets it are appended together.
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
    """The book gave out its next number."""

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


# -- state -------------------------------------------------------------------------------------------------------------


class Book(msgspec.Struct, frozen=True):
    """A seller's book of a year: the number that it gave out last, which is also the stream's version."""

    last_number: int = 0


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
    return Book(event.number) if isinstance(event, FiscalNumberGiven) else state


def evolve(state: Receipt | None, event: Event) -> Receipt | None:
    """The receipt after one more event."""
    match state, event:
        case _, FiscalReceiptRequested():
            return Receipt(**msgspec.structs.asdict(event))
        case Receipt(), FiscalReceiptCreated():
            return msgspec.structs.replace(state, status="CREATED")
        case Receipt(), FiscalReceiptFailed():
            return msgspec.structs.replace(state, status="FAILED")
    return state


# -- decisions ---------------------------------------------------------------------------------------------------------


def amounts(lines: tuple[OrderLine, ...]) -> dict[UUID, int]:
    """What each seller of an order took, in the order of the lines; who took nothing gives no receipt."""
    taken: dict[UUID, int] = {}
    for line in lines:
        taken[line.seller_id] = taken.get(line.seller_id, 0) + line.quantity * line.unit_price_cents
    return {seller_id: cents for seller_id, cents in taken.items() if cents}


def give_number(book: Book | None, order_id: UUID, seller_id: UUID, year: int) -> FiscalNumberGiven:
    """The book's next number, for a receipt that has none yet."""
    number = 1 if book is None else book.last_number + 1
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
