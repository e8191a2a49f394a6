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
    """The current state of a payment intent. `code` and `detail` say why the last attempt failed,
    if it did. `payment_id` is None when the intent is not of this shop. `refunded_cents` is the
    total refunded, as far as a notice says."""

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
    """The state of a refund at the provider; accepting it does not mean that the money was sent.
    `code` says why it failed, if it did. `payment_id` and `refund_id` are ours, and None when the
    refund was made by hand. `intent_ref` is the refunded intent, if the provider says so.
    """

    ref: str
    amount_cents: int
    status: RefundStatus = "SUCCEEDED"
    code: str = ""
    payment_id: UUID | None = None
    refund_id: UUID | None = None
    intent_ref: str = ""


class ProviderNotice(msgspec.Struct, frozen=True):
    """A verified webhook of the provider: its unique id, its type, and the intent or the refund
    that it is about."""

    event_id: str
    type: str
    created: datetime
    intent: Intent | None
    refund: ProviderRefund | None = None


class ProviderUnavailable(Exception):
    """No answer, a time-out or a 5xx: the call may have taken effect or not. Repeat it with the
    same idempotency key."""


class ProviderRefused(Exception):
    """The provider refused the call (a 4xx that no retry mends)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class PaymentProvider(Protocol):
    """A provider of card payments. Every call that changes something is idempotent under its
    key."""

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
        ProviderRefused, as all calls do."""
        ...

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that waits for one."""
        ...

    async def get(self, ref: str) -> Intent: ...

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent that was created for a payment; finds it without the ref, which may never have
        reached us."""
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
        """Refund money of an intent. The provider stores our ids with the refund, and returns
        them."""
        ...

    async def get_refund(self, ref: str) -> ProviderRefund: ...

    async def intents_since(self, since: datetime | None, after: str | None) -> Sequence[Intent]:
        """A page of the intents created since a moment, newest first, that follow the intent with
        the ref `after`."""
        ...

    async def refunds_since(
        self, since: datetime | None, after: str | None
    ) -> Sequence[ProviderRefund]:
        """As `intents_since`, of refunds."""
        ...

    def pay_page(self, payment_id: UUID) -> str | None:
        """The URL of the provider's page for paying in a browser; None when it has none."""
        ...

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a webhook. Raises InvalidSignature; ValueError when the body is not a
        notice."""
        ...
