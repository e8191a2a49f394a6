"""What merchants receive of the log: an event as a merchant event, and that as a webhook's body."""

from datetime import datetime
from uuid import UUID

import msgspec

from commands.aggregates import GAME, ORDER, PAYMENT, SHIPMENT, STOCK
from domain import merchant_events
from domain.catalog import (
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
)
from domain.events import Event
from domain.fulfilment import ShipmentConfirmed, ShipmentCreated, ShipmentStatusUpdated
from domain.ledger import TransactionPosted
from domain.merchant_events import MerchantEvent
from domain.payments import PaymentCaptured, PaymentRefunded, PaymentRefundReversed
from eventstore.log import Envelope
from eventstore.repository import Repository


async def merchant_event_of(
    repository: Repository, event: Event, env: Envelope
) -> MerchantEvent | None:
    """The event as merchants may see it; None when it concerns no merchant. `event` is one of
    `PUBLIC_FIELDS`. Repeats give the same result: what it rests on (a game's seller, an order's
    lines) never changes.
    """
    match event:
        case TransactionPosted():
            return merchant_events.of_posting(event, env.stream_id)
        case (
            GameCreated()
            | GameUpdated()
            | GamePublished()
            | GameSuspended()
            | GameResumed()
            | GameRetired()
        ):
            game = await repository.cached(GAME, env.stream_id)
            return None if game is None else merchant_events.of_game(event, env.stream_id, game)
        case ShipmentCreated() | ShipmentConfirmed() | ShipmentStatusUpdated():
            shipment = await repository.cached(SHIPMENT, env.stream_id)
            return (
                None
                if shipment is None
                else merchant_events.of_shipment(event, env.stream_id, shipment)
            )
    if event.NAME.startswith("inventory."):
        stock = await repository.cached(STOCK, env.stream_id)
        return None if stock is None else merchant_events.of_stock(event, stock)
    order_id = await _order_of(repository, event, env)
    order = None if order_id is None else await repository.cached(ORDER, order_id)
    return (
        None
        if order_id is None or order is None
        else merchant_events.of_order(event, order_id, order)
    )


async def _order_of(repository: Repository, event: Event, env: Envelope) -> UUID | None:
    match event:
        case PaymentCaptured(order_id=order_id):
            return order_id
        case PaymentRefunded() | PaymentRefundReversed():
            payment = await repository.cached(PAYMENT, env.stream_id)
            return None if payment is None else payment.order_id
    return env.stream_id


def body_of(name: str, merchant_event: MerchantEvent, env: Envelope, owner: UUID) -> bytes:
    """The body of the webhook that reports the event to a seller, or to the platform."""
    return encode(
        name, env.occurred_at, {"event_id": env.event_id, **merchant_event.payload_for(owner)}
    )


def encode(name: str, timestamp: datetime, data: dict[str, object]) -> bytes:
    """A Standard Webhooks payload: type, timestamp, data. The same parts make the same bytes."""
    return msgspec.json.encode({"type": name, "timestamp": timestamp, "data": data})
