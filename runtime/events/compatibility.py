"""Whether the events of two releases can be read by each other.

The terms are those of schema registries (Avro's schema resolution, Confluent's levels), applied to
how events are decoded here: unknown fields are ignored, a field with its default's value is absent,
and an old wire name is read through its upcasters.
"""

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from eventstore.codec import Upcaster
from eventstore.database.release import RELEASE
from runtime.events.shapes import (
    Array,
    Enum,
    EventShape,
    EventShapes,
    Field,
    Map,
    Record,
    Shape,
    shapes_of,
)
from runtime.events.shapes import Union as AnyOf
from runtime.events.upcaster_trials import failing_upcasters


class Level(enum.StrEnum):
    """Which release reads the other's events of a wire name."""

    FULL = "FULL"
    """Each reads the other's."""
    BACKWARD = "BACKWARD"
    """The new release reads old events."""
    FORWARD = "FORWARD"
    """The old release reads new events."""
    NONE = "NONE"


class Finding(msgspec.Struct, frozen=True):
    """How a wire name fared between two releases.

    `lost`: the new release cannot read the name at all. `upcast`: it reads it as another event.
    `changes` say what is different; `backward` and `forward` what keeps the new release from
    reading old events, and the old one from reading new ones. A `new` event has no level.
    """

    event: str
    status: Literal["unchanged", "changed", "new", "upcast", "lost"]
    level: Level | None
    changes: list[str] = []
    backward: list[str] = []
    forward: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether every event that was recorded under the name can still be read."""
        return self.level in {None, Level.FULL, Level.BACKWARD}


def check_release(
    old: EventShapes,
    events: Mapping[str, type[msgspec.Struct]],
    upcasters: Mapping[str, Upcaster],
) -> list[Finding]:
    """How the wire names of an earlier release fare with these events. If no name is lost,
    upcasters are also tried, on examples."""
    found = compare(old, shapes_of(RELEASE, events, upcasters))
    if any(finding.status == "lost" for finding in found):
        return found  # there can be no codec of such events
    failing = dict(failing_upcasters(old, events, upcasters))
    return [
        _lost(each.event, failing[each.event]) if each.event in failing else each for each in found
    ]


def compare(old: EventShapes, new: EventShapes) -> list[Finding]:
    """How each wire name of either release fared, in the names' order."""
    names = old.events.keys() | old.upcasters.keys() | new.events.keys() | new.upcasters.keys()
    return [_finding(name, old, new) for name in sorted(names)]


def _finding(name: str, old: EventShapes, new: EventShapes) -> Finding:
    if name in new.upcasters:
        last = _last_name(name, new)
        if last in new.events:
            unknown = [] if last in old.events else [f"the old release does not know {last}"]
            level = Level.BACKWARD if unknown else Level.FULL
            return Finding(name, "upcast", level, [f"is read as {last}"], forward=unknown)
        return _lost(name, f"is upcast to {last}, which nothing reads")
    if name not in new.events:
        return _lost(name, "is neither an event nor upcast to one")
    if name in old.upcasters:
        return _lost(name, "was upcast, and is an event of its own again")
    if name not in old.events:
        return Finding(name, "new", None)
    return _of_shapes(name, old.events[name], new.events[name])


def _last_name(name: str, shapes: EventShapes) -> str:
    passed = set[str]()
    while name in shapes.upcasters and name not in passed:
        passed.add(name)
        name = shapes.upcasters[name]
    return name


def _lost(name: str, why: str) -> Finding:
    return Finding(name, "lost", Level.NONE, [why], backward=[why])


def _of_shapes(name: str, old: EventShape, new: EventShape) -> Finding:
    if old == new:
        return Finding(name, "unchanged", Level.FULL)
    backward, forward = list(_of_event(new, old)), list(_of_event(old, new))
    level = {
        (True, True): Level.FULL,
        (True, False): Level.BACKWARD,
        (False, True): Level.FORWARD,
        (False, False): Level.NONE,
    }[not backward, not forward]
    return Finding(name, "changed", level, list(_changes(old, new)), backward, forward)


# -- who can read what -----------------------------------------------------------------------------


def _of_event(reader: EventShape, writer: EventShape) -> Iterator[str]:
    if reader.kind != writer.kind:
        yield f"its streams are of the kind {writer.kind}, not {reader.kind}"
    if reader.person != writer.person and any(
        field.personal and name in writer.fields for name, field in reader.fields.items()
    ):
        yield "its personal fields are encrypted under the key of another person"
    yield from obstacles(Record(reader.fields), Record(writer.fields))


