"""The values that requests may contain: the leaves of every request model and parameter, with their
bounds, derived from the routes."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.params import Header
from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from api.routes.shipments import Delivered
from api.routing import CheckedRoute
from domain.errors import Refused

READ_BY_HAND = (Delivered,)
"""Models of bodies that a route parses itself, because it also accepts others."""

NEVER_KEPT = {"password", "current_password", "new_password"}
"""Only a hash of these texts is stored, so any text is accepted."""

CONTAINERS = (tuple, list, set, frozenset)


@dataclass(frozen=True)
class Leaf:
    """A value in a request: its place, its type and its validator."""

    where: str
    name: str
    type: Any
    adapter: TypeAdapter[Any]
    in_body: bool

    def takes(self, value: object) -> bool:
        """Whether the gateway accepts this value."""
        try:
            self.adapter.validate_python(value)
        except (ValidationError, Refused):
            return False
        return True


@dataclass(frozen=True)
class Many:
    """A list in a request, and its maximal length."""

    where: str
    longest: int | None


def edge(app: FastAPI) -> list[Leaf | Many]:
    """All leaves and lists, each once. Headers are missing: the size of the head bounds them."""
    found: dict[str, Leaf | Many] = {}
    for route in app.routes:
        if isinstance(route, CheckedRoute):
            for each in _of_route(route):
                found.setdefault(each.where, each)
    for model in READ_BY_HAND:
        found.update(
            {each.where: each for each in _walk(model.__name__, "", model, (), in_body=True)}
        )
    return list(found.values())


def _of_route(route: CheckedRoute) -> Iterator[Leaf | Many]:
    for field in _params(route.dependant):
        if not isinstance(field.field_info, Header):
            kind = type(field.field_info).__name__.lower()
            name = f"{kind} {field.alias} of {route.endpoint.__name__}"
            yield from _walk(
                name, field.alias, field.field_info.annotation, (field.field_info,), in_body=False
            )
    if route.body_field is not None:
        hint = route.body_field.field_info.annotation
        yield from _walk(getattr(hint, "__name__", "body"), "", hint, (), in_body=True)


def _params(dependant: Dependant) -> Iterator[Any]:
    yield from (*dependant.path_params, *dependant.query_params, *dependant.header_params)
    for inner in dependant.dependencies:
        yield from _params(inner)


def _walk(
    where: str, name: str, hint: Any, bounds: tuple[Any, ...], *, in_body: bool
) -> Iterator[Leaf | Many]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _walk(where, name, args[0], (*args[1:], *bounds), in_body=in_body)
    elif origin in (Union, types.UnionType):
        for each in args:
            yield from _walk(where, name, each, bounds, in_body=in_body)
    elif origin in CONTAINERS:
        yield Many(where, _longest(bounds))
        yield from _walk(f"{where}[]", name, args[0], (), in_body=in_body)
    elif hint is type(None):
        return
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        for field, inner in get_type_hints(hint, include_extras=True).items():
            if field in hint.model_fields:
                bounds = tuple(hint.model_fields[field].metadata)
                yield from _walk(f"{hint.__name__}.{field}", field, inner, bounds, in_body=in_body)
    else:
        kind = datetime if hint is AwareDatetime else hint
        yield Leaf(
            where, name, kind, TypeAdapter(Annotated[hint, *bounds] if bounds else hint), in_body
        )


def _longest(bounds: tuple[Any, ...]) -> int | None:
    metadata = [
        each
        for bound in bounds
        for each in (bound.metadata if isinstance(bound, FieldInfo) else [bound])
    ]
    return next(
        (each.max_length for each in metadata if getattr(each, "max_length", None) is not None),
        None,
    )
