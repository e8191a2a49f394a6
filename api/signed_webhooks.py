"""Routes for notices signed by their sender: providers and carriers send any number of them.

A route is marked as one. Its path alone does not show it, and clients choose the path.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.routing import Match, Route
from starlette.types import Scope

C = TypeVar("C", bound=Callable[..., Any])

_MARK = "takes_signed_webhooks"


def signed_webhook(endpoint: C) -> C:
    """Mark a route's endpoint as one for signed notices."""
    setattr(endpoint, _MARK, True)
    return endpoint


def is_signed_webhook(scope: Scope) -> bool:
    """Whether the request goes to such a route, under any of its paths."""
    routes = (route for route in scope["app"].routes if isinstance(route, Route))
    marked = (route for route in routes if getattr(route.endpoint, _MARK, False))
    return any(route.matches(scope)[0] is Match.FULL for route in marked)
