"""A log in memory, for projections to fold."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid5

import msgspec

from domain.catalog import GameCreated, Price
from domain.events import Event
from domain.identity import UserRegistered
from domain.library import LibraryGameAdded
from domain.notifications import NotificationRequested
from domain.orders import OrderCreated, OrderLine
from domain.payments import Method, PaymentRequested
from eventstore.log import Envelope, Recorded
from projections.projection import Projection

R = TypeVar("R", bound=msgspec.Struct)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DUE = START + timedelta(minutes=30)


def some_id(name: str) -> UUID:
    """An id derived from a name."""
    return uuid5(UUID(int=1), name)


BUYER, SELLER, GAME, ORDER, PAYMENT = map(some_id, ("buyer", "seller", "game", "order", "payment"))


class History:
    """Events one second apart."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self._versions: dict[UUID, int] = {}

    def happened(self, stream_id: UUID, *events: Event) -> "History":
        """Add events to a stream."""
        for event in events:
            position = len(self.events) + 1
            self._versions[stream_id] = version = self._versions.get(stream_id, 0) + 1
            at = START + timedelta(seconds=position)
            env = Envelope(
                position,
                some_id(f"event {position}"),
                stream_id,
                version,
                event.NAME,
                at,
                at,
                "test",
            )
            self.events.append(Recorded(env, event))
        return self

    def row(self, projection: Projection[R], key: object) -> R | None:
        """A row after all events."""
        return projection.fold(self.events).get(key)


def at(position: int) -> datetime:
    """When a History recorded the event at this position."""
    return START + timedelta(seconds=position)


# -- events, with defaults for fields that a test does not care about ------------------------------


def registered(**said: Any) -> UserRegistered:
    usual: dict[str, Any] = {
        "user_id": BUYER, "account_type": "BUYER", "region": "BR", "email": "ana@example.com",
        "name": "Ana",
        "email_digest": "d1", "password_hash": "secret",
    }  # fmt: skip
    return UserRegistered(**{**usual, **said})


def game_created(**said: Any) -> GameCreated:
    usual: dict[str, Any] = {
        "seller_id": SELLER, "sku": "HK-1", "title": "Hollow Knight", "description": "Bugs.",
        "publisher": "Team Cherry",
        "category": "Metroidvania", "genres": ("Action", "Índie"), "tags": ("Hard",),
        "platforms": ("Linux",),
        "kind": "DIGITAL", "prices": (Price("*", 1499, "USD"), Price("BR", 4699, "BRL")),
        "image_ids": (),
        "status": "ACTIVE",
    }  # fmt: skip
    return GameCreated(**{**usual, **said})


def order_created(**said: Any) -> OrderCreated:
    line = OrderLine(some_id("line"), GAME, SELLER, "DIGITAL", "Hollow Knight", 1, 1499, 1000)
    usual: dict[str, Any] = {
        "buyer_id": BUYER, "region": "BR", "currency": "USD", "total_cents": 1499,
        "provisional": True,
        "payment_id": PAYMENT, "expires_at": DUE, "lines": (line,),
    }  # fmt: skip
    return OrderCreated(**{**usual, **said})


def payment_requested(**said: Any) -> PaymentRequested:
    usual: dict[str, Any] = {
        "buyer_id": BUYER, "amount_cents": 1499, "currency": "USD", "expires_at": DUE,
        "order_id": ORDER,
        "method": Method("card", "pm_card_visa"),
    }  # fmt: skip
    return PaymentRequested(**{**usual, **said})


def game_added(**said: Any) -> LibraryGameAdded:
    usual: dict[str, Any] = {
        "user_id": BUYER,
        "game_id": GAME,
        "order_id": ORDER,
        "title": "Hollow Knight",
        "purchase_date": START,
    }
    return LibraryGameAdded(**{**usual, **said})


def notice_requested(**said: Any) -> NotificationRequested:
    usual: dict[str, Any] = {
        "user_id": BUYER, "channel": "email", "template": "welcome",
        "cause_event_id": some_id("cause"),
        "params": {"name": "Ana"},
    }  # fmt: skip
    return NotificationRequested(**{**usual, **said})
