"""Middlewares right in front of the routes: errors become problem documents, and no request waits
for a database that is down."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import dependency_unavailable, error_response, problem_response
from eventstore.database.connections import DatabaseAway
from eventstore.database.watch import DatabaseWatch
from kit.tracebacks import drop_tracebacks


class ProblemResponses:
    """Middleware: answers every exception with a problem document.

    While the database is down, running requests are ended and new ones refused at once, except for
    `unguarded` paths.
    """

    def __init__(
        self,
        app: ASGIApp,
        unguarded: Sequence[str] = (),
        dependency_errors: tuple[type[Exception], ...] = (),
        watch: DatabaseWatch | None = None,
    ) -> None:
        self._app = app
        self._unguarded = tuple(unguarded)
        self._dependency_errors = dependency_errors
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False
        waiting = None

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)
            if (
                waiting is not None
                and message["type"] == "http.response.body"
                and not message.get("more_body")
            ):
                waiting.leave()  # background work after the answer must not be cancelled

        try:
            if self._watch is None or scope["path"].startswith(self._unguarded):
                await self._app(scope, receive, watched_send)
            else:
                with self._watch.while_there() as waiting:
                    await self._app(scope, receive, watched_send)
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # cancellation and panics of native code included
            if begun:
                raise
            response = self._answer_to(error, scope)
            drop_tracebacks(error)
            await response(scope, receive, send)
        return None

    def _answer_to(self, error: BaseException, scope: Scope) -> Response:
        if isinstance(error, DatabaseAway):  # already logged, once
            return problem_response(dependency_unavailable(), scope)
        if isinstance(error, self._dependency_errors):
            down = dependency_unavailable()
            down.__cause__ = error
            return error_response(down, scope)
        return error_response(error, scope)


class HeadRequests:
    """Middleware: answers HEAD like GET, without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def send_head(message: Message) -> None:
            scope["route"] = as_get.get("route")  # before it is counted
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        return await self._app(as_get, receive, send_head)
