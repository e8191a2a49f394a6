"""A projection is a pure fold of events into rows. It never sees SQL, a connection or a batch.

    class WalletBalances(Projection[WalletBalance]):
        name, version, row = "wallet_balances", 1, WalletBalance

        @on(FundsAdded)
        def added(self, rows: Rows[WalletBalance], event: FundsAdded, env: Placed) -> None:
            rows[env.stream_id].balance_cents += event.amount_cents

The engine decides how rows are fetched and written, so the same lines serve live, catch-up,
rebuild, verify, as-of and tests.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar, get_origin
from uuid import UUID

import msgspec

from eventstore.decoding import SKIPPED
from eventstore.log import Placed, Recorded
from projections.cleaning import Cleaner, cleaner_of

NEVER, NIL = datetime.min.replace(tzinfo=UTC), UUID(int=0)
"""Placeholders for a time and an id that are not known yet, or not read."""


class Row(msgspec.Struct, omit_defaults=True):
    """A row of a read model, and what queries return; its table comes from its fields.

    `KEY` names the key's fields, `INDEXES` further ones; `CHECKS` are conditions in SQL that every
    row meets. `INTERNAL` fields only serve to find and sort rows: queries leave them at their
    defaults. `PERSONAL` fields have people's data, of which the disk keeps nothing once they are
    forgotten (`projections.engine.erasing`).
    """

    KEY: ClassVar[tuple[str, ...]] = ()
    INDEXES: ClassVar[tuple[str, ...]] = ()
    CHECKS: ClassVar[tuple[str, ...]] = ()
    INTERNAL: ClassVar[tuple[str, ...]] = ()
    PERSONAL: ClassVar[tuple[str, ...]] = ()


class StreamRow(Row, kw_only=True):
    """A row of one stream, by that stream's id. The engine sets these fields; folds leave them
    alone.

    `version` is the stream's. `created_position` and `created_at` are the log position and the time
    of the event that made the row, `updated_at` the time of the last event that changed what is
    shown.
    """

    INTERNAL: ClassVar[tuple[str, ...]] = ("created_position",)

    version: int = 0
    created_at: datetime = NEVER
    updated_at: datetime = NEVER
    created_position: int = 0


def personal_fields(row_type: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a row type that have people's data."""
    return row_type.PERSONAL if issubclass(row_type, Row) else ()


R = TypeVar("R", bound=msgspec.Struct)
S = TypeVar("S", bound=Row)
Key = Any
"""A row's key: the key field's value, or a tuple where the key has several fields."""

Fetch = Callable[[Sequence[Key]], Iterable[R]]
Handler = Callable[[Any, "Rows[Any]", Any, Placed], None]
KeyOf = Callable[[Any, Placed], Key]
"""A function to the key, or the list of keys, that an event touches."""

Fold = tuple[Handler, KeyOf]


_UNKNOWN: Any = object()
"""Stands for a row that was not fetched yet."""


class RowMissing(KeyError):
    """A handler asked for a row that does not exist."""

    def __str__(self) -> str:
        (key,) = self.args
        return f"no row has the key {'/'.join(map(str, key if isinstance(key, tuple) else (key,)))}"


def key_of(row_type: type[msgspec.Struct]) -> Callable[[Any], Key]:
    """A function that returns a row's key."""
    names: tuple[str, ...] = row_type.KEY  # type: ignore[attr-defined]
    if len(names) == 1:
        name = names[0]
        return lambda row: getattr(row, name)
    return lambda row: tuple(getattr(row, name) for name in names)


def shown_fields(item: type[msgspec.Struct]) -> list[str]:
    """The fields that queries return: of a row, those that are not internal; of another type,
    all."""
    struct: type[msgspec.Struct] = get_origin(item) or item
    internal = struct.INTERNAL if issubclass(struct, Row) else ()
    return [name for name in struct.__struct_fields__ if name not in internal]


def shown(row: S) -> S:
    """The row as queries return it, with internal fields at their defaults."""
    return msgspec.structs.replace(
        row, **{name: default() for name, default in _internal(type(row))}
    )


