"""Answers and their header fields: positions, entity tags, links to next pages, preferences."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.fields import Page
from api.services import Services
from commands.handler import CommandResult

POSITION_HEADER = "Event-Position"
DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS = 2, 10

_VERSION = re.compile("([0-9]{1,18})(?:-[0-9a-fA-F]+)?")
_STRONG_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')


def answer(
    body: BaseModel | None,
    *,
    status: int = 200,
    position: int | None = None,
    version: int | None = None,
    beside: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A JSON answer, or one without a body for None. `position` is the log position it reflects,
    `version` the version it shows; for `beside` see `etag`."""
    fields = dict(headers or {})
    if position is not None:
        fields[POSITION_HEADER] = str(position)
    if version is not None:
        fields["ETag"] = etag(version, beside)
    if body is None:
        return Response(None, status, fields)
    return Response(body.model_dump_json(), status, fields, "application/json")


async def position_of(result: CommandResult[Any], services: Services) -> int:
    """The position of a command's append. If it appended nothing, the end of the log, which
    contains the reason."""
    return await services.log.head() if result.position is None else result.position


class Content(msgspec.Struct, frozen=True):
    """The content of a JSON answer: the body and its entity tag; `headers` are further headers.
    Besides its subject it shows the stock in `stocks` (stream ids), which is valid only `until`
    then."""

    body: bytes
    etag: str
    headers: Mapping[str, str] = {}
    stocks: tuple[UUID, ...] = ()
    until: datetime | None = None


def respond(request: Request, content: Content, position: int) -> Response:
    """The content as of a log position, or 304 if the client has it."""
    headers = {**content.headers, POSITION_HEADER: str(position), "ETag": content.etag}
    if has_tag(request, content.etag):
        return Response(None, 304, headers)
    return Response(content.body, 200, headers, "application/json")


def page_content(
    request: Request,
    page: Page[Any],
    stocks: tuple[UUID, ...] = (),
    until: datetime | None = None,
) -> Content:
    """A page of a list, as `list_content`."""
    body = page.model_dump_json().encode()
    return list_content(request, body, page.next_cursor, stocks, until)


def list_content(
    request: Request,
    body: bytes,
    next_cursor: str | None,
    stocks: tuple[UUID, ...],
    until: datetime | None,
) -> Content:
    """A page of a list with a link to the next page (RFC 8288). A list has no version, so its
    entity tag is a digest of its content."""
    headers = {}
    if next_cursor is not None:
        following = request.url.include_query_params(cursor=next_cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return Content(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', headers, stocks, until)


def page_answer(request: Request, page: Page[Any], position: int) -> Response:
    """A page of a list, as `page_content`, or 304 if the client has it."""
    return respond(request, page_content(request, page), position)


# -- entity tags -----------------------------------------------------------------------------------


def etag(version: int, beside: str = "") -> str:
    """A strong entity tag: the stream's version and, if the answer shows more than the stream, a
    digest of the rest (`beside`). If-Match compares the version alone."""
    digest = f"-{hashlib.sha256(beside.encode()).hexdigest()[:8]}" if beside else ""
    return f'"{version}{digest}"'


def version_in(if_match: str | None) -> int | None:
    """The newest version in If-Match; -1, which no stream has, if it contains no tag of this API's
    form."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [_STRONG_TAG.fullmatch(tag) for tag in if_match.split(",")]
    versions = (_VERSION.fullmatch(tag[2]) for tag in tags if tag and not tag[1])
    return max((int(version[1]) for version in versions if version), default=-1)


async def _expected_version(
    if_match: Annotated[
        str | None, Header(description="The ETag that this change is based on: 412 if it is stale.")
    ] = None,
) -> int | None:
    return version_in(if_match)


ExpectedVersion = Annotated[int | None, Depends(_expected_version)]


def has_tag(request: Request, tag: str) -> bool:
    """Whether If-None-Match says that the client already has the content of this entity tag."""
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    tags = {each.strip().removeprefix("W/") for each in header.split(",")}
    return "*" in tags or tag in tags


def versioned(
    request: Request,
    body: BaseModel,
    *,
    position: int,
    version: int,
    beside: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The resource, or 304 if the client has it. For `beside` see `etag`."""
    content = Content(body.model_dump_json().encode(), etag(version, beside), headers or {})
    return respond(request, content, position)


# -- preferences -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preference:
    """How long to wait for an outcome before answering (RFC 7240)."""

    wait_seconds: float = DEFAULT_WAIT_SECONDS
    asynchronous: bool = False
    applied: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The header that reports which preference was applied."""
        return {"Preference-Applied": self.applied} if self.applied else {}

    @property
    def status(self) -> int:
        """201, or 202 if the answer does not wait for the outcome."""
        return 202 if self.asynchronous else 201


def preference_in(lines: Sequence[str]) -> Preference:
    """The preference in the lines of a Prefer header. Unknown wishes are ignored."""
    wishes = [wish.strip().lower() for line in lines for wish in line.split(",")]
    waits = [int(wish[5:]) for wish in wishes if re.fullmatch(r"wait=\d{1,6}", wish)]
    if "respond-async" in wishes:
        return Preference(0, asynchronous=True, applied="respond-async")
    if waits:
        seconds = min(waits[0], MAX_WAIT_SECONDS)
        return Preference(seconds, applied=f"wait={seconds}")
    return Preference()


async def _preference(
    prefer: Annotated[
        list[str] | None,
        Header(
            description="`wait=S`: seconds to wait for the outcome (up to 10). `respond-async`: 0."
        ),
    ] = None,
) -> Preference:
    return preference_in(prefer or ())


Prefer = Annotated[Preference, Depends(_preference)]
