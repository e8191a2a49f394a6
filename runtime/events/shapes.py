"""The shapes of events: what the JSON under each wire name may hold. They are plain data, so that a
file keeps those of a release, and later ones are compared with it (`runtime.events.compatibility`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType, inspect

from eventstore.codec import Upcaster, kind_of

Scalar = Literal["bool", "date", "datetime", "float", "int", "null", "string", "uuid"]
Shape: TypeAlias = "Scalar | Enum | Array | Map | Record | Union"

_SCALARS: Final[dict[type[inspect.Type], Scalar]] = {
    inspect.BoolType: "bool",
    inspect.DateType: "date",
    inspect.DateTimeType: "datetime",
    inspect.FloatType: "float",
    inspect.IntType: "int",
    inspect.NoneType: "null",
    inspect.StrType: "string",
    inspect.UUIDType: "uuid",
}


class Enum(msgspec.Struct, frozen=True, tag_field="type", tag="enum"):
    """One of these values: all texts, or all whole numbers."""

    values: tuple[str | int, ...]


class Array(msgspec.Struct, frozen=True, tag_field="type", tag="array"):
    """Any number of items."""

    items: Shape


class Map(msgspec.Struct, frozen=True, tag_field="type", tag="map"):
    """An object with any names."""

    values: Shape


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field of an object. One with a `default` (any JSON value) is optional: it is absent when
    it has that value. A `personal` one is stored encrypted; `shape` is that of its content."""

    shape: Shape
    default: Any = UNSET
    personal: bool = False

    @property
    def optional(self) -> bool:
        """Whether the field may be absent."""
        return not isinstance(self.default, UnsetType)


class Record(msgspec.Struct, frozen=True, tag_field="type", tag="record"):
    """An object with these fields, by name. Others are ignored."""

    fields: dict[str, Field]


class Union(msgspec.Struct, frozen=True, tag_field="type", tag="union"):
    """A value of any of these shapes."""

    of: tuple[Shape, ...]


class EventShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload of a wire name, the kind of its stream, and the field with the id of the person
    whose key encrypts the personal fields (empty: the stream's id is)."""

    kind: str
    fields: dict[str, Field]
    person: str = ""


class EventShapes(msgspec.Struct, frozen=True):
    """The events of a release by wire name, and its old wire names, each with the next one."""

    release: int
    events: dict[str, EventShape]
    upcasters: dict[str, str]


def shapes_of(
    release: int,
    events: Mapping[str, type[msgspec.Struct]],
    upcasters: Mapping[str, Upcaster],
) -> EventShapes:
    """The shapes of registered events. Raises TypeError for a field that has no shape here."""
    shapes = {}
    for name, cls in sorted(events.items()):
        person: str = getattr(cls, "PERSON", "")
        shapes[name] = EventShape(kind_of(cls), fields_of(cls), person)
    return EventShapes(release, shapes, {old: new for old, (new, _) in sorted(upcasters.items())})


def fields_of(cls: type[msgspec.Struct]) -> dict[str, Field]:
    """The fields of a struct by their names in JSON. Raises TypeError."""
    found = inspect.type_info(cls)
    assert isinstance(found, inspect.StructType)
    return _record(found).fields


def encode(shapes: EventShapes) -> str:
    """The text of the file that keeps a release's shapes."""
    encoded = msgspec.json.encode(shapes, order="deterministic")
    return msgspec.json.format(encoded, indent=1).decode() + "\n"


def decode(text: bytes) -> EventShapes:
    """The shapes in such a file. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=EventShapes)


def _shape(found: inspect.Type) -> Shape:
    if isinstance(found, inspect.Metadata):
        found = found.type
    if type(found) in _SCALARS and _unconstrained(found):
        return _SCALARS[type(found)]
    match found:
        case inspect.LiteralType(values=values):
            null: list[Shape] = ["null"] if None in values else []
            return _union([*_enum(values, str), *_enum(values, int), *null])
        case inspect.UnionType(types=types):
            return _union([_shape(each) for each in types])
        case inspect.ListType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return Array(_shape(found.item_type))
        case inspect.DictType(key_type=inspect.StrType()):
            return Map(_shape(found.value_type))
        case inspect.StructType():
            return _record(found)
    raise TypeError(f"events have no shape for {found}: add it to {__name__}")


def _unconstrained(found: inspect.Type) -> bool:
    """Whether a scalar has no bounds: events are read leniently."""
    return all(bound is None for bound in msgspec.structs.astuple(found))


def _enum(values: Iterable[Any], kind: type) -> list[Enum]:
    chosen: list[Any] = sorted(value for value in values if isinstance(value, kind))
    return [Enum(tuple(chosen))] if chosen else []


def _union(shapes: "Sequence[Shape]") -> Shape:
    found = sorted(shapes, key=msgspec.json.encode)
    return found[0] if len(found) == 1 else Union(tuple(found))


def _record(found: inspect.StructType) -> Record:
    if found.tag is not None or found.array_like or found.forbid_unknown_fields:
        raise TypeError(f"{found.cls.__name__} is not a plain object, which ignores other fields")
    return Record({field.encode_name: _field(field) for field in found.fields})


def _field(found: inspect.Field) -> Field:
    default: Any = UNSET
    if found.default_factory is not msgspec.NODEFAULT:
        default = _in_json(found.default_factory())
    elif not found.required:
        default = _in_json(found.default)
    return Field(_shape(found.type), default, _is_personal(found.type))


def _is_personal(found: inspect.Type) -> bool:
    if isinstance(found, inspect.UnionType):
        return any(map(_is_personal, found.types))
    marks = found.extra if isinstance(found, inspect.Metadata) else None
    return bool(marks and marks.get("personal"))


def _in_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))
