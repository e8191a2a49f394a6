"""A line of the log for each request."""

import logging

from starlette.types import Scope

logger = logging.getLogger("api.requests")
"""Its level decides whether requests are logged (LUDOTECA_REQUEST_LOG)."""

_QUIET = ("/health/", "/metrics")
"""Routes that are asked every few seconds, by machines."""


def log_request(scope: Scope, route: str, status: int, seconds: float, sent: int) -> None:
    """Log a request that was answered within these seconds, by so many bytes of body.

    The line names the route, not the path or the query, where people's data and secrets may be; the
    ids of trace and correlation come from `RequestContext`.
    """
    if route.startswith(_QUIET) or not logger.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        "method": scope["method"],
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes": sent,
    }
    user_id = getattr(scope.get("state", {}).get("caller"), "user_id", None)
    if user_id is not None:
        fields["user_id"] = str(user_id)
    logger.info("request", extra=fields)
