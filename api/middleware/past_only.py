"""Middleware of a server that shows the shop as it was at one position, and nothing else: every GET
of the API under /as-of/, as if it were asked with `as_of`."""

from collections.abc import Iterable
from urllib.parse import parse_qs

from fastapi.dependencies.models import Dependant
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.security_headers import add_security_headers
from api.problems import Problem, problem_response
from api.route_table import RouteTable
from api.routing import CheckedRoute

PREFIX = "/as-of"
POSITION_HEADER = "As-Of-Position"
AS_OF = "as_of"


class PastOnly:
    """The outermost middleware. Who may ask is checked by the routes, as with `as_of`."""

    def __init__(self, app: ASGIApp, position: int, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._position = str(position)
        self._table = RouteTable(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[POSITION_HEADER] = self._position
                add_security_headers(headers, secure=scope.get("scheme") == "https")
            await send(message)

        inner = {**scope, "root_path": PREFIX}
        problem = self._problem(inner)
        if problem is not None:
            await problem_response(problem, scope)(scope, receive, send_marked)
            return
        if AS_OF not in _query(scope):
            asked = f"{AS_OF}={self._position}".encode()
            inner["query_string"] = b"&".join(filter(None, (scope["query_string"], asked)))
        await self._app(inner, receive, send_marked)

    def _problem(self, scope: Scope) -> Problem | None:
        """Why the request is not answered here; None if it is."""
        if not scope["path"].startswith(f"{PREFIX}/"):
            return Problem(404, "not_found", f"this server answers under {PREFIX}/ only")
        if scope["method"] not in {"GET", "HEAD"}:
            return Problem(
                405, "method_not_allowed", "the past is only read", headers={"Allow": "GET, HEAD"}
            )
        found = self._table.find({**scope, "method": "GET"})
        if found is None or not isinstance(found[0], CheckedRoute):
            return Problem(404, "not_found", "there is no such resource")
        if not _takes_as_of(found[0].dependant):
            return Problem(404, "present_only", "this shows the present, and has no past")
        if _query(scope).get(AS_OF, [self._position]) != [self._position]:
            return Problem(
                422, "invalid_as_of", f"this server answers as of position {self._position} only"
            )
        return None


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _takes_as_of(dependant: Dependant) -> bool:
    return any(field.alias == AS_OF for field in dependant.query_params) or any(
        map(_takes_as_of, dependant.dependencies)
    )
