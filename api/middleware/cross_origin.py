"""Cross-origin requests: a browser asks by a preflight whether a page of another origin may send
what it wants to send."""

from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import Problem, problem_response


class CrossOrigin(CORSMiddleware):
    """Middleware: Starlette's, which would refuse in plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight: 200, or 400."""
        found = super().preflight_response(request_headers)
        return found if found.status_code == 200 else RefusedPreflight(found)


class RefusedPreflight(Response):
    """A problem document, made when it is sent: only then is the request known."""

    def __init__(self, plain: Response) -> None:
        super().__init__()
        self._detail = bytes(plain.body).decode()
        self._fields = {
            name: value for name, value in plain.headers.items() if not name.startswith("content-")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = Problem(400, "preflight_refused", self._detail, headers=self._fields)
        await problem_response(refused, scope)(scope, receive, send)
