"""From an event in the log to the news that merchants may have of it, and to the body of a
message."""

from datetime import datetime
from uuid import UUID

import msgspec

from commands.aggregates import GAME, ORDER, PAYMENT, SHIPMENT, STOCK
from domain import merchant_news
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
from domain.merchant_news import News
from domain.payments import PaymentCaptured, PaymentRefunded, PaymentRefundReversed
from eventstore.log import Envelope
from eventstore.repository import Repository


async def news_of(repository: Repository, event: Event, env: Envelope) -> News | None:
    """The news that an event of merchant_news.FACTS is; None when it is nobody's. The same event is
    always the same news: what it is told by (a game's seller, an order's lines) never changes.
    """
    match event:
        case TransactionPosted():
            return merchant_news.of_posting(event, env.stream_id)
        case (
            GameCreated()
            | GameUpdated()
            | GamePublished()
            | GameSuspended()
            | GameResumed()
            | GameRetired()
        ):
            game = await repository.cached(GAME, env.stream_id)
            return None if game is None else merchant_news.of_game(event, env.stream_id, game)
        case ShipmentCreated() | ShipmentConfirmed() | ShipmentStatusUpdated():
            shipment = await repository.cached(SHIPMENT, env.stream_id)
            return (
                None
                if shipment is None
                else merchant_news.of_shipment(event, env.stream_id, shipment)
            )
    if event.NAME.startswith("inventory."):
        stock = await repository.cached(STOCK, env.stream_id)
        return None if stock is None else merchant_news.of_stock(event, stock)
    order_id = await _order_of(repository, event, env)
    order = None if order_id is None else await repository.cached(ORDER, order_id)
    return (
        None
        if order_id is None or order is None
        else merchant_news.of_order(event, order_id, order)
    )


async def _order_of(repository: Repository, event: Event, env: Envelope) -> UUID | None:
    match event:
        case PaymentCaptured(order_id=order_id):
            return order_id
        case PaymentRefunded() | PaymentRefundReversed():
            payment = await repository.cached(PAYMENT, env.stream_id)
            return None if payment is None else payment.order_id
    return env.stream_id


def body_of(name: str, news: News, env: Envelope, owner: UUID) -> bytes:
    """The message by which a seller, or the platform, hears of an event of this name."""
    return encode(name, env.occurred_at, {"event_id": env.event_id, **news.told(owner)})


def encode(name: str, timestamp: datetime, data: dict[str, object]) -> bytes:
    """A Standard Webhooks payload: type, timestamp, data. The same parts make the same bytes."""
    return msgspec.json.encode({"type": name, "timestamp": timestamp, "data": data})
