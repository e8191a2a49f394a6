"""Folding a page of events into rows, one event after the other."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg

from eventstore.log import Envelope
from projections.projection import Key, Projection, Rows
from projections.reading import Page, Unreadable


class StoreFailed(Exception):
    """A store does not do its part: no fault of the event that asked for rows, or that made them."""


class StorageLost(StoreFailed):
    """A storage is not there any more as it was made: its rows have to be folded again from the start of the log."""


class RowsRefused(Exception):
    """A store refuses rows for what is in them: trying again would end the same. `keys` are those of the rows."""

    def __init__(self, message: str, keys: Sequence[Key]) -> None:
        super().__init__(message)
        self.keys = keys


def fold_page(
    projection: Projection[Any],
    names: Collection[str],
    rows: Rows[Any],
    parked: Mapping[UUID, int],
    page: Page,
    *,
    prefetch: bool = True,
) -> tuple[Envelope, str] | None:
    """Fold a page into rows, past the streams that are parked; returns the event that cannot be applied, and why.

    `prefetch` is for rows that a store has; where all are in memory it would only cost. Raises what the store raises:
    no fault of an event.
    """
    mine = []
    keys: list[Key] = []
    for env, event in page:
        if env.name not in names or (parked and env.position >= parked.get(env.stream_id, env.position + 1)):
            continue
        if type(event) is Unreadable:
            return env, described(event.error)
        handler, key_of = projection.folds[type(event)]
        try:
            touched = key_of(event, env)
        except Exception as error:
            return env, described(error)
        keys.extend(touched if isinstance(touched, list) else (touched,))
        mine.append((handler, event, env))
    if prefetch:
        rows.prefetch(keys)
    for handler, event, env in mine:
        try:
            handler(projection, rows, event, env)
        except (psycopg.Error, StoreFailed):
            raise
        except Exception as error:  # whatever a fold meets, only its stream waits
            return env, described(error)
    return None


def described(error: Exception) -> str:
    """What is kept of an error."""
    return f"{type(error).__name__}: {error}"
