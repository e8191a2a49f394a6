"""Settling orders by the outcome of their payments, and refunding money that came too late."""

from uuid import UUID

import msgspec

from commands.accounts.open_accounts import closed_party
from commands.aggregates import CART, CLAIM, ORDER, PAYMENT, SHIPMENT, STOCK, WALLET
from commands.handler import CommandHandler
from commands.order_saga import cancel_order, emit_refund, fulfil, return_to_stock
from commands.reactors.reactor import React, Reactor, caused, once_for
from domain import orders
from domain.errors import Conflict
from domain.ids import derived
from domain.orders import CancelReason, OrderRefunded
from domain.payments import (
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentRefunded,
    PaymentRefundReversed,
)
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork


def settlement(handler: CommandHandler) -> Reactor:
    """Makes orders follow their payments. Refunds money that came too late, or for a closed
    account."""
    name = "settlement"

    async def captured(event: PaymentCaptured, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            order = await unit.get(ORDER, event.order_id)
            closed = await closed_party(handler.repository, unit, order, env.position)
            if closed is not None and order.status == "PENDING_PAYMENT":
                await cancel_order(
                    unit, event.order_id, order, orders.cancel(order, closed), env.occurred_at
                )
                order = await unit.get(ORDER, event.order_id)
            try:
                confirmed = orders.confirm(order, env.occurred_at)
            except Conflict:
                expired = orders.expire(order, env.occurred_at)
                await cancel_order(unit, event.order_id, order, expired, env.occurred_at)
                payment = await unit.get(PAYMENT, env.stream_id)
                if left := payment.refundable_cents:
                    refund_id = derived("refund.late", env.event_id)
                    await emit_refund(
                        unit, env.stream_id, refund_id, left, "order_cancelled", owed=True
                    )
            else:
                unit.emit(event.order_id, confirmed)
                if confirmed:
                    await fulfil(unit, order)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    async def failed(event: PaymentFailed, env: Envelope) -> None:
        await cancel(event.order_id, "payment_failed", env)

    async def intent_cancelled(event: PaymentIntentCancelled, env: Envelope) -> None:
        payment = await handler.cached(PAYMENT, env.stream_id)
        if event.reason == "provider" and payment is not None and payment.order_id is not None:
            await cancel(payment.order_id, "payment_cancelled", env)

    async def cancel(order_id: UUID, reason: CancelReason, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            order = await unit.get(ORDER, order_id)
            if order.status == "PENDING_PAYMENT":
                await cancel_order(
                    unit, order_id, order, orders.cancel(order, reason), env.occurred_at
                )

        await handler.handle(decision, caused(name, env), once_for(name, env))

    return Reactor(
        name,
        {
            PaymentCaptured: captured,
            PaymentFailed: failed,
            PaymentIntentCancelled: intent_cancelled,
            **_following_refunds(handler, name),
        },
        writes=(ORDER, PAYMENT, STOCK, SHIPMENT, CART, CLAIM, WALLET),
    )


def _following_refunds(handler: CommandHandler, name: str) -> dict[type[msgspec.Struct], React]:
    """The reactions that make an order follow refunds and their reversals."""

    async def refunded(event: PaymentRefunded, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.load(PAYMENT, env.stream_id)
            if payment is None or payment.order_id is None:
                return
            order = await unit.get(ORDER, payment.order_id)
            recorded = orders.record_refund(order, event.amount_cents)
            unit.emit(payment.order_id, recorded)
            if any(isinstance(each, OrderRefunded) and each.full for each in recorded):
                await return_to_stock(unit, order, env.occurred_at)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    async def reversed_(event: PaymentRefundReversed, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.load(PAYMENT, env.stream_id)
            if payment is None or payment.order_id is None:
                return
            order = await unit.get(ORDER, payment.order_id)
            unit.emit(payment.order_id, orders.reverse_refund(order, event.amount_cents))

        await handler.handle(decision, caused(name, env), once_for(name, env))

    return {PaymentRefunded: refunded, PaymentRefundReversed: reversed_}
