"""Reconciling the payment provider with the log. After the log went back to an earlier moment they
differ, and the provider does not repeat notices that were acknowledged before.
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
"""The reason when the log does not have the payment."""


class AppliedState(msgspec.Struct, frozen=True):
    """The state of an intent or a refund that reconciliation added to the log."""

    ref: str
    payment_id: UUID
    type: str


class UnresolvedMoney(msgspec.Struct, frozen=True):
    """Money at the provider that the log cannot account for: an operator must look at it.
    `refunded_cents` of it was refunded, or is being refunded. `reason` is `lost`, or the code of
    the refusal."""

    ref: str
    payment_id: UUID
    status: str
    amount_cents: int
    refunded_cents: int
    currency: str
    reason: str


class Reconciliation(msgspec.Struct, frozen=True):
    """The outcome of a comparison."""

    applied: list[AppliedState]
    left: list[UnresolvedMoney]


async def reconcile(
    handler: CommandHandler,
    payments: PaymentCommands,
    provider: PaymentProvider,
    since: datetime | None = None,
) -> Reconciliation:
    """Compare every intent and refund of the provider (created since a moment) with the log. Its
    state of a payment that the log has is applied like a notice. Idempotent.

    Raises ProviderUnavailable, ProviderRefused.
    """
    reconciler = _Reconciler(handler, payments, provider)
    refunds = [each async for each in _all(provider.refunds_since, since)]
    gone = defaultdict[str, int](int)
    for refund in refunds:
        if refund.status != "FAILED":
            gone[refund.intent_ref] += refund.amount_cents
    async for intent in _all(provider.intents_since, since):
        if intent.payment_id is not None:
            await reconciler.compare_intent(intent, intent.payment_id, gone[intent.ref])
    for refund in refunds:
        await reconciler.compare_refund(refund)
    return Reconciliation(reconciler.applied, reconciler.left)


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
            break  # the provider repeats its last page
        after = page[-1].ref


class _Reconciler:
    def __init__(
        self, handler: CommandHandler, payments: PaymentCommands, provider: PaymentProvider
    ) -> None:
        self._handler = handler
        self._payments = payments
        self._provider = provider
        self.applied: list[AppliedState] = []
        self.left: list[UnresolvedMoney] = []

    async def compare_intent(self, intent: Intent, payment_id: UUID, gone: int) -> None:
        """Compare an intent, `gone` cents of which were refunded."""
        if (
            intent.status not in {"succeeded", "processing", "requires_action"}
            or gone >= intent.amount_cents
        ):
            return  # the provider holds no money of it
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
        """Compare a refund. Those of lost payments are reported with their intent."""
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
        """Apply a notice. Returns the code of a refusal, or an empty string."""
        position, code = await self._payments.apply_notice(notice, payment_id, "reconcile")
        if position is not None and not code:
            self.applied.append(AppliedState(ref, payment_id, notice.type))
        return code

    async def _payment_of(self, intent_ref: str) -> UUID | None:
        """The payment of an intent: a refund made by hand names only its intent."""
        try:
            return (await self._provider.get(intent_ref)).payment_id if intent_ref else None
        except ProviderRefused:
            return None

    def _notice(self, ref: str, type: str, status: str) -> ProviderNotice:
        """A notice with an id derived from the state, so that each state is applied once."""
        return ProviderNotice(
            f"reconciled_{ref}_{status.lower()}", type, self._handler.clock.now(), None
        )


def _is_known(payment: Payment, intent: Intent) -> bool:
    """Whether the log already has this state of the intent."""
    match intent.status:
        case "succeeded":
            return payment.is_captured and (payment.wallet_id is None or payment.surplus_returned)
        case "processing":
            return payment.is_captured or payment.status == "PROCESSING"
        case _:
            return not payment.is_open or payment.redirect_url is not None


def _not_taken(payment: Payment, intent: Intent) -> str:
    """Why the money of a paid intent does not count for its payment; empty if it does."""
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
