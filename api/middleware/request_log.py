"""A line of the log for each request. It is made as a whole here, and written elsewhere: a record
of `logging` would cost four to six times as much, up to half of what a kept answer takes."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec
from starlette.types import Scope

from api.middleware.context import QUIET, context_of


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was answered `at` this time, within `ms` milliseconds, by so many `bytes` of
    body. It names the route, not the path or the query, where people's data and secrets may be."""

    at: datetime
    method: str
    route: str
    status: int
    ms: float
    bytes: int
    trace_id: str
    correlation_id: UUID
    user_id: UUID | None = None


PAGES_USER = "user_id"
"""The item of a request's state in which a page leaves who is signed in."""

LogRequest = Callable[[RequestLine], None]


def line_of(
    scope: Scope, route: str, status: int, seconds: float, sent: int, at: datetime
) -> RequestLine | None:
    """The line about a request; None for one that is not logged."""
    if route.startswith(QUIET):
        return None
    context, state = context_of(scope), scope["state"]
    return RequestLine(
        at,
        scope["method"],
        route,
        status,
        round(seconds * 1000, 2),
        sent,
        context.trace_id,
        context.correlation_id,
        getattr(state.get("caller"), "user_id", None) or state.get(PAGES_USER),
    )
