"""Events of a newer release: nobody moves past an event whose name he does not know.

A program that appends registers the names of all its events beforehand (log.event_kinds). So nothing has to be read of
the log to know that it has no unknown names; where there are some, their events are looked for.
"""

import psycopg

from eventstore.codec import Codec

_LOOK = "SELECT (SELECT coalesce(max(position), 0) FROM log.events), (SELECT count(*) FROM log.event_kinds)"
_NAMES = "SELECT name FROM log.event_kinds WHERE name <> ALL (%s)"
_FIRST = (
    "SELECT position, name FROM log.events WHERE position > %s AND position <= %s AND name = ANY (%s)"
    " ORDER BY position LIMIT 1"
)


class NewerEvent(Exception):
    """The next event is of a newer release: who knows it goes on from here."""


class UnknownNames:
    """The registered names of events that a codec does not know."""

    def __init__(self, codec: Codec) -> None:
        self._known = sorted(codec.kinds)
        self._registered, self._unknown = -1, list[str]()

    def look(self, conn: psycopg.Connection) -> int:
        """The log's head; takes note of names that were registered before its events came."""
        row = conn.execute(_LOOK, prepare=True).fetchone()
        head, registered = row or (0, 0)
        if registered != self._registered:
            self._unknown = [name for (name,) in conn.execute(_NAMES, (self._known,))]
            self._registered = registered
        return int(head)

    def known_upto(self, conn: psycopg.Connection, after: int, upto: int) -> int:
        """How far events can be read: `upto`, or to before the first of an unknown name. Raises NewerEvent."""
        if not self._unknown:
            return upto
        row = conn.execute(_FIRST, (after, upto, self._unknown)).fetchone()
        if row is None:
            return upto
        if row[0] == after + 1:
            raise NewerEvent(f"the event at position {row[0]}, {row[1]}, is of a newer release: let that go on")
        return int(row[0]) - 1
