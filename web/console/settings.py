"""The settings, with the source of each value."""

import msgspec
from starlette.responses import Response

from web.api_client import Listed
from web.console.entering import console_router
from web.visit import Visit

router = console_router()


class Setting(msgspec.Struct, frozen=True):
    variable: str
    value: str
    source: str
    default: str
    meaning: str


@router.get("/console/settings")
async def show_settings(visit: Visit) -> Response:
    """The settings of the API process that answers: those that `q` finds, or that are set."""
    found = await visit.api.get("/api/v1/ops/settings", Listed[Setting])
    sought, changed = visit.query("q"), visit.query("changed") == "yes"
    shown = [
        each
        for each in found.items
        if sought.lower() in f"{each.variable} {each.meaning}".lower()
        and (each.source != "default" or not changed)
    ]
    return visit.page(
        "console/settings.html",
        settings=shown,
        total=len(found.items),
        sought=sought,
        changed=changed,
    )
