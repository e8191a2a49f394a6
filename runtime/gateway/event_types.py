"""The program's events for auditors: their catalog, and the comparison with another release's."""

import fnmatch
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from domain.errors import Invalid
from domain.events import EVENTS, UPCASTERS
from eventstore.database.release import RELEASE
from runtime.events.catalog import catalog
from runtime.events.compatibility import check_release
from runtime.events.shapes import EventShapes


class ProgramsEvents:
    """Implements `api.services.EventTypes`."""

    def catalog(self, pattern: str) -> Sequence[Mapping[str, Any]]:
        """The events whose names match a pattern."""
        return [each for each in _catalog() if fnmatch.fnmatchcase(each["event"], pattern)]

    def check(self, old: Mapping[str, Any]) -> Mapping[str, Any]:
        """How the events of another release fare. Raises Invalid("invalid_event_shapes")."""
        try:
            shapes = msgspec.convert(old, EventShapes)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Invalid("invalid_event_shapes", f"no events of a release: {error}") from error
        found = check_release(shapes, EVENTS, UPCASTERS)
        return {
            "against": shapes.release,
            "release": RELEASE,
            "holds": all(each.holds for each in found),
            "events": [{**msgspec.structs.asdict(each), "holds": each.holds} for each in found],
        }


@cache
def _catalog() -> Sequence[Mapping[str, Any]]:
    """Reads the program's source, which takes a moment."""
    return [msgspec.to_builtins(each) for each in catalog()]
