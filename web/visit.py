"""One request of a browser: its session, its form, the API in its name, and the pages that answer
it."""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from web.api_client import Api, Problem
from web.forms import Form, form_of
from web.rendering import Renderer
from web.sessions import Sealer, Session, User, new_session
from web.sockets import Sockets
from web.values import as_id

REFRESH_BEFORE_SECONDS = 60.0
"""How long before its end an access token is exchanged for a new one."""

_AS_IT_IS = ":/%#?=@[]!$&'()*+,;"
"""What stays as it is in a path that may have any letters, as in redirects."""

_PART = re.compile(r"[\w:-]+", re.ASCII)

_PASSED_ON = ("accept-language", "traceparent", "host", "user-agent", "min-position")


@dataclass(frozen=True)
class WebSettings:
    """`secret` seals the cookies, and is the same in all processes. `cards` are the tokens of cards
    that can be chosen, and their names, where the payment provider has such; `has_pay_page` says
    whether it has a page of its own to pay on. X-Forwarded-… is trusted from `trusted_proxies`.
    `environment` is what the console names in its head, such as "production"."""

    secret: bytes
    cards: tuple[tuple[str, str], ...] = ()
    has_pay_page: bool = False
    trusted_proxies: tuple[str, ...] = ()
    environment: str = ""


class _Context(Protocol):
    """What the middleware around the pages knows of a request, which its calls of the API pass
    on."""

    @property
    def traceparent(self) -> str: ...
    @property
    def correlation_id(self) -> UUID: ...


@dataclass(frozen=True)
class Site:
    """What all requests share."""

    api: ASGIApp
    sockets: Sockets
    renderer: Renderer
    sealer: Sealer
    settings: WebSettings


