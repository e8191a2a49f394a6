"""Events and an aggregate of the tests' own, kept apart from the program's registry of events."""

from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID, uuid4

import msgspec
import psycopg

from domain.events import Event, PersonalText
from eventstore.aggregate import Aggregate
from eventstore.codec import Codec
from eventstore.log import StreamAppend


class Noted(Event, frozen=True):
    NAME: ClassVar[str] = "test.noted.v1"
    text: str


class Counted(Event, frozen=True):
    NAME: ClassVar[str] = "test.counted.v1"
    by: int


class Filed(Event, frozen=True):
    """Belongs to another kind of stream."""

    NAME: ClassVar[str] = "file.filed.v1"
    text: str


class Confided(Event, frozen=True):
    """Has a personal field, encrypted under the key of the person `person_id`."""

    NAME: ClassVar[str] = "test.confided.v1"
    PERSON: ClassVar[str] = "person_id"
    person_id: UUID
    secret: PersonalText


CODEC = Codec({cls.NAME: cls for cls in (Noted, Counted, Filed, Confided)})


class Tally(msgspec.Struct, frozen=True):
    total: int = 0
    steps: int = 0


def evolve(state: Tally | None, event: Event) -> Tally:
    state = state or Tally()
    return Tally(state.total + event.by, state.steps + 1) if isinstance(event, Counted) else state


TALLY = Aggregate("test", Tally, evolve)


class File(msgspec.Struct, frozen=True):
    text: str = ""


FILE = Aggregate("file", File, lambda _state, event: File(event.text))


def noted(*texts: str) -> list[Noted]:
    return [Noted(text) for text in texts]


def new_stream(*texts: str) -> StreamAppend:
    """Events for a stream that does not exist yet."""
    return StreamAppend(uuid4(), 0, noted(*texts))


def texts_of(recorded: Iterable[object]) -> list[str]:
    return [one.event.text for one in recorded]  # type: ignore[attr-defined]


def admin(database: str, query: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement as the owner of the database."""
    with psycopg.connect(database, autocommit=True) as conn:
        cursor = conn.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []
