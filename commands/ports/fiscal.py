"""The operator to whom sales are reported by law."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class IssuedReceipt(msgspec.Struct, frozen=True):
    """An issued receipt: the operator's reference, and the page that shows it."""

    ref: str
    url: str | None = None


class KnownReceipt(msgspec.Struct, frozen=True):
    """A receipt in the operator's book. The amount is in the smallest unit of the currency."""

    seller_id: UUID
    year: int
    number: int
    order_id: UUID
    amount_cents: int
    currency: str
    reference: str
    url: str | None = None


class OperatorUnavailable(Exception):
    """No answer from the fiscal operator: it may have issued the receipt or not. Ask again with the
    same idempotency key."""


class OperatorRefused(Exception):
    """The fiscal operator refused the receipt."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class FiscalOperator(Protocol):
    """Issues fiscal receipts. The numbers of a book may be used in any order, each once."""

    async def issue(
        self,
        *,
        seller_id: UUID,
        year: int,
        number: int,
        order_id: UUID,
        amount_cents: int,
        currency: str,
        idempotency_key: str,
    ) -> IssuedReceipt:
        """Report a sale. With the key of an earlier call, returns that call's answer.

        Raises OperatorUnavailable, OperatorRefused.
        """
        ...

    async def receipt_of(self, seller_id: UUID, order_id: UUID) -> KnownReceipt | None:
        """The receipt issued to a seller for an order. Raises as `issue` does."""
        ...

    async def receipts_from(
        self, seller_id: UUID, year: int, number: int
    ) -> Sequence[KnownReceipt]:
        """A page of a book's receipts from this number on, in order. Raises as `issue` does."""
        ...

    async def receipts_since(
        self, issued_since: datetime | None, after: str | None
    ) -> Sequence[KnownReceipt]:
        """A page of the receipts of all books, in the order of their issue; empty at the end.
        `after` is the last reference of the page before. Raises as `issue` does."""
        ...
