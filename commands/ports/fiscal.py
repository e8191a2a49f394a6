"""The fiscal operator."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class IssuedReceipt(msgspec.Struct, frozen=True):
    """A receipt as the fiscal operator has it: its reference there, and where people see it."""

    ref: str
    url: str | None = None


class KnownReceipt(msgspec.Struct, frozen=True):
    """A receipt as the operator's book shows it; the amount is in the smallest unit of the
    currency."""

    seller_id: UUID
    year: int
    number: int
    order_id: UUID
    amount_cents: int
    currency: str
    reference: str
    url: str | None = None


class OperatorUnavailable(Exception):
    """No answer from the fiscal operator: it may have the receipt or not; ask again under the same
    idempotency key."""


class OperatorRefused(Exception):
    """The fiscal operator said no to the receipt as it is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class FiscalOperator(Protocol):
    """Whoever sales are reported to by law. It may be told of a book's numbers in any order, each
    once."""

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
        """Report a sale. Under the key of an earlier call the answer is that call's.

        Raises OperatorUnavailable, OperatorRefused.
        """
        ...

    async def receipt_of(self, seller_id: UUID, order_id: UUID) -> KnownReceipt | None:
        """What it has issued to a seller for an order. Raises as `issue` does."""
        ...

    async def receipts_from(
        self, seller_id: UUID, year: int, number: int
    ) -> Sequence[KnownReceipt]:
        """The first receipts of a book from this number on, in their order. Raises as `issue`
        does."""
        ...

    async def receipts_since(
        self, issued_since: datetime | None, after: str | None
    ) -> Sequence[KnownReceipt]:
        """The next receipts of all books, in the order of their issue; `after` is the last page's
        last reference. Empty at the end. Raises as `issue` does."""
        ...
