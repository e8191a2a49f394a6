"""The processes that follow a purchase, as reactors: queue the payment, settle the order, grant the game.

payment.requested ─► payment queue ─► worker, webhook ─► payment.transaction.completed | failed
… completed ─► order.confirmed, order.completed ─► library.game.added
… failed    ─► order.cancelled (claims released) ─► the provider's intent is cancelled
… completed, but the order was cancelled meanwhile, or the buyer's account or a seller's closed
            ─► payment.refund_requested
payment.refund_requested ─► payment queue ─► worker, webhook ─► payment.refunded | refund_failed, as the provider says
payment.refunded ─► order.refunded ─► library.game.removed
"""

from uuid import UUID

import msgspec

from commands.accounts.open_accounts import closed_party
from commands.aggregates import LIBRARY, ORDER, PAYMENT
from commands.handler import CommandBus
from commands.orders import call_off, emit_refund, fulfil, release_ownership, take_back
from commands.ports.queue import WorkQueue
from commands.ports.secrets import PersonKeys
from commands.reactors.reactor import React, Reactor, caused, job_for, once_for
from domain import library, orders
from domain.errors import Conflict
from domain.identity import UserForgotten
from domain.ids import derived, library_id
from domain.orders import OrderCancelled, OrderCompleted, OrderConfirmed, OrderRefunded
from domain.payments import (
    DepositFailed,
    Method,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
    PaymentRequested,
)
from domain.payments.refunds import AT_PROVIDER
from eventstore.log import Envelope
from eventstore.repository import Unit


def _by_wallet(method: Method | None) -> bool:
    return method is not None and method.type == "wallet"


def payment_jobs(bus: CommandBus, queue: WorkQueue) -> Reactor:
    """Puts on the payment queue what is to be asked of the provider."""

    async def requested(event: PaymentRequested, env: Envelope) -> None:
        if event.amount_cents > 0 and not _by_wallet(event.method):
            kind = "intent" if event.method is None else "charge"
            await queue.publish([job_for(env, kind, payment_id=env.stream_id)])

    async def attached(event: PaymentMethodAttached, env: Envelope) -> None:
        if not _by_wallet(event.method):
            await queue.publish([job_for(env, "charge", payment_id=env.stream_id)])

    async def cancelled(event: OrderCancelled, env: Envelope) -> None:
        order = await bus.repository.seen(ORDER, env.stream_id)
        if order is not None and order.total_cents > 0:
            await queue.publish([job_for(env, "cancel", payment_id=order.payment_id)])

    async def captured(event: PaymentCaptured, env: Envelope) -> None:
        """A wallet paid: an intent of the provider, made before, must not be paid as well."""
        first = (await bus.repository.log.read_stream(env.stream_id, limit=1))[0].event
        if event.method_type == "wallet" and isinstance(first, PaymentRequested) and first.method is None:
            await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def noticed(event: PaymentNoticeReceived, env: Envelope) -> None:
        """Somebody paid at the provider what a wallet had paid, or there is news of that money's way back."""
        payment = await bus.repository.state(PAYMENT, env.stream_id)
        told = event.type == "payment_intent.succeeded" or event.type.startswith(("refund.", "charge.refund."))
        if (
            told
            and event.outcome == "ignored"
            and payment is not None
            and payment.is_captured
            and payment.wallet_id is not None
        ):
            await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def deposit_failed(_event: DepositFailed, env: Envelope) -> None:
        await queue.publish([job_for(env, "cancel", payment_id=env.stream_id)])

    async def refund_requested(event: PaymentRefundRequested, env: Envelope) -> None:
        """What a wallet paid, or nobody, is given back where it is asked for; what was made by hand is on its way."""
        payment = await bus.repository.state(PAYMENT, env.stream_id)
        done = payment is not None and payment.refunds[event.refund_id].state == "SUCCEEDED"
        if done or event.reason == AT_PROVIDER:
            return
        await queue.publish([job_for(env, "refund", payment_id=env.stream_id, refund_id=event.refund_id)])

    async def refund_failed(event: PaymentRefundFailed | PaymentRefundReversed, env: Envelope) -> None:
        """One that the provider refused is a dead letter already."""
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


