"""What other rules would have posted for orders' payments, beside what was posted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg

from commands.aggregates import ORDER, PAYMENT
from domain import ledger, postings
from domain.ids import PLATFORM_ID
from domain.ledger import Entry, TransactionPosted
from domain.orders import Order, OrderLine, total_of
from domain.payments import Payment, PaymentCaptured, PaymentRefunded, PaymentRefundReversed
from domain.regions import ANY_REGION
from eventstore.codec import Codec
from eventstore.consumers.reader import Page, Reader
from eventstore.consumers.streams import folded, read_streams
from eventstore.log import Placed
from projections.engine.replaying import Progress
from runtime.what_if.rules import Rules, TaxRates

T = TypeVar("T")

AT_ONCE = 1_000
"""How many postings are decided again together: memory does not grow with the log."""

_EVENT_IDS = """
SELECT position, event_id FROM log.events WHERE stream_id = ANY (%s) AND name = ANY (%s)
"""

Place = tuple[str, str, str]
"""An account, a currency and a month (YYYY-MM, UTC)."""


class Difference(msgspec.Struct, frozen=True):
    """What would have moved on an account in a month: credits minus debits, as posted and as it
    would have been."""

    account_id: str
    currency: str
    month: str
    posted_cents: int
    would_be_cents: int

    @property
    def difference_cents(self) -> int:
        """By how much it would have been more."""
        return self.would_be_cents - self.posted_cents


class LedgerChange(msgspec.Struct, frozen=True):
    """How the ledger would differ, by account and month, without what would be the same; and how
    many postings were decided again, and how many of these would be other ones."""

    differences: Sequence[Difference]
    decided: int
    changed: int


class Tally:
    """Adds up entries by account, currency and month."""

    def __init__(self) -> None:
        self._cents: dict[Place, list[int]] = {}
        self.decided = self.changed = 0

    def add(self, month: str, posted: Sequence[Entry], would_be: Sequence[Entry]) -> None:
        """Add a posting as it is, and as it would be."""
        self.decided += 1
        self.changed += list(posted) != list(would_be)
        for side, entries in enumerate((posted, would_be)):
            for entry in entries:
                place = (entry.account_id, entry.currency, month)
                cents = entry.amount_cents if entry.direction == "credit" else -entry.amount_cents
                self._cents.setdefault(place, [0, 0])[side] += cents

    def change(self) -> LedgerChange:
        """The sums that differ."""
        found = [
            Difference(*place, posted, would_be)
            for place, (posted, would_be) in sorted(self._cents.items())
            if posted != would_be
        ]
        return LedgerChange(found, self.decided, self.changed)


# -- deciding again --------------------------------------------------------------------------------


def lines_by(rules: Rules, order: Order) -> tuple[OrderLine, ...]:
    """An order's lines as other rules would have made them."""
    return tuple(
        msgspec.structs.replace(
            line,
            fee_bps=_fee_bps(rules, line),
            unit_price_cents=_price(rules.tax_rates, order.region, line.unit_price_cents),
        )
        for line in order.lines
    )


def _fee_bps(rules: Rules, line: OrderLine) -> int:
    """The platform's own games bear no fee."""
    if rules.fee_bps is None or line.seller_id == PLATFORM_ID:
        return line.fee_bps
    return rules.fee_bps


def _price(rates: TaxRates | None, region: str, cents: int) -> int:
    """The price without the region's tax, rounded half to even."""
    if rates is None:
        return cents
    rate = rates.get(region, rates.get(ANY_REGION, 0))
    return ledger.half_even(cents * 10_000, 10_000 + rate)


