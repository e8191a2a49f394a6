"""Folding a page of events into rows, one event after the other.

An event that cannot be applied is undone by itself: the page goes on without its stream. What it
may have touched is only kept once there is such an event in a page, so that pages without pay
nothing for it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers.reader import Event, Page, Unreadable
from eventstore.log import Envelope
from kit.wording import described
from projections.projection import Handler, Key, Projection, RowMissing, Rows

R = TypeVar("R", bound=msgspec.Struct)


class StoreFailed(Exception):
    """A store does not do its part: no fault of the event that asked for rows, or that made
    them."""


class StorageLost(StoreFailed):
    """A storage is not there any more as it was made: its rows have to be folded again from the
    start of the log."""


class RowsRefused(Exception):
    """A store refuses rows for what is in them: trying again would end the same. `keys` are those
    of the rows."""

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
    at_most: int | None = None,
) -> list[Poisoned]:
    """Fold a page into rows, past the streams that are quarantined; returns those that have to be,
    each from where on.

    `prefetch` is for rows that a store has; where all are in memory it would only cost. Raises
    TooMuchPoison when more than `at_most` streams would have to be quarantined; what the store
    raises is no fault of an event.
    """
    folding = _Folding(projection, rows, at_most)
    folding.choose(names, quarantined, page)
    if not prefetch:
        folding.carefully()
        return list(folding.poisoned.values())
    rows.prefetch(folding.keys)
    if not folding.all_at_once():
        rows.discard()
        rows.prefetch(folding.keys)
        folding.carefully()
    return list(folding.poisoned.values())


class _Folding:
    """A page being folded."""

    def __init__(self, projection: Projection[Any], rows: Rows[Any], at_most: int | None) -> None:
        self.projection = projection
        self.rows = rows
        self._at_most = at_most
        self.keys: list[Key] = []
        self.poisoned: dict[UUID, Poisoned] = {}
        self._mine: list[tuple[Handler, Event, Envelope]] = []

    def choose(self, names: Collection[str], quarantined: Mapping[UUID, int], page: Page) -> None:
        """Take the events that matter, and the keys that they touch."""
        mine, keys, poisoned = self._mine, self.keys, self.poisoned
        folds, cleaners = self.projection.folds, self.projection.cleaners
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
            handler, key_of = folds[type(read)]
            clean = cleaners[type(read)]
            try:
                event = read if clean is None else clean(read)
                touched = key_of(event, env)
            except Exception as error:
                self._poisoned_by(env, error)
                continue
            keys.extend(touched if isinstance(touched, list) else (touched,))
            mine.append((handler, event, env))

    def all_at_once(self) -> bool:
        """Fold them all; False, with the rows in disorder, if some cannot be."""
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
        """Fold one after the other, undoing those that cannot be applied: of their streams nothing
        more is folded."""
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
            except Exception as error:  # whatever a fold meets, only its stream waits
                rows.undo()
                self._poisoned_by(env, error)
            else:
                rows.keep()

    def _poisoned_by(self, env: Envelope, error: Exception) -> None:
        self.poisoned[env.stream_id] = Poisoned(
            env.stream_id, env.position, env.name, described(error)
        )
        if self._at_most is not None and len(self.poisoned) > self._at_most:
            raise TooMuchPoison(
                f"over {self._at_most} streams cannot be applied, the last one: {described(error)}"
            )


class UndoableRows(Rows[R]):
    """Rows as one event sees them, which can be put back to how they were before it."""

    def __init__(self, rows: Rows[R]) -> None:
        """Over other rows, until they are written or discarded."""
        self._key = rows._key
        self._rows = rows
        self._touched = rows._touched
        self._deep = _mutable_fields(rows.row_type)
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

    def prefetch(self, keys: Iterable[Key]) -> None:
        self._rows.prefetch(keys)

    def put(self, row: R) -> None:
        self._replaces(self._key(row))
        super().put(row)

    def delete(self, key: Key) -> None:
        self._replaces(key)
        super().delete(key)

    def keep(self) -> None:
        """The event was applied."""
        self._before.clear()

    def undo(self) -> None:
        """The event was not applied: rows are what they were when it was first given them."""
        for key, row in self._before.items():
            if row is _ABSENT:
                self._touched.pop(key, None)
            else:
                self._touched[key] = row
        self._before.clear()

    def _replaces(self, key: Key) -> None:
        if key not in self._before:
            self._before[key] = self._touched.get(key, _ABSENT)

    def _copied(self, row: R) -> R:
        return msgspec.structs.replace(
            row, **{name: deepcopy(getattr(row, name)) for name in self._deep}
        )


_ABSENT = object()
_IMMUTABLE = {str, int, float, bool, bytes, UUID, datetime, date, NoneType}


def _mutable_fields(row_type: type[msgspec.Struct]) -> Sequence[str]:
    """The fields whose values might be changed in place."""
    return [
        field.name
        for field in msgspec.structs.fields(row_type)
        if not _types_of(field.type) <= _IMMUTABLE
    ]


def _types_of(hint: Any) -> set[Any]:
    return set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
