"""What a consumer must know before it reads on: events of a newer release, and amendments.

Events of a newer release: a consumer stops before an event whose name it does not know.

Every program registers the names of its events before it appends (log.event_kinds), and if there
are unknown ones, the first such event is looked up. Projections read by name, so they look before
each page. Reactors read whatever they do not know to be for others, and look only when a page has
an unknown name.
"""

import psycopg

from eventstore.amendments import NONE, STREAM, load
from eventstore.codec import Codec

_LOOK = """
SELECT
    (SELECT coalesce(max(position), 0) FROM log.events),
    (SELECT count(*) FROM log.event_kinds),
    (SELECT event_id FROM log.events WHERE stream_id = %s ORDER BY version DESC LIMIT 1)
"""
_NAMES = "SELECT name FROM log.event_kinds WHERE name <> ALL (%s)"
_FIRST = """
SELECT position, name FROM log.events
WHERE position > %s AND position <= %s AND name = ANY (%s)
ORDER BY position LIMIT 1
"""


class NewerEvent(Exception):
    """The next event belongs to a newer release, which continues from here."""

    def __init__(self, position: int, name: str) -> None:
        super().__init__(
            f"the event at position {position}, {name}, is of a newer release: let that go on"
        )


class UnknownNames:
    """The registered event names that a codec does not know."""

    def __init__(self, codec: Codec) -> None:
        self._known = sorted(codec.kinds)
        self._registered = -1
        self._unknown = list[str]()
        self.amendments = NONE
        """How the events up to the head of the last look are to be read."""

    def look(self, conn: psycopg.Connection) -> int:
        """The log's head. Also notes names that were registered before the events up to it, and
        amendments."""
        row = conn.execute(_LOOK, (STREAM,), prepare=True).fetchone()
        head, registered, declared = row or (0, 0, None)
        if declared != self.amendments.last:
            self.amendments = load(conn)
        if registered != self._registered:
            self._unknown = [name for (name,) in conn.execute(_NAMES, (self._known,))]
            self._registered = registered
        return int(head)

    def known_upto(self, conn: psycopg.Connection, after: int, upto: int) -> int:
        """How far events can be read: `upto`, or just before the first with an unknown name. Raises
        NewerEvent."""
        if not self._unknown:
            return upto
        row = conn.execute(_FIRST, (after, upto, self._unknown)).fetchone()
        if row is None:
            return upto
        if row[0] == after + 1:
            raise NewerEvent(*row)
        return int(row[0]) - 1