@cache
def _internal(row_type: type[Row]) -> list[tuple[str, Callable[[], Any]]]:
    """The internal fields, each with a function that makes its default."""
    fields = {field.name: field for field in msgspec.structs.fields(row_type)}
    return [(name, _default_of(fields[name])) for name in row_type.INTERNAL]


def _default_of(field: msgspec.structs.FieldInfo) -> Callable[[], Any]:
    return field.default_factory if field.default is msgspec.NODEFAULT else lambda: field.default


class Rows(Generic[R]):
    """The rows that a page of events touches: fetched when first asked for, written together at the
    page's end."""

    def __init__(
        self, row_type: type[R], fetch: Fetch[R] = lambda _: (), cache_size: int = 0
    ) -> None:
        self.row_type = row_type
        self._key = key_of(row_type)
        self._fetch = fetch
        self._touched: dict[Key, R | None] = {}
        self._unstored: set[Key] = set()  # the touched keys that the store has no row of
        self._cache: dict[Key, R | None] = {}
        self._cache_size = cache_size
        self._answered = False  # whether the store has since the last failure

    def __getitem__(self, key: Key) -> R:
        row = self._touched.get(key)
        if row is None and (row := self.get(key)) is None:
            raise RowMissing(key)
        return row

    def get(self, key: Key) -> R | None:
        """The row, or None when there is none. Changes to it are written."""
        row = self._touched.get(key, _UNKNOWN)
        if row is _UNKNOWN:
            self.prefetch([key])
            return self._touched[key]
        return row

    def put(self, row: R) -> None:
        """Insert the row, or replace the one with its key."""
        self._touched[self._key(row)] = row

    def delete(self, key: Key) -> None:
        """Remove the row, if it is there."""
        self._touched[key] = None

    # -- for the engine ----------------------------------------------------------------------------

    def prefetch(self, keys: Iterable[Key], new: Collection[Key] = ()) -> None:
        """Fetch the rows that a page is going to touch, at once. Those of the `new` keys are known
        not to exist, and asked for only in order to find out first whether the store answers."""
        touched, cache, unstored = self._touched, self._cache, self._unstored
        unknown = []
        for key in keys:
            if key not in touched:
                touched[key] = row = cache.get(key)
                if row is None:
                    unstored.add(key)
                    if key not in cache and not (key in new and self._answered):
                        unknown.append(key)
        if unknown:
            for row in self._fetch(unknown):
                key = self._key(row)
                touched[key] = row
                unstored.discard(key)
            self._answered = True

    def changes(self) -> tuple[list[R], list[Key]]:
        """The rows to write and the keys to delete."""
        puts = [row for row in self._touched.values() if row is not None]
        return puts, [
            key for key, row in self._touched.items() if row is None and key not in self._unstored
        ]

    def written(self) -> None:
        """Start the next page after a commit; rows stay cached, as nobody else writes them."""
        if self._cache_size:
            self._cache.update(self._touched)
            for key in list(islice(self._cache, max(0, len(self._cache) - self._cache_size))):
                del self._cache[key]
        self._touched = {}
        self._unstored.clear()

    def discard(self) -> None:
        """Forget all rows after a failed page; they are read again."""
        self._touched = {}
        self._unstored.clear()
        self._answered = False
        self._cache = {}

    def touched(self) -> dict[Key, R | None]:
        """The rows that were used, by key; None for those that are not there."""
        return dict(self._touched)

    def all(self) -> list[R]:
        """Every row, where the whole fold is in memory."""
        return [row for row in self._touched.values() if row is not None]


