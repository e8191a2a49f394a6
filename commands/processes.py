"""The processes that follow a purchase, as reactors: queue the payment, settle the order, grant the game, tell people.

payment.requested ─► payment queue ─► worker, webhook ─► payment.transaction.completed | failed
… completed ─► order.confirmed, order.completed ─► library.game.added, notification.requested ─► mail queue
… failed    ─► order.cancelled (claims released) ─► the provider's intent is cancelled
… completed, but the order was cancelled meanwhile ─► payment.refund_requested ─► payment.refunded
"""

from uuid import UUID

import msgspec

from commands.aggregates import LIBRARY, NOTICE, ORDER, PAYMENT, USER
from commands.bus import CommandBus
from commands.mail_tokens import MailTokens
from commands.orders import call_off, release_ownership
from commands.ports import PersonKeys, WorkQueue
from commands.reactors import React, Reactor, caused, job_for, once_for
from domain import library, notices, orders, payments
from domain.errors import Conflict
from domain.identity import ProfileChanged, UserForgotten, UserRegistered
from domain.ids import derived, library_id
from domain.money import format_amount
from domain.notices import NotificationRequested
from domain.orders import OrderCancelled, OrderCompleted, OrderRefunded
from domain.payments import (
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentMethodAttached,
    PaymentRefunded,
    PaymentRefundRequested,
    PaymentRequested,
)
from eventstore.log import Envelope
from eventstore.repository import Unit

UNREACHABLE = ".invalid"
"""Addresses of this top-level domain (RFC 2606) reach nobody: imported people get no mail."""


def payment_jobs(bus: CommandBus, queue: WorkQueue) -> Reactor:
    """Puts on the payment queue what is to be asked of the provider."""

    async def requested(event: PaymentRequested, env: Envelope) -> None:
        if event.amount_cents > 0:
            kind = "intent" if event.method is None else "charge"
            await queue.publish([job_for(env, kind, payment_id=env.stream_id)])

    async def attached(event: PaymentMethodAttached, env: Envelope) -> None:
        await queue.publish([job_for(env, "charge", payment_id=env.stream_id)])

    async def cancelled(event: OrderCancelled, env: Envelope) -> None:
        order = await bus.repository.seen(ORDER, env.stream_id)
        if order is not None and order.total_cents > 0:
            await queue.publish([job_for(env, "cancel", payment_id=order.payment_id)])

    async def refund_requested(event: PaymentRefundRequested, env: Envelope) -> None:
        await queue.publish([job_for(env, "refund", payment_id=env.stream_id, refund_id=event.refund_id)])

    return Reactor(
        "payment_jobs",
        {
            PaymentRequested: requested,
            PaymentMethodAttached: attached,
            OrderCancelled: cancelled,
            PaymentRefundRequested: refund_requested,
        },
    )


