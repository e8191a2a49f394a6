"""Views of fiscal receipts."""

from collections.abc import Sequence
from uuid import UUID

from api.fields import Answer, Time
from projections.models.receipts import Receipt


class ReceiptView(Answer):
    """A seller's fiscal receipt for an order: REQUESTED, CREATED (issued) or FAILED. Once issued,
    `url` is the fiscal operator's page for it."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: str
    url: str | None
    issued_at: Time | None


def first_issued(receipts: Sequence[Receipt]) -> Receipt | None:
    """The first issued receipt, in the order of the sellers' lines."""
    return next((receipt for receipt in receipts if receipt.status == "CREATED"), None)
