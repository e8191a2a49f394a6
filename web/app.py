"""The web application: the pages, and the front door that leads a request to them or to the API."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote, urlsplit
from uuid import UUID

from python_multipart.multipart import parse_options_header
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from web import console, csrf, sell, shop, statics
from web.api_client import Problem
from web.rendering import Renderer
from web.routing import FormLimits, Page, Router
from web.security import add_headers
from web.sessions import Sealer, read_cookie, set_cookie
from web.sockets import Sockets
from web.statics import StaticFiles
from web.visit import Site, Visit, WebSettings, own_path, visit_of
from web.words import error_page

logger = logging.getLogger(__name__)

ROUTERS: Sequence[Router] = (
    *shop.ROUTERS,
    *sell.ROUTERS,
    *console.ROUTERS,
)

LARGEST_FORM_BYTES = max(page.limits.total_bytes for router in ROUTERS for page in router.pages)
"""The largest body that a request to a page may have."""

RETRY_SECONDS = 5
"""When a browser asks again for a page that could not be made, unless the API says when."""


def create_web(
    api: ASGIApp,
    api_paths: Iterable[str],
    settings: WebSettings,
    routers: Sequence[Router] = ROUTERS,
    observed: Callable[[ASGIApp], ASGIApp] = lambda pages: pages,
) -> "FrontDoor":
    """The API and the pages as one application. `api_paths` are the API's own paths; `observed`
    puts middleware around the pages, which finds a page's path pattern in `scope["route"]`."""
    files = StaticFiles()
    site = Site(api, Sockets(api), Renderer(files), Sealer(settings.secret), settings)
    pages = [page for router in routers for page in router.pages]
    routes = [
        *(Route(page.path, _endpoint(site, page), methods=[page.method]) for page in pages),
        Route(statics.PATH, files.serve),
    ]

    async def failed(request: Request, error: Exception) -> Response:
        return _error_page(visit_of(site, request, read_cookie(request, site.sealer)), error)

    app = Starlette(routes=routes, exception_handlers={HTTPException: failed})
    app.router.redirect_slashes = False  # it would lead to whatever host the request names
    web = observed(SecurityHeaders(app))
    proxied = ProxyHeadersMiddleware(cast("Any", web), trusted_hosts=list(settings.trusted_proxies))
    return FrontDoor(
        api,
        api_paths,
        cast("ASGIApp", proxied),
        [route.path for route in routes],
        site.sockets.close,
    )


