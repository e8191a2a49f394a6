"""The payment worker's steps for refunds: send money back, and see whether it arrived.

Each refund is sent under an idempotency key of its own, so a job may run any number of times.
"""

from uuid import UUID

from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)
from commands.ports.queue import JobAttempt
from commands.workers.payment_records import UNKNOWN, PaymentRecords
from domain.ids import derived
from domain.payments import Payment, Refund, refunds

ALL_GONE_BACK = "charge_already_refunded"
"""The provider's code for an intent whose whole amount was refunded already, this refund's share
included: by hand, or by an earlier call."""


class RefundFailed(Exception):
    """Money could not be sent back: an operator must see to it."""


class RefundSteps:
    """Does the refund jobs of the payment queue."""

    def __init__(self, provider: PaymentProvider, records: PaymentRecords) -> None:
        self._provider = provider
        self._records = records

    async def return_surplus(
        self, attempt: JobAttempt, payment_id: UUID, payment: Payment, intent: Intent
    ) -> None:
        if payment.surplus_returned:
            return
        refund_id = derived("refund.surplus", payment_id)
        key = f"{payment_id}:surplus"
        try:
            sent = await self._send_back(
                payment_id, intent.ref, payment.amount_cents, refund_id, key
            )
            # a failed refund stays failed: only another one can return the money
            for _ in range(attempt.number):
                if sent.status == "FAILED":
                    key = f"{payment_id}:surplus:{sent.ref}"
                    sent = await self._send_back(
                        payment_id, intent.ref, payment.amount_cents, refund_id, key
                    )
        except ProviderRefused as refused:
            if refused.code != ALL_GONE_BACK:
                raise
        else:
            if sent.status == "FAILED":
                raise RefundFailed(
                    f"the surplus of payment {payment_id} could not be sent back: {sent.code}"
                )
            # a notice, or an operator who redrives the job, makes us look again
            if sent.status == "PENDING":
                raise ProviderUnavailable("the refund of the surplus is still pending")
        await self._records.record(
            attempt, payment_id, lambda p: refunds.return_surplus(p, intent.ref)
        )

    async def _send_back(
        self, payment_id: UUID, ref: str, amount_cents: int, refund_id: UUID, key: str
    ) -> ProviderRefund:
        """Ask for a refund; with a key that was used before, return that refund's current state."""
        asked = await self._provider.refund(
            ref,
            amount_cents=amount_cents,
            payment_id=payment_id,
            refund_id=refund_id,
            idempotency_key=key,
        )
        return asked if asked.status != "PENDING" else await self._provider.get_refund(asked.ref)

    async def refund(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Send a refund, or look up one that the provider has already. It succeeds only when the
        provider says so. Without an answer it stays pending: the money may have been sent, and must
        not be promised again.
        """
        refund_id = UUID(attempt.job.body["refund_id"])
        refund = payment.refunds.get(refund_id)
        if refund is None or refund.state == "SUCCEEDED":
            return
        if refund.state == "FAILED" and (
            refund.provider_ref or refund.amount_cents > payment.refundable_cents
        ):
            self._records.note(
                "worker dropped",
                attempt,
                payment_id,
                reason="it failed, or another refund took its place",
            )
            return
        # the provider never had the money
        if payment.provider_ref is None or not refund.amount_cents:
            await self._records.record(
                attempt, payment_id, lambda p: refunds.complete_refund(p, refund_id)
            )
            return
        try:
            sent = await self._refund_at_provider(
                payment_id, payment.provider_ref, refund_id, refund
            )
        except ProviderRefused as refused:
            code = refused.code
            if code == ALL_GONE_BACK:
                await self._records.record(
                    attempt, payment_id, lambda p: refunds.complete_refund(p, refund_id)
                )
                return
            # the provider has no such intent: neither a retry nor a redrive helps
            unknown = code == UNKNOWN
            if unknown or (attempt.last and refund.provider_ref is None):
                await self._records.record(
                    attempt, payment_id, lambda p: refunds.fail_refund(p, refund_id, code)
                )
            if unknown:
                self._records.note(
                    "worker saw refund",
                    attempt,
                    payment_id,
                    refund=refund_id,
                    status="FAILED",
                    code=code,
                )
                return
            # it stays pending while it is retried, and ends as a dead letter for an operator
            raise
        await self._note_refund(attempt, payment_id, refund_id, sent)

    async def _refund_at_provider(
        self, payment_id: UUID, ref: str, refund_id: UUID, refund: Refund
    ) -> ProviderRefund:
        """The existing refund, or else a new one of the payment's intent. If the provider does not
        know that intent (a forged notice may have named it), the refund is of the intent that was
        created for the payment.
        """
        if refund.provider_ref is not None:
            try:
                return await self._provider.get_refund(refund.provider_ref)
            except ProviderRefused as refused:
                if refused.code != UNKNOWN:  # otherwise a notice named an unknown refund
                    raise
        try:
            return await self._send_back(
                payment_id, ref, refund.amount_cents, refund_id, str(refund_id)
            )
        except ProviderRefused as refused:
            made = await self._provider.find(payment_id) if refused.code == UNKNOWN else None
            if made is None or made.ref == ref:
                raise
        key = f"{refund_id}:{made.ref}"
        return await self._send_back(payment_id, made.ref, refund.amount_cents, refund_id, key)

    async def _note_refund(
        self, attempt: JobAttempt, payment_id: UUID, refund_id: UUID, sent: ProviderRefund
    ) -> None:
        self._records.note(
            "worker saw refund",
            attempt,
            payment_id,
            refund=refund_id,
            ref=sent.ref,
            status=sent.status,
        )
        await self._records.record(
            attempt,
            payment_id,
            lambda p: refunds.settle_refund(p, refund_id, sent.status, sent.ref, sent.code),
        )

    async def report_failure(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Report a refund that failed at the provider to operators, as a dead letter: raises
        RefundFailed, unless a later refund of at least the same amount has not failed.
        """
        refund_id = UUID(attempt.job.body["refund_id"])
        refund = payment.refunds.get(refund_id)
        if refund is None or refund.state != "FAILED":
            return
        asked = list(payment.refunds)
        later = [payment.refunds[each] for each in asked[asked.index(refund_id) + 1 :]]
        if any(
            each.state != "FAILED" and each.amount_cents >= refund.amount_cents for each in later
        ):
            return
        raise RefundFailed(f"a refund of payment {payment_id} failed: {refund.code}")
