"""The event that the benchmarks append and fold; it is as large as the shop's payment events."""

from typing import ClassVar
from uuid import UUID

import msgspec

from eventstore.codec import Codec
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on


class FundsAdded(msgspec.Struct, frozen=True):
    """Money was added."""

    NAME: ClassVar[str] = "bench.funds_added.v1"
    PERSON: ClassVar[str] = ""
    amount_cents: int
    currency: str
    reference: UUID


CODEC = Codec({FundsAdded.NAME: FundsAdded})
SOME = FundsAdded(4999, "BRL", UUID("7d3c0f5e-1111-4222-8333-944445555666"))
PAYLOAD = CODEC.encode(SOME, UUID(int=0))
"""The same event as stored: what the peers append."""


class Balance(Row):
    """A stream's counter and sum."""

    KEY = ("stream_id",)
    stream_id: UUID
    events: int
    balance_cents: int
    position: int


class Balances(Projection[Balance]):
    """The read model that the benchmarks fold."""

    name, version, row = "bench_balances", 1, Balance

    @on(FundsAdded)
    def added(self, rows: Rows[Balance], event: FundsAdded, env: Placed) -> None:
        row = rows.get(env.stream_id)
        if row is None:
            row = Balance(env.stream_id, 0, 0, 0)
            rows.put(row)
        row.events += 1
        row.balance_cents += event.amount_cents
        row.position = env.position


class Total(Row):
    """The sum of all amounts, by currency."""

    KEY = ("currency",)
    currency: str
    balance_cents: int
    position: int


class Totals(Projection[Total]):
    """A read model of one row: its position is the last readable event."""

    name, version, row = "bench_totals", 1, Total

    @on(FundsAdded, key="currency")
    def added(self, rows: Rows[Total], event: FundsAdded, env: Placed) -> None:
        row = rows.get(event.currency)
        if row is None:
            row = Total(event.currency, 0, 0)
            rows.put(row)
        row.balance_cents += event.amount_cents
        row.position = env.position
