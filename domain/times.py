"""Limits of times and dates: input must be representable for every reader of the log."""

from datetime import UTC, date, datetime

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Limits for times in input."""

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2200, 1, 1)
"""Limits for release dates, some of which lie long ago."""

_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
"""Between these, a time is representable in every time zone."""


def representable(at: datetime) -> datetime:
    """The time, or the nearest one that every time zone, PostgreSQL and JSON can represent: old
    events may hold others."""
    naive = at.replace(tzinfo=None)
    if naive < _FIRST.replace(tzinfo=None):
        return _FIRST
    return _LAST if naive > _LAST.replace(tzinfo=None) else at
