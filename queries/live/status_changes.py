"""Status changes of a person's orders, payments and carts, read from the log.

Each status comes from the folds of the read models, so a change at a position agrees with the HTTP
resource as of that position.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from eventstore.amendments import Amendments
from eventstore.codec import Codec
from eventstore.decoding import Raw, decode, raw_rows
from eventstore.log import Envelope
from eventstore.pages import COLUMNS
from eventstore.postgres_log import PostgresLog
from projections.models.carts import Cart, Carts
from projections.models.orders import OrderRow, Orders
from projections.models.payments import Payment, Payments
from projections.models.transactions import Transactions
from projections.projection import Projection, Rows
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels

logger = logging.getLogger(__name__)

PAGE = 200
"""The most changes per page."""

MAX_SCANNED_POSITIONS = 100_000
"""How many positions ahead of the read models are searched for new streams of a person; beyond
that, the caller waits for the read models."""

BEGINNINGS = ("order.created.", "payment.requested.", "cart.created.", "transaction.created.")
"""Prefixes of the names of events, of any version, that say whose a stream is, or whose payment
they request."""


class StatusChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that changed a status, or what is refunded. `type` is order.status, payment.status
    or cart.status; `event` the event's wire name; `version` the stream's. `code` is why a payment
    failed, `reason` why an order was cancelled.
    """

    type: str
    position: int
    event: str
    occurred_at: datetime
    status: str
    version: int
    order_id: UUID | None = None
    payment_id: UUID | None = None
    cart_id: UUID | None = None
    transaction_id: UUID | None = None
    reason: str | None = None
    code: str | None = None
    redirect_url: str | None = None
    refund_status: str | None = None
    refunded_cents: int = 0


class Beginning(msgspec.Struct, frozen=True):
    """A new stream and its owner."""

    owner: UUID
    stream_ids: tuple[UUID, ...]


class ChangePage(msgspec.Struct, frozen=True):
    """Changes in log order, complete up to the position `reached`."""

    changes: list[StatusChange]
    reached: int


class _Opening(msgspec.Struct, frozen=True):
    """The common fields of the events of BEGINNINGS."""

    buyer_id: UUID | None = None
    user_id: UUID | None = None
    payment_id: UUID | None = None


class _Stream(msgspec.Struct, frozen=True):
    stream_id: UUID


_opening = msgspec.json.Decoder(_Opening)

_STREAMS = """
SELECT order_id AS stream_id FROM @orders WHERE user_id = %(owner)s
UNION ALL SELECT payment_id FROM @orders WHERE user_id = %(owner)s
UNION ALL SELECT cart_id FROM @carts WHERE buyer_id = %(owner)s
UNION ALL SELECT payment_id FROM @transactions WHERE user_id = %(owner)s AND payment_id IS NOT NULL
"""

# Looks each stream up in the index by stream, even when the planner has old statistics: "OFFSET 0"
# keeps it from joining the streams with the whole log, "+ 0" from walking the log by position.
_CHANGED = f"""
WITH news AS MATERIALIZED (
    SELECT mine.stream_id, event.position
    FROM unnest(%(streams)s::uuid[]) AS mine (stream_id)
    CROSS JOIN LATERAL (
        SELECT position FROM log.events
        WHERE stream_id = mine.stream_id AND name = ANY (%(names)s)
          AND position + 0 > %(after)s AND position + 0 <= %(upto)s OFFSET 0
    ) AS event
    ORDER BY event.position LIMIT %(limit)s
)
SELECT event.* FROM (SELECT DISTINCT stream_id FROM news) AS changed
CROSS JOIN LATERAL (
    SELECT {COLUMNS} FROM log.events
    WHERE stream_id = changed.stream_id AND name = ANY (%(names)s)
      AND position + 0 <= (SELECT max(news.position) FROM news) OFFSET 0
) AS event
ORDER BY event.stream_id, event.version
"""


class StatusChanges:
    """Reads status changes. `watched` are the names of the events to watch the log for."""

    def __init__(self, log: PostgresLog, reads: ReadModels) -> None:
        self._log = log
        self._reads = reads

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """The wire names of the events that say whose a stream is."""
        started = [*self._names, *self._log.codec.names_of(Transactions.folds)]
        return frozenset(name for name in started if name.startswith(BEGINNINGS))

    @cached_property
    def watched(self) -> list[str]:
        """The wire names of all relevant events."""
        return sorted({*self._names, *self.beginnings})

    @cached_property
    def _names(self) -> list[str]:
        """The wire names of the events that status depends on. Changes of a cart's lines do not
        matter."""
        names = self._log.codec.names_of(
            [event for projection, _ in _KINDS.values() for event in projection.folds]
        )
        return [name for name in names if not name.startswith("cart.item_")]

    async def streams_of(self, owner: UUID, upto: int) -> set[UUID]:
        """All streams of a person that existed at a position. Raises ReadModelBehind."""
        known = await self._reads.rows(_Stream, _STREAMS, owner=owner)
        streams, position = {row.stream_id for row in known.value}, known.position
        if upto - position > MAX_SCANNED_POSITIONS:
            raise ReadModelBehind(f"the read models are at {position} of {upto}")
        while position < upto:
            found = await self._log.read_raw(position, upto=upto, names=list(self.beginnings))
            for raw in found:
                beginning = beginning_of(raw)
                if beginning is not None and beginning.owner == owner:
                    streams.update(beginning.stream_ids)
            position = found[-1][0].position if found else upto
        return streams

    async def page(
        self, stream_ids: Collection[UUID], after: int, upto: int, limit: int = PAGE
    ) -> ChangePage:
        """The earliest changes of these streams with after < position ≤ upto, from at most `limit`
        events."""
        wanted = {
            "streams": list(stream_ids),
            "names": self._names,
            "after": after,
            "upto": upto,
            "limit": limit,
        }
        amendments = await self._log.amendments.current()
        async with self._log.pool.connection() as conn:
            cursor = conn.cursor(binary=True)
            await cursor.execute(_CHANGED.encode(), wanted)
            found = raw_rows(await cursor.fetchall())
        news = [env.position for env, _ in found if env.position > after]
        changes = [
            change
            for _, stream in groupby(found, key=lambda raw: raw[0].stream_id)
            for change in _changes(self._log.codec, list(stream), amendments)
            if change.position > after
        ]
        return ChangePage(
            sorted(changes, key=lambda each: each.position),
            max(news) if len(news) == limit else upto,
        )


def beginning_of(raw: Raw) -> Beginning | None:
    """The new stream that an event of BEGINNINGS names."""
    env, payload = raw
    opening = _opening.decode(payload)
    owner = opening.buyer_id or opening.user_id
    if owner is None:
        return None
    own = () if env.name.startswith("transaction.") else (env.stream_id,)
    return Beginning(owner, own if opening.payment_id is None else (*own, opening.payment_id))


# -- folding ---------------------------------------------------------------------------------------


def _order(row: OrderRow) -> dict[str, Any]:
    return {
        "order_id": row.order_id,
        "payment_id": row.payment_id,
        "cart_id": row.cart_id,
        "reason": row.cancel_reason,
        "refunded_cents": row.refunded_cents,
    }


def _payment(row: Payment) -> dict[str, Any]:
    return {
        "payment_id": row.payment_id,
        "order_id": row.order_id,
        "transaction_id": row.transaction_id,
        "code": row.code,
        "redirect_url": row.redirect_url,
        "refund_status": row.refund_status,
        "refunded_cents": row.refunded_cents,
    }


def _cart(row: Cart) -> dict[str, Any]:
    return {"cart_id": row.cart_id, "order_id": row.order_id}


_KINDS: Mapping[str, tuple[Projection[Any], Callable[[Any], dict[str, Any]]]] = {
    "order": (Orders(), _order),
    "payment": (Payments(), _payment),
    "cart": (Carts(), _cart),
}
"""By the first word of an event's name: the projection of its stream, and the fields of a change
that come from the row."""


def _changes(codec: Codec, stream: Sequence[Raw], amendments: Amendments) -> Iterator[StatusChange]:
    """The changes of one stream, from its first event on. They end at an event that cannot be
    folded, as in a read model."""
    projection, told = _KINDS[stream[0][0].name.partition(".")[0]]
    rows: Rows[Any] = Rows(projection.row)
    before: Sequence[object] = ()
    for raw in stream:
        env = raw[0]
        try:
            projection.apply(rows, decode(codec, [raw], {}, amendments)[0].event, env)
            row = rows[env.stream_id]
        except Exception:
            logger.exception(
                "stream %s cannot be folded from position %s on", env.stream_id, env.position
            )
            return
        fields = told(row)
        now = [row.status, fields.get("refund_status"), fields.get("refunded_cents")]
        if now != before:
            before = now
            yield _change(env, row.status, fields)


def _change(env: Envelope, status: str, told: dict[str, Any]) -> StatusChange:
    return StatusChange(
        type=f"{env.name.partition('.')[0]}.status",
        position=env.position,
        event=env.name,
        occurred_at=env.occurred_at,
        status=status,
        version=env.version,
        **told,
    )
