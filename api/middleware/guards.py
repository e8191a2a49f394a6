"""Middlewares that stand before the routes: no failure leaves unexplained.

A database that is down is not asked again and again: after a few failures requests are answered 503 at once, until a
trial a moment later succeeds (a circuit breaker).
"""

from collections.abc import Sequence
from contextlib import nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import (
    dependency_unavailable,
    error_response,
    problem_of,
    problem_response,
)
from eventstore.database.postgres import is_away
from kit.circuit import Call, Circuit, CircuitOpen

FAILURES_TO_OPEN, OPEN_SECONDS = 5, 1.0

_WITHOUT_DATABASE = frozenset({400, 401, 404, 405, 413, 415, 422, 429})
"""What may be answered without a look into the database: such an answer does not show that it is there."""


class Failures:
    """Answers whatever was raised with a problem document, and breaks the circuit to a database that is down."""

    def __init__(
        self, app: ASGIApp, unguarded: Sequence[str] = (), dependency_errors: tuple[type[Exception], ...] = ()
    ) -> None:
        self._app, self._unguarded, self._dependency_errors = app, tuple(unguarded), dependency_errors
        self._database = Circuit(
            "the database",
            is_away,
            failures_to_open=FAILURES_TO_OPEN,
            open_seconds=OPEN_SECONDS,
            trial_seconds=OPEN_SECONDS,  # an answer may wait for payments, or for a client that is slow to send
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        unguarded = scope["path"].startswith(self._unguarded)
        try:
            async with nullcontext(Call()) if unguarded else self._database.calling() as call:
                try:
                    await self._app(scope, receive, watched_send)
                    call.asked = status not in _WITHOUT_DATABASE
                except Exception as error:
                    call.asked = problem_of(error).status not in _WITHOUT_DATABASE
                    raise
        except CircuitOpen:
            await problem_response(dependency_unavailable(), scope)(scope, receive, send)
        except Exception as error:
            if status:
                raise
            if isinstance(error, self._dependency_errors):
                down = dependency_unavailable()
                down.__cause__ = error
                error = down
            await error_response(error, scope)(scope, receive, send)
        return None


class Heads:
    """Middleware: answers HEAD as GET would, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_head)
        finally:
            scope["route"] = as_get.get("route")
        return None