def events_by(events: Sequence[object], was: int, total: int) -> list[object]:
    """The events of a payment whose amount would be `total` instead of what it `was`. Each refund
    gives back the same part of it, to the cent in all: a whole refund stays whole."""
    if was == total:
        return list(events)
    changed, moved = list[object](), 0
    for event in events:
        if isinstance(event, PaymentRefunded | PaymentRefundReversed):
            sign = 1 if isinstance(event, PaymentRefunded) else -1
            before, moved = moved, moved + sign * event.amount_cents
            cents = sign * (_part(moved, was, total) - _part(before, was, total))
            changed.append(msgspec.structs.replace(event, amount_cents=cents))
        elif isinstance(event, PaymentCaptured):
            changed.append(msgspec.structs.replace(event, amount_cents=total))
        else:
            changed.append(event)
    return changed


def _part(moved: int, was: int, total: int) -> int:
    return ledger.half_even(moved * total, was) if was else 0


def decided_by(
    rules: Rules, events: Sequence[object], payment: Payment, order: Order
) -> Mapping[int, list[Entry]]:
    """What other rules would have posted for a payment's events, by the index of the event."""
    lines = lines_by(rules, order)
    changed = events_by(events, order.total_cents, total_of(lines))
    return dict(postings.decided(changed, payment, lines))


# -- the log ---------------------------------------------------------------------------------------


def decide_again(
    conn: psycopg.Connection, codec: Codec, rules: Rules, upto: int, progress: Progress
) -> LedgerChange:
    """Compare all postings of payments whose orders were placed while the rules apply with what
    they would have been. Raises psycopg.OperationalError."""
    tally, position = Tally(), 0
    streams = partial(read_streams, conn, codec, upto=upto)
    reader = Reader(codec, codec.names_of([TransactionPosted]))
    while position < upto and rules.of_orders:
        page, position = reader.next_page(conn, position, upto)
        mine = [
            (env, event)
            for env, event in page
            if isinstance(event, TransactionPosted) and event.order_id and event.payment_id
        ]
        for some in _in_parts(mine, AT_ONCE):
            payments = {each.payment_id for _, each in some if each.payment_id}
            _tally(streams, rules, some, _event_ids(conn, codec, list(payments)), tally)
        progress(position, upto)
    return tally.change()


def _tally(
    streams: Callable[[Iterable[UUID]], Mapping[UUID, Page]],
    rules: Rules,
    posted: Sequence[tuple[Placed, TransactionPosted]],
    ids: Mapping[int, UUID],
    tally: Tally,
) -> None:
    orders = streams({each.order_id for _, each in posted if each.order_id})
    placed = {
        order_id: order
        for order_id, page in orders.items()
        if page and rules.apply_at(page[0][0].occurred_at) and (order := folded(ORDER, page))
    }
    wanted = {each.payment_id for _, each in posted if each.order_id in placed and each.payment_id}
    payments = streams(wanted)
    would_be = {
        posting_id: entries
        for page in payments.values()
        for posting_id, entries in _of_payment(rules, page, placed, ids)
    }
    for env, event in posted:
        if event.order_id in placed:
            month = f"{env.occurred_at:%Y-%m}"
            tally.add(month, event.entries, would_be.get(env.stream_id, []))


def _of_payment(
    rules: Rules, page: Page, placed: Mapping[UUID, Order], ids: Mapping[int, UUID]
) -> Iterator[tuple[UUID, list[Entry]]]:
    """The postings of a payment's events, by the ids that they have."""
    payment = folded(PAYMENT, page)
    order = None if payment is None or payment.order_id is None else placed.get(payment.order_id)
    if payment is None or order is None:
        return
    events = [event for _, event in page]
    for number, entries in decided_by(rules, events, payment, order).items():
        yield ledger.transaction_id(ids[page[number][0].position]), entries


def _event_ids(
    conn: psycopg.Connection, codec: Codec, payment_ids: Sequence[UUID]
) -> Mapping[int, UUID]:
    names = codec.names_of(postings.MOVING)
    return dict(conn.execute(_EVENT_IDS, (list(payment_ids), names)).fetchall())


def _in_parts(items: Sequence[T], count: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, count)):
        yield part
