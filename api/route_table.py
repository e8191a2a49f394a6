"""Finds the route of a request by a few dictionary look-ups, instead of trying hundreds of patterns
in turn.

The answer is the one that FastAPI's router gives: the first route whose pattern and method match.
What the table cannot tell (no route, another method, a mounted application, a WebSocket) is left to
the router.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from starlette._utils import get_route_path  # what routes compare: the path below root_path
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Scope

Parameters = dict[str, str]

_Shape = tuple[str | None, ...]
"""The segments of a path, None for those that are parameters."""


@dataclass(frozen=True)
class _Entry:
    order: int
    route: Route
    parameters: tuple[tuple[int, str], ...]
    """Which segments are parameters, and their names."""


class RouteTable:
    """Routes by method and by the segments of their paths."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._entries: dict[tuple[str, _Shape], _Entry] = {}
        self._masks: dict[int, list[tuple[int, ...]]] = {}
        self._odd: list[tuple[int, BaseRoute]] = []
        """Routes that are no list of segments, and their places in the order of all."""
        for order, route in enumerate(routes):
            if isinstance(route, WebSocketRoute):
                continue
            shape = _shape(route) if isinstance(route, Route) and route.methods else None
            if shape is None:
                self._odd.append((order, route))
            else:
                assert isinstance(route, Route)
                self._add(order, route, shape)

    def _add(self, order: int, route: Route, shape: _Shape) -> None:
        names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
        places = tuple(place for place, segment in enumerate(shape) if segment is None)
        masks = self._masks.setdefault(len(shape), [])
        if places not in masks:
            masks.append(places)
        entry = _Entry(order, route, tuple(zip(places, names, strict=True)))
        for method in route.methods or ():
            self._entries.setdefault((method, shape), entry)

    def find(self, scope: Scope) -> tuple[Route, Parameters] | None:
        """The first route that matches an HTTP request, and the parameters in its path; None when
        no route does, or only the router can decide."""
        path, method = get_route_path(scope), scope["method"]
        if path.endswith("\n"):  # a pattern's `$` also precedes a last newline
            return None
        segments, first = path.split("/"), None
        for places in self._masks.get(len(segments), ()):
            shape: list[str | None] = [*segments]
            for place in places:
                if not segments[place]:
                    break  # a parameter is not empty
                shape[place] = None
            else:
                entry = self._entries.get((method, tuple(shape)))
                if entry is not None and (first is None or entry.order < first.order):
                    first = entry
        if first is None:
            return None
        for order, route in self._odd:
            if order < first.order and route.matches(scope)[0] is not Match.NONE:
                return None
        return first.route, {name: segments[place] for place, name in first.parameters}


def _shape(route: Route) -> _Shape | None:
    """The segments of a route's path; None when a segment is more, or less, than one parameter."""
    shape: list[str | None] = []
    for segment in route.path.split("/"):
        if "{" not in segment:
            shape.append(segment)
        elif segment[1:-1] in route.param_convertors:
            shape.append(None)
        else:
            return None
    return tuple(shape)
