"""Spans of the requests to a simulated service."""

from starlette.types import ASGIApp, Receive, Scope, Send

from kit import tracing


class TracedRequests:
    """Middleware: a span for each request, as a part of the trace that its `traceparent` names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not tracing.is_on() or scope["type"] != "http" or scope["path"] == "/health":
            return await self._app(scope, receive, send)
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        with tracing.span(scope["method"], parent, kind="server"):
            await self._app(scope, receive, send)
            route = getattr(scope.get("route"), "path", "unmatched")
            tracing.describe({"http.route": route}, name=f"{scope['method']} {route}")
        return None
