"""Looking through the log: newest first, one event, its personal fields, and what is appended."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query, Request, WebSocket
from pydantic import Field
from starlette.responses import Response

from api.answers import answer, page_answer
from api.auth import Admin, Auditor
from api.fields import Answer, Body, Page, Reason, SingleLine
from api.reading import Limit, LogPosition, moment_in, position_of
from api.services import Services, ServicesOf
from api.socket_sessions import (
    Greeting,
    authenticate,
    first_message,
    must_audit,
    run_until_over,
    seat_of,
    send_in_time,
    serve_socket,
)
from api.views.events import EventView
from domain.errors import NotFound
from queries.audit.event_details import EventDetails, event_at
from queries.audit.log_search import LogSearch, Wanted
from queries.audit.log_tail import tail
from queries.bundles.making import personal_fields

router = APIRouter(prefix="/api/v1", tags=["audit"])

Name = Annotated[str | None, Query(max_length=200)]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]
OptionalMoment = Annotated[
    str | None,
    Query(min_length=1, max_length=64, description="A log position or an RFC 3339 time."),
]
EventPosition = Annotated[int, Path(ge=1, lt=2**63)]


def no_event() -> NotFound:
    """The error for a position that the log does not have."""
    return NotFound("event_not_found", "the log has no event at this position")


class LogView(Page[EventView]):
    """Events, newest first. All positions after `searched_after`, up to `searched_upto`, were
    looked at. A page may be empty without being the last: only a null `next_cursor` marks the last
    one."""

    searched_after: int
    searched_upto: int


class EventDetailsView(EventView):
    """An event, the kind of its stream, and what it means. `personal_fields` are stored encrypted.
    `amended_at` is the position at which it was declared that the event is read otherwise."""

    kind: str
    meaning: str
    personal_fields: list[str]
    amended_at: int | None


class DisclosureRequest(Body):
    """Why personal data is looked at: it is recorded in the log."""

    reason: Reason


class DisclosedView(Answer):
    """Personal fields of an event, and the id of the disclosure in the log. Those of forgotten
    persons read as such."""

    disclosure_id: UUID
    fields: dict[str, Any]


class Follow(Greeting):
    """The first message: which events to send (as of `GET /api/v1/audit/log`), after which
    position; by default, those appended from now on."""

    after_position: Annotated[int | None, Field(strict=True, ge=0, lt=2**63)] = None
    stream_id: UUID | None = None
    name: Annotated[SingleLine, Field(max_length=200)] | None = None
    actor: Annotated[SingleLine, Field(max_length=200)] | None = None
    correlation_id: UUID | None = None
    text: Annotated[SingleLine, Field(min_length=1, max_length=200)] | None = None


@router.get("/audit/log", response_model=LogView)
async def search_log(
    request: Request,
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    stream_id: UUID | None = None,
    name: Name = None,
    actor: Name = None,
    correlation_id: UUID | None = None,
    text: Text = None,
    since: OptionalMoment = None,
    until: OptionalMoment = None,
    limit: Limit = 50,
    cursor: Annotated[
        int | None, Query(ge=0, lt=2**63, description="`next_cursor` of the previous page.")
    ] = None,
) -> Response:
    """Search the log, newest first. One search looks through 1,000,000 positions at most; with
    `text` (a part of the stored payload, in small or capital letters; personal fields are stored
    encrypted) through 50,000. Requires AUDITOR or ADMIN."""
    upto = head if until is None else await position_of(services, until, "until")
    found = await LogSearch(services.log, services.audit).newest(
        Wanted(stream_id, name, actor, correlation_id, text),
        0 if since is None else await _before(services, moment_in(since, "since")),
        upto if cursor is None else min(upto, cursor),
        limit=limit,
    )
    following = None if found.is_last else str(found.searched_after)
    return page_answer(
        request,
        LogView.model_validate({**msgspec.structs.asdict(found), "next_cursor": following}),
        head,
    )


async def _before(services: Services, moment: int | datetime) -> int:
    """The position of the last event before a moment."""
    if isinstance(moment, datetime):
        return await services.audit.position_at(moment - timedelta(microseconds=1))
    return max(0, moment - 1)


@router.get("/audit/log/{position}", response_model=EventDetailsView)
async def get_event(
    position: EventPosition, services: ServicesOf, _: Auditor, head: LogPosition
) -> Response:
    """Return an event, with the names of its personal fields. Requires AUDITOR or ADMIN."""
    found = await _event(services, position)
    shown = {**msgspec.structs.asdict(found.event), **msgspec.structs.asdict(found)}
    return answer(EventDetailsView.model_validate(shown), position=head)


@router.post("/audit/log/{position}/disclose", response_model=DisclosedView)
async def disclose_event(
    position: EventPosition, body: DisclosureRequest, services: ServicesOf, caller: Admin
) -> Response:
    """Return the personal fields of an event, decrypted. Who asked, about whom and why is recorded
    in the log first. Requires ADMIN.

    Errors: 404 `event_not_found`, `no_personal_data`.
    """
    found = await _event(services, position)
    if not found.personal_fields:
        raise NotFound("no_personal_data", "this event has no personal fields")
    made = await services.commands.disclosures.disclose(
        caller, "event", found.event.event_id, found.persons, body.reason
    )
    opened = await personal_fields(services.log, [position])
    fields = {name: value for each in opened for name, value in each.fields.items()}
    view = DisclosedView(disclosure_id=made, fields=fields)
    return answer(view, headers={"Cache-Control": "no-store"})


async def _event(services: Services, position: int) -> EventDetails:
    found = await event_at(services.log, services.audit, position)
    if found is None:
        raise no_event()
    return found


# -- live ------------------------------------------------------------------------------------------


@router.websocket("/ws/log")
async def follow_log(websocket: WebSocket) -> None:
    """Send events as they are appended (docs/live.md)."""
    await serve_socket(websocket, _serve)


async def _serve(websocket: WebSocket) -> None:
    services: Services = websocket.app.state.services
    hello = await first_message(websocket, Follow)
    with services.while_there():
        access = await authenticate(services, hello.token)
        must_audit(access)
        after = await services.log.head() if hello.after_position is None else hello.after_position
    with seat_of(websocket, access):
        await run_until_over(websocket, services, access, _send(websocket, hello, after))


async def _send(websocket: WebSocket, hello: Follow, after: int) -> None:
    services: Services = websocket.app.state.services
    wanted = Wanted(hello.stream_id, hello.name, hello.actor, hello.correlation_id, hello.text)
    patience = services.settings.socket_patience_seconds
    async for batch in tail(services.log, LogSearch(services.log, services.audit), wanted, after):
        await send_in_time(websocket, msgspec.json.encode(batch).decode(), patience=patience)
