"""Shared by the routes that take or return money."""

from typing import Any
from uuid import UUID

from starlette.responses import Response

from api.answers import Preference, answer, position_of
from api.services import Services
from api.views.payments import RefundView
from commands.aggregates import ORDER, PAYMENT
from commands.handler import CommandResult
from commands.orders import OrderAndPayment


async def wait_as_preferred(
    services: Services, order_id: UUID, result: CommandResult[Any], prefer: Preference
) -> tuple[OrderAndPayment, int]:
    """Wait for the payment's outcome as long as the client prefers. Returns the order and its
    payment, and a position that reflects them."""
    now = await services.commands.orders.when_ready(order_id, prefer.wait_seconds)
    position = await position_of(result, services)
    if prefer.asynchronous:
        return now, position
    return now, max(position, services.log.history.mark.position)  # it has seen what it answers


async def refresh_order(services: Services, order_id: UUID) -> None:
    """Refresh this process's cached state of an order and its payment.

    Needed before a replayed answer: another process may have changed them since the first one, and
    `wait_as_preferred` reads the log only when it waits.
    """
    order = await services.repository.state(ORDER, order_id)
    if order is not None:
        await services.repository.state(PAYMENT, order.payment_id)


async def refunded(services: Services, payment_id: UUID, result: CommandResult[UUID]) -> Response:
    """The answer to a refund: its current state, from the log."""
    payment = await services.repository.get(PAYMENT, payment_id)
    refund = payment.refunds[result.value]
    view = RefundView(
        refund_id=result.value,
        payment_id=payment_id,
        order_id=payment.order_id,
        amount_cents=refund.amount_cents,
        currency=payment.currency,
        status=refund.state,
    )
    return answer(view, status=201, position=await position_of(result, services))
