"""Our errors as those of the `eventsourcing` library."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import psycopg
from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PersistenceError,
)

from eventstore.database.migrations import MigrationError
from eventstore.database.postgres import UnsafeDatabase, is_away
from eventstore.database.release import OutdatedRelease
from eventstore.history import HistoryChanged
from eventstore.log import TooLarge, VersionConflict, WrongKind


@contextmanager
def translated() -> Iterator[None]:
    """Raise the library's errors for ours. OperationalError means that nobody knows whether an
    append happened, or that the server is away."""
    try:
        yield
    except PersistenceError:
        raise
    except CancelledError as error:
        raise InterfaceError("the log was closed") from error
    except Exception as error:
        kind = _kind_of(error)
        if kind is None:
            raise
        raise kind(str(error)) from error


def _kind_of(error: Exception) -> type[PersistenceError] | None:
    if isinstance(error, (VersionConflict, WrongKind, psycopg.IntegrityError)):
        return IntegrityError
    if isinstance(error, (TooLarge, psycopg.DataError)):
        return DataError
    if is_away(error) or isinstance(error, HistoryChanged):
        return OperationalError
    if isinstance(error, (psycopg.Error, MigrationError, OutdatedRelease, UnsafeDatabase)):
        return DatabaseError
    return None
