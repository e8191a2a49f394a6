"""The order in which a request is checked.

1. Authentication (401) and authorization (403). 2. Parameters (422). 3. The body's content type
(415), size (413) and content (400, 422). 4. Existence (404) and decisions (402, 409, 412). No body
is read before its sender is known.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import HTTPException, params
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.arguments import Plan, Unplanned
from api.auth import TAKES_AS_OF, Access
from api.hints import hinted
from api.middleware.card_numbers import card_data_refused, contain_card_number
from api.problems import Problem, error_response
from api.services import GatewaySettings
from kit.tracebacks import drop_tracebacks

Handler = Callable[[Request], Awaitable[Response]]

_STACKS = ("fastapi_middleware_astack", "fastapi_inner_astack", "fastapi_function_astack")
"""Where FastAPI's handler looks for what to close: the files of a form."""

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
"""Characters that PostgreSQL cannot store in a text, or UTF-8 cannot encode."""

_NAMED = re.compile(r"\(\?P<\w+>")
"""The start of a named parameter in a path's pattern."""


class CheckedRoute(APIRoute):
    """A route that checks the caller before it reads the input. `access` holds all conditions on
    the caller."""

    access: tuple[Access, ...]
    _checked: Handler

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The checks, then the endpoint."""
        self.access = tuple(dict.fromkeys(_access(self.dependant)))
        asked = tuple(access for access in self.access if not access.anybody)
        known = _query_names(self.dependant)
        form = self.reads_form
        reads = self.body_field is not None or "GET" not in (self.methods or ())
        handle = _planned(self.dependant, super().get_route_handler())

        async def checked(request: Request) -> Response:
            request.scope.setdefault("state", {})[TAKES_AS_OF] = "as_of" in known
            for access in asked:
                await access(request)
            try:
                _check_parameters(request, known)
                if reads:
                    if self.body_field is not None:
                        _check_kind(request, form=form)
                    settings: GatewaySettings = request.app.state.services.settings
                    limit = settings.upload_limit_bytes if form else settings.body_limit_bytes
                    request = Request(request.scope, _limited(request, limit), request._send)
                return await handle(request)
            except RequestValidationError as refusal:
                if contain_card_number(refusal.errors()):
                    raise card_data_refused() from None
                raise hinted(refusal, known, self.body_field) from None

        self._checked = checked
        return checked

    @property
    def reads_form(self) -> bool:
        """Whether the body is a form, perhaps with files."""
        body = self.body_field
        return body is not None and isinstance(body.field_info, params.Form)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for this route; the scope is as a router leaves it."""
        request = Request(scope, receive, send)
        try:
            response = await self._checked(request)
        except (StarletteHTTPException, RequestValidationError) as error:
            response = await explain(request, error)
            drop_tracebacks(error)
        await response(scope, receive, send)


async def explain(request: Request, error: Exception) -> Response:
    """The answer to what FastAPI refuses."""
    if isinstance(error, StarletteHTTPException) and error.status_code == 405:
        error = HTTPException(405, headers={"Allow": methods_at(request)})
    return error_response(error, request.scope)


def _planned(dependant: Dependant, handle: Handler) -> Handler:
    """Call the endpoint by a plan, or by FastAPI's own handler if the endpoint has none."""

    async def by_fastapi(request: Request) -> Response:
        async with AsyncExitStack() as stack:
            request.scope.update(dict.fromkeys(_STACKS, stack))
            return await handle(request)

    try:
        plan = Plan(dependant)
    except Unplanned:
        return by_fastapi

    async def by_plan(request: Request) -> Response:
        try:
            return await plan.call(request)
        except Unplanned:
            return await by_fastapi(request)

    return by_plan


def _access(dependant: Dependant) -> Iterator[Access]:
    if isinstance(dependant.call, Access):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _access(inner)


def _query_names(dependant: Dependant) -> frozenset[str]:
    names = frozenset(field.alias for field in dependant.query_params)
    return names.union(*(_query_names(inner) for inner in dependant.dependencies))


# -- parameters ------------------------------------------------------------------------------------


def _check_parameters(request: Request, known: frozenset[str]) -> None:
    """Raises RequestValidationError for unknown query parameters and for text that cannot be
    stored."""
    errors = []
    if _NO_TEXT.search(request.scope["path"]):
        wrong = (name for name, value in request.path_params.items() if _NO_TEXT.search(str(value)))
        errors += [
            _error("text", "path", name, "NUL and lone surrogates are not allowed")
            for name in wrong
        ]
    if request.scope["query_string"]:
        for name, value in request.query_params.multi_items():
            if name not in known:
                errors.append(
                    _error("extra_forbidden", "query", name, "this parameter does not exist")
                )
            elif _NO_TEXT.search(value):
                errors.append(
                    _error("text", "query", name, "NUL and lone surrogates are not allowed")
                )
    if errors:
        raise RequestValidationError(errors)


def _error(code: str, place: str, name: str, message: str) -> dict[str, Any]:
    return {"type": code, "loc": (place, name), "msg": message}


# -- bodies ----------------------------------------------------------------------------------------


def _check_kind(request: Request, *, form: bool) -> None:
    """Raises Problem 415 for a body of the wrong content type. A body without one counts as
    JSON."""
    content_type, encoding = (
        request.headers.get("content-type"),
        request.headers.get("content-encoding", "identity"),
    )
    wanted = "multipart/form-data" if form else "application/json"
    if content_type is not None and content_type != wanted:
        kind = content_type.partition(";")[0].strip().lower()
        if kind != wanted and (
            form or not (kind.startswith("application/") and kind.endswith("+json"))
        ):
            raise _unsupported(f"the body must be {wanted}", {"Accept": wanted})
    if encoding.strip().lower() != "identity":
        raise _unsupported(
            "the body must not have a Content-Encoding", {"Accept-Encoding": "identity"}
        )


def _unsupported(detail: str, headers: Mapping[str, str]) -> Problem:
    return Problem(415, "unsupported_media_type", detail, headers=headers)


def _limited(request: Request, limit: int) -> Receive:
    """A receiver that raises 413 as soon as the body is, or declares to be, larger than `limit`
    bytes."""
    receive, received = request.receive, 0
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and (len(declared) > 18 or int(declared) > limit)

    async def limited() -> Message:
        nonlocal received
        if too_large:
            raise _too_large(limit)
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return limited


def _too_large(limit: int) -> HTTPException:
    """413, as the exception type that FastAPI's body reader lets through. It closes the connection,
    as the rest of the body is not read."""
    return HTTPException(413, f"a body has at most {limit} bytes", {"Connection": "close"})


# -- methods ---------------------------------------------------------------------------------------


def methods_at(request: Request) -> str:
    """The value of `Allow`: the methods of the first path pattern that matches the request, which
    is the one that routes. Later patterns would match its literal segments as ids."""
    first, found = None, set[str]()
    for route in request.app.routes:
        methods = getattr(route, "methods", None)
        if not methods or not route.path_regex.match(request.scope["path"]):
            continue
        pattern = _NAMED.sub("(", route.path_regex.pattern)
        first = first or pattern
        if pattern == first:
            found |= methods
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))
