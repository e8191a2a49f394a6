"""Webhook endpoints and their deliveries."""

from uuid import UUID

from projections.models.webhook_endpoints import WebhookDelivery, WebhookEndpoint
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_ENDPOINTS = ListQuery(WebhookEndpoint, "SELECT * FROM @webhook_endpoints")
_DELIVERIES = ListQuery(WebhookDelivery, "SELECT * FROM @webhook_deliveries")
_NEWEST = newest_first("created_position")

_ENDPOINT = "SELECT * FROM @webhook_endpoints WHERE endpoint_id = %(id)s"


async def endpoint(models: ReadModels, endpoint_id: UUID) -> QueryResult[WebhookEndpoint | None]:
    """One endpoint; None also when it was deleted."""
    return await models.first(WebhookEndpoint, _ENDPOINT, id=endpoint_id)


async def endpoints(
    models: ReadModels, *, seller_id: UUID | None = None, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[WebhookEndpoint]]:
    """Endpoints, of one seller or of all, the newest first. Raises BadCursor."""
    conditions = [] if seller_id is None else ["seller_id = %(seller)s"]
    values: dict[str, object] = {} if seller_id is None else {"seller": seller_id}
    return await page(models, _ENDPOINTS, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def deliveries(
    models: ReadModels,
    endpoint_id: UUID,
    *,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[WebhookDelivery]]:
    """The deliveries to an endpoint, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"endpoint_id": endpoint_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _DELIVERIES, _NEWEST, conditions, values, limit=limit, cursor=cursor)