def settlement(bus: CommandBus) -> Reactor:
    """Lets the order follow its payment; money that came too late, or for a closed account, goes back."""
    name = "settlement"

    async def captured(event: PaymentCaptured, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            order = await unit.load(ORDER, event.order_id)
            assert order is not None
            closed = await closed_party(bus.repository, unit, order, env.position)
            if closed is not None and order.status == "PENDING_PAYMENT":
                await call_off(unit, event.order_id, order, orders.cancel(order, closed), env.occurred_at)
                order = await unit.load(ORDER, event.order_id)
                assert order is not None
            try:
                confirmed = orders.confirm(order, env.occurred_at)
            except Conflict:
                expired = orders.expire(order, env.occurred_at)
                await call_off(unit, event.order_id, order, expired, env.occurred_at)
                payment = await unit.load(PAYMENT, env.stream_id)
                assert payment is not None
                if left := payment.refundable_cents:
                    refund_id = derived("refund.late", env.event_id)
                    await emit_refund(unit, env.stream_id, refund_id, left, "order_cancelled", owed=True)
            else:
                unit.emit(event.order_id, confirmed)
                if confirmed:
                    await fulfil(unit, order)

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def failed(event: PaymentFailed, env: Envelope) -> None:
        await cancel(event.order_id, "payment_failed", env)

    async def intent_cancelled(event: PaymentIntentCancelled, env: Envelope) -> None:
        payment = await bus.repository.seen(PAYMENT, env.stream_id)
        if event.reason == "provider" and payment is not None and payment.order_id is not None:
            await cancel(payment.order_id, "payment_cancelled", env)

    async def cancel(order_id: UUID, reason: str, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            order = await unit.load(ORDER, order_id)
            assert order is not None
            if order.status == "PENDING_PAYMENT":
                await call_off(unit, order_id, order, orders.cancel(order, reason), env.occurred_at)

        await bus.run(decision, caused(name, env), once_for(name, env))

    return Reactor(
        name,
        {
            PaymentCaptured: captured,
            PaymentFailed: failed,
            PaymentIntentCancelled: intent_cancelled,
            **_following_refunds(bus, name),
        },
    )


def _following_refunds(bus: CommandBus, name: str) -> dict[type[msgspec.Struct], React]:
    """How an order follows what goes back of its payment, and what of that comes in again."""

    async def refunded(event: PaymentRefunded, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            payment = await unit.load(PAYMENT, env.stream_id)
            if payment is None or payment.order_id is None:
                return
            order = await unit.load(ORDER, payment.order_id)
            assert order is not None
            recorded = orders.record_refund(order, event.amount_cents)
            unit.emit(payment.order_id, recorded)
            if any(isinstance(each, OrderRefunded) and each.full for each in recorded):
                await take_back(unit, order, env.occurred_at)

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def reversed_(event: PaymentRefundReversed, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            payment = await unit.load(PAYMENT, env.stream_id)
            if payment is None or payment.order_id is None:
                return
            order = await unit.load(ORDER, payment.order_id)
            assert order is not None
            unit.emit(payment.order_id, orders.reverse_refund(order, event.amount_cents))

        await bus.run(decision, caused(name, env), once_for(name, env))

    return {PaymentRefunded: refunded, PaymentRefundReversed: reversed_}


def library_grants(bus: CommandBus) -> Reactor:
    """Grants what was bought; takes it back after a full refund."""
    name = "library_grants"

    async def completed(_event: OrderCompleted, env: Envelope) -> None:
        order = await bus.repository.seen(ORDER, env.stream_id)
        if order is not None and order.is_digital:
            await grant(env)

    async def confirmed(_event: OrderConfirmed, env: Envelope) -> None:
        """Of a mixed order the games are granted when it is paid, not when the rest is delivered."""
        order = await bus.repository.seen(ORDER, env.stream_id)
        if order is not None and not order.is_digital and any(line.kind == "DIGITAL" for line in order.lines):
            await grant(env)

    async def grant(env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            order = await unit.load(ORDER, env.stream_id)
            assert order is not None
            stream_id = library_id(order.buyer_id)
            for line in order.lines:
                if line.kind == "DIGITAL":
                    added = library.add(
                        await unit.load(LIBRARY, stream_id),
                        user_id=order.buyer_id,
                        game_id=line.game_id,
                        order_id=env.stream_id,
                        title=line.title,
                        purchase_date=env.occurred_at,
                    )
                    unit.emit(stream_id, added)

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def refunded(event: OrderRefunded, env: Envelope) -> None:
        if not event.full:
            return

        async def decision(unit: Unit) -> None:
            order = await unit.load(ORDER, env.stream_id)
            assert order is not None
            stream_id = library_id(order.buyer_id)
            for line in order.lines:
                owned = await unit.load(LIBRARY, stream_id)
                unit.emit(
                    stream_id,
                    library.remove(owned, game_id=line.game_id, order_id=env.stream_id, reason="refunded"),
                )
            await release_ownership(unit, env.stream_id, order, "refunded")

        await bus.run(decision, caused(name, env), once_for(name, env))

    return Reactor(name, {OrderConfirmed: confirmed, OrderCompleted: completed, OrderRefunded: refunded})


def forgetting(keys: PersonKeys) -> Reactor:
    """Destroys the key of a forgotten person, should the command have died before it could."""

    async def forgotten(event: UserForgotten, env: Envelope) -> None:
        await keys.destroy(env.stream_id)

    return Reactor("forgetting", {UserForgotten: forgotten})
