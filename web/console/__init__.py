"""The operator's console. Each module has a `router`."""

from collections.abc import Sequence

from web.console import finding, log, overview, rows, stories, streams
from web.routing import Router

ROUTERS: Sequence[Router] = (
    overview.router,
    finding.router,
    log.router,
    streams.router,
    rows.router,
    stories.router,
)
