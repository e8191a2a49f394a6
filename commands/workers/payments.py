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
    ProviderRefused,
    ProviderUnavailable,
)
from commands.ports.queue import JobAttempt, JobWorker
from commands.ports.text_log import TextLog
from commands.sealed_secrets import SealedSecrets
from commands.workers.payment_records import UNKNOWN, PaymentRecords
from commands.workers.refunds import RefundSteps
from domain import payments
from domain.errors import Refused
from domain.events import Event
from domain.payments import Payment

JobKind = Literal["charge", "intent", "cancel", "refund", "refund_failed"]


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
        self._records = PaymentRecords(handler, text_log)
        self._refunds = RefundSteps(provider, self._records)

    async def handle(self, attempt: JobAttempt) -> None:
        """Do the job. Raises ProviderUnavailable: try again later, or dead after the last
        attempt."""
        job, payment_id = attempt.job, UUID(attempt.job.body["payment_id"])
        steps: dict[str, Callable[[JobAttempt, UUID, Payment], Awaitable[None]]] = {
            "charge": self._charge,
            "intent": self._make_intent,
            "cancel": self._cancel,
            "refund": self._refunds.refund,
            "refund_failed": self._refunds.report_failure,
        }
        self._records.note("worker took", attempt, payment_id)
        payment = await self._handler.state(PAYMENT, payment_id)
        if payment is None:
            self._records.note("worker dropped", attempt, payment_id, reason="unknown payment")
            return
        try:
            await steps[job.kind](attempt, payment_id, payment)
        except ProviderUnavailable as error:
            self._records.note("worker failed", attempt, payment_id, error=error, last=attempt.last)
            raise
        after = await self._handler.cached(PAYMENT, payment_id)
        self._records.note("worker done", attempt, payment_id, status=after.status if after else "")

    async def lost(self, attempt: JobAttempt) -> None:
        """The worker of the last attempt was lost: end the payment now, as the provider has it, not
        by its deadline."""
        payment_id = UUID(attempt.job.body["payment_id"])
        self._records.note("worker lost", attempt, payment_id)
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
            await self._records.record(
                attempt,
                payment_id,
                lambda p: payments.submit(
                    p, self._provider.name, max(p.attempt, attempt.number - 1) + 1, now
                ),
            )
        except Refused as refusal:
            self._records.note("worker dropped", attempt, payment_id, reason=refusal.code)
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
            self._records.note(
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
            await self._refunds.return_surplus(attempt, payment_id, payment, intent)
        elif intent.status == "succeeded":
            await self._apply(attempt, payment_id, intent)
        elif intent.status != "canceled":
            raise ProviderUnavailable(f"the intent is still {intent.status}")

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

        await self._records.record(attempt, payment_id, decide)

    async def _fail(self, attempt: JobAttempt, payment_id: UUID, code: str, detail: str) -> None:
        await self._records.record(
            attempt, payment_id, lambda payment: payments.fail(payment, code, detail)
        )


def _awaits_method(intent: Intent, payment: Payment) -> bool:
    """Whether the intent waits for this method: it has none, or the one before it failed, known
    here or not."""
    failed_before = payment.failures > 0 or not payment.attempt
    return intent.status == "requires_payment_method" or (
        intent.status == "failed" and failed_before
    )
