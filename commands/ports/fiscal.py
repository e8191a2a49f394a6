"""The fiscal operator."""

from typing import Protocol
from uuid import UUID

import msgspec


class IssuedReceipt(msgspec.Struct, frozen=True):
    """A receipt as the fiscal operator has it: its reference there, and where people see it."""

    ref: str
    url: str | None = None


class OperatorUnavailable(Exception):
    """No answer from the fiscal operator: it may have the receipt or not; ask again under the same idempotency key."""


class OperatorRefused(Exception):
    """The fiscal operator said no to the receipt as it is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class FiscalOperator(Protocol):
    """Whoever sales are reported to by law. It may be told of a book's numbers in any order, each once."""

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