def obstacles(reader: Shape, writer: Shape, path: str = "") -> Iterator[str]:
    """What keeps a reader of one shape from reading all that a writer of the other may write;
    nothing when it reads all of it, with the same meaning."""
    match reader, writer:
        case _, AnyOf(of=shapes):
            for shape in shapes:
                yield from obstacles(reader, shape, path)
        case AnyOf(of=shapes), _:
            yield from _of_any(shapes, writer, path)
        case Record(), Record():
            for name, field in reader.fields.items():
                yield from _of_field(field, writer.fields.get(name), _inside(path, name))
        case Array(), Array():
            yield from obstacles(reader.items, writer.items, f"{path}[]")
        case Map(), Map():
            yield from obstacles(reader.values, writer.values, _inside(path, "*"))
        case Enum(), Enum():
            unknown = [value for value in writer.values if value not in reader.values]
            if unknown:
                yield f"{path} may be {_listed(unknown)}, which is not known"
        case str(), _ if _scalar_of(writer) in _READ_AS.get(reader, {reader}):
            return
        case _:
            yield f"{path} is {described(writer)}, and is read as {described(reader)}"


_READ_AS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"string", "uuid", "date", "datetime"}),
    "float": frozenset({"float", "int"}),
}
"""What a scalar can be read from, besides itself."""


def _scalar_of(shape: Shape) -> str:
    """The scalar that an enum's values belong to; empty for what holds other values."""
    if isinstance(shape, Enum):
        return "string" if isinstance(shape.values[0], str) else "int"
    return shape if isinstance(shape, str) else ""


def _of_any(readers: tuple[Shape, ...], writer: Shape, path: str) -> Iterator[str]:
    """At most one of a union's shapes can be meant: they differ in the kind of their JSON value."""
    found = [list(obstacles(reader, writer, path)) for reader in readers]
    if all(found):
        alike = [
            each
            for reader, each in zip(readers, found, strict=True)
            if type(reader) is type(writer)
        ]
        if isinstance(writer, str) or not alike:
            yield f"{path} is {described(writer)}, and is read as {described(AnyOf(readers))}"
        else:
            yield from alike[0]


def _of_field(reader: Field, writer: Field | None, path: str) -> Iterator[str]:
    if writer is None:
        if not reader.optional:
            yield f"{path} is required, and is not there"
        return
    if reader.personal != writer.personal:
        is_, as_ = ("encrypted", "plain") if writer.personal else ("plain", "encrypted")
        yield f"{path} is {is_}, and is read as {as_}"
    if writer.optional and not reader.optional:
        yield f"{path} is required, and may be absent"
    elif writer.optional and writer.default != reader.default:
        yield (
            f"{path} is absent where it is {json.dumps(writer.default)}, and is then read as"
            f" {json.dumps(reader.default)}"
        )
    yield from obstacles(reader.shape, writer.shape, path)


# -- what is different -----------------------------------------------------------------------------


def _changes(old: EventShape, new: EventShape) -> Iterator[str]:
    if old.kind != new.kind:
        yield f"kind of stream: {old.kind} → {new.kind}"
    if old.person != new.person:
        yield f"person: {old.person or 'the stream'} → {new.person or 'the stream'}"
    yield from _changed_fields(old.fields, new.fields, "")


def _changed_fields(old: dict[str, Field], new: dict[str, Field], path: str) -> Iterator[str]:
    for name in old.keys() - new.keys():
        yield f"{_inside(path, name)} removed"
    for name, field in new.items():
        here = _inside(path, name)
        if name in old:
            yield from _changed_field(old[name], field, here)
        elif field.optional:
            yield f"{here} added, {json.dumps(field.default)} where absent"
        else:
            yield f"{here} added, required"


def _changed_field(old: Field, new: Field, path: str) -> Iterator[str]:
    if old.personal != new.personal:
        yield f"{path} {'now' if new.personal else 'no longer'} personal"
    if old.optional != new.optional:
        yield f"{path} {'required → optional' if new.optional else 'optional → required'}"
    elif old.default != new.default:
        yield f"{path} default {json.dumps(old.default)} → {json.dumps(new.default)}"
    yield from _changed_shape(old.shape, new.shape, path)


def _changed_shape(old: Shape, new: Shape, path: str) -> Iterator[str]:
    match old, new:
        case Record(), Record():
            yield from _changed_fields(old.fields, new.fields, path)
        case Array(), Array():
            yield from _changed_shape(old.items, new.items, f"{path}[]")
        case Map(), Map():
            yield from _changed_shape(old.values, new.values, _inside(path, "*"))
        case Enum(), Enum():
            added = [value for value in new.values if value not in old.values]
            removed = [value for value in old.values if value not in new.values]
            if added:
                yield f"{path} may also be {_listed(added)}"
            if removed:
                yield f"{path} may no longer be {_listed(removed)}"
        case _ if old != new:
            yield f"{path} {described(old)} → {described(new)}"


def described(shape: Shape) -> str:
    """A shape in a few words."""
    match shape:
        case Enum(values=values):
            return " | ".join(map(json.dumps, values))
        case Array(items=items):
            return f"array of ({described(items)})"
        case Map(values=values):
            return f"map of ({described(values)})"
        case Record(fields=fields):
            return f"{{{', '.join(fields)}}}"
        case AnyOf(of=shapes):
            return " | ".join(map(described, shapes))
    return shape


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(values: list[str | int]) -> str:
    return ", ".join(map(json.dumps, values))
