"""Stock as it stands: how many of each physical game there are, and how many of them are held."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.inventory import (
    Allocated,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    StockCreated,
    StockUpdated,
    stock_id,
)
from eventstore.log import Envelope
from projections.fields import recorded_at, text
from projections.projection import Projection, Row, Rows, on

__all__ = ["Hold", "Stock", "StockRow", "stock_id"]


class Hold(msgspec.Struct, frozen=True):
    """So many are held: SOFT by a cart, HARD by an order. What ends a hold does not say again how many they were."""

    kind: Literal["SOFT", "HARD"]
    quantity: int
    expires_at: datetime


class StockRow(Row):
    """The stock of a game, `product_id`, by its stream. `version` is the stream's."""

    KEY = ("stock_id",)
    INDEXES = ("product_id",)
    CHECKS = ("available >= 0 AND reserved >= 0 AND allocated >= 0", "available + reserved + allocated = total")

    stock_id: UUID
    product_id: UUID
    seller_id: UUID
    sku: str
    total: int
    available: int
    reserved: int
    allocated: int
    holds: dict[UUID, Hold]
    version: int
    created_at: datetime
    updated_at: datetime


class Stock(Projection[StockRow]):
    """Every stock item."""

    name, version, row = "stock", 1, StockRow

    @on(StockCreated)
    def created(self, rows: Rows[StockRow], event: StockCreated, env: Envelope) -> None:
        at = recorded_at(env)
        rows.put(
            StockRow(
                stock_id=env.stream_id,
                product_id=event.game_id,
                seller_id=event.seller_id,
                sku=text(event.sku),
                total=0,
                available=0,
                reserved=0,
                allocated=0,
                holds={},
                version=env.version,
                created_at=at,
                updated_at=at,
            )
        )

    @on(StockUpdated)
    def counted(self, rows: Rows[StockRow], event: StockUpdated, env: Envelope) -> None:
        _changed(rows, env).total = event.total
        _balance(rows[env.stream_id])

    @on(Reserved)
    @on(ReservationChanged)
    def reserved(self, rows: Rows[StockRow], event: Reserved | ReservationChanged, env: Envelope) -> None:
        _held(rows, env, event.reservation_id, Hold("SOFT", event.quantity, event.expires_at))

    @on(Allocated)
    def allocated(self, rows: Rows[StockRow], event: Allocated, env: Envelope) -> None:
        _held(rows, env, event.reservation_id, Hold("HARD", event.quantity, event.expires_at))

    @on(ReservationReleased)
    @on(ReservationExpired)
    def freed(self, rows: Rows[StockRow], event: ReservationReleased | ReservationExpired, env: Envelope) -> None:
        _held(rows, env, event.reservation_id, None)

    @on(ReservationFulfilled)
    def sold(self, rows: Rows[StockRow], event: ReservationFulfilled, env: Envelope) -> None:
        rows[env.stream_id].total -= event.quantity
        _held(rows, env, event.reservation_id, None)


def _changed(rows: Rows[StockRow], env: Envelope) -> StockRow:
    stock = rows[env.stream_id]
    stock.version, stock.updated_at = env.version, recorded_at(env)
    return stock


def _held(rows: Rows[StockRow], env: Envelope, reservation_id: UUID, after: Hold | None) -> None:
    """Set a hold, or end it, and keep the sums in step."""
    stock = _changed(rows, env)
    for hold, sign in ((stock.holds.pop(reservation_id, None), -1), (after, 1)):
        if hold is not None and hold.kind == "SOFT":
            stock.reserved += sign * hold.quantity
        elif hold is not None:
            stock.allocated += sign * hold.quantity
    if after is not None:
        stock.holds[reservation_id] = after
    _balance(stock)


def _balance(stock: StockRow) -> None:
    stock.available = stock.total - stock.reserved - stock.allocated
