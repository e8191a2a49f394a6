"""What changed between two moments: rows and fields of the read models, from what to what, by which
events.

The streams that had events in between are folded once, from their start, and each event's changes
are noted (`projections.changes`). Personal data stay closed: what changed is shown, not to what.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from domain.ids import stock_id
from eventstore.decoding import Raw, Unreadable
from eventstore.log import Recorded
from eventstore.postgres_log import PostgresLog
from eventstore.snapshots import plain
from kit.forgotten import ENCRYPTED
from projections.changes import Change, WatchedFold, pages_of
from projections.engine.past_erasing import is_personal
from projections.models.library import library_id
from projections.models.orders import Orders
from projections.models.receipts import keys_of_order
from projections.projection import Key, shown_fields
from projections.registry import TABLES, read_models
from queries.audit.row_keys import Model
from queries.audit.why import MAX_POSITIONS, Event, NoSuchRow, Stop, Unanswerable
from queries.engine.read_models import ReadModels

Kind = Literal["order", "wallet", "game", "user"]

MAX_ROWS = 500
"""How many rows an answer to a request has."""

MAX_STREAMS = 2_000
"""The most streams that are folded for a request."""

_STREAMS_BETWEEN = """
SELECT DISTINCT stream_id FROM log.events WHERE position > %s AND position <= %s LIMIT %s"""

_OF_USER = {
    "orders": "SELECT order_id AS id FROM @orders WHERE user_id = %(user)s",
    "wallets": "SELECT wallet_id AS id FROM @wallets WHERE user_id = %(user)s",
    "transactions": "SELECT transaction_id AS id FROM @transactions WHERE user_id = %(user)s",
    "carts": "SELECT cart_id AS id FROM @carts WHERE buyer_id = %(user)s",
    "notifications": "SELECT notification_id AS id FROM @notifications WHERE user_id = %(user)s",
}
"""By read model: what a person has, ever had, or will have by now."""


class About(msgspec.Struct, frozen=True):
    """What is compared, if not the whole shop: an order with its payment, shipments and receipts; a
    wallet; a game with its stock; an account with its library, wallets, orders, carts,
    transactions and notifications."""

    kind: Kind
    id: UUID


class FieldChange(msgspec.Struct, frozen=True):
    """A field, from what to what, and the positions of the events that changed it. Both values are
    the same when it was changed back. What is inside of lists and objects is named by dots."""

    field: str
    before: Any
    after: Any
    positions: Sequence[int]


class RowChange(msgspec.Struct, frozen=True):
    """A row of a read model that changed; the parts of its key are joined by "/"."""

    model: str
    key: str
    what: Literal["added", "changed", "removed"]
    fields: Sequence[FieldChange]


class Difference(msgspec.Struct, frozen=True):
    """What changed after one position, up to another: rows by read model and key, and the events
    that changed them. `left_out` counts further rows. `stopped_by` is an event that cannot be
    applied: later changes of its stream are missing."""

    first: int
    last: int
    rows: Sequence[RowChange]
    events: Sequence[Event]
    left_out: int
    stopped_by: Sequence[Stop]


class _IdRow(msgspec.Struct, frozen=True):
    id: UUID


async def differences(
    log: PostgresLog,
    models: ReadModels,
    first: int,
    last: int,
    about: About | None = None,
    *,
    bounded: bool = False,
) -> Difference:
    """The changes after the position `first`, up to `last`; both are read by the amendments
    declared up to `last`.

    `bounded` is for a request: it gets MAX_ROWS, and is refused what takes long. Raises
    Unanswerable, NoSuchRow.
    """
    if first > last:
        raise Unanswerable("moments_reversed", f"position {first} comes after position {last}")
    log = await log.as_of(last)
    streams = await _streams(log, models, first, last, about, bounded=bounded)
    noted = _Noted(log, first)
    every: list[Model] = [projection() for projection in TABLES]
    alone = [each for each in every if not each.mixes_streams]
    await noted.fold(alone, log.read_whole_streams(streams, upto=last))
    if about is None:
        for each in every:
            if each.mixes_streams and (keys := await _touched(log, each, first, last)):
                if bounded and last > MAX_POSITIONS:
                    raise _too_long(f"any stream may feed a row of {each.name}")
                await noted.fold([each], pages_of(log, each, None, last), keys)
    return noted.difference(last, MAX_ROWS if bounded else None)


# -- which streams ---------------------------------------------------------------------------------


async def _streams(
    log: PostgresLog,
    models: ReadModels,
    first: int,
    last: int,
    about: About | None,
    *,
    bounded: bool,
) -> Sequence[UUID]:
    if about is None:
        found = await _streams_between(log, first, last, MAX_STREAMS + 1 if bounded else None)
    else:
        found = await _streams_about(log, models, about, last)
    if bounded and len(found) > MAX_STREAMS:
        raise _too_long(f"over {MAX_STREAMS} streams may have changed")
    return found


async def _streams_between(
    log: PostgresLog, first: int, last: int, limit: int | None
) -> list[UUID]:
    async with log.pool.connection() as conn:
        found = await conn.execute(_STREAMS_BETWEEN, (first, last, limit))
        return [row[0] for row in await found.fetchall()]


async def _streams_about(
    log: PostgresLog, models: ReadModels, about: About, last: int
) -> list[UUID]:
    """The streams of the thing asked about. Raises NoSuchRow if it did not exist then."""
    begun = await log.read_stream_raw(about.id, upto=last, limit=1)
    if not begun or log.codec.kinds.get(begun[0][0].name) != about.kind:
        raise NoSuchRow(f"up to position {last}, there was no {about.kind} {about.id}")
    if about.kind == "order":
        return await _of_order(log, about.id, last)
    if about.kind == "game":
        return [about.id, stock_id(about.id)]
    if about.kind == "wallet":
        return [about.id]
    found = [about.id, library_id(about.id)]
    at_end = models.reaching(await log.head())
    for model, query in _OF_USER.items():
        rows = (await at_end.rows(_IdRow, query, user=about.id)).value
        for row in rows:
            found += await _of_order(log, row.id, last) if model == "orders" else [row.id]
    return found


async def _of_order(log: PostgresLog, order_id: UUID, last: int) -> list[UUID]:
    """An order's streams: its own, and those of its payment, shipments and receipts."""
    fold, rows = WatchedFold(Orders()), [order_id]
    async for page in pages_of(log, Orders(), [order_id], last):
        for recorded in await log.decode_each(page):
            fold.apply(recorded)
    order = fold.get(order_id)
    if order is not None:
        sellers = [line.seller_id for line in order.lines]
        rows += [order.payment_id, *order.shipment_ids, *keys_of_order(order_id, sellers)]
    return rows