class FrontDoor:
    """Leads each request to the pages or to the API, by the first segment of its path. An unknown
    path is a page for browsers, and a problem for everybody else."""

    def __init__(
        self,
        api: ASGIApp,
        api_paths: Iterable[str],
        web: ASGIApp,
        web_paths: Iterable[str],
        end_streams: Callable[[], None],
    ) -> None:
        """`end_streams` ends the pages' streams of events, when the process stops."""
        self.end_streams = end_streams
        self._api = api
        self._web = web
        self._of_web = {_first(path) for path in web_paths}
        self._of_api = {_first(path) for path in api_paths} - {""}
        if both := self._of_web & self._of_api:
            raise ValueError(f"both the API and the pages have {sorted(both)}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and self._is_page(scope)
        await (self._web if is_page else self._api)(scope, receive, send)

    def _is_page(self, scope: Scope) -> bool:
        first = _first(scope["path"])
        if first in self._of_web:
            return True
        return first not in self._of_api and any(
            name == b"accept" and b"text/html" in value for name, value in scope["headers"]
        )


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else path


class SecurityHeaders:
    """Middleware that adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), secure=scope.get("scheme") == "https")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _endpoint(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.scope["route"] = page
        visit = visit_of(site, request, read_cookie(request, site.sealer))
        asks = visit.user
        try:
            response = await _answer(visit, page)
        except Exception as error:  # whatever it is, a page says so
            response = _error_page(visit, error)
        if visit.changed:
            set_cookie(request, response, site.sealer, visit.session)
        if user := asks or visit.user:  # for the line of the log
            request.scope.setdefault("state", {})["user_id"] = UUID(user.id)
        return response

    return endpoint


async def _answer(visit: Visit, page: Page) -> Response:
    request, limits = visit.request, page.limits
    if page.method != "POST":
        return await _handled(visit, page)
    if visit.changed:  # without a session no form is ours, however large it is
        return visit.page("csrf.html", status=403)
    if (refusal := _refused(visit, page)) is not None:  # before it is received, too
        return refusal
    sent = Request(request.scope, _limited(request, limits))
    async with sent.form(max_files=limits.files, max_fields=limits.fields) as data:
        if not csrf.is_genuine(visit.session, request.headers, data):
            return visit.page("csrf.html", status=403)
        visit.read_form(data)
        return await _handled(visit, page)


async def _handled(visit: Visit, page: Page) -> Response:
    if page.fresh:
        await visit.refresh()
    if (refusal := _refused(visit, page)) is not None:
        return refusal
    try:
        return await page.handler(visit)
    except Problem as problem:
        if problem.code in {"session_ended", "invalid_token", "unauthorized"} and (
            problem.status == 401 and visit.user is not None
        ):
            visit.sign_out("Your session has ended. Sign in again to go on.")
            return _to_sign_in(visit)
        raise


def _refused(visit: Visit, page: Page) -> Response | None:
    """What those see whom the page does not admit."""
    if page.signed_in and visit.user is None:
        return _to_sign_in(visit)
    if page.admits and (visit.user is None or visit.user.account_type not in page.admits):
        return visit.page(page.refusal, status=403)
    return None


def _limited(request: Request, limits: FormLimits) -> Receive:
    """Receives a form. Raises HTTPException: 413 before more than the limit is in memory; 400 if it
    is cut off, which is no fault of ours; 415 if its texts are not in UTF-8, as browsers send them:
    some of Python's codecs take quadratic time, fail in other ways than expected, or make half
    characters."""
    _, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in {b"utf-8", b"utf8"}:
        raise HTTPException(415)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400)
        received += len(message.get("body", b""))
        if received > limits.total_bytes:
            raise HTTPException(413)
        return message

    return receive


def _to_sign_in(visit: Visit) -> Response:
    if visit.request.method == "GET":
        return visit.go(f"/sign-in?next={quote(visit.here)}")
    notice = visit.session.notice or "Sign in or register, then go on here."
    return visit.go(f"/sign-in?next={quote(_sender(visit))}", notice)


def _sender(visit: Visit) -> str:
    """The page of this site on which a form was sent; `/` if that is unknown, or was itself the
    answer to a form."""
    request = visit.request
    url = urlsplit(request.headers.get("referer", ""))
    look = {"type": "http", "method": "GET", "path": url.path}
    is_page = any(route.matches(look)[0] == Match.FULL for route in request.app.routes)
    if url.netloc != request.headers.get("host") or not is_page:
        return "/"
    return own_path(f"{url.path}?{url.query}" if url.query else url.path)


def _error_page(visit: Visit, error: Exception) -> Response:
    """The page that says what went wrong."""
    headers: Mapping[str, str] = {}
    if isinstance(error, HTTPException):
        headers = error.headers or {}
        error = Problem("not_found" if error.status_code == 404 else "refused", error.status_code)
    is_post = visit.request.method == "POST"
    if isinstance(error, Problem) and error.status in {400, 422} and not is_post:
        error = Problem("not_found", 404)  # an address that was typed or cut off
    if not isinstance(error, Problem):
        logger.error("%s failed", visit.request.url.path, exc_info=error)
        error = Problem("internal_error", 500)
    retry_after = error.retry_after or (RETRY_SECONDS if error.status == 503 else None)
    title, text = error_page(error.status)
    response = visit.page(
        "problem.html",
        status=error.status,
        problem=error,
        title=title,
        text=text,
        retry_after=None if is_post else retry_after,
    )
    response.headers.update(headers)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response
