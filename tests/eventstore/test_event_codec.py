"""Encoding and decoding events: every event of the program, personal fields, and old shapes."""

from typing import Annotated, ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import EVENTS, PERSONAL, Event, PersonalText
from eventstore.codec import Codec, MissingKey, UnknownEvent
from kit.forgotten import ENCRYPTED, FORGOTTEN
from tests.support.events.every_event import CODEC, of_type

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
STREAM = UUID(int=7)


def _personal(cls: type[Event]) -> list[str]:
    return list(CODEC._kinds[cls.NAME].personal)


@pytest.mark.parametrize("name", EVENTS)
@settings(max_examples=15)
@given(data=st.data())
def test_every_event_reads_as_what_was_written(name: str, data: st.DataObject) -> None:
    event = data.draw(of_type(EVENTS[name]))
    person = CODEC.person_of(event, STREAM)
    payload = CODEC.encode(event, STREAM, KEY if person else None)
    assert CODEC.person_in(name, payload, STREAM) == person
    assert CODEC.decode(name, payload, STREAM, {person: KEY}.get) == event


PERSONAL_EVENTS = [name for name, cls in EVENTS.items() if _personal(cls)]


@pytest.mark.parametrize("name", PERSONAL_EVENTS)
@settings(max_examples=15)
@given(data=st.data())
def test_without_the_key_personal_fields_read_as_forgotten_and_the_others_as_they_are(
    name: str, data: st.DataObject
) -> None:
    event = data.draw(of_type(EVENTS[name]))
    payload = CODEC.encode(event, STREAM, KEY)
    gone = {
        field: None
        if getattr(event, field) is None or _optional(EVENTS[name], field)
        else FORGOTTEN
        for field in _personal(EVENTS[name])
    }
    expected = msgspec.structs.replace(event, **gone)
    # no key, or a new one after coming back
    for keys in ({}, {CODEC.person_of(event, STREAM): OTHER_KEY}):
        assert CODEC.decode(name, payload, STREAM, keys.get) == expected


def _optional(cls: type[Event], field: str) -> bool:
    return CODEC._kinds[cls.NAME].personal[field] is None


def test_the_events_that_hold_personal_data_are_known() -> None:
    """A reminder: marking a field of an event as personal, or unmarking it, requires a change of
    this list."""
    assert sorted(PERSONAL_EVENTS) == [
        "notice.kept.v1",
        "notification.requested.v1",
        "order.created.v1",
        "user.email_restored.v1",
        "user.password_changed.v1",
        "user.profile_changed.v1",
        "user.registered.v1",
    ]


class Secret(Event, frozen=True):
    NAME: ClassVar[str] = "test.secret.v1"
    first: PersonalText
    second: PersonalText = ""


SECRETS = Codec({"test.secret.v1": Secret})


def test_personal_text_does_not_appear_in_the_payload_and_never_twice_the_same() -> None:
    payload = SECRETS.encode(Secret("ana@example.com", "Ana"), STREAM, KEY)
    assert b"ana" not in payload.lower()
    assert payload != SECRETS.encode(Secret("ana@example.com", "Ana"), STREAM, KEY)


def test_personal_text_cannot_be_written_without_a_key() -> None:
    with pytest.raises(MissingKey):
        SECRETS.encode(Secret("x"), STREAM)


def test_a_ciphertext_does_not_open_in_another_stream() -> None:
    payload = SECRETS.encode(Secret("mine"), STREAM, KEY)
    assert SECRETS.decode("test.secret.v1", payload, uuid4(), lambda _: KEY) == Secret(FORGOTTEN)


class Told(Event, frozen=True):
    NAME: ClassVar[str] = "test.told.v1"
    PERSON: ClassVar[str] = "user_id"
    user_id: UUID
    text: PersonalText


def test_what_stays_encrypted_stays_with_its_person() -> None:
    codec, ana = Codec({Told.NAME: Told}), uuid4()
    stored = codec.encode(Told(ana, "hello"), STREAM, KEY)
    amended = {"user_id": str(ana), "text": ENCRYPTED}
    sealed = codec.sealed(Told.NAME, amended, stored, STREAM, KEY)
    assert codec.decode(Told.NAME, sealed, STREAM, lambda _: KEY) == Told(ana, "hello")
    amended["user_id"] = str(uuid4())
    with pytest.raises(ValueError, match="another person"):
        codec.sealed(Told.NAME, amended, stored, STREAM, b"o" * 32)


def test_a_ciphertext_does_not_open_in_another_field() -> None:
    payload = msgspec.json.decode(SECRETS.encode(Secret("one", "two"), STREAM, KEY))
    payload["first"], payload["second"] = payload["second"], payload["first"]
    swapped = msgspec.json.encode(payload)
    assert SECRETS.decode("test.secret.v1", swapped, STREAM, lambda _: KEY) == Secret(
        FORGOTTEN, FORGOTTEN
    )


class Inner(msgspec.Struct):
    name: PersonalText


class InList(Event, frozen=True):
    NAME: ClassVar[str] = "test.a.v1"
    names: list[PersonalText]


class InStruct(Event, frozen=True):
    NAME: ClassVar[str] = "test.b.v1"
    inner: tuple[Inner, ...]


class NotText(Event, frozen=True):
    NAME: ClassVar[str] = "test.c.v1"
    number: Annotated[int, PERSONAL]


@pytest.mark.parametrize("cls", [InList, InStruct, NotText])
def test_a_personal_mark_that_would_not_be_kept_is_refused(cls: type[Event]) -> None:
    with pytest.raises(TypeError):
        Codec({cls.NAME: cls})


# -- names and old shapes --------------------------------------------------------------------------


class Third(Event, frozen=True):
    NAME: ClassVar[str] = "test.shape.v3"
    a: int
    c: int


SHAPES = Codec(
    {"test.shape.v3": Third},
    {
        "test.shape.v1": ("test.shape.v2", lambda old: {"b": 0, **old}),
        "test.shape.v2": ("test.shape.v3", lambda old: {"a": old["a"], "c": old["b"] + 1}),
    },
)


def test_an_old_shape_is_brought_up_step_by_step() -> None:
    assert SHAPES.decode("test.shape.v1", b'{"a":1}', STREAM) == Third(1, 1)
    assert SHAPES.decode("test.shape.v2", b'{"a":1,"b":5}', STREAM) == Third(1, 6)
    assert SHAPES.decode("test.shape.v3", b'{"a":1,"c":9}', STREAM) == Third(1, 9)


def test_a_class_answers_to_its_old_names() -> None:
    assert SHAPES.names_of([Third]) == ["test.shape.v1", "test.shape.v2", "test.shape.v3"]
    assert all(SHAPES.knows(f"test.shape.v{n}") for n in (1, 2, 3))
    assert not SHAPES.knows("test.shape.v4")


def test_an_old_shape_has_no_plain_reader() -> None:
    assert SHAPES.reader_of("test.shape.v1") is None
    assert SHAPES.reader_of("test.shape.v3") is not None


def test_an_upcaster_to_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing reads"):
        Codec({}, {"a.v1": ("a.v2", lambda old: old)})


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(UnknownEvent):
        SHAPES.decode("test.unknown.v1", b"{}", STREAM)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b'{"a":1}', b'{"a":"x","c":1}', b'{"a":1,"c":"\xff"}']
)
def test_a_payload_of_another_shape_is_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError):
        SHAPES.decode("test.shape.v3", payload, STREAM)


def test_fields_that_a_later_program_added_are_passed_over() -> None:
    assert SHAPES.decode("test.shape.v3", b'{"a":1,"c":2,"z":3}', STREAM) == Third(1, 2)