class _Tokens(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str
    expires_in: int


@dataclass
class Visit:
    """A request and what answers it. `session` is kept by the browser if it was changed; `files`
    are those of the form, which can be read until the handler ends."""

    site: Site
    request: Request
    session: Session
    api: Api
    form: Form = field(default_factory=Form)
    files: list[UploadFile] = field(default_factory=list)
    changed: bool = False

    @property
    def user(self) -> User | None:
        """Who is signed in."""
        return self.session.user

    @property
    def is_fragment(self) -> bool:
        """Whether a script asks for a part of the page."""
        headers = self.request.headers
        return "hx-request" in headers and "hx-history-restore-request" not in headers

    @property
    def here(self) -> str:
        """This page, for a link that leads back to it; `/` for the answer to a form."""
        url = self.request.url
        if self.request.method != "GET":
            return "/"
        return f"{url.path}?{url.query}" if url.query else url.path

    def query(self, name: str) -> str:
        """A parameter of the URL."""
        return self.request.query_params.get(name, "").strip()

    def further(self, path: str, cursor: str) -> str:
        """The next page of the list at `path`, with what else the URL asks for."""
        return f"{path}?{urlencode({**self.request.query_params, 'cursor': cursor})}"

    def id(self, name: str) -> str:
        """An id in the page's path, as the API spells it. Raises Problem 404."""
        return id_of(self.request.path_params[name])

    def part(self, name: str) -> str:
        """A name or a number in the page's path, fit to be a part of the API's path. Raises Problem
        404."""
        return path_part(self.request.path_params[name])

    # -- the session -------------------------------------------------------------------------------

    def keep(self, **changes: Any) -> None:
        """Change the session."""
        self.session = msgspec.structs.replace(self.session, **changes)
        self.api.token = self.session.access_token
        self.changed = True

    def sign_in(self, user: User, access_token: str, refresh_token: str, expires_in: int) -> None:
        """Begin a session of an account, with another secret for its forms."""
        self.session = new_session()
        self.keep(user=user)
        self._hold(_Tokens(access_token, refresh_token, expires_in))

    def sign_out(self, notice: str = "") -> None:
        """Forget who is signed in."""
        self.session = new_session()
        self.keep(notice=notice)

    def _hold(self, tokens: _Tokens) -> None:
        self.keep(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            access_ends=time.time() + tokens.expires_in,
        )

    async def refresh(self) -> None:
        """Exchange the tokens if they are due. A session that the API has ended is over here,
        too."""
        session = self.session
        if session.user is None or session.access_ends - time.time() > REFRESH_BEFORE_SECONDS:
            return
        key = self.site.sealer.refresh_key(session.refresh_token)
        body = {"refresh_token": session.refresh_token}
        self.api.token = ""
        try:
            self._hold(await self.api.post("/api/v1/auth/refresh", body, _Tokens, once=key))
        except Problem as problem:
            if problem.status != 401:
                raise
            self.sign_out("Your session has ended. Sign in again to go on.")

    @property
    def once(self) -> str:
        """A key of one use, for a form that may be sent twice and must count once."""
        return secrets.token_urlsafe(18)

    @property
    def blank_form(self) -> Form:
        """A form as nobody has sent it, for the other forms of a page."""
        return Form()

    # -- answers -----------------------------------------------------------------------------------

    def page(
        self, template: str, *, status: int = 200, fragment: str = "", **context: Any
    ) -> Response:
        """A page; for a script that asks for a part of it, its block `fragment`."""
        headers = {"Vary": "HX-Request, Cookie"}
        if self.user is not None:
            headers["Cache-Control"] = "no-store"  # else Back shows it to whoever comes next
        if fragment and self.is_fragment:
            return HTMLResponse(self.block(template, fragment, **context), status, headers)
        notice = self.session.notice
        if notice:
            self.keep(notice="")
        shown = {"visit": self, "form": self.form, "notice": notice, **context}
        return HTMLResponse(self.site.renderer.page(template, shown), status, headers)

    def block(self, template: str, name: str, **context: Any) -> str:
        """One block of a page."""
        shown = {"visit": self, "form": self.form, **context}
        return self.site.renderer.block(template, name, shown)

    @property
    def csrf(self) -> str:
        """What a form of this page must send."""
        return self.session.csrf

    def go(self, path: str, notice: str = "") -> Response:
        """Send the browser to another page of the shop, which shows the notice."""
        if notice:
            self.keep(notice=notice)
        if self.is_fragment:
            return Response(status_code=204, headers={"HX-Redirect": quote(path, _AS_IT_IS)})
        return RedirectResponse(path, 303)

    def read_form(self, data: FormData) -> None:
        """Take over what was sent."""
        self.form = form_of(data)
        files = (value for _, value in data.multi_items() if isinstance(value, UploadFile))
        self.files = [file for file in files if file.filename]  # none was chosen: an empty name


def visit_of(site: Site, request: Request, session: Session | None) -> Visit:
    """The visit of a request with this session; a new one, if it has none."""
    found = session or new_session()
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    context: _Context | None = request.scope.get("state", {}).get("context")
    if context is not None:
        headers["traceparent"] = context.traceparent
        headers["x-correlation-id"] = str(context.correlation_id)
    api = Api(site.api, request.scope, headers)
    api.token = found.access_token
    return Visit(site, request, found, api, changed=session is None)


def id_of(text: str) -> str:
    """An id that was typed, as the API spells it, whose answers it is compared with. Anything else
    is not found: the API may have a word in the place of the id. Raises Problem 404."""
    found = as_id(text)
    if found is None:
        raise Problem("not_found", 404)
    return found


def path_part(text: str) -> str:
    """A name or a number that was typed, fit to be a part of a path; what is neither is not found.
    Raises Problem 404."""
    if not _PART.fullmatch(text):
        raise Problem("not_found", 404)
    return text


def own_path(text: str) -> str:
    """A path of this site, as given; `/` for anything that leads elsewhere."""
    is_own = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_own and text.isprintable() else "/"
