"""Quarantine: streams with an event that a consumer of the log could not apply."""

from datetime import datetime

import msgspec

from web.console.entering import console_router
from web.console.selecting import Selectable, add_pages

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
    fields=("feed", "name", "error"),
    one="stream in quarantine",
    many="streams in quarantine",
    act="tried again",
    label="Try again",
    done="will be tried again",
    effect="The consumer applies the skipped events again, in order, from the one that failed."
    " What still cannot be applied stays here.",
)

add_pages(router, STREAMS)
