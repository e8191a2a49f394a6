"""What the payment provider knows beside what the log knows. Neither follows from the other once
the log went back to an earlier moment: notices that were acknowledged before do not come again.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec

from commands.aggregates import PAYMENT
from commands.handler import CommandHandler
from commands.payments import PaymentCommands
from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
)
from domain.payments import Payment, Refund

LOST = "lost"
"""The log does not have the payment."""


class AppliedState(msgspec.Struct, frozen=True):
    """An intent's or a refund's state that the log did not know, and now does."""

    ref: str
    payment_id: UUID
    type: str


class UnresolvedMoney(msgspec.Struct, frozen=True):
    """Money at the provider that the log cannot account for: an operator must see to it.
    `refunded_cents` of it went back, or is on its way back. `reason` is `lost`, or why the log did
    not take it."""

    ref: str
    payment_id: UUID
    status: str
    amount_cents: int
    refunded_cents: int
    currency: str
    reason: str


class Reconciliation(msgspec.Struct, frozen=True):
    """What came of a comparison."""

    applied: list[AppliedState]
    left: list[UnresolvedMoney]


async def reconcile(
    handler: CommandHandler,
    payments: PaymentCommands,
    provider: PaymentProvider,
    since: datetime | None = None,
) -> Reconciliation:
    """Compare every intent and refund that the provider made (since a moment) with the log, page by
    page. What it says of a payment that the log has is applied as if it had sent a notice. May be
    repeated: a state is applied once.

    Raises ProviderUnavailable, ProviderRefused.
    """
    books = _Comparison(handler, payments, provider)
    refunds = [each async for each in _all(provider.refunds_since, since)]
    gone = defaultdict[str, int](int)
    for refund in refunds:
        if refund.status != "FAILED":
            gone[refund.intent_ref] += refund.amount_cents
    async for intent in _all(provider.intents_since, since):
        if intent.payment_id is not None:
            await books.compare_intent(intent, intent.payment_id, gone[intent.ref])
    for refund in refunds:
        await books.compare_refund(refund)
    return Reconciliation(books.applied, books.left)


class _Made(Protocol):
    @property
    def ref(self) -> str: ...


_M = TypeVar("_M", bound=_Made)


async def _all(
    list_page: Callable[[datetime | None, str | None], Awaitable[Sequence[_M]]],
    since: datetime | None,
) -> AsyncIterator[_M]:
    after = None
    while page := await list_page(since, after):
        for each in page:
            yield each
        if page[-1].ref == after:
            break  # it repeats itself
        after = page[-1].ref


class _Comparison:
    def __init__(
        self, handler: CommandHandler, payments: PaymentCommands, provider: PaymentProvider
    ) -> None:
        self._handler = handler
        self._payments = payments
        self._provider = provider
        self.applied: list[AppliedState] = []
        self.left: list[UnresolvedMoney] = []

    async def compare_intent(self, intent: Intent, payment_id: UUID, gone: int) -> None:
        """An intent, of which so much went back."""
        if (
            intent.status not in {"succeeded", "processing", "requires_action"}
            or gone >= intent.amount_cents
        ):
            return  # nobody's money is there
        payment = await self._handler.repository.state(PAYMENT, payment_id)
        reason = "" if payment is not None or intent.status == "requires_action" else LOST
        if payment is not None and not _is_known(payment, intent):
            notice = self._notice(intent.ref, f"payment_intent.{intent.status}", intent.status)
            reason = await self._apply(
                msgspec.structs.replace(notice, intent=intent), intent.ref, payment_id
            )
            payment = await self._handler.repository.state(PAYMENT, payment_id)
        if payment is not None and intent.status == "succeeded":
            reason = reason or _not_taken(payment, intent)
        if reason:
            amount, currency = intent.amount_cents, intent.currency
            self.left.append(
                UnresolvedMoney(
                    intent.ref, payment_id, intent.status, amount, gone, currency, reason
                )
            )

    async def compare_refund(self, refund: ProviderRefund) -> None:
        """A refund; one of a lost payment is told with its intent."""
        payment_id = refund.payment_id or await self._payment_of(refund.intent_ref)
        payment = (
            None
            if payment_id is None
            else await self._handler.repository.state(PAYMENT, payment_id)
        )
        if payment_id is None or payment is None or _is_refund_known(payment, refund):
            return
        type = "refund.failed" if refund.status == "FAILED" else "refund.updated"
        notice = self._notice(refund.ref, type, refund.status)
        reason = await self._apply(
            msgspec.structs.replace(notice, refund=refund), refund.ref, payment_id
        )
        if reason:
            amount, currency = refund.amount_cents, payment.currency
            self.left.append(
                UnresolvedMoney(
                    refund.ref, payment_id, refund.status, amount, amount, currency, reason
                )
            )

    async def _apply(self, notice: ProviderNotice, ref: str, payment_id: UUID) -> str:
        """Returns why it was refused, if it was."""
        position, code = await self._payments.hear(notice, payment_id, "reconcile")
        if position is not None and not code:
            self.applied.append(AppliedState(ref, payment_id, notice.type))
        return code

    async def _payment_of(self, intent_ref: str) -> UUID | None:
        """A refund that was made by hand names its intent alone."""
        try:
            return (await self._provider.get(intent_ref)).payment_id if intent_ref else None
        except ProviderRefused:
            return None

    def _notice(self, ref: str, type: str, status: str) -> ProviderNotice:
        """The same for the same state: what was applied once is not applied again."""
        return ProviderNotice(
            f"reconciled_{ref}_{status.lower()}", type, self._handler.clock.now(), None
        )


def _is_known(payment: Payment, intent: Intent) -> bool:
    """Whether the log knows as much of an intent as the provider says."""
    match intent.status:
        case "succeeded":
            return payment.is_captured and (payment.wallet_id is None or payment.surplus_returned)
        case "processing":
            return payment.is_captured or payment.status == "PROCESSING"
        case _:
            return not payment.is_open or payment.redirect_url is not None


def _not_taken(payment: Payment, intent: Intent) -> str:
    """Why the money of an intent is not the payment's; empty if it is."""
    if not payment.is_captured:
        return "not_captured"
    if payment.wallet_id is not None:
        return "" if payment.surplus_returned else "paid_by_wallet"  # a job sends it back
    return "" if payment.provider_ref == intent.ref else "paid_by_another_intent"


def _is_refund_known(payment: Payment, refund: ProviderRefund) -> bool:
    if payment.wallet_id is not None:
        return payment.surplus_returned
    mine = _mine(payment, refund)
    if mine is None:
        return refund.status == "FAILED" or not payment.is_captured
    if refund.status == "PENDING":
        return mine.state != "PENDING" or mine.provider_ref is not None
    return mine.state == refund.status


def _mine(payment: Payment, refund: ProviderRefund) -> Refund | None:
    if refund.refund_id is not None and refund.refund_id in payment.refunds:
        return payment.refunds[refund.refund_id]
    return next(
        (each for each in payment.refunds.values() if each.provider_ref == refund.ref), None
    )