def settlement(bus: CommandBus) -> Reactor:
    """Lets the order follow its payment; money that came too late goes back."""
    name = "settlement"

    async def captured(event: PaymentCaptured, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            order = await unit.load(ORDER, event.order_id)
            assert order is not None
            try:
                unit.emit(event.order_id, orders.confirm(order, env.recorded_at))
            except Conflict:
                await call_off(unit, event.order_id, order, orders.expire(order, env.recorded_at))
                payment = await unit.load(PAYMENT, env.stream_id)
                assert payment is not None
                refund_id = derived("refund.late", env.event_id)
                amount = payment.refundable_cents
                if amount:
                    unit.emit(env.stream_id, payments.request_refund(payment, refund_id, amount, "order_cancelled"))

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
                await call_off(unit, order_id, order, orders.cancel(order, reason))

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def refunded(event: PaymentRefunded, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            payment = await unit.load(PAYMENT, env.stream_id)
            if payment is None or payment.order_id is None:
                return
            order = await unit.load(ORDER, payment.order_id)
            assert order is not None
            unit.emit(payment.order_id, orders.record_refund(order, event.amount_cents))

        await bus.run(decision, caused(name, env), once_for(name, env))

    return Reactor(
        name,
        {
            PaymentCaptured: captured,
            PaymentFailed: failed,
            PaymentIntentCancelled: intent_cancelled,
            PaymentRefunded: refunded,
        },
    )


def library_grants(bus: CommandBus) -> Reactor:
    """Grants what was bought; takes it back after a full refund."""
    name = "library_grants"

    async def completed(event: OrderCompleted, env: Envelope) -> None:
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
                        purchase_date=env.recorded_at,
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

    return Reactor(name, {OrderCompleted: completed, OrderRefunded: refunded})


def people_told(bus: CommandBus, tokens: MailTokens) -> Reactor:
    """Asks for a notice of what a person should know: welcome, a new address, purchase, failed payment, refund."""
    name = "people_told"

    async def notify(user_id: UUID, template: str, params: dict[str, str], env: Envelope) -> None:
        notice_id = derived("notice", env.event_id, template)

        async def decision(unit: Unit) -> None:
            user = await unit.load(USER, user_id)
            if user is None or not user.may_act or user.email.endswith(UNREACHABLE):
                return
            full = {"name": user.name, **params}
            if template in {"welcome", "verification"}:
                full["token"] = tokens.make("verify-email", user_id, user.email_digest, bus.clock.now())
            wanted = notices.request(
                await unit.load(NOTICE, notice_id),
                user_id=user_id,
                channel="email",
                template=template,
                cause_event_id=env.event_id,
                params=full,
            )
            unit.emit(notice_id, wanted)

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def registered(event: UserRegistered, env: Envelope) -> None:
        await notify(event.user_id, "welcome", {}, env)

    async def profile_changed(event: ProfileChanged, env: Envelope) -> None:
        if event.email_digest is not None:
            await notify(env.stream_id, "verification", {}, env)

    async def completed(event: OrderCompleted, env: Envelope) -> None:
        order = await bus.repository.seen(ORDER, env.stream_id)
        assert order is not None
        total = format_amount(order.total_cents, order.currency)
        await notify(order.buyer_id, "purchase", {**_about(env.stream_id, order), "total": total}, env)

    async def failed(event: PaymentFailed, env: Envelope) -> None:
        order = await bus.repository.seen(ORDER, event.order_id)
        assert order is not None
        about = {**_about(event.order_id, order), "detail": event.detail or event.code}
        await notify(event.buyer_id, "payment_failed", about, env)

    async def refunded(event: PaymentRefunded, env: Envelope) -> None:
        payment = await bus.repository.seen(PAYMENT, env.stream_id)
        assert payment is not None
        amount = format_amount(event.amount_cents, payment.currency)
        await notify(payment.buyer_id, "refund", {"amount": amount, "order_id": str(payment.order_id)}, env)

    reactions: dict[type[msgspec.Struct], React] = {
        UserRegistered: registered,
        ProfileChanged: profile_changed,
        OrderCompleted: completed,
        PaymentFailed: failed,
        PaymentRefunded: refunded,
    }
    return Reactor(name, reactions, starts_from="now")


def mail_jobs(queue: WorkQueue) -> Reactor:
    """Puts notices that go by mail on the mail queue."""

    async def requested(event: NotificationRequested, env: Envelope) -> None:
        if event.channel == "email":
            await queue.publish([job_for(env, "mail", notice_id=env.stream_id)])

    return Reactor("mail_jobs", {NotificationRequested: requested})


def forgetting(keys: PersonKeys) -> Reactor:
    """Destroys the key of a forgotten person, should the command have died before it could."""

    async def forgotten(event: UserForgotten, env: Envelope) -> None:
        await keys.destroy(env.stream_id)

    return Reactor("forgetting", {UserForgotten: forgotten})


def _about(order_id: UUID, order: orders.Order) -> dict[str, str]:
    return {"order_id": str(order_id), "titles": ", ".join(line.title for line in order.lines)}
