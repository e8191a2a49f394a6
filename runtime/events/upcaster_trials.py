"""Trying upcasters on examples of the shapes that they are for."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from eventstore.codec import Codec, Upcaster
from runtime.events.examples import ciphertext, examples
from runtime.events.shapes import EventShape, EventShapes, Record, fields_of

_STREAM = UUID(int=1)


def failing_upcasters(
    old: EventShapes,
    events: Mapping[str, type[msgspec.Struct]],
    upcasters: Mapping[str, Upcaster],
) -> Iterator[tuple[str, str]]:
    """The names of an earlier release that are upcast now, but not to what can be read; with the
    reason."""
    codec = Codec(events, upcasters)
    for name in sorted(old.events.keys() & upcasters.keys()):
        shape = old.events[name]
        if shape.kind != codec.kinds[name]:
            yield name, f"its streams are of the kind {shape.kind}, not {codec.kinds[name]}"
        elif why := _failure(name, shape, codec, events, upcasters):
            yield name, why


def _failure(
    name: str,
    shape: EventShape,
    codec: Codec,
    events: Mapping[str, type[msgspec.Struct]],
    upcasters: Mapping[str, Upcaster],
) -> str:
    """Why an example is not read; empty when all are."""
    for payload in examples(Record(shape.fields)):
        try:
            codec.decode(name, msgspec.json.encode(payload), _STREAM)
            last, body = _upcast(name, payload, upcasters)
        except Exception as error:  # an upcaster is any function, and may raise anything
            return f"is not read after upcasting {payload}: {error!r}"
        for field, found in fields_of(events[last]).items():
            value = body.get(field)
            if found.personal and value not in (None, ciphertext(field)):
                return f"{field} is not what was encrypted as {field}, and cannot be decrypted"
            if not found.personal and any(value == ciphertext(each) for each in shape.fields):
                return f"{field} is encrypted, and is read as plain"
    return ""


def _upcast(
    name: str, payload: dict[str, Any], upcasters: Mapping[str, Upcaster]
) -> tuple[str, dict[str, Any]]:
    body = dict(payload)
    while name in upcasters:
        name, upcast = upcasters[name]
        body = upcast(body)
    return name, body
