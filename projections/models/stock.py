"""Stock: how many units of each physical game there are, and who holds how many."""

from datetime import datetime
from uuid import UUID

from domain.inventory import (
    Allocated,
    LowStock,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    StockCreated,
    StockUpdated,
)
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on


class StockRow(Row):
    """The stock of the game `product_id`, or one hold on it; `version` is the stream's.

    Each hold is a row of its own, so that an event's cost does not grow with the number of holds.
    It counts the units that it holds, `reserved` by a cart or `allocated` to an order, until
    `expires_at`. Holds are stored because the events that end them do not say how many units they
    held.
    """

    KEY = ("stock_id", "hold_id")
    INDEXES = (
        "USING btree (product_id) WHERE product_id IS NOT NULL",
        "USING btree (stock_id, expires_at) WHERE reserved > 0 AND expires_at IS NOT NULL",
    )
    CHECKS = (
        "available >= 0 AND reserved >= 0 AND allocated >= 0",
        "available + reserved + allocated = total",
    )

    stock_id: UUID
    hold_id: UUID  # the stream's id in the row of the stock itself
    total: int
    available: int
    reserved: int
    allocated: int
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    product_id: UUID | None = None
    seller_id: UUID | None = None
    sku: str | None = None


def item_key(stream_id: UUID) -> tuple[UUID, UUID]:
    """The key of the row of the stock itself."""
    return stream_id, stream_id


def _item(_: object, env: Placed) -> tuple[UUID, UUID]:
    return item_key(env.stream_id)


Held = Reserved | ReservationChanged | Allocated
Ended = ReservationReleased | ReservationExpired | ReservationFulfilled


def _item_and_hold(event: Held | Ended, env: Placed) -> list[tuple[UUID, UUID]]:
    return [_item(event, env), (env.stream_id, event.reservation_id)]


class StockItems(Projection[StockRow]):
    """Every stock item, and the holds on it."""

    name, version, row = "stock", 2, StockRow

    @on(StockCreated, key=_item)
    def created(self, rows: Rows[StockRow], event: StockCreated, env: Placed) -> None:
        row = _row(env, env.stream_id)
        row.product_id = event.game_id
        row.seller_id = event.seller_id
        row.sku = event.sku
        rows.put(row)

    @on(StockUpdated, key=_item)
    def counted(self, rows: Rows[StockRow], event: StockUpdated, env: Placed) -> None:
        item = _changed(rows, env)
        item.total = event.total
        _balance(item)

    @on(LowStock, key=_item)
    def low(self, rows: Rows[StockRow], _: LowStock, env: Placed) -> None:
        _changed(rows, env)

    @on(Reserved, key=_item_and_hold)
    @on(ReservationChanged, key=_item_and_hold)
    def reserved(
        self, rows: Rows[StockRow], event: Reserved | ReservationChanged, env: Placed
    ) -> None:
        _hold(rows, env, event, reserved=event.quantity)

    @on(Allocated, key=_item_and_hold)
    def allocated(self, rows: Rows[StockRow], event: Allocated, env: Placed) -> None:
        _hold(rows, env, event, allocated=event.quantity)

    @on(ReservationReleased, key=_item_and_hold)
    @on(ReservationExpired, key=_item_and_hold)
    def freed(
        self, rows: Rows[StockRow], event: ReservationReleased | ReservationExpired, env: Placed
    ) -> None:
        _end(rows, env, event.reservation_id)

    @on(ReservationFulfilled, key=_item_and_hold)
    def sold(self, rows: Rows[StockRow], event: ReservationFulfilled, env: Placed) -> None:
        _end(rows, env, event.reservation_id).total -= event.quantity
        _balance(rows[item_key(env.stream_id)])


def _row(env: Placed, hold_id: UUID) -> StockRow:
    """An empty row."""
    at = env.occurred_at
    return StockRow(
        env.stream_id, hold_id, 0, 0, 0, 0, version=env.version, created_at=at, updated_at=at
    )


def _changed(rows: Rows[StockRow], env: Placed) -> StockRow:
    item = rows[item_key(env.stream_id)]
    item.version = env.version
    item.updated_at = env.occurred_at
    return item


def _hold(
    rows: Rows[StockRow], env: Placed, event: Held, *, reserved: int = 0, allocated: int = 0
) -> None:
    """Set a hold, and keep the item's sums in step."""
    item = _end(rows, env, event.reservation_id)
    hold = _row(env, event.reservation_id)
    hold.reserved = reserved
    hold.allocated = allocated
    hold.total = reserved + allocated
    hold.expires_at = event.expires_at
    rows.put(hold)
    item.reserved += reserved
    item.allocated += allocated
    _balance(item)


def _end(rows: Rows[StockRow], env: Placed, reservation_id: UUID) -> StockRow:
    """End a hold, if it exists, and take it out of the item's sums. Returns the item."""
    item, hold = _changed(rows, env), rows.get((env.stream_id, reservation_id))
    if hold is not None:
        item.reserved -= hold.reserved
        item.allocated -= hold.allocated
        rows.delete((env.stream_id, reservation_id))
    _balance(item)
    return item


def _balance(item: StockRow) -> None:
    item.available = item.total - item.reserved - item.allocated
