"""Events of a newer release: a consumer stops before an event whose name it does not know.

Reactors read whatever they do not know to be for others, and so find such events in their pages.
Projections read by name: every program registers the names of its events before it appends
(log.event_kinds), and if there are unknown ones, the first such event is looked up.
"""

import psycopg

from eventstore.codec import Codec
from eventstore.decoding import Raw

_LOOK = """
SELECT
    (SELECT coalesce(max(position), 0) FROM log.events),
    (SELECT count(*) FROM log.event_kinds)
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

    def look(self, conn: psycopg.Connection) -> int:
        """The log's head. Also notes names that were registered before the events up to it."""
        row = conn.execute(_LOOK, prepare=True).fetchone()
        head, registered = row or (0, 0)
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


def before_newer(codec: Codec, page: list[Raw], after: int, end: int) -> tuple[list[Raw], int]:
    """What comes before the first event with an unknown name in a page that leaves none of these
    out, and where it ends. Raises NewerEvent when that event is the one at `after` + 1."""
    for number, (env, _) in enumerate(page):
        if env.name not in codec.kinds:
            if env.position == after + 1:
                raise NewerEvent(env.position, env.name)
            return page[:number], env.position - 1
    return page, end
