"""Shared by queries: the position a read model must have reached, missing resources, and past
moments (`as_of`)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Query, Request
from pydantic import AwareDatetime, BeforeValidator, TypeAdapter, ValidationError

from api.access import access_of
from api.auth import authenticated
from api.problems import FieldError, Problem
from api.services import Services, ServicesOf
from domain.errors import Forbidden, Unauthorized
from domain.times import EARLIEST, LATEST
from queries.engine.paging import MAX_LIMIT
from queries.engine.positions import PositionUnknown
from queries.engine.read_models import QueryResult, ReadModels

T = TypeVar("T")

CATCH_UP_SECONDS = 1.0

BEYOND_EVERY_LOG = 2**63 - 1


def _as_position(value: object) -> object:
    """Cap a number with more digits than any position: no log is that long."""
    if isinstance(value, str) and len(value) > 18 and value.isascii() and value.isdecimal():
        return BEYOND_EVERY_LOG if value[:-18].strip("0") else value[-18:]
    return value


MinPosition = Annotated[
    int,
    Header(
        alias="Min-Position",
        ge=0,
        description="Answer 503 unless the read model reflects the log up to this position. One's"
        " own writes need none.",
    ),
    BeforeValidator(_as_position),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[
    str | None, Query(max_length=1000, description="`next_cursor` of the previous page.")
]


# -- as of -----------------------------------------------------------------------------------------

_time: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


async def _as_of_position(
    request: Request,
    services: ServicesOf,
    as_of: Annotated[
        str | None,
        Query(
            max_length=64,
            description="A past moment: a log position or an RFC 3339 time (AUDITOR, ADMIN).",
        ),
    ] = None,
) -> int | None:
    if as_of is None:
        return None
    caller = await authenticated(request)
    if isinstance(caller, Unauthorized):
        raise caller
    if caller.account_type not in {"AUDITOR", "ADMIN"}:
        raise Forbidden("role_required", "only an AUDITOR or an ADMIN may use as_of")
    return await position_of(services, as_of)


async def position_of(services: Services, text: str, field: str = "as_of") -> int:
    """The log position that the text of a field names: a position or a time. Raises
    Problem("invalid_as_of") and Problem("position_unknown"), which name the field."""
    try:
        return await services.audit.position_at(moment_in(text, field))
    except PositionUnknown as error:
        raise _refusal(400, "position_unknown", str(error), field) from error


def _refusal(status: int, code: str, detail: str, field: str) -> Problem:
    error = FieldError(field=field, message=detail, code=code)
    return Problem(status, code, detail, errors=[error.model_dump()])


def moment_in(text: str, field: str = "as_of") -> int | datetime:
    """The moment that the text of a field names. Raises Problem("invalid_as_of")."""
    if text.isdecimal() and len(text) < 19:
        return int(text)
    wanted = f"{field} must be a log position or an RFC 3339 time"
    invalid = _refusal(422, "invalid_as_of", wanted, field)
    # pydantic would read it as seconds since 1970
    if text.lstrip("+-").replace(".", "", 1).isdecimal():
        raise invalid
    try:
        at = _time.validate_strings(text.replace(" ", "+"))  # an unescaped plus arrives as a space
    except ValidationError as error:
        raise invalid from error
    return min(max(at, EARLIEST), LATEST)  # no event is dated outside these


AsOf = Annotated[int | None, Depends(_as_of_position)]
"""The position of the past moment that is asked for. Raises Unauthorized,
Forbidden("role_required"), Problem("invalid_as_of"), PositionUnknown."""


# -- read models -----------------------------------------------------------------------------------


async def _present(
    request: Request, services: ServicesOf, min_position: MinPosition = 0
) -> ReadModels:
    reads = services.reads
    if services.replica is not None and request.method == "GET":  # no command may rest on it
        reads = reads.from_replica(services.replica)
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized:
        access = None
    if access is not None:
        reads = reads.of_caller(services.own_writes.of(access.user_id))
    return reads.reaching(min_position) if min_position else reads


PresentReads = Annotated[ReadModels, Depends(_present)]
"""The read models; with `Min-Position`, once they have reached that position. A signed-in caller's
own writes are in what they answer."""


async def _read_models(
    request: Request, services: ServicesOf, as_of: AsOf, min_position: MinPosition = 0
) -> ReadModels:
    if as_of is not None:
        return services.reads.at(as_of)
    return await _present(request, services, min_position)


Reads = Annotated[ReadModels, Depends(_read_models)]
"""As `PresentReads`; or with `as_of` the read models as they were."""


async def now_of(services: Services, as_of: int | None) -> datetime:
    """The time by which holds and carts have expired or not: now, or that of a position."""
    if as_of is None:
        return services.clock.now()
    return await services.audit.time_at(as_of) or EARLIEST


async def _log_position(services: ServicesOf, min_position: MinPosition = 0) -> int:
    head = await services.log.head()
    if min_position > head:
        raise PositionUnknown(min_position, head)
    return head


LogPosition = Annotated[int, Depends(_log_position)]
"""The end of the log, which queries of the log itself reflect."""


async def _log_end(services: ServicesOf, as_of: AsOf, min_position: MinPosition = 0) -> int:
    return await _log_position(services, min_position) if as_of is None else as_of


LogEnd = Annotated[int, Depends(_log_end)]
"""As `LogPosition`; or the position of the past moment that is asked for."""


async def found(
    services: ServicesOf,
    reads: ReadModels,
    ask: Callable[[ReadModels], Awaitable[QueryResult[T | None]]],
    missing: Callable[[], Exception],
    past: Callable[[int], Awaitable[T | None]] | None = None,
) -> tuple[T, int]:
    """A query's result and its position. Raises `missing` only if the end of the log has no result
    either.

    `past` finds the result as of a position in the log, by folding the row's own streams: quicker
    for one row than the read models as they were.
    """
    if reads.as_of is not None and past is not None:
        then = await past(reads.as_of)
        if then is None:
            raise missing()
        return then, reads.as_of
    answer = await ask(reads)
    if answer.value is None and reads.as_of is None:
        head = await services.log.head()
        if answer.position < head:
            answer = await ask(reads.reaching(head, CATCH_UP_SECONDS - reads.waited))
    if answer.value is None:
        raise missing()
    return answer.value, answer.position
