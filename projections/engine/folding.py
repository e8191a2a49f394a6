"""Folds a page of events into rows.

An event that cannot be applied is undone, and the page goes on without its stream. Rows are copied
for that only once a page has such an event, so that other pages pay nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date, datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers.reader import Event, Page
from eventstore.decoding import SKIPPED, Unreadable
from eventstore.log import Placed
from kit.wording import described
from projections.projection import Handler, Key, Projection, RowMissing, Rows

R = TypeVar("R", bound=msgspec.Struct)


class StoreFailed(Exception):
    """A store failed. The event that needed or made the rows is not at fault."""


class StorageLost(StoreFailed):
    """A storage is gone: its rows have to be folded again from the start of the log."""


class RowsRefused(Exception):
    """A store refuses rows because of their contents, so that a retry would fail again; `keys` are
    those of the rows."""

    def __init__(self, message: str, keys: Sequence[Key]) -> None:
        super().__init__(message)
        self.keys = keys


class Poisoned(NamedTuple):
    """A stream that cannot be applied from an event on, and why."""

    stream_id: UUID
    position: int
    name: str
    error: str


class TooMuchPoison(Exception):
    """So many streams cannot be applied that the fold is at fault, not the events."""


def fold_page(
    projection: Projection[Any],
    names: Collection[str],
    rows: Rows[Any],
    quarantined: Mapping[UUID, int],
    page: Page,
    *,
    prefetch: bool = True,
    presume_new: bool = False,
    at_most: int | None = None,
) -> list[Poisoned]:
    """Fold a page into rows, without quarantined streams. Returns the streams to quarantine, each
    with the event that could not be applied.

    `prefetch` is for rows that are in a store; where all are in memory it would only cost. With
    `presume_new`, a store never has rows of streams that begin in the page. Raises TooMuchPoison
    when more than `at_most` streams would have to be quarantined, and what the store
    raises.
    """
    folding = _Folding(projection, rows, at_most, presume_new=presume_new)
    folding.choose(names, quarantined, page)
    if not prefetch:
        folding.carefully()
        return list(folding.poisoned.values())
    rows.prefetch(folding.keys, folding.new)
    if not folding.all_at_once():
        rows.discard()
        rows.prefetch(folding.keys, folding.new)
        folding.carefully()
    return list(folding.poisoned.values())


class _Folding:
    """A page being folded."""

    def __init__(
        self,
        projection: Projection[Any],
        rows: Rows[Any],
        at_most: int | None,
        *,
        presume_new: bool,
    ) -> None:
        self.projection = projection
        self.rows = rows
        self._at_most = at_most
        self._presume_new = presume_new and not projection.mixes_streams
        self.keys: list[Key] = []
        self.new: set[Key] = set()
        self.poisoned: dict[UUID, Poisoned] = {}
        self._mine: list[tuple[Handler, Event, Placed]] = []

    def choose(self, names: Collection[str], quarantined: Mapping[UUID, int], page: Page) -> None:
        """Collect the events to fold, and the keys that they touch; new are those fed by a stream
        that begins here."""
        mine, keys, poisoned = self._mine, self.keys, self.poisoned
        folds, cleaners = self.projection.folds, self.projection.cleaners
        of_times = self.projection.cleaners_of_times
        for env, read in page:
            if env.name not in names or (
                quarantined and env.position >= quarantined.get(env.stream_id, env.position + 1)
            ):
                continue
            if poisoned and env.stream_id in poisoned:
                continue
            if type(read) is Unreadable:
                self._poisoned_by(env, read.error)
                continue
            if read is SKIPPED:
                if (fold := self.projection.handler_of(read)) is None:
                    continue
                handler, key_of, clean = *fold, None
            else:
                handler, key_of = folds[type(read)]
                clean = (cleaners if env.may_hold_nul else of_times)[type(read)]
            try:
                event = read if clean is None else clean(read)
                touched = key_of(event, env)
            except Exception as error:
                self._poisoned_by(env, error)
                continue
            if isinstance(touched, list):
                keys.extend(touched)
            else:
                keys.append(touched)
            if env.version == 1 and self._presume_new:
                self._note_new(touched, env.stream_id)
            mine.append((handler, event, env))

    def _note_new(self, touched: Key | list[Key], stream_id: UUID) -> None:
        keys = touched if isinstance(touched, list) else [touched]
        self.new.update(key for key in keys if _stream_of(key) == stream_id)

    def all_at_once(self) -> bool:
        """Fold all events. Returns False when one cannot be applied; the rows are then to be
        discarded."""
        projection, rows = self.projection, self.rows
        try:
            for handler, event, env in self._mine:
                handler(projection, rows, event, env)
        except (psycopg.Error, StoreFailed):
            raise
        except Exception:
            return False
        return True

    def carefully(self) -> None:
        """Fold event by event, undo those that cannot be applied, and skip the rest of their
        streams."""
        projection, rows, poisoned = self.projection, UndoableRows(self.rows), self.poisoned
        for handler, event, env in self._mine:
            if (
                poisoned
                and env.stream_id in poisoned
                and env.position > poisoned[env.stream_id].position
            ):
                continue
            try:
                handler(projection, rows, event, env)
            except (psycopg.Error, StoreFailed):
                raise
            except Exception as error:  # whatever fails, only this stream waits
                rows.undo()
                self._poisoned_by(env, error)
            else:
                rows.keep()

    def _poisoned_by(self, env: Placed, error: Exception) -> None:
        self.poisoned[env.stream_id] = Poisoned(
            env.stream_id, env.position, env.name, described(error)
        )
        if self._at_most is not None and len(self.poisoned) > self._at_most:
            raise TooMuchPoison(
                f"over {self._at_most} streams cannot be applied, the last one: {described(error)}"
            )


class UndoableRows(Rows[R]):
    """Rows that can be restored to what they were before an event."""

    def __init__(self, rows: Rows[R]) -> None:
        """Wraps other rows, until those are written or discarded."""
        self._key = rows._key
        self._rows = rows
        self._touched = rows._touched
        self._deep = mutable_fields(rows.row_type)
        self._before: dict[Key, Any] = {}

    def __getitem__(self, key: Key) -> R:
        row = self.get(key)
        if row is None:
            raise RowMissing(key)
        return row

    def get(self, key: Key) -> R | None:
        row = super().get(key)
        if key not in self._before:
            self._before[key] = row and self._copied(row)
        return row

    def prefetch(self, keys: Iterable[Key], new: Collection[Key] = ()) -> None:
        self._rows.prefetch(keys, new)

    def put(self, row: R) -> None:
        self._replaces(self._key(row))
        super().put(row)

    def delete(self, key: Key) -> None:
        self._replaces(key)
        super().delete(key)

    def keep(self) -> None:
        """Keep the event's changes."""
        self._before.clear()

    def touched_by_event(self) -> list[tuple[Key, R | None, R | None]]:
        """The rows that the event touched, by key, before it and as they are now: copies. None
        where there was, or is, no row."""
        return [
            (key, None if before is _ABSENT else before, self._current(key))
            for key, before in self._before.items()
        ]

    def undo(self) -> None:
        """Undo the event's changes."""
        for key, row in self._before.items():
            if row is _ABSENT:
                self._touched.pop(key, None)
            else:
                self._touched[key] = row
        self._before.clear()

    def _replaces(self, key: Key) -> None:
        if key not in self._before:
            self._before[key] = self._touched.get(key, _ABSENT)

    def _current(self, key: Key) -> R | None:
        row = self._touched.get(key)
        return None if row is None else self._copied(row)

    def _copied(self, row: R) -> R:
        return msgspec.structs.replace(
            row, **{name: deepcopy(getattr(row, name)) for name in self._deep}
        )


def _stream_of(key: Key) -> Key:
    return key[0] if isinstance(key, tuple) else key


_ABSENT = object()
_IMMUTABLE = {str, int, float, bool, bytes, UUID, datetime, date, NoneType}


@cache
def mutable_fields(row_type: type[msgspec.Struct]) -> Sequence[str]:
    """The fields whose values might be changed in place."""
    return [
        field.name
        for field in msgspec.structs.fields(row_type)
        if not _types_of(field.type) <= _IMMUTABLE
    ]


def _types_of(hint: Any) -> set[Any]:
    return set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
