"""Which notices of low stock another threshold would have sent, or not."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from uuid import UUID

import msgspec
import psycopg

from commands.aggregates import STOCK
from domain import inventory
from domain.inventory import Allocated, LowStock, Stock, StockCreated, StockUpdated
from eventstore.codec import Codec
from eventstore.consumers.reader import Page, Reader
from eventstore.consumers.streams import folded, read_streams
from projections.engine.replaying import Progress
from runtime.what_if.rules import Rules

AT_ONCE = 100
"""How many stocks are read together."""


class NoticeChange(msgspec.Struct, frozen=True):
    """A notice of low stock that was sent and would not have been, or, with `would_be_sent`, the
    reverse: its game, recipient and time, and how many units were free."""

    product_id: UUID
    seller_id: UUID
    sku: str
    at: datetime
    position: int
    available: int
    would_be_sent: bool


Notice = tuple[int, datetime, int]
"""The position of the event that made stock low, the time, and the units left."""


def decide_again(
    conn: psycopg.Connection, codec: Codec, rules: Rules, upto: int, progress: Progress
) -> list[NoticeChange]:
    """All changes, by position. Raises psycopg.OperationalError."""
    if rules.low_stock is None:
        return []
    ids = list(_stocks(conn, codec, upto))
    found: list[NoticeChange] = []
    streams = partial(read_streams, conn, codec, upto=upto)
    for start in range(0, len(ids), AT_ONCE):
        for page in streams(ids[start : start + AT_ONCE]).values():
            found += changes(rules, page)
        progress(min(start + AT_ONCE, len(ids)), len(ids))
    return sorted(found, key=lambda each: each.position)


def _stocks(conn: psycopg.Connection, codec: Codec, upto: int) -> Iterator[UUID]:
    reader, position = Reader(codec, codec.names_of([StockCreated])), 0
    while position < upto:
        page, position = reader.next_page(conn, position, upto)
        yield from (env.stream_id for env, _ in page)


def changes(rules: Rules, page: Page) -> Sequence[NoticeChange]:
    """The changes of one stock, given all its events."""
    stock = folded(STOCK, page)
    if stock is None:
        return []
    sent, would_be = set(_sent(page)), set(_would_be_sent(rules, page))
    return [
        NoticeChange(stock.game_id, stock.seller_id, stock.sku, at, position, left, is_new)
        for notices, is_new in ((would_be - sent, True), (sent - would_be, False))
        for position, at, left in notices
    ]


def _sent(page: Page) -> Iterator[Notice]:
    """The notices that were sent. Each is of the event before it, which made stock low."""
    for (before, _), (env, event) in pairwise(page):
        if isinstance(event, LowStock) and not event.quiet:
            yield before.position, event.at or env.occurred_at, event.available


def _would_be_sent(rules: Rules, page: Page) -> Iterator[Notice]:
    """The notices that would be sent: decided again while the rules apply, else as they were. One
    silences those of the hour after it."""
    stock: Stock | None = None
    for number, (env, event) in enumerate(page):
        if isinstance(event, LowStock):
            continue
        following = page[number + 1][1] if number + 1 < len(page) else None
        recorded = following if isinstance(following, LowStock) else None
        at = (recorded.at if recorded else None) or env.occurred_at
        low: LowStock | None = recorded
        if rules.apply_at(env.occurred_at):
            low = _decided(rules, stock, event, at)
        stock = STOCK.evolve(stock, event)
        if low is not None:
            stock = STOCK.evolve(stock, low)
            if not low.quiet:
                yield env.position, at, low.available


def _decided(rules: Rules, stock: Stock | None, event: object, at: datetime) -> LowStock | None:
    """What counting or allocating these units would have said of a stock."""
    assert rules.low_stock is not None
    if stock is None:
        return None
    if isinstance(event, StockUpdated):
        left = event.total - stock.allocated
    elif isinstance(event, Allocated):
        left = stock.left - event.quantity
    else:
        return None
    for low in inventory.low_stock(stock, left, rules.low_stock, at):
        assert isinstance(low, LowStock)
        return low
    return None
