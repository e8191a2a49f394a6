"""Marks the routes of signed webhooks, which are exempt from rate limits: payment providers and
carriers may send any number.

The endpoint carries the mark, as clients choose which alias of the path they call.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from starlette.routing import BaseRoute, Route

from api.route_table import RouteTable

C = TypeVar("C", bound=Callable[..., Any])

_MARK = "takes_signed_webhooks"


def signed_webhook(endpoint: C) -> C:
    """Decorator: mark an endpoint as one for signed webhooks."""
    setattr(endpoint, _MARK, True)
    return endpoint


def signed_webhooks(routes: Iterable[BaseRoute]) -> RouteTable:
    """Those of some routes, under all of their paths."""
    return RouteTable(
        route
        for route in routes
        if isinstance(route, Route) and getattr(route.endpoint, _MARK, False)
    )