def on(
    event_type: type[msgspec.Struct], *, key: str | KeyOf | None = None, shown: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a method as the fold of one event type.

    `key` says which rows it touches, so that a page's rows are fetched at once: the name of a
    payload field, or a function of event and envelope that returns a key or a list of keys; by
    default the stream's id. Other rows can be used too, but are fetched one by one. With
    `shown=False`, the event moves a StreamRow's version, but not its `updated_at`.
    """

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        function.__dict__.setdefault("_folds", []).append((event_type, _key_function(key), shown))
        return function

    return mark


def _key_function(key: str | KeyOf | None) -> KeyOf:
    if key is None:
        return lambda _, env: env.stream_id
    if isinstance(key, str):
        name = key
        return lambda event, _: getattr(event, name)
    return key


def _stamping(handler: Handler, *, shown: bool) -> Handler:
    """The handler, followed by the bookkeeping of the stream's row."""

    def stamped(projection: Any, rows: "Rows[Any]", event: Any, env: Placed) -> None:
        handler(projection, rows, event, env)
        row = rows.get(env.stream_id)
        if row is None:
            return
        row.version = env.version
        if not row.created_position:
            row.created_at = env.occurred_at
            row.created_position = env.position
        if shown:
            row.updated_at = env.occurred_at

    return stamped


_SKIP: Fold = (_stamping(lambda *_: None, shown=False), _key_function(None))


class Projection(Generic[R]):
    """Base of all projections. `name` and `version` name the subscription and its storage; a
    changed fold needs a new version."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    earlier: ClassVar[frozenset[int]] = frozenset()
    """Earlier versions with rows of the same shape: queries may read them while this one catches
    up."""

    keeps_nul: ClassVar[bool] = False
    """Whether folds get texts with NUL; the store must be able to hold it."""

    row: ClassVar[type[msgspec.Struct]]
    folds: ClassVar[dict[type, Fold]]
    cleaners: ClassVar[dict[type, Cleaner | None]]
    """By event type, what cleans the event before it is folded (projections/cleaning.py)."""

    cleaners_of_times: ClassVar[dict[type, Cleaner | None]]
    """The same for an event without NUL."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.folds = dict(getattr(cls, "folds", {}))
        for attribute in vars(cls).values():
            for event_type, key, shown in getattr(attribute, "_folds", ()):
                handler = (
                    _stamping(attribute, shown=shown)
                    if issubclass(cls.row, StreamRow)
                    else attribute
                )
                cls.folds[event_type] = (handler, key)
        cls.cleaners = {
            event_type: cleaner_of(event_type, keeps_nul=cls.keeps_nul) for event_type in cls.folds
        }
        cls.cleaners_of_times = {
            event_type: cleaner_of(event_type, keeps_nul=True) for event_type in cls.folds
        }

    def streams_of(self, key: Key) -> Sequence[UUID] | None:
        """The streams that feed a row, so that one row as of a moment costs its own streams and not
        the whole log; None where the key does not tell.

        By default, each row is fed by one stream, whose id is the key or its first part, and no
        fold asks for rows of other streams.
        """
        return [key[0] if isinstance(key, tuple) else key]

    def reads(self, name: str) -> bool:
        """Whether events of this wire name, of whatever version, matter here."""
        stem = name.rpartition(".v")[0]
        names: Iterable[str] = (event.NAME for event in self.folds)  # type: ignore[attr-defined]
        return any(stem == each.rpartition(".v")[0] for each in names)

    @property
    def mixes_streams(self) -> bool:
        """Whether several streams feed one row, so that the order of their events matters."""
        return type(self).streams_of is not Projection.streams_of

    def handler_of(self, event: msgspec.Struct) -> Fold | None:
        """The fold of an event; None when it does not matter here. A skipped event only moves the
        version of a StreamRow."""
        if event is SKIPPED:
            return _SKIP if issubclass(self.row, StreamRow) else None
        return self.folds.get(type(event))

    def apply(self, rows: Rows[R], event: msgspec.Struct, env: Placed) -> None:
        """Fold one event, if it matters here."""
        fold = self.handler_of(event)
        if fold is not None:
            clean = self.cleaners.get(type(event))
            fold[0](self, rows, event if clean is None else clean(event), env)

    def fold(self, events: Iterable[Recorded]) -> Rows[R]:
        """Fold events in memory: for tests, and for rows as of a moment."""
        rows: Rows[R] = Rows(self.row)  # type: ignore[arg-type]
        for recorded in events:
            self.apply(rows, recorded.event, recorded.env)
        return rows
