"""The payment worker: asks the provider for what a job says, and records the outcome.

Every call carries an idempotency key, so a job may run any number of times. After the last attempt
the worker asks the provider for the payment's intent once more before it declares the payment
failed.
"""

from collections.abc import Awaitable, Callable
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


class PaymentWorker(JobWorker):
    """Handles the jobs of the payment queue. Their `body` has payment_id and, for a refund,
    refund_id."""

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
        """Do the job. Raises ProviderUnavailable: the job is retried, and dead after the last
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
        """End a payment whose last attempt lost its worker, now and as the provider has it, instead
        of at its deadline."""
        payment_id = UUID(attempt.job.body["payment_id"])
        self._records.note("worker lost", attempt, payment_id)
        payment = await self._handler.state(PAYMENT, payment_id)
        if attempt.job.kind == "charge" and payment is not None and payment.is_open:
            detail = "processing the payment was interrupted too often"
            await self._fail_unless_paid(
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
            await self._fail_unless_paid(attempt, payment_id, payment, refused.code, refused.detail)
        except ProviderUnavailable:
            if attempt.last:
                detail = "the payment provider did not answer"
                await self._fail_unless_paid(
                    attempt, payment_id, payment, "provider_unavailable", detail
                )
            raise
        else:
            await self._apply(attempt, payment_id, intent)
            await self._give_up_if_closed(payment_id, intent)

    async def _ask_for_money(
        self, job_id: UUID, payment_id: UUID, payment: Payment, token: str
    ) -> Intent:
        """Create the intent with the method, or try the method on the existing intent.

        A payment has one intent: its creation uses the payment's id as the idempotency key, so that
        the provider itself refuses a second one. Each try of a method uses the job's id. A counter
        would not do, as a log that went back repeats its numbers.
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
            except ProviderRefused:  # an intent without a method may have been created meanwhile
                intent = await self._find(payment_id, payment)
                if intent is None:
                    raise
        if not _awaits_method(intent, payment):
            # it is being processed, or has succeeded: the provider would refuse to confirm it
            return intent
        key = f"{payment_id}:confirm:{job_id}"
        return await self._provider.confirm(intent.ref, method=token, idempotency_key=key)

    async def _fail_unless_paid(
        self, attempt: JobAttempt, payment_id: UUID, payment: Payment, code: str, detail: str
    ) -> None:
        """Fail the payment, unless the provider's intent shows that the attempt did not fail."""
        try:
            intent = await self._find(payment_id, payment)
        except (ProviderUnavailable, ProviderRefused):
            intent = None
        if intent is not None and intent.status in {"succeeded", "requires_action", "processing"}:
            await self._apply(attempt, payment_id, intent)
        else:
            await self._fail(attempt, payment_id, code, detail)

    async def _give_up_if_closed(self, payment_id: UUID, intent: Intent) -> None:
        """Cancel the intent when the order was cancelled, or paid by a wallet, while we asked the
        provider: nobody shall be able to pay it."""
        if intent.status not in {"requires_action", "requires_payment_method"}:
            return
        payment = await self._handler.state(PAYMENT, payment_id)
        if payment is not None and (payment.closed or payment.wallet_id is not None):
            await self._provider.cancel(
                intent.ref, idempotency_key=f"{payment_id}:cancel:{intent.status}"
            )

    async def _reconcile(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Record money that arrived at the provider although the payment had already ended here."""
        intent = await self._find(payment_id, payment)
        if intent is not None and intent.status == "succeeded":
            await self._apply(attempt, payment_id, intent)

    async def _find(self, payment_id: UUID, payment: Payment) -> Intent | None:
        if payment.provider_ref is not None:
            try:
                return await self._provider.get(payment.provider_ref)
            except ProviderRefused as refused:
                # a notice named an unknown intent, as anyone who has the secret can
                if refused.code != UNKNOWN:
                    raise
        return await self._provider.find(payment_id)

    async def _make_intent(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Create the intent of a payment without a method: the client needs its secret."""
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
                return  # a method was attached meanwhile, and its job created the intent
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

    # -- cancelling --------------------------------------------------------------------------------

    async def _cancel(self, attempt: JobAttempt, payment_id: UUID, payment: Payment) -> None:
        """Cancel the intent after the order was cancelled or a wallet paid it. Money that has
        arrived is captured, and refunded because the order is cancelled; after a wallet's capture
        it is refunded directly.
        """
        # the log went back, but the queue did not: the cancellation is not in the log
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
        """Record the status of the provider's intent."""
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
    """Whether the intent waits for this method: it has none, or an earlier one failed, whether or
    not the log knows."""
    failed_before = payment.failures > 0 or not payment.attempt
    return intent.status == "requires_payment_method" or (
        intent.status == "failed" and failed_before
    )
