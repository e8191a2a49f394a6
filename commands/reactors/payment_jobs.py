"""Queueing jobs for the payment provider."""

from commands.aggregates import ORDER, PAYMENT
from commands.handler import CommandHandler
from commands.ports.queue import WorkQueue
from commands.reactors.reactor import Reactor, job_for
from domain.orders import OrderCancelled
from domain.payments import (
    DepositFailed,
    Method,
    PaymentCaptured,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
    PaymentRequested,
)
from domain.payments.refunds import AT_PROVIDER
from eventstore.log import Envelope


def _by_wallet(method: Method | None) -> bool:
    return method is not None and method.type == "wallet"


def payment_jobs(handler: CommandHandler, queue: WorkQueue) -> Reactor:
    """Queues a job for each event after which the provider has to do something."""

    async def requested(event: PaymentRequested, env: Envelope) -> None:
        if event.amount_cents > 0 and not _by_wallet(event.method):
            kind = "intent" if event.method is None else "charge"
            await queue.publish([job_for(env, kind, payment_id=env.stream_id)])

    async def attached(event: PaymentMethodAttached, env: Envelope) -> None:
        if not _by_wallet(event.method):
            await queue.publish([job_for(env, "charge", payment_id=env.stream_id)])

    async def cancelled(_event: OrderCancelled, env: Envelope) -> None:
        order = await handler.cached(ORDER, env.stream_id)
        if order is not None and order.total_cents > 0:
            await queue.publish([job_for(env, "cancel", payment_id=order.payment_id)])

    async def captured(event: PaymentCaptured, env: Envelope) -> None:
        """Cancel the provider's intent after a wallet paid, so that it is not paid as well."""
        if event.method_type != "wallet":
            return
        first = (await handler.log.read_stream(env.stream_id, limit=1))[0].event
        if isinstance(first, PaymentRequested) and first.method is None:
            await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def noticed(event: PaymentNoticeReceived, env: Envelope) -> None:
        """Return money that somebody paid at the provider after a wallet had paid; also look again
        when there is news about that refund."""
        moved_money = event.type == "payment_intent.succeeded" or event.type.startswith(
            ("refund.", "charge.refund.")
        )
        if not moved_money or event.outcome != "ignored":
            return
        payment = await handler.state(PAYMENT, env.stream_id)
        if payment is not None and payment.is_captured and payment.wallet_id is not None:
            await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def deposit_failed(_event: DepositFailed, env: Envelope) -> None:
        await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def refund_requested(event: PaymentRefundRequested, env: Envelope) -> None:
        """Send a refund, unless it is completed already (a wallet's, or a free payment's) or was
        made by hand at the provider."""
        payment = await handler.state(PAYMENT, env.stream_id)
        done = payment is not None and payment.refunds[event.refund_id].state == "SUCCEEDED"
        if done or event.reason == AT_PROVIDER:
            return
        await queue.publish(
            [job_for(env, "refund", payment_id=env.stream_id, refund_id=event.refund_id)]
        )

    async def refund_failed(
        event: PaymentRefundFailed | PaymentRefundReversed, env: Envelope
    ) -> None:
        """Report a failed or reversed refund. One that the provider refused already is a dead
        letter."""
        if event.provider_ref is not None:
            job = job_for(env, "refund_failed", payment_id=env.stream_id, refund_id=event.refund_id)
            await queue.publish([job])

    return Reactor(
        "payment_jobs",
        {
            PaymentRequested: requested,
            PaymentMethodAttached: attached,
            OrderCancelled: cancelled,
            PaymentCaptured: captured,
            DepositFailed: deposit_failed,
            PaymentNoticeReceived: noticed,
            PaymentRefundRequested: refund_requested,
            PaymentRefundFailed: refund_failed,
            PaymentRefundReversed: refund_failed,
        },
    )
