"""Which moments and days there are: what is told from outside must be one that every reader of the log can hold."""

from datetime import UTC, date, datetime

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Nothing that is told to this program happened before, or will happen after."""

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2200, 1, 1)
"""Of the days that games are released on, some lie long ago."""

_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
"""Between these, a moment can be told in every time zone."""


def representable(at: datetime) -> datetime:
    """The moment, or the nearest one that every time zone, PostgreSQL and JSON can tell: old events may hold others."""
    naive = at.replace(tzinfo=None)
    if naive < _FIRST.replace(tzinfo=None):
        return _FIRST
    return _LAST if naive > _LAST.replace(tzinfo=None) else at
