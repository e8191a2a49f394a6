"""Payloads of events as they are typed."""

import json
import math
from typing import Any, NoReturn

import msgspec


class BadPayload(Exception):
    """The text is not a payload; the message says why, and in which line."""


def typed(text: str) -> dict[str, Any]:
    """The payload that was typed as JSON. Raises BadPayload."""
    try:
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once_each
        )
        msgspec.json.encode(value)
    except json.JSONDecodeError as error:
        said = f"Line {error.lineno}, column {error.colno}: {error.msg}."
        raise BadPayload(said) from error
    except RecursionError as error:
        raise BadPayload("This is nested too deeply.") from error
    except (ValueError, OverflowError) as error:
        raise BadPayload(f"This cannot be stored: {error}.") from error
    if not isinstance(value, dict):
        raise BadPayload("A payload is an object: it begins with { and ends with }.")
    return value


def shown(payload: dict[str, Any]) -> str:
    """A payload as it can be edited."""
    return json.dumps(payload, indent=2, ensure_ascii=False)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError if it names a field twice, as only one of both would
    count."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice} is there twice")
    return found
