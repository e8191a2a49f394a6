"""Errors as problem documents (RFC 9457). This module alone maps failures to answers.

A problem contains only what the client may know. Internal details (stack traces, SQL, secrets) go
to the log, under the trace id that the client gets.
"""

import json
import logging
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from api.middleware.context import context_of
from commands.accounts.belongings import NotSeenYet
from commands.ports.secrets import Overloaded
from commands.ports.signatures import InvalidSignature
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Refused, Stale, Unauthorized
from eventstore.codec import MissingKey, UnknownEvent
from eventstore.database.postgres import LIMITS, is_away
from eventstore.history import HistoryChanged
from eventstore.log import ClocksDiffer, TooLarge, VersionConflict
from kit.seldom import Seldom
from queries.audit.why import NoSuchRow, Unanswerable
from queries.engine.paging import BadCursor
from queries.engine.past import AsOfBeingBuilt, AsOfUnavailable
from queries.engine.positions import PositionUnknown, ReadModelBehind
from queries.search.searching import InvalidCursor

logger = logging.getLogger(__name__)
_away = Seldom(logger)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

MAX_ERRORS = 100
"""How many wrong fields of a request are reported at most."""

STATUS: Mapping[type[Refused], int] = {
    Invalid: 422,
    NotFound: 404,
    Forbidden: 403,
    Unauthorized: 401,
    Conflict: 409,
    Stale: 412,
}


class Problem(Exception):
    """An error with its answer. `extra` are additional fields of the document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail or code.replace("_", " ")
        self.headers = dict(headers or {})
        self.extra = extra


class FieldError(BaseModel):
    """One invalid field of a request. `pointer` is a JSON Pointer (RFC 6901) into the body."""

    field: str
    pointer: str | None = None
    message: str
    code: str
    hint: str | None = Field(None, description="The name that the client probably meant.")


class ProblemDocument(BaseModel):
    """RFC 9457 problem details. Some problems have additional fields."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:ludoteca:problem:insufficient_stock"])
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="A stable code for programs.", examples=["insufficient_stock"])
    trace_id: str
    errors: list[FieldError] | None = None


