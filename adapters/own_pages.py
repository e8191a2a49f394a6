"""Keeps pages of other sites from pressing the buttons of a simulated service."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE = {"GET", "HEAD", "OPTIONS"}


class OwnPages:
    """Middleware: refuses what a browser sends in the name of another site's page.

    Who reaches the port is trusted, and a visitor's browser reaches it on any page's behalf; there
    is no session to whose secret a form could be bound. Programs send neither header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = (
            scope["type"] == "http"
            and scope["method"] not in SAFE
            and _is_of_another_site(Headers(scope=scope))
        )
        if is_refused:
            refusal = JSONResponse({"detail": "a page of another site has sent this"}, 403)
            return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)


def _is_of_another_site(headers: Headers) -> bool:
    """By `Sec-Fetch-Site`, which browsers send to 127.0.0.1 and over TLS, else by `Origin`."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
