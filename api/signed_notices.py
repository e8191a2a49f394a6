"""Routes that take notices which their sender has signed: providers and carriers send as many as there are.

A route says of itself that it is one. By the look of a path nobody can tell: whoever asks may choose it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.routing import Match, Route
from starlette.types import Scope

C = TypeVar("C", bound=Callable[..., Any])

_MARK = "takes_signed_notices"


def signed_notice(endpoint: C) -> C:
    """Mark the endpoint of a route as one that takes signed notices."""
    setattr(endpoint, _MARK, True)
    return endpoint


def is_signed_notice(scope: Scope) -> bool:
    """Whether the request goes to such a route, under whichever of its paths."""
    routes = (route for route in scope["app"].routes if isinstance(route, Route))
    marked = (route for route in routes if getattr(route.endpoint, _MARK, False))
    return any(route.matches(scope)[0] is Match.FULL for route in marked)
