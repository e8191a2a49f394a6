"""Hints for clients that use another name for a field or parameter: camelCase, or a name from the
source documents."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from fastapi._compat import ModelField
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "amount": ("amount_cents",),
    "card_token": ("token",),
    "event_types": ("events",),
    "from_wallet": ("from_wallet_id",),
    "game_id": ("product_id",),
    "gross_amount_cents": ("amount_cents",),
    "inventory_id": ("product_id",),
    "max_price": ("price_max",),
    "method": ("payment_method",),
    "min_price": ("price_min",),
    "name": ("title",),
    "payment_details": ("payment_method",),
    "payment_method_details": ("payment_method",),
    "payment_method_id": ("payment_method",),
    "price_cents": ("amount_cents",),
    "product_id": ("game_id",),
    "qty": ("quantity",),
    "query": ("q",),
    "role": ("account_type",),
    "to_wallet": ("to_wallet_id",),
    "total": ("total_quantity",),
    "type": ("account_type",),
    "user_type": ("account_type",),
}
"""For a name from the source documents or elsewhere, this API's names for it."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def hint(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None."""
    candidate = _HUMP.sub("_", name[:100]).replace("-", "_").lower()
    names = set(known)
    meant = (candidate, *OTHER_NAMES.get(candidate, ()))
    return next((each for each in meant if each in names and each != name), None)


def hinted(
    refusal: RequestValidationError, query: Iterable[str], body: ModelField | None
) -> RequestValidationError:
    """The validation errors, with a hint for each unknown name that is another name of a known
    one."""
    return RequestValidationError([_hinted(error, query, body) for error in refusal.errors()])


def _hinted(
    error: Mapping[str, Any], query: Iterable[str], body: ModelField | None
) -> Mapping[str, Any]:
    place, *path = error["loc"]
    if error["type"] != "extra_forbidden" or not path:
        return error
    meant = hint(str(path[-1]), query if place == "query" else _fields_at(body, path[:-1]))
    return (
        error
        if meant is None
        else {**error, "msg": f"{error['msg']}: did you mean {meant}?", "hint": meant}
    )


def _fields_at(body: ModelField | None, path: Iterable[str | int]) -> Iterable[str]:
    """The field names of the body's model at a path."""
    model = None if body is None else _model(body.field_info.annotation)
    for step in path:
        if model is None or isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        model = None if field is None else _model(field.annotation)
    return () if model is None else model.model_fields


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, which may be optional or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (
        get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    )
    return next((model for part in parts if (model := _model(part)) is not None), None)