async def _touched(log: PostgresLog, model: Model, first: int, last: int) -> set[Key]:
    """The keys of a read model that the events in between name."""
    names, keys, after = log.codec.names_of(model.folds), set[Key](), first
    while after < last:
        page, after = await log.read_page(after, last, names=names)
        for recorded in await log.decode_each(page):
            fold = model.folds.get(type(recorded.event))
            if fold is not None:
                named = fold[1](recorded.event, recorded.env)
                keys.update(named if isinstance(named, list) else [named])
    return keys


def _too_long(why: str) -> Unanswerable:
    return Unanswerable(
        "range_too_long", f"{why}: that takes too long for a request; use `ludoteca audit diff`"
    )


# -- noting ----------------------------------------------------------------------------------------


class _Row:
    """A row's fields before the first change, after the last one, and the changes of each."""

    def __init__(self, existed: bool, before: Mapping[str, Any]) -> None:
        self.existed = existed
        self.exists = existed
        self.before = before
        self.after = before
        self.positions: dict[str, list[int]] = {}

    def change(self, exists: bool, after: Mapping[str, Any], position: int) -> None:
        """Note what an event did."""
        before = self.after
        for field in before.keys() | after.keys():
            if before.get(field) != after.get(field):
                self.positions.setdefault(field, []).append(position)
        self.exists, self.after = exists, after


