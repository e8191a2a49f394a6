"""Quarantine: streams with an event that a consumer of the log could not apply."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.console import selecting
from web.console.dead_letters import Acted
from web.console.entering import console_router
from web.console.selecting import Selectable
from web.visit import Visit

router = console_router()


class Stream(msgspec.Struct, frozen=True):
    id: str
    feed: str
    stream_id: str
    position: int
    name: str
    error: str
    since: datetime
    attempts: int
    retry: bool


class Streams(msgspec.Struct, frozen=True):
    """What a filter shows. `before` is handed back as it is."""

    count: int
    more: bool
    before: str
    items: list[Stream]


STREAMS = Selectable(
    path="/console/quarantine",
    template="console/quarantine.html",
    listed="/api/v1/ops/quarantine/selection",
    acted="/api/v1/ops/quarantine/retry",
    selection=Streams,
    acted_as=Acted,
    fields=("feed", "name", "error"),
    one="stream in quarantine",
    many="streams in quarantine",
    act="tried again",
    label="Try again",
    done="will be tried again",
    effect="The consumer applies the skipped events again, in order, from the one that failed."
    " What still cannot be applied stays here.",
)


@router.get("/console/quarantine")
async def show(visit: Visit) -> Response:
    """The streams in quarantine, by a filter."""
    return await selecting.show(visit, STREAMS)


@router.get("/console/quarantine/all")
async def confirm(visit: Visit) -> Response:
    """What trying all that the filter shows would do."""
    return await selecting.confirm(visit, STREAMS)


@router.post("/console/quarantine/all")
async def retry_all(visit: Visit) -> Response:
    """Try again all that the filter showed."""
    return await selecting.act(visit, STREAMS)