def unavailable(code: str, detail: str) -> Problem:
    """A 503 with Retry-After."""
    return Problem(503, code, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def dependency_unavailable() -> Problem:
    """The answer while a dependency is down."""
    return unavailable(
        "dependency_unavailable",
        "a service that this request needs cannot be reached at the moment",
    )


def problem_of(error: BaseException) -> Problem:
    """The problem for an error. Of several errors at once, an unforeseen one counts, else the
    first. An unforeseen error is a 500 without details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BaseExceptionGroup):
        problems = [problem_of(each) for each in error.exceptions]
        return next((problem for problem in problems if problem.status == 500), problems[0])
    for kind, explain in _EXPLAINED.items():
        if isinstance(error, kind):
            return explain(error)
    if is_away(error):
        return dependency_unavailable()
    return Problem(500, "internal_error", "an unforeseen error happened in the server")


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The problem as the answer to the request of this scope."""
    document: dict[str, object] = {
        **problem.extra,
        "type": f"urn:ludoteca:problem:{problem.code}",
        "title": problem.code.replace("_", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        "instance": scope.get("path", ""),
        "code": problem.code,
        "trace_id": context_of(scope).trace_id,
    }
    return Response(to_json(document), problem.status, problem.headers, MEDIA_TYPE)


def error_response(error: BaseException, scope: Scope) -> Response:
    """The answer to a failed request. Outages and unforeseen errors are logged."""
    problem = problem_of(error)
    if problem.status >= 500:
        log_failure(f"{scope.get('method')} {scope.get('path')}", problem, error)
    return problem_response(problem, scope)


def log_failure(what: str, problem: Problem, error: BaseException) -> None:
    """Log an error: unforeseen ones with their traceback, outages as a line that is not repeated
    too often."""
    if problem.status == 503:
        cause = error.__cause__ if isinstance(error, Problem) and error.__cause__ else error
        reason = (
            problem.detail
            if isinstance(cause, Problem)
            else " ".join(str(cause).split()) or type(cause).__name__
        )
        _away.warning(problem.code, f"{what} failed: {problem.code}: {reason}")
    else:
        logger.error("%s failed: %s", what, problem.code, exc_info=error)


def to_json(value: object) -> bytes:
    """JSON, also for values that orjson refuses: texts from clients may contain lone surrogates."""
    try:
        return orjson.dumps(value, default=str)
    except orjson.JSONEncodeError:
        return json.dumps(value, default=str).encode()


def _refused(refusal: Refused) -> Problem:
    status = next((status for kind, status in STATUS.items() if isinstance(refusal, kind)), 409)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = (
            'Bearer realm="ludoteca", error="invalid_token"'
            if refusal.code == "invalid_token"
            else "Bearer"
        )
    problem = Problem(status, refusal.code, refusal.detail, headers=headers)
    problem.extra = refusal.extra
    return problem


def _unanswerable(error: Unanswerable) -> Problem:
    status = 404 if isinstance(error, NoSuchRow) else 422
    problem = Problem(status, error.code, str(error))
    problem.extra = error.extra
    return problem


def _http(error: HTTPException) -> Problem:
    # FastAPI could not read the body; for a form, it says why
    if error.status_code == 400:
        if error.detail == "There was an error parsing the body":
            return Problem(400, "malformed_json", "the body is not JSON")
        return Problem(400, "malformed_form", str(error.detail))
    known = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    code = known.get(error.status_code) or HTTPStatus(error.status_code).phrase.lower().replace(
        " ", "_"
    )
    return Problem(error.status_code, code, str(error.detail), headers=error.headers)


def _invalid_request(error: RequestValidationError) -> Problem:
    errors = error.errors()
    if any(each["type"] == "json_invalid" for each in errors):
        return Problem(400, "malformed_json", "the body is not JSON")
    fields = [_field_error(each).model_dump() for each in errors[:MAX_ERRORS]]
    return Problem(422, "invalid_request", "some fields are invalid", errors=fields)


def _field_error(error: Mapping[str, Any]) -> FieldError:
    source, *path = [_printable(part) for part in error["loc"]]
    pointer = None
    if source == "body":
        pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    return FieldError(
        field=".".join(path) or source,
        pointer=pointer,
        message=error["msg"],
        code=error["type"],
        hint=error.get("hint"),
    )


def _printable(part: str | int) -> str:
    return str(part).encode(errors="replace").decode()


_EXPLAINED: Mapping[type[BaseException] | tuple[type[Exception], ...], Callable[[Any], Problem]] = {
    Refused: _refused,
    RequestValidationError: _invalid_request,
    HTTPException: _http,
    (Overloaded, PoolTimeout): lambda _: unavailable(
        "overloaded", "too many requests at once; try again in a moment"
    ),
    CancelledError: lambda _: unavailable(
        "interrupted", "the request was interrupted because the process is stopping; try again"
    ),
    ClocksDiffer: lambda error: unavailable("clock_skew", str(error)),
    TooLarge: lambda error: Problem(413, error.code, str(error)),
    LIMITS: lambda _: Problem(
        413, "request_too_large", "the request needs more than the database can do at once"
    ),
    (ReadModelBehind, NotSeenYet): lambda _: unavailable(
        "read_model_behind", "the read model has not caught up yet"
    ),
    PositionUnknown: lambda error: Problem(400, "position_unknown", str(error)),
    Unanswerable: _unanswerable,
    AsOfBeingBuilt: lambda error: unavailable("as_of_being_built", str(error)),
    AsOfUnavailable: lambda error: unavailable("as_of_unavailable", str(error)),
    (BadCursor, InvalidCursor): lambda _: Problem(
        400, "invalid_cursor", "the cursor does not belong to this list"
    ),
    InvalidSignature: lambda _: Problem(
        400, "invalid_signature", "the signature is missing, wrong, too old or too new"
    ),
    HistoryChanged: lambda _: unavailable(
        "history_changed",
        "the shop's data was restored to an earlier moment: start again, without a position",
    ),
    VersionConflict: lambda _: Problem(
        409, "version_conflict", "others kept changing the same resource; try again"
    ),
    UnknownEvent: lambda _: unavailable(
        "release_outdated",
        "this data was written by a newer release, and this one cannot read it",
    ),
    MissingKey: lambda _: Problem(409, "person_forgotten", "this person's data was destroyed"),
}
