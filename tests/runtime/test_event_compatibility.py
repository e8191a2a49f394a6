"""Whether releases read each other's events: what the comparison says is what the decoder does."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.events import EVENTS, PERSONAL, UPCASTERS, Event, PersonalText
from eventstore.codec import Codec
from eventstore.database.release import RELEASE
from runtime.events import docs as event_docs
from runtime.events.compatibility import Finding, Level, check_release, compare, obstacles
from runtime.events.docs import kept_shapes, shapes
from runtime.events.examples import examples
from runtime.events.shapes import (
    Array,
    Enum,
    Field,
    Map,
    Record,
    Shape,
    Union,
    fields_of,
    shapes_of,
)
from tests.support.events.every_event import CODEC, of_type

# -- the program -----------------------------------------------------------------------------------


def test_every_earlier_release_has_kept_its_events() -> None:
    assert set(range(1, RELEASE)) <= kept_shapes().keys() <= set(range(1, RELEASE + 1)), (
        "run `python -m runtime.events.docs --release` in the release that went out"
    )


@pytest.mark.parametrize("release", sorted(kept_shapes()))
def test_every_event_of_an_earlier_release_is_read(release: int) -> None:
    found = check_release(kept_shapes()[release], EVENTS, UPCASTERS)
    assert [finding for finding in found if not finding.holds] == []


def test_the_shapes_of_all_events_survive_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_docs, "DOCS", tmp_path)
    event_docs.keep_shapes()
    assert kept_shapes() == {RELEASE: shapes()}


def test_the_personal_fields_are_those_that_the_codec_encrypts() -> None:
    personal = {
        name: {field for field, found in shape.fields.items() if found.personal}
        for name, shape in shapes().events.items()
    }
    assert personal == {name: set(CODEC._kinds[name].personal) for name in EVENTS}


@pytest.mark.parametrize("name", EVENTS)
def test_every_example_of_an_event_is_read(name: str) -> None:
    for payload in examples(Record(shapes().events[name].fields)):
        CODEC.decode(name, msgspec.json.encode(payload), UUID(int=1))


# -- any shapes ------------------------------------------------------------------------------------

TYPES: Mapping[str, type] = {
    "bool": bool,
    "date": date,
    "datetime": datetime,
    "float": float,
    "int": int,
    "string": str,
    "uuid": UUID,
}

ENUMS = st.one_of(
    st.sets(st.sampled_from(["A", "B", "C"]), min_size=1),
    st.sets(st.sampled_from([1, 2, 3]), min_size=1),
).map(lambda values: Enum(tuple(sorted(values))))


def nullable(shape: Shape) -> Shape:
    return Union(tuple(sorted((shape, "null"), key=msgspec.json.encode)))


def fields(inner: st.SearchStrategy[Shape]) -> st.SearchStrategy[Record]:
    """Few names, so that two records have some in common. A default has no objects within, which
    could say the same in different ways."""

    def field(shape: Shape) -> st.SearchStrategy[Field]:
        simple = b'"record"' not in msgspec.json.encode(shape)
        defaults = [msgspec.UNSET, *(examples(shape)[:2] if simple else [])]
        return st.sampled_from(defaults).map(lambda default: Field(shape, default))

    return st.dictionaries(st.sampled_from(["a", "b", "c"]), inner.flatmap(field)).map(Record)


def larger(inner: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
    return st.one_of(
        inner.map(Array),
        inner.map(Map),
        fields(inner),
        inner.filter(lambda shape: not isinstance(shape, Union)).map(nullable),
    )


SCALARS: st.SearchStrategy[Shape] = st.sampled_from(sorted(TYPES))
SHAPES = st.recursive(SCALARS | ENUMS, larger, max_leaves=4)
RECORDS = fields(SHAPES)


def type_of(shape: Shape) -> Any:
    """A type of this shape."""
    match shape:
        case Enum(values=values):
            return Literal[values]
        case Array(items=items):
            return tuple[type_of(items), ...]  # type: ignore[misc]
        case Map(values=inner):
            return dict[str, type_of(inner)]  # type: ignore[misc]
        case Union():
            (inner,) = [each for each in shape.of if each != "null"]
            return type_of(inner) | None if not isinstance(inner, Enum) else _or_none(inner)
        case Record(fields=named):
            return struct_of(named)
    return TYPES[shape]


def _or_none(shape: Enum) -> Any:
    return Literal[(*shape.values, None)]


def struct_of(named: Mapping[str, Field]) -> type[msgspec.Struct]:
    optional, required = [], []
    for name, field in named.items():
        hint = type_of(field.shape)
        if field.optional:
            made = msgspec.json.decode(msgspec.json.encode(field.default), type=hint)
            optional.append((name, hint, msgspec.field(default_factory=partial(deepcopy, made))))
        else:
            required.append((name, hint))
    return msgspec.defstruct("Payload", [*required, *optional])


@given(record=RECORDS)
def test_the_shape_of_a_type_of_a_shape_is_that_shape(record: Record) -> None:
    assert fields_of(struct_of(record.fields)) == record.fields


def misread(reader: Record, writer: Record) -> list[object]:
    """The examples of one shape that a type of the other does not read, or reads as something
    else."""
    old, new = struct_of(writer.fields), struct_of(reader.fields)
    found = []
    for payload in examples(writer):
        text = msgspec.json.encode(payload)
        written = msgspec.json.decode(text, type=old)
        try:
            read = msgspec.json.decode(text, type=new)
        except msgspec.ValidationError:
            found.append(payload)
        else:
            if not agree(read, written):
                found.append(payload)
    return found


def agree(read: Any, written: Any) -> bool:
    """Whether two values say the same, where both have the field."""
    match read, written:
        case msgspec.Struct(), msgspec.Struct():
            common = set(read.__struct_fields__) & set(written.__struct_fields__)
            return all(agree(getattr(read, name), getattr(written, name)) for name in common)
        case tuple(), tuple():
            return len(read) == len(written) and all(map(agree, read, written))
        case dict(), dict():
            return read.keys() == written.keys() and all(agree(read[k], written[k]) for k in read)
        case (msgspec.Struct(), _) | (_, msgspec.Struct()):
            return False
    return bool(msgspec.to_builtins(read) == msgspec.to_builtins(written))


@st.composite
def versions(draw: st.DrawFn) -> tuple[Record, Record]:
    """Two records, of which the second often is the first with a few fields exchanged."""
    old, other = draw(RECORDS), draw(RECORDS)
    kept = draw(st.sets(st.sampled_from(["a", "b", "c"])))
    mixed = {name: field for name, field in old.fields.items() if name in kept}
    return old, Record({**other.fields, **mixed})


@settings(max_examples=400)
@given(pair=versions())
def test_the_decoder_reads_what_is_said_to_be_readable_and_no_more(
    pair: tuple[Record, Record],
) -> None:
    old, new = pair
    assert (misread(new, old) == []) == (list(obstacles(new, old)) == [])


@settings(max_examples=100)
@given(pair=versions(), data=st.data())
def test_random_payloads_of_what_is_said_to_be_readable_are_read(
    pair: tuple[Record, Record], data: st.DataObject
) -> None:
    old, new = pair
    assume(not list(obstacles(new, old)))
    written = data.draw(of_type(struct_of(old.fields)))
    read = msgspec.json.decode(msgspec.json.encode(written), type=struct_of(new.fields))
    assert agree(read, written)


# -- changes of an event ---------------------------------------------------------------------------


def made(name: str = "test.happened.v1", *, person: str = "", **hints: Any) -> type[Event]:
    """An event class with these fields: a type, or a type and a default."""
    named = [
        (field, *(hint if isinstance(hint, tuple) else (hint,))) for field, hint in hints.items()
    ]
    cls = msgspec.defstruct("Happened", named, bases=(Event,), frozen=True, kw_only=True)
    assert issubclass(cls, Event)
    cls.NAME, cls.PERSON, cls.KIND = name, person, "test"
    return cls


Old = Literal["A", "B"]
More = Literal["A", "B", "C"]
Maybe = Annotated[str | None, PERSONAL]


class Inner(msgspec.Struct, frozen=True):
    street: str


class InnerWithCity(msgspec.Struct, frozen=True):
    street: str
    city: str = ""


class InnerNeedsCity(msgspec.Struct, frozen=True):
    street: str
    city: str


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Level, str]] = {
    "an optional field is added": ({}, {"x": (int, 1)}, Level.FULL, "x added, 1 where absent"),
    "a required field is added": ({}, {"x": int}, Level.FORWARD, "x added, required"),
    "an optional field is removed": ({"x": (int, 1)}, {}, Level.FULL, "x removed"),
    "a required field is removed": ({"x": int}, {}, Level.BACKWARD, "x removed"),
    "required to optional": (
        {"x": int}, {"x": (int, 1)}, Level.BACKWARD, "x required → optional",
    ),
    "optional to required": (
        {"x": (int, 1)}, {"x": int}, Level.FORWARD, "x optional → required",
    ),
    "another default": ({"x": (int, 1)}, {"x": (int, 2)}, Level.NONE, "x default 1 → 2"),
    "a wider type": ({"x": UUID}, {"x": str}, Level.BACKWARD, "x uuid → string"),
    "a narrower type": ({"x": float}, {"x": int}, Level.FORWARD, "x float → int"),
    "another type": ({"x": int}, {"x": str}, Level.NONE, "x int → string"),
    "null is allowed": ({"x": int}, {"x": int | None}, Level.BACKWARD, "x int → int | null"),
    "a value is added": ({"x": Old}, {"x": More}, Level.BACKWARD, 'x may also be "C"'),
    "a value is removed": ({"x": More}, {"x": Old}, Level.FORWARD, 'x may no longer be "C"'),
    "values in a list": (
        {"x": tuple[Old, ...]}, {"x": tuple[More, ...]}, Level.BACKWARD, 'x[] may also be "C"',
    ),
    "values by name": (
        {"x": dict[str, int]}, {"x": dict[str, str]}, Level.NONE, "x.* int → string",
    ),
    "an inner optional field": (
        {"x": Inner}, {"x": InnerWithCity}, Level.FULL, 'x.city added, "" where absent',
    ),
    "an inner required field": (
        {"x": Inner}, {"x": InnerNeedsCity}, Level.FORWARD, "x.city added, required",
    ),
    "a field is now personal": ({"x": str}, {"x": PersonalText}, Level.NONE, "x now personal"),
    "a field is no longer personal": (
        {"x": (Maybe, None)}, {"x": (str | None, None)}, Level.NONE, "x no longer personal",
    ),
}  # fmt: skip
"""The old fields, the new ones, the level, and the change as it is described."""

STREAM, KEY = UUID(int=1), b"k" * 32


def found_of(old: type[Event], new: type[Event]) -> Finding:
    """The comparison of an event with another shape of it."""
    name = "test.happened.v1"
    (finding,) = compare(shapes_of(1, {name: old}, {}), shapes_of(2, {name: new}, {}))
    return finding


@pytest.mark.parametrize("case", CASES)
def test_a_change_has_its_level(case: str) -> None:
    before, after, level, change = CASES[case]
    finding = found_of(made(**before), made(**after))
    assert (finding.status, finding.level, finding.changes) == ("changed", level, [change])
    assert finding.holds == (level in {Level.FULL, Level.BACKWARD})


VALUES: dict[Any, list[Any]] = {
    int: [1, 2], float: [1.5], str: ["text"], UUID: [UUID(int=1)], Old: ["A", "B"],
    More: ["A", "C"], int | None: [1, None], tuple[Old, ...]: [("A",)], tuple[More, ...]: [("C",)],
    dict[str, int]: [{"k": 1}], dict[str, str]: [{"k": "text"}], Inner: [Inner("s")],
    InnerWithCity: [InnerWithCity("s", "c")], InnerNeedsCity: [InnerNeedsCity("s", "c")],
    PersonalText: ["text"], Maybe: ["text", None], str | None: ["text", None],
}  # fmt: skip


def payloads(cls: type[Event], named: Mapping[str, Any]) -> list[Event]:
    """Events of the class: its field `x`, if it has one, with each of some values."""
    if "x" not in named:
        return [cls()]
    hint = named["x"][0] if isinstance(named["x"], tuple) else named["x"]
    return [cls(x=value) for value in VALUES[hint]]


def is_read(reader: type[Event], writer: type[Event], event: Event) -> bool:
    """Whether the codec of one class reads what that of the other wrote, with the same meaning."""
    name = "test.happened.v1"
    wrote, reads = Codec({name: writer}), Codec({name: reader})
    stored = wrote.encode(event, STREAM, KEY)
    try:
        read = reads.decode(name, stored, STREAM, lambda _: KEY)
    except ValueError:  # msgspec.ValidationError, and a text that is no ciphertext
        return False
    return agree(read, wrote.decode(name, stored, STREAM, lambda _: KEY))


@pytest.mark.parametrize("case", CASES)
def test_the_level_is_what_the_codec_does(case: str) -> None:
    """Where the level says that something is not read, one of the events shows it."""
    before, after, level, _ = CASES[case]
    old, new = made(**before), made(**after)
    backward = all(is_read(new, old, event) for event in payloads(old, before))
    forward = all(is_read(old, new, event) for event in payloads(new, after))
    assert backward == (level in {Level.FULL, Level.BACKWARD})
    assert forward == (level in {Level.FULL, Level.FORWARD})


def test_the_person_of_an_event_cannot_change() -> None:
    old = made(a=UUID, b=UUID, x=PersonalText, person="a")
    new = made(a=UUID, b=UUID, x=PersonalText, person="b")
    assert found_of(old, new).level is Level.NONE


def test_an_event_stays_in_streams_of_its_kind() -> None:
    moved = made(x=int)
    moved.KIND = "other"
    assert found_of(made(x=int), moved).changes == ["kind of stream: test → other"]
    assert not found_of(made(x=int), moved).holds


def test_a_type_that_has_no_shape_is_named() -> None:
    with pytest.raises(TypeError, match="no shape for RawType"):
        fields_of(made(x=msgspec.Raw))


# -- names -----------------------------------------------------------------------------------------

FIRST, SECOND = "test.happened.v1", "test.happened.v2"
V1, V2 = made(FIRST, x=int), made(SECOND, x=int, y=str)
Upcast = Callable[[dict[str, Any]], dict[str, Any]]


def check(
    old: Mapping[str, type[Event]], new: Mapping[str, type[Event]], upcast: Upcast | None = None
) -> dict[str, Finding]:
    """The findings by name; `upcast` makes of the first shape the second."""
    upcasters = {} if upcast is None else {FIRST: (SECOND, upcast)}
    return {each.event: each for each in check_release(shapes_of(1, old, {}), new, upcasters)}


def test_a_new_event_is_no_fault() -> None:
    found = check({FIRST: V1}, {FIRST: V1, SECOND: V2})
    assert [(each.status, each.level, each.holds) for each in found.values()] == [
        ("unchanged", Level.FULL, True),
        ("new", None, True),
    ]


def test_a_name_that_is_gone_without_an_upcaster_is_lost() -> None:
    finding = check({FIRST: V1}, {SECOND: V2})[FIRST]
    assert (finding.status, finding.level, finding.holds) == ("lost", Level.NONE, False)


def test_a_name_that_is_upcast_is_read() -> None:
    finding = check({FIRST: V1}, {SECOND: V2}, lambda old: {"y": "unknown", **old})[FIRST]
    assert (finding.status, finding.level, finding.holds) == ("upcast", Level.BACKWARD, True)


def test_an_upcaster_to_a_name_that_nothing_reads_is_a_fault() -> None:
    finding = check({FIRST: V1}, {}, lambda old: old)[FIRST]
    assert finding.backward == [f"is upcast to {SECOND}, which nothing reads"]
    assert not finding.holds


@pytest.mark.parametrize("upcast", [dict, lambda old: old["gone"]], ids=["no field", "raises"])
def test_an_upcaster_whose_result_is_not_read_is_a_fault(upcast: Upcast) -> None:
    finding = check({FIRST: V1}, {SECOND: V2}, upcast)[FIRST]
    assert (finding.status, finding.holds) == ("lost", False)
    assert "is not read after upcasting" in finding.backward[0]


PERSONAL_V1 = made(FIRST, email=PersonalText)


@pytest.mark.parametrize(
    ("second", "upcast", "why"),
    [
        (made(SECOND, email=str), dict, "email is encrypted, and is read as plain"),
        (
            made(SECOND, mail=PersonalText),
            lambda old: {"mail": old["email"]},
            "mail is not what was encrypted as mail, and cannot be decrypted",
        ),
        (
            made(SECOND, email=PersonalText, alias=PersonalText),
            lambda old: {"alias": "unknown", **old},
            "alias is not what was encrypted as alias, and cannot be decrypted",
        ),
    ],
    ids=["no longer personal", "renamed", "filled in"],
)
def test_an_upcaster_cannot_touch_what_is_encrypted(
    second: type[Event], upcast: Upcast, why: str
) -> None:
    """It sees ciphertext, which is bound to the field's name."""
    finding = check({FIRST: PERSONAL_V1}, {SECOND: second}, upcast)[FIRST]
    assert (finding.status, finding.backward) == ("lost", [why])


def test_an_upcaster_may_pass_on_what_is_encrypted() -> None:
    second = made(SECOND, email=PersonalText, alias=(Maybe, None), at=int)
    finding = check({FIRST: PERSONAL_V1}, {SECOND: second}, lambda old: {"at": 1, **old})[FIRST]
    assert (finding.status, finding.holds) == ("upcast", True)


def test_an_upcaster_leads_to_an_event_of_the_same_kind_of_stream() -> None:
    moved = made(SECOND, x=int)
    moved.KIND = "other"
    finding = check({FIRST: V1}, {SECOND: moved}, dict)[FIRST]
    assert finding.backward == ["its streams are of the kind test, not other"]


def test_an_old_name_stays_readable_in_later_releases() -> None:
    old = shapes_of(2, {SECOND: V2}, {FIRST: (SECOND, dict)})
    (first, second) = check_release(old, {SECOND: V2}, {})
    assert (first.event, first.holds) == (FIRST, False)
    assert (second.event, second.level) == (SECOND, Level.FULL)
