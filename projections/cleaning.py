"""Cleans events for folds: texts without NUL, and times in UTC that every row can store.

Every fold gets cleaned events: live, rebuilt, and as of a moment. Personal mappings, such as an
address, are not cleaned, since no row stores them.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin

import msgspec

from domain.times import representable

Cleaner = Callable[[Any], Any]
Finder = Callable[[Any], bool]


def without_nul(value: str) -> str:
    """A text without NUL, the one character that PostgreSQL's text and jsonb cannot hold."""
    return value.replace("\0", "")


def cleaner_of(event_type: type[msgspec.Struct], *, keeps_nul: bool = False) -> Cleaner | None:
    """A function that cleans events of this type, and nearly always returns the same object.

    None when the type has neither times nor texts. With `keeps_nul`, it leaves texts alone.
    """
    times = [field.name for field in msgspec.structs.fields(event_type) if _is_time(field.type)]
    has_nul = None if keeps_nul else _finder(event_type)
    if not times and has_nul is None:
        return None

    if has_nul is not None and not times:
        return lambda event: _scrubbed(event) if has_nul(event) else event

    def clean(event: Any) -> Any:
        if has_nul is not None and has_nul(event):
            event = _scrubbed(event)
        moved = {}
        for name in times:
            at = getattr(event, name)
            if at is not None and (kept := _in_utc(at)) is not at:
                moved[name] = kept
        return msgspec.structs.replace(event, **moved) if moved else event

    return clean


def _is_time(hint: object) -> bool:
    return hint is datetime or datetime in get_args(hint)


def _in_utc(at: datetime) -> datetime:
    """Clamps the time, since events from before times had bounds exist."""
    if at.tzinfo is UTC and 1 < at.year < 9999:
        return at
    return representable(at).astimezone(UTC)


def _finder(hint: Any) -> Finder | None:
    """A function that tells whether a value of this type contains NUL; None when it cannot.

    It is built once per type, since it runs for every event.
    """
    hint = _plain(hint)
    if hint is str:
        return lambda value: "\0" in value
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _finder_in_struct(hint)
    return None if get_origin(hint) is dict else _finder_inside(hint)


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _finder_inside(hint: Any) -> Finder | None:
    """As `_finder`, for a tuple of values, or a value that may be None."""
    finders = [finder for each in get_args(hint) if (finder := _finder(each)) is not None]
    if not finders:
        return None
    (find,) = finders
    if get_origin(hint) is not tuple:
        return lambda value: value is not None and find(value)
    if str in get_args(hint):
        return lambda value: "\0" in "".join(value)
    return lambda value: any(map(find, value))


def _finder_in_struct(struct: type[msgspec.Struct]) -> Finder | None:
    hints = {field.name: field.type for field in msgspec.structs.fields(struct)}
    finders = [
        (name, finder) for name, hint in hints.items() if (finder := _finder(hint)) is not None
    ]
    if not finders:
        return None
    if all(_plain(hints[name]) is str for name, _ in finders):
        return _finder_in_texts([name for name, _ in finders])

    def find(value: Any) -> bool:
        for name, finder in finders:  # noqa: SIM110 - a third faster than any()
            if finder(getattr(value, name)):
                return True
        return False

    return find


def _finder_in_texts(names: Sequence[str]) -> Finder:
    """Whether one of these fields, all of them texts, contains NUL."""
    get = attrgetter(*names)
    if len(names) == 1:
        return lambda value: "\0" in get(value)
    return lambda value: "\0" in "".join(get(value))


def _scrubbed(value: Any) -> Any:
    """The text, or the container of texts, without NUL."""
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, tuple):
        return tuple(map(_scrubbed, value))
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: _scrubbed(getattr(value, name)) for name in value.__struct_fields__}
        )
    return value
