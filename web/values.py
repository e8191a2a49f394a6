"""JSON values as lines, one for each value inside, and what differs between two of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from kit.forgotten import ENCRYPTED

MAX_LINES = 400
"""The most lines that are shown of a value."""

CUT = "…"
"""The path of the line that says that there are more."""


class Leaf(NamedTuple):
    """A value with nothing inside. `kind` is `id`, `text`, `encrypted` or `plain` (all others)."""

    text: str
    kind: str


class Line(NamedTuple):
    """What is at a path inside a value: `lines.0.title`."""

    path: str
    leaf: Leaf


class Difference(NamedTuple):
    """What is at a path before and after. `mark` is `added`, `changed`, `removed` or empty."""

    path: str
    before: Leaf | None
    after: Leaf | None
    mark: str


def leaf(value: Any) -> Leaf:
    """How a value is shown."""
    if not isinstance(value, str):
        return Leaf(json.dumps(value, ensure_ascii=False), "plain")
    if value == ENCRYPTED:
        return Leaf(value, "encrypted")
    return Leaf(value, "id" if is_id(value) else "text")


def is_id(text: str) -> bool:
    """Whether a text is an id of the log's kind."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def as_id(text: str) -> str | None:
    """An id as the API spells it, however it was typed; None for any other text."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def lines(value: Any) -> list[Line]:
    """All values inside, in order; at most MAX_LINES, the last of which says so."""
    found: list[Line] = []
    if value in ({}, []):
        return found
    for path, inner in _inside(value, ""):
        if len(found) == MAX_LINES:
            return [*found, Line(CUT, Leaf("there is more", "plain"))]
        found.append(Line(path, leaf(inner)))
    return found


def compared(before: Any, after: Any) -> list[Difference]:
    """All values inside either, and how they differ. None has nothing inside."""
    old = {} if before is None else dict(lines(before))
    new = {} if after is None else dict(lines(after))
    paths = [*new, *(path for path in old if path not in new)]
    return [
        Difference(path, old.get(path), new.get(path), _mark(old.get(path), new.get(path)))
        for path in paths
    ]


def in_one_line(payload: Mapping[str, Any], most: int = 140) -> str:
    """A payload in one line."""
    text = json.dumps(payload, ensure_ascii=False)[1:-1]
    return text if len(text) <= most else text[: most - 1] + "…"


def _mark(before: Leaf | None, after: Leaf | None) -> str:
    if before == after:
        return ""
    return "added" if before is None else "removed" if after is None else "changed"


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner: Iterator[tuple[Any, Any]]
    if isinstance(value, dict) and value:
        inner = iter(value.items())
    elif isinstance(value, list) and value:
        inner = iter(enumerate(value))
    else:
        yield path, value
        return
    for name, each in inner:
        yield from _inside(each, f"{path}.{name}" if path else str(name))
