"""A small read side for tests: events, two projections, and what runs them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import psycopg

from domain.amendments import AmendmentDeclared
from domain.events import Event
from eventstore.codec import Codec
from eventstore.log import Envelope
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.projection import Projection, Row, Rows, on


class Counted(Event, frozen=True):
    NAME: ClassVar[str] = "test.counted.v1"
    by: int


class Labelled(Event, frozen=True):
    NAME: ClassVar[str] = "test.labelled.v1"
    label: str


class Closed(Event, frozen=True):
    NAME: ClassVar[str] = "test.closed.v1"


class Ignored(Event, frozen=True):
    """Folded by no projection."""

    NAME: ClassVar[str] = "test.ignored.v1"


CODEC = Codec({cls.NAME: cls for cls in (Counted, Labelled, Closed, Ignored, AmendmentDeclared)})


class Tally(Row):
    KEY = ("tally_id",)
    INDEXES = ("total",)
    tally_id: UUID
    total: int
    steps: list[int]
    label: str | None
    touched_at: datetime


class Tallies(Projection[Tally]):
    """The count and the label of each stream; the label "" removes the row. Fails to fold the
    labels in `refuses`."""

    name, version, row = "tallies", 1, Tally
    keeps_nul = True  # in a label it is what the table refuses

    def __init__(self) -> None:
        self.refuses: set[int] = set()

    @on(Counted)
    def counted(self, rows: Rows[Tally], event: Counted, env: Envelope) -> None:
        row = rows.get(env.stream_id) or Tally(env.stream_id, 0, [], None, env.recorded_at)
        row.total += event.by  # before the refusal: what was begun must not be kept
        if event.by in self.refuses:
            raise ValueError(f"no {event.by}, please")
        row.steps = [*row.steps, event.by]
        row.touched_at = env.recorded_at
        rows.put(row)

    @on(Labelled)
    def labelled(self, rows: Rows[Tally], event: Labelled, env: Envelope) -> None:
        rows[env.stream_id].label = event.label

    @on(Closed)
    def closed(self, rows: Rows[Tally], event: Closed, env: Envelope) -> None:
        rows.delete(env.stream_id)


class Use(Row):
    KEY = ("label",)
    label: str
    uses: int


class Uses(Projection[Use]):
    """How often each label was given, by any stream: many streams share one row."""

    name, version, row = "uses", 1, Use
    keeps_nul = True

    def streams_of(self, key: object) -> Sequence[UUID] | None:
        """The streams that gave the label."""

    @on(Labelled, key="label")
    def labelled(self, rows: Rows[Use], event: Labelled, env: Envelope) -> None:
        row = rows.get(event.label) or Use(event.label, 0)
        row.uses += 1
        rows.put(row)


class ShakyTable(PostgresTable[Any]):
    """A table that fails where `trouble` says."""

    trouble = ""

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        self._shake("prepare")
        super().prepare(conn, storage)

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[Any]) -> Any:
        self._shake("fetch")
        return super().fetch(conn, storage, keys)

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[Any], deletes: Sequence[Any]
    ) -> None:
        self._shake("write")
        super().write(conn, storage, puts, deletes)

    def _shake(self, what: str) -> None:
        if self.trouble == what:
            raise ConnectionError(f"cannot {what}")


def tallies() -> Registered:
    return Registered(Tallies(), PostgresTable(Tally))


def uses() -> Registered:
    return Registered(Uses(), PostgresTable(Use))
