"""A request's context: its trace (W3C Trace Context), correlation and client."""

import secrets
from uuid import UUID

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.middleware.security_headers import add_security_headers
from kit import tracing

CORRELATION_HEADER = "X-Correlation-ID"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are named in metrics and spans; others are `other`."""

QUIET = ("/health/", "/metrics")
"""Paths that machines ask for every few seconds: these requests have no span and no line in the
log."""


class Context(msgspec.Struct, frozen=True):
    """The trace context of a request, in which this process is one span. `client_ip` is the peer's
    address, or the one reported by a trusted proxy."""

    trace_id: str
    span_id: str
    flags: str
    correlation_id: UUID
    client_ip: str

    @property
    def traceparent(self) -> str:
        """The `traceparent` that names this span as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def context_of(scope: Scope) -> Context:
    """The context that `RequestContext` gave to the request, or a new one."""
    state = scope.setdefault("state", {})
    if "context" not in state:
        state["context"] = _read(scope)
    found: Context = state["context"]
    return found


def _read(scope: Scope) -> Context:
    headers = Headers(scope=scope)
    parent = tracing.TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    trace_id, flags = (parent[1], parent[3]) if parent else (secrets.token_hex(16), "01")
    return _context(scope, trace_id, secrets.token_hex(8), flags)


def _context(scope: Scope, trace_id: str, span_id: str, flags: str) -> Context:
    headers = Headers(scope=scope)
    peer = scope.get("client")
    return Context(
        trace_id=trace_id,
        span_id=span_id,
        flags=flags,
        correlation_id=_uuid(headers.get(CORRELATION_HEADER)) or UUID(hex=trace_id),
        client_ip=peer[0] if peer else "local",
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


class RequestContext:
    """Middleware: gives every request a context and a span, sends their ids back in the response
    headers, and binds them to log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        if not tracing.is_on() or scope["type"] != "http" or scope["path"].startswith(QUIET):
            await self._answer(scope, receive, send)
            return None
        method = scope["method"] if scope["method"] in METHODS else "other"
        parent = Headers(scope=scope).get("traceparent")
        with tracing.span(method, parent, kind="server"):
            if traceparent := tracing.traceparent():
                ids = traceparent.split("-")[1:]
                scope.setdefault("state", {})["context"] = _context(scope, *ids)
            status = await self._answer(scope, receive, send)
            route = getattr(scope.get("route"), "path", "unmatched")
            tracing.describe(
                {"http.route": route, "http.response.status_code": status},
                name=f"{method} {route}",
                failed=status >= 500,
            )
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer the request. Returns the status; 500 for none."""
        context, status = context_of(scope), 500

        async def send_with_context(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["traceparent"] = context.traceparent
                headers[CORRELATION_HEADER] = str(context.correlation_id)
                add_security_headers(headers, secure=scope.get("scheme") == "https")
            await send(message)

        with bound_contextvars(
            trace_id=context.trace_id, correlation_id=str(context.correlation_id)
        ):
            await self._app(scope, receive, send_with_context)
        return status
