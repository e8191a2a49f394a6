"""The carrier's memory: what it delivered, and the notices that the shop has not accepted yet."""

from datetime import datetime
from importlib.resources import files
from pathlib import Path
from uuid import UUID

from msgspec import Struct, json

from adapters.notices.outbox import Outbox
from domain.fulfilment import tracking_key
from kit import tracing


class Delivery(Struct, frozen=True):
    """A delivered parcel, and the body of the notice that reports it."""

    shipment_id: UUID
    tracking_number: str
    delivered_at: datetime


class UnderWay(Struct, frozen=True):
    """A delivery that the shop does not know of yet: how often it was told, and whether it will be
    told again."""

    delivery: Delivery
    attempts: int
    given_up: bool


_COLUMNS = "d.shipment_id, d.tracking_number, d.delivered_at"


class CarrierStore(Outbox):
    """Deliveries and their notices. A notice has the id of its shipment."""

    def __init__(self, path: Path, lock_timeout_seconds: float = 5.0) -> None:
        super().__init__(path, lock_timeout_seconds)
        self._db.executescript(
            files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        )

    def deliver(self, delivery: Delivery, now: float) -> Delivery:
        """Record a delivery and queue its notice. A shipment is delivered once: a repeat returns
        the first delivery, and sends its notice again."""
        key = str(delivery.shipment_id)
        with self.transaction():
            self._db.execute(
                "insert into deliveries (shipment_id, tracking_number, number_key, delivered_at)"
                " values (?, ?, ?, ?) on conflict do nothing",
                (
                    key,
                    delivery.tracking_number,
                    tracking_key(delivery.tracking_number),
                    delivery.delivered_at.isoformat(),
                ),
            )
            (first,) = self._deliveries("d.shipment_id = ?", key)
            self._db.execute(
                "insert into webhooks (id, body, created_at, due_at, traceparent)"
                " values (?, ?, ?, ?, ?) on conflict (id) do update set due_at = excluded.due_at,"
                " created_at = excluded.created_at, traceparent = excluded.traceparent",
                (key, json.encode(first), now, now, tracing.traceparent()),
            )
        return first

    def delivered(self, tracking_number: str) -> list[Delivery]:
        """What was delivered under a tracking number."""
        return self._deliveries("d.number_key = ?", tracking_key(tracking_number))

    def under_way(self) -> list[UnderWay]:
        """The deliveries whose notice the shop has not accepted yet."""
        rows = self._db.execute(
            f"select {_COLUMNS}, w.attempts, w.due_at is null from webhooks w"
            " join deliveries d on d.shipment_id = w.id order by w.created_at limit 200"
        )
        return [
            UnderWay(_delivery(*row), attempts, bool(given_up)) for *row, attempts, given_up in rows
        ]

    def _deliveries(self, where: str, value: str) -> list[Delivery]:
        query = f"select {_COLUMNS} from deliveries d where {where}"
        return [_delivery(*row) for row in self._db.execute(query, (value,))]


def _delivery(shipment_id: str, tracking_number: str, delivered_at: str) -> Delivery:
    return Delivery(UUID(shipment_id), tracking_number, datetime.fromisoformat(delivered_at))
