"""What merchants may learn from webhooks: which events, about whom, and with which fields.

Fields are taken from a whitelist, on which there is nothing personal and nothing that identifies
the buyer. A seller sees their own lines of an order and their own entries of a posting; the
platform sees everything.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from domain.catalog import (
    Game,
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
)
from domain.events import Event
from domain.fulfilment import Shipment, ShipmentConfirmed, ShipmentCreated, ShipmentStatusUpdated
from domain.ids import PLATFORM_ID
from domain.inventory import (
    Allocated,
    LowStock,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    Stock,
    StockCreated,
    StockUpdated,
)
from domain.ledger import Entry, TransactionPosted, seller_account
from domain.orders import (
    Order,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRefunded,
    OrderRefundReversed,
    OrderStatusChanged,
)
from domain.payments import PaymentCaptured, PaymentRefunded, PaymentRefundReversed

_LISTING = (
    "sku",
    "title",
    "publisher",
    "category",
    "genres",
    "tags",
    "platforms",
    "release_date",
    "prices",
)

PUBLIC_FIELDS: Mapping[type[Event], tuple[str, ...]] = {
    GameCreated: (*_LISTING, "kind", "status"),
    GameUpdated: _LISTING,
    GamePublished: (),
    GameSuspended: (),
    GameResumed: (),
    GameRetired: (),
    OrderCreated: ("payment_id", "region", "provisional", "expires_at"),
    OrderConfirmed: ("payment_id",),
    OrderCompleted: (),
    OrderStatusChanged: ("status",),
    OrderCancelled: ("reason",),
    OrderRefunded: ("payment_id", "full"),
    OrderRefundReversed: ("payment_id",),
    PaymentCaptured: ("method_type",),
    PaymentRefunded: ("refund_id",),
    PaymentRefundReversed: ("refund_id", "code"),
    TransactionPosted: ("cause_event_id", "order_id", "payment_id"),
    ShipmentCreated: ("lines",),
    ShipmentConfirmed: (),
    ShipmentStatusUpdated: ("status", "at", "carrier", "tracking_number"),
    StockCreated: ("sku",),
    StockUpdated: ("total", "available"),
    Reserved: ("reservation_id", "quantity", "expires_at"),
    ReservationChanged: ("reservation_id", "quantity", "expires_at"),
    ReservationReleased: ("reservation_id", "reason"),
    ReservationExpired: ("reservation_id",),
    Allocated: ("reservation_id", "order_id", "quantity", "expires_at"),
    ReservationFulfilled: ("reservation_id", "order_id", "quantity"),
    LowStock: ("available", "threshold"),
}
"""The fields of each event that every merchant concerned may see."""

ORDER_WIDE_AMOUNTS: Mapping[type[Event], str] = {
    OrderRefunded: "amount_cents",
    OrderRefundReversed: "amount_cents",
    PaymentCaptured: "amount_cents",
    PaymentRefunded: "amount_cents",
    PaymentRefundReversed: "amount_cents",
}
"""An amount of the whole order, with its currency: only shown to a seller who owns every line.
Other sellers find their share in the ledger's postings."""

EVENT_NAMES: Sequence[str] = sorted(cls.NAME for cls in PUBLIC_FIELDS)
"""The wire names of the events that merchants can subscribe to."""

_LINE_FIELDS = (
    "line_id",
    "game_id",
    "kind",
    "title",
    "quantity",
    "unit_price_cents",
    "fee_bps",
    "shipment_id",
)


class MerchantEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the form that merchants may see."""

    sellers: frozenset[UUID]
    fields: Mapping[str, object]
    order_wide: Mapping[str, object] = {}
    order_id: UUID | None = None
    currency: str = ""
    lines: tuple[OrderLine, ...] = ()
    entries: tuple[Entry, ...] = ()

    def payload_for(self, owner: UUID) -> dict[str, object]:
        """The payload for a seller, or for the platform."""
        payload = dict(self.fields)
        if self.order_id is not None:
            lines = [line for line in self.lines if owner in {PLATFORM_ID, line.seller_id}]
            if len(lines) == len(self.lines):
                payload |= self.order_wide
            payload["order"] = {
                "order_id": self.order_id,
                "currency": self.currency,
                "amount_cents": sum(line.quantity * line.unit_price_cents for line in lines),
                "lines": [_line(line, owner) for line in lines],
            }
        if self.entries:
            account = seller_account(owner)
            payload["entries"] = [
                each for each in self.entries if owner == PLATFORM_ID or each.account_id == account
            ]
        return payload


def of_game(event: Event, game_id: UUID, game: Game) -> MerchantEvent:
    """An event of a game, for its seller."""
    return MerchantEvent(
        sellers=frozenset({game.seller_id}), fields={"game_id": game_id, **_public_fields(event)}
    )


def of_order(event: Event, order_id: UUID, order: Order) -> MerchantEvent:
    """An event of an order or its payment, for every seller with a line in the order."""
    field = ORDER_WIDE_AMOUNTS.get(type(event))
    return MerchantEvent(
        sellers=frozenset(line.seller_id for line in order.lines),
        fields=_public_fields(event),
        order_wide={field: getattr(event, field), "currency": order.currency} if field else {},
        order_id=order_id,
        currency=order.currency,
        lines=order.lines,
    )


def of_shipment(event: Event, shipment_id: UUID, shipment: Shipment) -> MerchantEvent:
    """An event of a shipment, for the seller who sends it."""
    fields = {"shipment_id": shipment_id, "order_id": shipment.order_id, **_public_fields(event)}
    return MerchantEvent(sellers=frozenset({shipment.seller_id}), fields=fields)


def of_stock(event: Event, stock: Stock) -> MerchantEvent:
    """An event of a game's stock, for its seller. It does not say whose cart holds the units."""
    return MerchantEvent(
        sellers=frozenset({stock.seller_id}),
        fields={"game_id": stock.game_id, **_public_fields(event)},
    )


def of_posting(event: TransactionPosted, transaction_id: UUID) -> MerchantEvent:
    """An event of the ledger, for every seller whose account it moves."""
    accounts = [entry.account_id.partition(":") for entry in event.entries]
    sellers = frozenset(UUID(owner) for kind, _, owner in accounts if kind == "SELLER_PAYABLE")
    fields = {"ledger_transaction_id": transaction_id, **_public_fields(event)}
    return MerchantEvent(sellers=sellers, fields=fields, entries=event.entries)


def _public_fields(event: Event) -> dict[str, object]:
    found = {name: getattr(event, name) for name in PUBLIC_FIELDS[type(event)]}
    return {name: value for name, value in found.items() if value is not None}


def _line(line: OrderLine, owner: UUID) -> dict[str, object]:
    found = {name: getattr(line, name) for name in _LINE_FIELDS}
    if owner == PLATFORM_ID:
        found["seller_id"] = line.seller_id
    return {name: value for name, value in found.items() if value is not None}
