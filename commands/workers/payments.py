"""What the payment worker does with a job: ask the provider, and record what came of it.

Every call carries an idempotency key (the payment's id, the refund's id), so a job may run any
number of times. After the last try the provider is asked once more what it knows, before the
payment is declared failed.
"""

from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

from commands.aggregates import PAYMENT
from commands.handler import CommandHandler
from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)
from commands.ports.queue import JobAttempt, JobWorker
from commands.ports.text_log import TextLog
from commands.reactors.reactor import on_behalf
from commands.sealed_secrets import SealedSecrets
from domain import payments
from domain.errors import Refused
from domain.events import Event
from domain.ids import derived
from domain.payments import Payment, Refund, refunds
from eventstore.unit_of_work import UnitOfWork

JobKind = Literal["charge", "intent", "cancel", "refund", "refund_failed"]
UNKNOWN = "resource_missing"
"""The provider has no such intent."""

ALL_GONE_BACK = "charge_already_refunded"
"""The provider gave back all that it captured, this refund's share with it: by hand, or when it was
asked before."""


class RefundFailed(Exception):
    """Money could not be sent back: an operator must see to it."""


Decide = Callable[[Payment], list[Event]]


class PaymentWorker(JobWorker):
    """Handles the jobs of the payment queue; `body` has payment_id, and refund_id for a refund."""

    def __init__(
        self,
        handler: CommandHandler,
        provider: PaymentProvider,
        secrets: SealedSecrets,
        text_log: TextLog,
    ) -> None:
        self._handler = handler
        self._provider = provider
        self._secrets = secrets
        self._text_log = text_log

    async def handle(self, attempt: JobAttempt) -> None:
        """Do the job. Raises ProviderUnavailable: try again later, or dead after the last
        attempt."""
        job, payment_id = attempt.job, UUID(attempt.job.body["payment_id"])
        steps: dict[str, Callable[[JobAttempt, UUID, Payment], Awaitable[None]]] = {
            "charge": self._charge,
            "intent": self._make_intent,
            "cancel": self._cancel,
            "refund": self._refund,
            "refund_failed": self._tell_failure,
        }
        self._note("worker took", attempt, payment_id)
        payment = await self._handler.state(PAYMENT, payment_id)
        if payment is None:
            self._note("worker dropped", attempt, payment_id, reason="unknown payment")
            return
        try:
            await steps[job.kind](attempt, payment_id, payment)
        except ProviderUnavailable as error:
            self._note("worker failed", attempt, payment_id, error=error, last=attempt.last)
            raise
        after = await self._handler.cached(PAYMENT, payment_id)
        self._note("worker done", attempt, payment_id, status=after.status if after else "")

    async def lost(self, attempt: JobAttempt) -> None:
        """The worker of the last attempt was lost: end the payment now, as the provider has it, not
        by its deadline."""
        payment_id = UUID(attempt.job.body["payment_id"])
        self._note("worker lost", attempt, payment_id)
        payment = await self._handler.state(PAYMENT, payment_id)
        if attempt.job.kind == "charge" and payment is not None and payment.is_open:
            detail = "the payment was interrupted again and again"
            await self._look_before_failing(
                attempt, payment_id, payment, "payment_interrupted", detail
            )

    # -- taking the money --------------------------------------------------------------------------

    async def _charge(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        if payment.method is None or payment.method.token_ref is None:
            return
        if not payment.is_open or payment.closed:
            await self._reconcile(attempt, payment_id, payment)
            return
        now = self._handler.now()
        try:
            await self._record(
                attempt,
                payment_id,
                lambda p: payments.submit(
                    p, self._provider.name, max(p.attempt, attempt.number - 1) + 1, now
                ),
            )
        except Refused as refusal:
            self._note("worker dropped", attempt, payment_id, reason=refusal.code)
            return
        try:
            intent = await self._ask_for_money(
                attempt.job.id, payment_id, payment, payment.method.token_ref
            )
        except ProviderRefused as refused:
            await self._look_before_failing(
                attempt, payment_id, payment, refused.code, refused.detail
            )
        except ProviderUnavailable:
            if attempt.last:
                detail = "the payment provider did not answer"
                await self._look_before_failing(
                    attempt, payment_id, payment, "provider_unavailable", detail
                )
            raise
        else:
            await self._apply(attempt, payment_id, intent)
            await self._give_up_if_closed(payment_id, intent)

    async def _ask_for_money(
        self, job_id: UUID, payment_id: UUID, payment: Payment, token: str
    ) -> Intent:
        """Create the intent with the method, or try the method on the intent there is. A payment
        has one intent: its creation goes under the payment's id, so that the provider itself
        refuses a second one. Each method's try goes under its job's id: what is counted here may
        have been counted before, by a log that went back since.
        """
        asked_before = payment.attempt or payment.provider_ref
        intent = await self._find(payment_id, payment) if asked_before else None
        if intent is None:
            try:
                return await self._provider.create(
                    payment_id,
                    payment.amount_cents,
                    payment.currency,
                    method=token,
                    idempotency_key=str(payment_id),
                )
            except ProviderRefused:  # perhaps an intent without a method was made meanwhile
                intent = await self._find(payment_id, payment)
                if intent is None:
                    raise
        if not _awaits_method(intent, payment):
            return intent  # what was asked for is under way, or done: asking again would be refused
        key = f"{payment_id}:confirm:{job_id}"
        return await self._provider.confirm(intent.ref, method=token, idempotency_key=key)

    async def _look_before_failing(
        self, attempt: JobAttempt, payment_id: UUID, payment: Payment, code: str, detail: str
    ) -> None:
        """The try came to nothing, as it seems: what does the provider know of it? If nothing good,
        it failed."""
        try:
            intent = await self._find(payment_id, payment)
        except (ProviderUnavailable, ProviderRefused):
            intent = None
        if intent is not None and intent.status in {"succeeded", "requires_action", "processing"}:
            await self._apply(attempt, payment_id, intent)
        else:
            await self._fail(attempt, payment_id, code, detail)

    async def _give_up_if_closed(self, payment_id: UUID, intent: Intent) -> None:
        """The order was cancelled, or paid by a wallet, while the provider was asked: leave nobody
        an intent that can still be paid."""
        payment = await self._handler.state(PAYMENT, payment_id)
        done = payment is not None and (payment.closed or payment.wallet_id is not None)
        if done and intent.status in {"requires_action", "requires_payment_method"}:
            await self._provider.cancel(
                intent.ref, idempotency_key=f"{payment_id}:cancel:{intent.status}"
            )

    async def _reconcile(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """The payment is settled here: only take note of what the provider has (money that came
        after all)."""
        intent = await self._find(payment_id, payment)
        if intent is not None and intent.status == "succeeded":
            await self._apply(attempt, payment_id, intent)

    async def _find(self, payment_id: UUID, payment: Payment) -> Intent | None:
        if payment.provider_ref is not None:
            try:
                return await self._provider.get(payment.provider_ref)
            except ProviderRefused as refused:
                # a notice told of an intent that there is not: who has the secret may
                if refused.code != UNKNOWN:
                    raise
        return await self._provider.find(payment_id)

    async def _make_intent(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """No method yet: the provider's intent gives the client its secret."""
        if payment.provider_ref is not None or payment.method is not None or not payment.is_open:
            return
        try:
            intent = await self._provider.create(
                payment_id,
                payment.amount_cents,
                payment.currency,
                method=None,
                idempotency_key=str(payment_id),
            )
        except ProviderRefused as refused:
            current = await self._handler.state(PAYMENT, payment_id)
            if current is not None and current.method is not None:
                return  # a method came meanwhile, and made the intent with it
            await self._fail(attempt, payment_id, refused.code, refused.detail)
        except ProviderUnavailable:
            if attempt.last:
                await self._fail(
                    attempt,
                    payment_id,
                    "provider_unavailable",
                    "the payment provider did not answer",
                )
            raise
        else:
            await self._apply(attempt, payment_id, intent)
            await self._give_up_if_closed(payment_id, intent)

    # -- giving it back ----------------------------------------------------------------------------

    async def _cancel(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """The order was cancelled, or a wallet paid: see that no money comes from here. If it has
        come, it is captured and sent back, or sent back at once where the wallet's was captured.
        """
        # the log went back, and the queue did not: here the order is as it was before
        if payment.can_be_tried:
            self._note(
                "worker dropped",
                attempt,
                payment_id,
                reason="neither cancelled nor paid otherwise",
            )
            return
        intent = await self._find(payment_id, payment)
        if intent is None or intent.status == "canceled":
            return
        if intent.status not in {"succeeded", "processing"}:
            try:
                intent = await self._provider.cancel(
                    intent.ref, idempotency_key=f"{payment_id}:cancel:{intent.status}"
                )
            except ProviderRefused:
                intent = await self._provider.get(intent.ref)
        if intent.status == "succeeded" and payment.is_captured and payment.wallet_id is not None:
            await self._return_surplus(attempt, payment_id, payment, intent)
        elif intent.status == "succeeded":
            await self._apply(attempt, payment_id, intent)
        elif intent.status != "canceled":
            raise ProviderUnavailable(f"the intent is still {intent.status}")

    async def _return_surplus(
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
            # what failed failed for good: only another refund can bring it back
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
            # a notice of the provider, or an operator, has it looked at again
            if sent.status == "PENDING":
                raise ProviderUnavailable("the refund of the surplus is still pending")
        await self._record(attempt, payment_id, lambda p: refunds.return_surplus(p, intent.ref))

    async def _send_back(
        self, payment_id: UUID, ref: str, amount_cents: int, refund_id: UUID, key: str
    ) -> ProviderRefund:
        """Ask for a refund; under a key that was used before, see how that one stands by now."""
        asked = await self._provider.refund(
            ref,
            amount_cents=amount_cents,
            payment_id=payment_id,
            refund_id=refund_id,
            idempotency_key=key,
        )
        return asked if asked.status != "PENDING" else await self._provider.get_refund(asked.ref)

    async def _refund(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Send money back, or see how that stands which the provider knows of already. It counts
        only once the provider says that it succeeded. Without an answer it stays asked for: it may
        have gone, and must not be promised again.
        """
        refund_id = UUID(attempt.job.body["refund_id"])
        refund = payment.refunds.get(refund_id)
        if refund is None or refund.state == "SUCCEEDED":
            return
        if refund.state == "FAILED" and (
            refund.provider_ref or refund.amount_cents > payment.refundable_cents
        ):
            self._note(
                "worker dropped",
                attempt,
                payment_id,
                reason="it failed, or another refund took its place",
            )
            return
        # no money has come by the provider
        if payment.provider_ref is None or not refund.amount_cents:
            await self._record(attempt, payment_id, lambda p: refunds.complete_refund(p, refund_id))
            return
        try:
            sent = await self._refund_at_provider(
                payment_id, payment.provider_ref, refund_id, refund
            )
        except ProviderRefused as refused:
            code = refused.code
            if code == ALL_GONE_BACK:
                await self._record(
                    attempt, payment_id, lambda p: refunds.complete_refund(p, refund_id)
                )
                return
            # it has no such money: no repeat mends that, nor does a redrive
            unknown = code == UNKNOWN
            if unknown or (attempt.last and refund.provider_ref is None):
                await self._record(
                    attempt, payment_id, lambda p: refunds.fail_refund(p, refund_id, code)
                )
            if unknown:
                self._note(
                    "worker saw refund",
                    attempt,
                    payment_id,
                    refund=refund_id,
                    status="FAILED",
                    code=code,
                )
                return
            # it stays asked for while it is tried; then an operator must see it: it ends as a dead
            # letter
            raise
        await self._note_refund(attempt, payment_id, refund_id, sent)

    async def _refund_at_provider(
        self, payment_id: UUID, ref: str, refund_id: UUID, refund: Refund
    ) -> ProviderRefund:
        """The refund that there is, or else a new one: of the intent that the payment names or,
        where the provider does not know it (a notice told of it: who has the secret may), of the
        one that was made for the payment.
        """
        if refund.provider_ref is not None:
            try:
                return await self._provider.get_refund(refund.provider_ref)
            except ProviderRefused as refused:
                if refused.code != UNKNOWN:  # a notice told of a refund that there is not
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
        self._note(
            "worker saw refund",
            attempt,
            payment_id,
            refund=refund_id,
            ref=sent.ref,
            status=sent.status,
        )
        await self._record(
            attempt,
            payment_id,
            lambda p: refunds.settle_refund(p, refund_id, sent.status, sent.ref, sent.code),
        )

    async def _tell_failure(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """A refund failed at the provider. For an operator to see it this job must die; it ends
        well once as much was asked back again. Raises RefundFailed.
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

    # -- recording ---------------------------------------------------------------------------------

    async def _apply(self, attempt: JobAttempt, payment_id: UUID, intent: Intent) -> None:
        """Record what the provider's intent has come to."""
        name, secret = self._provider.name, self._secrets.seal(payment_id, intent.client_secret)

        def decide(payment: Payment) -> list[Event]:
            match intent.status:
                case "succeeded":
                    return payments.capture(payment, "card", provider=name, provider_ref=intent.ref)
                case "failed":
                    return payments.fail(payment, intent.code or "payment_failed", intent.detail)
                case "requires_action":
                    return payments.require_action(
                        payment,
                        provider_ref=intent.ref,
                        redirect_url=intent.redirect_url,
                        client_secret_ref=secret,
                    )
                case "canceled":
                    return payments.cancel_intent(payment, "provider")
                case "requires_payment_method":
                    return payments.record_intent(
                        payment, provider=name, provider_ref=intent.ref, client_secret_ref=secret
                    )
                case "processing":
                    return payments.process(payment, provider=name, provider_ref=intent.ref)

        await self._record(attempt, payment_id, decide)

    async def _fail(self, attempt: JobAttempt, payment_id: UUID, code: str, detail: str) -> None:
        await self._record(
            attempt, payment_id, lambda payment: payments.fail(payment, code, detail)
        )

    async def _record(self, attempt: JobAttempt, payment_id: UUID, decide: Decide) -> None:
        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.get(PAYMENT, payment_id)
            unit.emit(payment_id, decide(payment))

        await self._handler.handle(decision, on_behalf("worker:payments", attempt.job))

    def _note(self, step: str, attempt: JobAttempt, payment_id: UUID, **more: object) -> None:
        self._text_log.write(
            step,
            kind=attempt.job.kind,
            payment=payment_id,
            job=attempt.job.id,
            attempt=attempt.number,
            **more,
        )


def _awaits_method(intent: Intent, payment: Payment) -> bool:
    """Whether the intent waits for this method: it has none, or the one before it failed, known
    here or not."""
    failed_before = payment.failures > 0 or not payment.attempt
    return intent.status == "requires_payment_method" or (
        intent.status == "failed" and failed_before
    )
