"""Payloads that a shape allows: few, but each choice of the shape is in one of them."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from runtime.events.shapes import Array, Enum, Field, Map, Record, Shape, Union

_SCALARS: Final[dict[str, list[object]]] = {
    "bool": [True, False],
    "date": ["2026-01-31"],
    "datetime": ["2026-01-31T12:00:00Z"],
    "float": [1.5, -0.5],
    "int": [1, 0, -1],
    "null": [None],
    "string": ["a text", ""],
    "uuid": ["018f6d2e-7c1a-7b8e-9d55-2f0c6b1a7e10"],
}


def ciphertext(name: str) -> str:
    """What a personal field of this name looks like as stored; no key decrypts it."""
    return "1:" + b64encode(bytes(48) + name.encode()).decode()


def examples(shape: Shape) -> list[Any]:
    """JSON values of the shape, at least one. Personal fields are as stored, encrypted."""
    match shape:
        case Enum(values=values):
            return list(values)
        case Array(items=items):
            return [*([each] for each in examples(items)), []]
        case Map(values=inner):
            return [*({"key": each} for each in examples(inner)), {}]
        case Union(of=shapes):
            return [each for one in shapes for each in examples(one)]
        case Record(fields=fields):
            return list(_objects(fields))
    return _SCALARS[shape]


def _objects(fields: dict[str, Field]) -> Iterator[dict[str, Any]]:
    """One with every field, then those in which one field differs or is absent, and one without
    all optional fields."""
    values = {name: _values(name, field) for name, field in fields.items()}
    full = {name: several[0] for name, several in values.items()}
    yield full
    for name, several in values.items():
        for value in several[1:]:
            yield {**full, name: value}
        if fields[name].optional:
            yield {key: value for key, value in full.items() if key != name}
    yield {key: value for key, value in full.items() if not fields[key].optional}


def _values(name: str, field: Field) -> list[Any]:
    found = examples(field.shape)
    if not field.personal:
        return found
    return [ciphertext(name), *(value for value in found if value is None)]
