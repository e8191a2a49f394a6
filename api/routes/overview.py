"""How the shop is right now, for operators: once, or as it moves."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request, WebSocket
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Time
from api.overview import Overviews
from api.services import Services
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

router = APIRouter(prefix="/api/v1", tags=["operations"])


class ConsumerFiguresView(Answer):
    """A consumer of the log: how many events it is behind (`lag`), for how many seconds the next
    one has waited for it, how many streams it has in quarantine (`parked`), and whether it read
    another history of the log (`astray`)."""

    feed: str
    lag: int
    seconds: float
    parked: int
    astray: bool


class QueueFiguresView(Answer):
    """A queue: jobs that wait or run, for how many seconds the oldest was due, and dead letters;
    all null while the queue does not answer."""

    queue: str
    depth: int | None
    oldest_seconds: float | None
    dead: int | None


class OpenAlertView(Answer):
    """An alert that is `RAISED`, or `ACKNOWLEDGED`."""

    alert_id: UUID
    name: str
    severity: str
    summary: str
    status: str
    raised_at: Time


class OverviewView(Answer):
    """Figures about the shop. Rates are per second over the last seconds, null until there are two
    looks; null also stands for what is not known. `requests` were answered since the API was
    started, `failed_requests` of them with a status from 500 on. `open_findings` are those of the
    shop's audit of itself, by invariant; `alerts` the latest 20 that are open."""

    at: Time
    head: int
    events_per_second: float | None
    requests: int
    failed_requests: int
    requests_per_second: float | None
    in_flight: int
    sockets: int
    consumers: Sequence[ConsumerFiguresView]
    queues: Sequence[QueueFiguresView]
    deadlines_due: int | None
    deadlines_late_seconds: float | None
    open_findings: Mapping[str, int]
    alerts: Sequence[OpenAlertView] | None


@router.get("/ops/overview", response_model=OverviewView)
async def get_overview(request: Request, _: Auditor) -> Response:
    """Return how the shop is right now, at most half a second ago. Requires AUDITOR or ADMIN."""
    found = await _overviews_of(request).current()
    return answer(OverviewView.model_validate(found), position=found.head)


@router.websocket("/ws/overview")
async def follow_overview(websocket: WebSocket) -> None:
    """Send the overview, and again within half a second of each change (docs/live.md)."""
    await serve_socket(websocket, _serve)


async def _serve(websocket: WebSocket) -> None:
    services: Services = websocket.app.state.services
    hello = await first_message(websocket, Greeting)
    with services.while_there():
        access = await authenticate(services, hello.token)
    must_audit(access)
    with seat_of(websocket, access):
        await run_until_over(websocket, services, access, _send(websocket, services))


async def _send(websocket: WebSocket, services: Services) -> None:
    overviews, sent = _overviews_of(websocket), None
    found = await overviews.current()
    while True:
        if not found.is_as(sent):
            text = msgspec.json.encode(found).decode()
            patience = services.settings.socket_patience_seconds
            await send_in_time(websocket, text, patience=patience)
            sent = found
        found = await overviews.following()


def _overviews_of(connection: Request | WebSocket) -> Overviews:
    overviews: Overviews = connection.app.state.overviews
    return overviews
