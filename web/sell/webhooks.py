"""Webhook endpoints, their secrets, and what was delivered to them."""

from http import HTTPStatus

from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.sell.access import desk_router
from web.sell.answers import Delivery, Endpoint
from web.sell.listings import words_of
from web.visit import Visit

router = desk_router()

PER_PAGE = 20
PATH = "/api/v1/webhook-endpoints"
STATUSES = ("PENDING", "DELIVERED", "FAILED")


@router.get("/sell/webhooks")
async def show_endpoints(visit: Visit) -> Response:
    """The seller's endpoints, and the form for a new one."""
    return await _endpoints_page(visit)


async def _endpoints_page(visit: Visit, status: int = 200) -> Response:
    found = await visit.api.get(PATH, Listed[Endpoint], cursor=visit.query("cursor") or None)
    return visit.page("sell/webhooks.html", status=status, found=found)


@router.post("/sell/webhooks")
async def create(visit: Visit) -> Response:
    """Create an endpoint, and show its secret, this once."""
    try:
        once = visit.form.secret("once")
        made = await visit.api.post(PATH, _typed(visit), Endpoint, once=once)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _endpoints_page(visit, status=422)
    return _secret_page(visit, made)


def _typed(visit: Visit) -> dict[str, object]:
    return {
        "url": visit.form.text("url"),
        "events": words_of(visit.form.text("events")),
        "description": visit.form.text("description"),
    }


def _secret_page(visit: Visit, endpoint: Endpoint) -> Response:
    response = visit.page("sell/secret.html", endpoint=endpoint)
    response.headers["Cache-Control"] = "no-store"
    return response


# -- one endpoint ----------------------------------------------------------------------------------


@router.get("/sell/webhooks/{endpoint_id}")
async def show_endpoint(visit: Visit) -> Response:
    """An endpoint: the form to change it, and its deliveries."""
    return await _endpoint_page(visit)


def _path(visit: Visit) -> str:
    return f"{PATH}/{visit.id('endpoint_id')}"


async def _endpoint_page(visit: Visit, status: int = 200) -> Response:
    path = _path(visit)
    wanted = visit.query("status") if visit.query("status") in STATUSES else ""
    endpoint = await visit.api.get(path, Endpoint)
    deliveries = await visit.api.get(
        f"{path}/deliveries",
        Listed[Delivery],
        status=wanted or None,
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "sell/webhook.html",
        status=status,
        fragment="deliveries",
        endpoint=endpoint,
        found=deliveries,
        wanted=wanted,
    )


@router.post("/sell/webhooks/{endpoint_id}")
async def change(visit: Visit) -> Response:
    """Save what was typed."""
    try:
        await visit.api.put(_path(visit), _typed(visit), Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _endpoint_page(visit, status=422)
    return _back(visit, "Your changes are saved.")


def _back(visit: Visit, notice: str) -> Response:
    return visit.go(f"/sell/webhooks/{visit.id('endpoint_id')}", notice)


@router.post("/sell/webhooks/{endpoint_id}/rotate")
async def rotate(visit: Visit) -> Response:
    """Make a new secret, and show it once."""
    path, once = f"{_path(visit)}/rotate-secret", visit.form.secret("once")
    return _secret_page(visit, await visit.api.post(path, None, Endpoint, once=once))


@router.post("/sell/webhooks/{endpoint_id}/delete")
async def delete(visit: Visit) -> Response:
    """Delete the endpoint."""
    await visit.api.delete(_path(visit))
    return visit.go("/sell/webhooks", "The endpoint is deleted.")


@router.post("/sell/webhooks/{endpoint_id}/enable")
async def enable(visit: Visit) -> Response:
    """Enable the endpoint."""
    return await _act(visit, "enable", "The endpoint is enabled.")


@router.post("/sell/webhooks/{endpoint_id}/disable")
async def disable(visit: Visit) -> Response:
    """Disable the endpoint."""
    return await _act(visit, "disable", "The endpoint is disabled.")


@router.post("/sell/webhooks/{endpoint_id}/test")
async def send_test(visit: Visit) -> Response:
    """Send a test message."""
    return await _act(visit, "test", "A test message is on its way.")


@router.post("/sell/webhooks/{endpoint_id}/deliveries/{delivery_id}/redrive")
async def redrive(visit: Visit) -> Response:
    """Send a delivery again."""
    delivery_id = visit.id("delivery_id")
    return await _act(visit, f"deliveries/{delivery_id}/redrive", "It is sent again.")


async def _act(visit: Visit, step: str, notice: str) -> Response:
    try:
        once = visit.form.secret("once")
        await visit.api.post(f"{_path(visit)}/{step}", None, Nothing, once=once)
    except Problem as problem:
        if problem.status == HTTPStatus.NOT_FOUND:
            raise
        visit.form.refuse(problem)
        return await _endpoint_page(visit, status=422)
    return _back(visit, notice)
