"""Marks the routes of signed webhooks, which are exempt from rate limits: payment providers and
carriers may send any number.

The endpoint carries the mark, as clients choose which alias of the path they call.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.routing import Match, Route
from starlette.types import Scope

C = TypeVar("C", bound=Callable[..., Any])

_MARK = "takes_signed_webhooks"


def signed_webhook(endpoint: C) -> C:
    """Decorator: mark an endpoint as one for signed webhooks."""
    setattr(endpoint, _MARK, True)
    return endpoint


def is_signed_webhook(scope: Scope) -> bool:
    """Whether the request goes to a marked endpoint, under any of its paths."""
    routes = (route for route in scope["app"].routes if isinstance(route, Route))
    marked = (route for route in routes if getattr(route.endpoint, _MARK, False))
    return any(route.matches(scope)[0] is Match.FULL for route in marked)
