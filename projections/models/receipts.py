"""Fiscal receipts: one per order and seller, with its number and what became of it."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from domain.receipts import (
    FiscalReceiptCreated,
    FiscalReceiptFailed,
    FiscalReceiptFound,
    FiscalReceiptRenumbered,
    FiscalReceiptRequested,
    receipt_id,
)
from eventstore.log import Placed
from projections.fields import Happened, happened
from projections.projection import NIL, Projection, Row, Rows, on


class Receipt(Row):
    """A seller's receipt for an order. It is issued once `status` is CREATED: the operator had
    accepted it at `issued_at`, and may show it at `url`. `history` lists its events."""

    KEY = ("receipt_id",)
    INDEXES = ("order_id",)
    INTERNAL = ("receipt_id",)

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: str
    url: str | None
    issued_at: datetime | None
    history: list[Happened]
    receipt_id: UUID = NIL


class Receipts(Projection[Receipt]):
    """Every receipt by its id."""

    name, version, row = "receipts", 1, Receipt

    @on(FiscalReceiptRequested)
    def requested(self, rows: Rows[Receipt], event: FiscalReceiptRequested, env: Placed) -> None:
        rows.put(_receipt(event, env, "REQUESTED"))

    @on(FiscalReceiptCreated)
    def created(self, rows: Rows[Receipt], event: FiscalReceiptCreated, env: Placed) -> None:
        receipt = rows[env.stream_id]
        receipt.status = "CREATED"
        receipt.url = event.url
        receipt.issued_at = env.occurred_at
        receipt.history.append(happened(env, status="CREATED", amount_cents=event.amount_cents))

    @on(FiscalReceiptFailed)
    def failed(self, rows: Rows[Receipt], event: FiscalReceiptFailed, env: Placed) -> None:
        receipt = rows[env.stream_id]
        receipt.status = "FAILED"
        receipt.history.append(
            happened(env, status="FAILED", code=event.code, attempt=event.attempts)
        )

    @on(FiscalReceiptRenumbered)
    def renumbered(self, rows: Rows[Receipt], event: FiscalReceiptRenumbered, env: Placed) -> None:
        receipt = rows[env.stream_id]
        receipt.number = event.number
        receipt.year = event.year
        receipt.history.append(happened(env, status=receipt.status))

    @on(FiscalReceiptFound)
    def found(self, rows: Rows[Receipt], event: FiscalReceiptFound, env: Placed) -> None:
        """Replace the row by what the operator has. Of an order that the log has lost, nothing else
        is known."""
        known = rows.get(env.stream_id)
        receipt = _receipt(event, env, "CREATED")
        receipt.url = event.url
        receipt.issued_at = env.occurred_at
        if known is not None:
            receipt.history = [*known.history, *receipt.history]
        rows.put(receipt)


def _receipt(
    event: FiscalReceiptRequested | FiscalReceiptFound, env: Placed, status: str
) -> Receipt:
    return Receipt(
        receipt_id=env.stream_id,
        order_id=event.order_id,
        seller_id=event.seller_id,
        number=event.number,
        year=event.year,
        amount_cents=event.amount_cents,
        currency=event.currency,
        status=status,
        url=None,
        issued_at=None,
        history=[happened(env, status=status, amount_cents=event.amount_cents)],
    )


def keys_of_order(order_id: UUID, seller_ids: Iterable[UUID]) -> list[UUID]:
    """The keys of the receipts that these sellers may give for an order, each once."""
    return [receipt_id(order_id, seller_id) for seller_id in dict.fromkeys(seller_ids)]
