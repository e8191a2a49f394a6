"""The engine's bookkeeping for each row: version, times and position in the log."""

from typing import ClassVar
from uuid import UUID

from domain.events import Event
from eventstore.log import Envelope
from projections.projection import NEVER, Projection, Rows, StreamRow, on
from tests.support.events.history import History, at

STREAM = UUID(int=1)


class Opened(Event, frozen=True):
    NAME: ClassVar[str] = "test.opened.v1"


class Named(Event, frozen=True):
    NAME: ClassVar[str] = "test.named.v1"
    name: str


class Seen(Event, frozen=True):
    NAME: ClassVar[str] = "test.seen.v1"


class Gone(Event, frozen=True):
    NAME: ClassVar[str] = "test.gone.v1"


class Thing(StreamRow):
    KEY = ("thing_id",)
    thing_id: UUID
    name: str = ""


class Things(Projection[Thing]):
    name, row = "things", Thing

    @on(Opened)
    def opened(self, rows: Rows[Thing], _: Opened, env: Envelope) -> None:
        rows.put(Thing(env.stream_id))

    @on(Named)
    def named(self, rows: Rows[Thing], event: Named, env: Envelope) -> None:
        rows[env.stream_id].name = event.name

    @on(Seen, shown=False)
    def seen(self, rows: Rows[Thing], _: Seen, _env: Envelope) -> None: ...

    @on(Gone)
    def gone(self, rows: Rows[Thing], _: Gone, env: Envelope) -> None:
        rows.delete(env.stream_id)


def thing_after(*events: Event) -> Thing | None:
    return Things().fold(History().happened(STREAM, *events).events).get(STREAM)


def test_a_new_row_is_of_the_event_that_made_it() -> None:
    assert thing_after(Opened()) == Thing(
        STREAM, version=1, created_at=at(1), updated_at=at(1), created_position=1
    )


def test_a_later_event_moves_version_and_time_of_change() -> None:
    assert thing_after(Opened(), Named("x")) == Thing(
        STREAM, "x", version=2, created_at=at(1), updated_at=at(2), created_position=1
    )


def test_an_event_of_which_nothing_is_shown_moves_the_version_alone() -> None:
    assert thing_after(Opened(), Named("x"), Seen()) == Thing(
        STREAM, "x", version=3, created_at=at(1), updated_at=at(2), created_position=1
    )


def test_a_row_that_is_gone_has_none_and_one_made_anew_begins_anew() -> None:
    assert thing_after(Opened(), Gone()) is None
    assert thing_after(Opened(), Gone(), Opened()) == Thing(
        STREAM, version=3, created_at=at(3), updated_at=at(3), created_position=3
    )


def test_rows_of_a_page_are_stamped_with_their_own_streams() -> None:
    other = UUID(int=2)
    story = History().happened(STREAM, Opened()).happened(other, Opened(), Named("y"))
    rows = Things().fold(story.events)
    assert (rows[STREAM].version, rows[other].version) == (1, 2)
    assert rows[STREAM].updated_at == rows[STREAM].created_at != NEVER