class _Noted:
    """The changes after a position, by read model and key."""

    def __init__(self, log: PostgresLog, first: int) -> None:
        self._log = log
        self._first = first
        self._rows: dict[tuple[str, str], _Row] = {}
        self._events: dict[int, Event] = {}
        self._stops: dict[tuple[UUID, int], Stop] = {}
        self._by_model: dict[str, frozenset[str]] = {}
        personal = [each.projection for each in read_models() if is_personal(log.codec, each)]
        self._personal = {each.name for each in personal}
        folded = {event for each in personal for event in each.folds}
        self._sealed_names = frozenset(
            log.codec.names_of(event for event in folded if log.codec.is_personal(event))
        )

    async def fold(
        self,
        models: Sequence[Model],
        pages: AsyncIterator[list[Raw]],
        keys: set[Key] | None = None,
    ) -> None:
        """Fold events by some read models, and note the changes of all rows, or of these keys."""
        folds = [(model, WatchedFold(model, keys), WatchedFold(model, keys)) for model in models]
        async for page in pages:
            for recorded, raw in zip(await self._log.decode_each(page), page, strict=True):
                sealed = await self._sealed(recorded, raw)
                for model, opened, closed in folds:
                    if recorded.env.name in self._names(model):
                        self._apply(model, opened, closed, recorded, sealed)
        for _, opened, _ in folds:
            for stop in opened.poisoned.values():
                self._stops[stop.stream_id, stop.position] = Stop(*stop)

    async def _sealed(self, recorded: Recorded, raw: Raw) -> Recorded:
        """The event as it reads without the keys of persons."""
        if recorded.env.name not in self._sealed_names or isinstance(recorded.event, Unreadable):
            return recorded
        return (await self._log.decode_closed([raw]))[0]

    def _names(self, model: Model) -> frozenset[str]:
        names = self._by_model.get(model.name)
        if names is None:
            names = self._by_model[model.name] = frozenset(self._log.codec.names_of(model.folds))
        return names

    def _apply(
        self,
        model: Model,
        opened: WatchedFold[Any],
        closed: WatchedFold[Any],
        recorded: Recorded,
        without_keys: Recorded,
    ) -> None:
        changes = opened.apply(recorded)
        sealed: dict[Key, Change[Any]] = {}
        if model.name in self._personal:
            sealed = {each.key: each for each in closed.apply(without_keys)}
        if recorded.env.position <= self._first:
            return
        for change in changes:
            self._note(model, change, sealed.get(change.key), closed)

    def _note(
        self,
        model: Model,
        change: Change[Any],
        sealed: Change[Any] | None,
        closed: WatchedFold[Any],
    ) -> None:
        before, after = change.before, change.after
        if model.name in self._personal:
            now = closed.get(change.key)
            hidden = (now, now) if sealed is None else (sealed.before, sealed.after)
        else:
            hidden = (before, after)
        named = model.name, _text(change.key)
        row = self._rows.get(named)
        if row is None:
            row = self._rows[named] = _Row(before is not None, _leaves(before, hidden[0]))
        row.change(after is not None, _leaves(after, hidden[1]), change.env.position)
        env = change.env
        self._events[env.position] = msgspec.convert(env, Event, from_attributes=True)

    def difference(self, last: int, limit: int | None) -> Difference:
        """All that was noted, of at most so many rows."""
        found = [_row_change(*named, row) for named, row in sorted(self._rows.items())]
        shown = found[:limit]
        used = {at for row in shown for field in row.fields for at in field.positions}
        events = [event for at, event in sorted(self._events.items()) if at in used]
        stops = list(self._stops.values())
        return Difference(self._first, last, shown, events, len(found) - len(shown), stops)


def _row_change(model: str, key: str, row: _Row) -> RowChange:
    what: Literal["added", "changed", "removed"] = "changed"
    if row.existed != row.exists:
        what = "added" if row.exists else "removed"
    fields = [
        FieldChange(field, _shown(row.before.get(field)), _shown(row.after.get(field)), positions)
        for field, positions in sorted(row.positions.items(), key=_in_order)
    ]
    return RowChange(model, key, what, fields)


def _in_order(field: tuple[str, object]) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in field[0].split(".")]


class _Hidden(msgspec.Struct, frozen=True):
    """A personal value: compared, but not shown."""

    value: Any


def _shown(value: Any) -> Any:
    return ENCRYPTED if isinstance(value, _Hidden) else value


def _leaves(row: Any, sealed: Any) -> Mapping[str, Any]:
    """The values of a row by their paths; hidden where the row that was folded without the keys of
    persons has another."""
    if row is None:
        return {}
    values = dict(_flat(_fields(row)))
    if sealed is row:
        return values
    without = {} if sealed is None else dict(_flat(_fields(sealed)))
    return {
        path: value if without.get(path) == value else _Hidden(value)
        for path, value in values.items()
    }


def _fields(row: Any) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in shown_fields(type(row))}
    fields: dict[str, Any] = msgspec.to_builtins(values, str_keys=True, enc_hook=plain)
    return fields


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and value:
        parts = enumerate(value)
    else:
        if value not in (None, [], {}):
            yield path, value
        return
    for name, each in parts:
        yield from _flat(each, f"{path}.{name}" if path else str(name))


def _text(key: Key) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
