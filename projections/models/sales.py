"""Sales, for analytics: per order what each of its lines brought in, what went back of it, and the
platform's fee.

A row is an order, not a day, because only the order's own stream says what its confirmation or its
refund is about; so every figure follows from one stream, and `queries/orders/sales.py` adds the
rows up.
What goes back counts on the day of the sale that it undoes.
"""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec

from domain.ids import PLATFORM_ID
from domain.ledger import REVENUE, refunded_shares, seller_account, shares_of
from domain.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRefunded,
    OrderRefundReversed,
)
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on


class SoldLine(msgspec.Struct):
    """A line of an order. `fee_cents` is what the platform keeps for selling it,
    `fee_refunded_cents` what it gave back of that; its own games bear no fee."""

    seller_id: UUID
    game_id: UUID
    units: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int
    fee_refunded_cents: int = 0


class SaleRow(Row):
    """An order; `day` is the one (UTC) on which it was paid, None before that."""

    KEY = ("order_id",)
    INDEXES = ("day",)

    order_id: UUID
    day: date | None
    currency: str
    lines: list[SoldLine]


class Sales(Projection[SaleRow]):
    """Every order that is paid, or may still be."""

    name, version, row = "sales", 3, SaleRow

    @on(OrderCreated)
    def created(self, rows: Rows[SaleRow], event: OrderCreated, env: Placed) -> None:
        fees = _fees(event.lines)
        lines = [
            SoldLine(line.seller_id, line.game_id, line.quantity, _gross(line), 0, fee)
            for line, fee in zip(event.lines, fees, strict=True)
        ]
        rows.put(SaleRow(env.stream_id, None, event.currency, lines))

    @on(OrderConfirmed)
    def confirmed(self, rows: Rows[SaleRow], _: OrderConfirmed, env: Placed) -> None:
        rows[env.stream_id].day = env.occurred_at.date()

    @on(OrderCancelled)
    def cancelled(self, rows: Rows[SaleRow], _: OrderCancelled, env: Placed) -> None:
        rows.delete(env.stream_id)

    @on(OrderRefunded)
    def refunded(self, rows: Rows[SaleRow], event: OrderRefunded, env: Placed) -> None:
        """Each of the ledger's accounts gives what it gives there; of that, each line pro rata to
        what it has left."""
        lines = rows[env.stream_id].lines
        _give(lines, _left(lines), event.amount_cents, 1)

    @on(OrderRefundReversed)
    def refund_reversed(self, rows: Rows[SaleRow], event: OrderRefundReversed, env: Placed) -> None:
        """Each account gets back what it gets back there; of that, each line pro rata to what it
        gave."""
        lines = rows[env.stream_id].lines
        _give(lines, _given(lines), event.amount_cents, -1)


def _give(
    lines: Sequence[SoldLine], parts_of: dict[str, dict[str, int]], amount_cents: int, sign: int
) -> None:
    """Take an amount out of the accounts' parts, for a refund, or give it to them (-1), for the
    reversal of one."""
    moved = refunded_shares(
        {account: sum(parts.values()) for account, parts in parts_of.items()}, [amount_cents]
    )
    for account, parts in parts_of.items():
        for part, cents in refunded_shares(parts, [moved[account]]).items():
            number, _, fee = part.partition(" ")
            line = lines[int(number)]
            line.refunded_cents += sign * cents
            line.fee_cents -= sign * cents if fee else 0
            line.fee_refunded_cents += sign * cents if fee else 0


def _left(lines: Sequence[SoldLine]) -> dict[str, dict[str, int]]:
    """What each account of the ledger has left of the order, by line: "1" is a line's price, "1
    fee" its fee."""
    left: dict[str, dict[str, int]] = {}
    for number, line in enumerate(lines):
        account = REVENUE if line.seller_id == PLATFORM_ID else seller_account(line.seller_id)
        left.setdefault(account, {})[f"{number}"] = (
            line.gross_cents - line.refunded_cents - line.fee_cents
        )
        left.setdefault(REVENUE, {})[f"{number} fee"] = line.fee_cents
    return left


def _given(lines: Sequence[SoldLine]) -> dict[str, dict[str, int]]:
    """As `_left`, what each account gave of the order."""
    given: dict[str, dict[str, int]] = {}
    for number, line in enumerate(lines):
        account = REVENUE if line.seller_id == PLATFORM_ID else seller_account(line.seller_id)
        given.setdefault(account, {})[f"{number}"] = line.refunded_cents - line.fee_refunded_cents
        given.setdefault(REVENUE, {})[f"{number} fee"] = line.fee_refunded_cents
    return given


def _gross(line: OrderLine) -> int:
    return line.quantity * line.unit_price_cents


def _fees(lines: Sequence[OrderLine]) -> list[int]:
    """The fee of each line: the ledger's, which is rounded per seller, spread over the seller's
    lines."""
    fees = dict.fromkeys(range(len(lines)), 0)
    for seller_id in {line.seller_id for line in lines} - {PLATFORM_ID}:
        own = {
            str(number): line for number, line in enumerate(lines) if line.seller_id == seller_id
        }
        fee = shares_of(list(own.values())).get(REVENUE, 0)
        if len(own) == 1:
            fees[int(*own)] = fee
            continue
        spread = refunded_shares({number: _gross(line) for number, line in own.items()}, [fee])
        fees |= {int(number): cents for number, cents in spread.items()}
    return list(fees.values())
