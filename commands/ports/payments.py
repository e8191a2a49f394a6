"""A provider of card payments."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

IntentStatus = Literal[
    "requires_payment_method", "requires_action", "processing", "succeeded", "canceled", "failed"
]


class Intent(msgspec.Struct, frozen=True):
    """A provider's payment intent as it stands. `code` and `detail` say why the last attempt
    failed, if it did; `payment_id` is None when it names none of ours; `refunded_cents` is all that
    went back, where a notice tells it."""

    ref: str
    status: IntentStatus
    amount_cents: int
    currency: str
    payment_id: UUID | None
    client_secret: str = ""
    redirect_url: str = ""
    code: str = ""
    detail: str = ""
    refunded_cents: int = 0


RefundStatus = Literal["PENDING", "SUCCEEDED", "FAILED"]


class ProviderRefund(msgspec.Struct, frozen=True):
    """A refund as it stands at the provider: that it took it on does not mean that the money has
    gone. `code` says why it failed, if it did. `payment_id` and `refund_id` are ours, None when it
    was made by hand; `intent_ref` is what it is of, where the provider says so.
    """

    ref: str
    amount_cents: int
    status: RefundStatus = "SUCCEEDED"
    code: str = ""
    payment_id: UUID | None = None
    refund_id: UUID | None = None
    intent_ref: str = ""


class ProviderNotice(msgspec.Struct, frozen=True):
    """A verified webhook notice: its own id (for ever unique), its type, and the intent or the
    refund it speaks of."""

    event_id: str
    type: str
    created: datetime
    intent: Intent | None
    refund: ProviderRefund | None = None


class ProviderUnavailable(Exception):
    """No answer, a time-out or a 5xx: it may have happened or not; ask again under the same
    idempotency key."""


class ProviderRefused(Exception):
    """The provider said no to the call itself (a 4xx that no retry mends)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class PaymentProvider(Protocol):
    """A provider of card payments. Every call that changes something is idempotent under the key it
    is given."""

    name: str

    async def create(
        self,
        payment_id: UUID,
        amount_cents: int,
        currency: str,
        *,
        method: str | None,
        idempotency_key: str,
    ) -> Intent:
        """Create the payment's intent and, with a method, confirm it. Raises ProviderUnavailable,
        ProviderRefused."""
        ...

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that awaits one."""
        ...

    async def get(self, ref: str) -> Intent: ...

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent made for a payment, when its ref never reached us."""
        ...

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent: ...

    async def refund(
        self,
        ref: str,
        *,
        amount_cents: int,
        payment_id: UUID,
        refund_id: UUID,
        idempotency_key: str,
    ) -> ProviderRefund:
        """Ask for money of an intent to go back. The provider keeps our ids with the refund, and
        tells them with it."""
        ...

    async def get_refund(self, ref: str) -> ProviderRefund: ...

    async def intents_since(self, since: datetime | None, after: str | None) -> Sequence[Intent]:
        """A page of all intents made since a moment, newest first: what comes behind the one of
        this ref."""
        ...

    async def refunds_since(
        self, since: datetime | None, after: str | None
    ) -> Sequence[ProviderRefund]:
        """The same of all refunds."""
        ...

    def pay_page(self, payment_id: UUID) -> str | None:
        """The provider's page on which this payment is paid in a browser; None when it has none."""
        ...

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a notice. Raises InvalidSignature; ValueError when the body is not a
        notice."""
        ...
