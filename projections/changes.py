"""What each event changes: the rows that it touches, before and after it.

A fold says what a row is; watched event by event, it also says why. This serves whoever asks which
events made a figure, or what changed between two moments, without any code per read model.
"""

from collections.abc import AsyncIterator, Container, Sequence
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from eventstore.decoding import Raw, Unreadable
from eventstore.log import STREAM_PAGE, Envelope, Recorded
from eventstore.postgres_reading import PostgresLogReader
from kit.wording import described
from projections.engine.folding import Poisoned, UndoableRows
from projections.projection import Key, Projection, Rows

R = TypeVar("R", bound=msgspec.Struct)


class Change(msgspec.Struct, Generic[R], frozen=True):
    """What one event did to one row. `before` is None when the event made the row, `after` is None
    when it removed it; both are copies."""

    env: Envelope
    key: Key
    before: R | None
    after: R | None


class WatchedFold(Generic[R]):
    """Folds events in memory, in the log's order, and returns what each of them changes.

    An event that cannot be applied changes nothing, and the later events of its stream are left
    out, as in the live read model; `poisoned` has these events by stream.
    """

    def __init__(self, projection: Projection[R], keys: Container[Key] | None = None) -> None:
        """Returns only the changes of these keys' rows; by default, of all."""
        self.poisoned: dict[UUID, Poisoned] = {}
        self._projection = projection
        self._keys = keys
        self._folded: Rows[R] = Rows(projection.row)  # type: ignore[arg-type]
        self._rows = UndoableRows(self._folded)

    def get(self, key: Key) -> R | None:
        """The row of a key after all events so far."""
        row = self._rows.get(key)
        self._rows.keep()
        return row

    def all(self) -> list[R]:
        """Every row after all events so far."""
        return self._folded.all()

    def apply(self, recorded: Recorded) -> list[Change[R]]:
        """Fold an event. Returns the rows that are different after it."""
        env, rows = recorded.env, self._rows
        if env.stream_id in self.poisoned:
            return []
        try:
            if isinstance(recorded.event, Unreadable):
                if not self._projection.reads(env.name):
                    return []
                raise recorded.event.error
            self._projection.apply(rows, recorded.event, env)
        except Exception as error:  # whatever fails, only this stream stops
            rows.undo()
            self.poisoned[env.stream_id] = Poisoned(
                env.stream_id, env.position, env.name, described(error)
            )
            return []
        changed = [
            Change(env, key, before, after)
            for key, before, after in rows.touched_by_event()
            if (self._keys is None or key in self._keys) and before != after
        ]
        rows.keep()
        return changed


async def pages_of(
    log: PostgresLogReader, projection: Projection[R], streams: Sequence[UUID] | None, upto: int
) -> AsyncIterator[list[Raw]]:
    """The events of these streams, or of the whole log, that a projection folds, up to a position
    and in the log's order, in pages, as they are stored.

    Of streams, all events are in memory together.
    """
    names = log.codec.names_of(projection.folds)
    if streams is None:
        after = 0
        while after < upto:
            rows, after = await log.read_page(after, upto, names=names)
            yield rows
        return
    found: list[Raw] = []
    async for page in log.read_whole_streams(streams, upto=upto):
        found += [raw for raw in page if raw[0].name in names]
    found.sort(key=lambda raw: raw[0].position)
    for start in range(0, len(found), STREAM_PAGE):
        yield found[start : start + STREAM_PAGE]
