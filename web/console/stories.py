"""An order's whole story on one page: what happened to it everywhere, and what it waits for."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from web.api_client import Problem
from web.console.answers import Flow, State
from web.console.entering import console_router
from web.console.trees import trees_of
from web.visit import Visit, id_of

router = console_router()

KINDS = ("order", "payment", "shipment", "ledger", "receipt", "notification", "webhook")
"""The streams of an order of which the page shows the state."""

MAX_STATES = 60
"""The most states that a page asks for, those of the streams that are in the log first."""


class Posting(NamedTuple):
    """An entry of the ledger that the order caused, the `number`th of its stream's, from 0."""

    stream_id: str
    number: int
    account_id: str
    direction: str
    amount_cents: int
    currency: str


@router.get("/console/orders")
async def find_order(visit: Visit) -> Response:
    """The form that leads to an order."""
    if order_id := visit.query("id"):
        return visit.go(f"/console/orders/{id_of(order_id)}")
    return visit.page("console/orders.html")


@router.get("/console/orders/{order_id}")
async def show_story(visit: Visit) -> Response:
    """The story of an order."""
    order_id = visit.id("order_id")
    flow = await visit.api.get(f"/api/v1/ops/trace/{order_id}", Flow)
    streams = {each.stream_id: each for each in flow.streams}
    if order_id not in streams or streams[order_id].kind != "order":
        raise Problem("order_not_found", 404)
    told = [each.stream_id for each in flow.streams if each.kind in KINDS]
    states = await _states(visit, [order_id, *told][: MAX_STATES + 1])
    if not states[order_id].state:
        return visit.go(f"/console/streams/{order_id}", "The order's own events cannot be applied.")
    by_kind: defaultdict[str, list[State]] = defaultdict(list)
    for state in states.values():
        if state.state:
            by_kind[state.kind].append(state)
    return visit.page(
        "console/story.html",
        order_id=order_id,
        order=states[order_id].state,
        flow=flow,
        states={kind: by_kind[kind] for kind in KINDS},
        untold=max(0, len(told) - MAX_STATES),
        postings=list(_postings(by_kind["ledger"])),
        currency=str(states[order_id].state.get("currency", "")),
        trees=trees_of(flow.events),
        kinds={each.stream_id: each.kind for each in flow.streams},
        traces=sorted({trace for each in flow.events if (trace := _trace_of(each.traceparent))}),
    )


async def _states(visit: Visit, stream_ids: Iterable[str]) -> Mapping[str, State]:
    """The states of these streams, as far as they can be folded."""

    async def state(stream_id: str) -> State:
        return await visit.api.get(f"/api/v1/audit/streams/{stream_id}/state", State)

    unique = list(dict.fromkeys(stream_ids))
    return dict(zip(unique, await asyncio.gather(*map(state, unique)), strict=True))


def _postings(ledger: Iterable[State]) -> Iterable[Posting]:
    for each in ledger:
        entries: list[Mapping[str, Any]] = each.state.get("entries", [])
        for number, entry in enumerate(entries):
            yield Posting(
                each.stream_id,
                number,
                entry["account_id"],
                entry["direction"],
                entry["amount_cents"],
                entry["currency"],
            )


def _trace_of(traceparent: str | None) -> str:
    """The trace's id in a `traceparent`."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else ""
