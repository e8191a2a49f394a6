"""A request's context: its trace (W3C Trace Context), correlation and client."""

import re
import secrets
from uuid import UUID

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.middleware.security_headers import add_security_headers

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)

CORRELATION_HEADER = "X-Correlation-ID"


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
    parent = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    trace_id, flags = (parent[1], parent[2]) if parent else (secrets.token_hex(16), "01")
    peer = scope.get("client")
    return Context(
        trace_id=trace_id,
        span_id=secrets.token_hex(8),
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
    """Middleware: gives every request a context, sends its ids back in the response headers, and
    binds them to log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        context = context_of(scope)

        async def send_with_context(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["traceparent"] = context.traceparent
                headers[CORRELATION_HEADER] = str(context.correlation_id)
                add_security_headers(headers, secure=scope.get("scheme") == "https")
            await send(message)

        with bound_contextvars(
            trace_id=context.trace_id, correlation_id=str(context.correlation_id)
        ):
            await self._app(scope, receive, send_with_context)
        return None
