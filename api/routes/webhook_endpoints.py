"""Merchants' webhook endpoints and their deliveries."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.auth import Merchant
from api.fields import Answer, Body, Page, SingleLine, Time, Url
from api.idempotency import Idempotency, recorded_id
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from commands.aggregates import WEBHOOK_DELIVERY, WEBHOOK_ENDPOINT
from commands.catalog import seller_of
from commands.handler import CommandResult
from domain.webhook_endpoints import MAX_PATTERNS
from projections.models.webhook_endpoints import WebhookEndpoint
from queries.accounts import webhook_endpoints as query

router = APIRouter(prefix="/api/v1/webhook-endpoints", tags=["webhooks"])

EndpointUrl = Annotated[Url, Field(examples=["https://merchant.example/webhooks"])]
Pattern = Annotated[SingleLine, Field(min_length=1, max_length=100, examples=["order.*"])]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=MAX_PATTERNS)]
DeliveryStatus = Literal["PENDING", "DELIVERED", "FAILED"]


# -- request bodies --------------------------------------------------------------------------------


class NewEndpoint(Body):
    """Where to send events, and which ones: names (`order.completed.v1`), prefixes (`order.*`), or
    `*` for all."""

    url: EndpointUrl
    events: Patterns
    description: SingleLine = ""


class EndpointChanges(Body):
    """The changes to an endpoint. Absent fields stay as they are."""

    url: EndpointUrl | None = None
    events: Patterns | None = None
    description: SingleLine | None = None


# -- answers ---------------------------------------------------------------------------------------


class EndpointView(Answer):
    """A webhook endpoint. `failures` counts failed deliveries in a row; after five, the endpoint is
    disabled."""

    id: UUID = Field(validation_alias=AliasPath("endpoint_id"))
    seller_id: UUID
    url: str
    events: list[str]
    description: str
    status: str
    disabled_reason: str | None
    failures: int
    created_at: Time
    updated_at: Time


class EndpointWithSecret(EndpointView):
    """A webhook endpoint with its signing secret, which is returned only when it is made."""

    secret: str | None


class DeliveryView(Answer):
    """A delivery. `id` is sent in the `webhook-id` header. `code` tells why the last attempt
    failed."""

    id: UUID = Field(validation_alias=AliasPath("delivery_id"))
    endpoint_id: UUID
    event_id: UUID
    event: str = Field(validation_alias=AliasPath("event_name"))
    status: str
    attempts: int
    code: str | None
    http_status: int | None
    requested_at: Time
    attempted_at: Time | None
    settled_at: Time | None


class RequestedDelivery(Answer):
    """A delivery that was just requested."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    event: str
    status: str


# -- commands --------------------------------------------------------------------------------------


@router.post("", status_code=201, response_model=EndpointWithSecret)
async def create_webhook_endpoint(
    body: NewEndpoint, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Create an endpoint for events (SELLER: those about their own business; ADMIN: everybody's).
    Errors: 422 `webhook_url_refused`, `unknown_event_pattern`."""

    async def reply(result: CommandResult[UUID]) -> Response:
        headers = {"Location": f"{router.prefix}/{result.value}"}
        return await _endpoint_now(services, result, status=201, secret=True, headers=headers)

    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.create(
            caller, body.url, body.events, body.description, once=once
        ),
        recorded_id("endpoint_id"),
        reply,
        keep=False,
    )


@router.put("/{endpoint_id}", response_model=EndpointView)
async def update_webhook_endpoint(
    endpoint_id: UUID,
    body: EndpointChanges,
    services: ServicesOf,
    caller: Merchant,
    expected_version: ExpectedVersion,
) -> Response:
    """Change an endpoint. Errors: 412 if `If-Match` is stale."""
    result = await services.commands.webhook_endpoints.update(
        caller,
        endpoint_id,
        url=body.url,
        events=body.events,
        description=body.description,
        expected_version=expected_version,
    )
    return await _endpoint_now(services, result)


@router.delete("/{endpoint_id}", status_code=204)
async def delete_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, expected_version: ExpectedVersion
) -> Response:
    """Delete an endpoint for good."""
    result = await services.commands.webhook_endpoints.delete(
        caller, endpoint_id, expected_version=expected_version
    )
    return answer(None, status=204, position=await position_of(result, services))


@router.post("/{endpoint_id}/rotate-secret", response_model=EndpointWithSecret)
async def rotate_webhook_secret(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Create a new signing secret. For 24 hours, deliveries are signed with the old one as well."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.rotate_secret(
            caller, endpoint_id, once=once
        ),
        recorded_id("endpoint_id"),
        lambda result: _endpoint_now(services, result, secret=True),
        keep=False,
    )


@router.post("/{endpoint_id}/enable", response_model=EndpointView)
async def enable_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Enable an endpoint for events from now on. Errors: 403 `disabled_by_operator`."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.enable(caller, endpoint_id, once=once),
        recorded_id("endpoint_id"),
        lambda result: _endpoint_now(services, result),
    )


@router.post("/{endpoint_id}/disable", response_model=EndpointView)
async def disable_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Disable an endpoint: no more events are sent to it."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.disable(caller, endpoint_id, once=once),
        recorded_id("endpoint_id"),
        lambda result: _endpoint_now(services, result),
    )


@router.post("/{endpoint_id}/test", status_code=202, response_model=RequestedDelivery)
async def test_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Send a `webhook.test` event. Errors: 409 `webhook_endpoint_disabled`."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.test(caller, endpoint_id, once=once),
        recorded_id("delivery_id"),
        lambda result: _delivery_now(services, result),
    )


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/redrive",
    status_code=202,
    response_model=RequestedDelivery,
)
async def redrive_webhook_delivery(
    endpoint_id: UUID,
    delivery_id: UUID,
    services: ServicesOf,
    caller: Merchant,
    idempotency: Idempotency,
) -> Response:
    """Send a delivery again at once, under the same id. This works for deliveries that failed, wait
    for another attempt, or were delivered."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.redeliver(
            caller, endpoint_id, delivery_id, once=once
        ),
        recorded_id("delivery_id"),
        lambda result: _delivery_now(services, result),
    )


async def _endpoint_now(
    services: Services,
    result: CommandResult[UUID],
    *,
    status: int = 200,
    secret: bool = False,
    headers: dict[str, str] | None = None,
) -> Response:
    """The endpoint after the command, from the log: the read model may not have reached it yet.

    A replay shows what the first answer showed, without later changes; a secret made since, for
    example, is not disclosed. Raises NotFound if the endpoint was deleted since.
    """
    stream = await services.log.read_stream(result.value)
    now = WEBHOOK_ENDPOINT.fold(None, [each.event for each in stream])
    if now is None or now.deleted:
        raise WEBHOOK_ENDPOINT.missing()
    recorded = [
        each for each in stream if result.position is None or each.env.position <= result.position
    ]
    endpoint = WEBHOOK_ENDPOINT.fold(None, [each.event for each in recorded])
    assert endpoint is not None
    shown = {
        "endpoint_id": result.value,
        "seller_id": endpoint.seller_id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "description": endpoint.description,
        "status": "ENABLED" if endpoint.disabled is None else "DISABLED",
        "disabled_reason": endpoint.disabled,
        "failures": endpoint.failures,
        "created_at": recorded[0].env.occurred_at,
        "updated_at": recorded[-1].env.occurred_at,
    }
    view = EndpointView.model_validate(shown)
    if secret:
        opened = services.commands.webhook_endpoints.secret(result.value, endpoint)
        view = EndpointWithSecret.model_validate({**shown, "secret": opened})
    position, version = await position_of(result, services), recorded[-1].env.version
    return answer(view, status=status, position=position, version=version, headers=headers)


async def _delivery_now(services: Services, result: CommandResult[UUID]) -> Response:
    delivery = await services.repository.get(WEBHOOK_DELIVERY, result.value)
    view = RequestedDelivery(
        id=result.value,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        event=delivery.event_name,
        status=delivery.status,
    )
    return answer(view, status=202, position=await position_of(result, services))


# -- queries ---------------------------------------------------------------------------------------


@router.get("", response_model=Page[EndpointView])
async def list_webhook_endpoints(
    request: Request, reads: Reads, caller: Merchant, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the caller's endpoints, or for an ADMIN all endpoints."""
    seller_id = None if caller.sees_all else seller_of(caller)
    page = await query.endpoints(reads, seller_id=seller_id, limit=limit, cursor=cursor)
    return page_answer(request, Page[EndpointView].model_validate(page.value), page.position)


async def _visible(
    endpoint_id: UUID, services: ServicesOf, reads: Reads, caller: Merchant
) -> tuple[WebhookEndpoint, int]:
    """The endpoint and the position reflected. Raises NotFound, also if it belongs to another
    seller."""
    endpoint, position = await found(
        services,
        reads,
        lambda models: query.endpoint(models, endpoint_id),
        WEBHOOK_ENDPOINT.missing,
    )
    if not caller.sees_all and endpoint.seller_id != seller_of(caller):
        raise WEBHOOK_ENDPOINT.missing()
    return endpoint, position


Visible = Annotated[tuple[WebhookEndpoint, int], Depends(_visible)]


@router.get("/{endpoint_id}", response_model=EndpointView)
async def get_webhook_endpoint(request: Request, visible: Visible) -> Response:
    """Return an endpoint, without its secret."""
    endpoint, position = visible
    return versioned(
        request, EndpointView.model_validate(endpoint), position=position, version=endpoint.version
    )


@router.get("/{endpoint_id}/deliveries", response_model=Page[DeliveryView])
async def list_webhook_deliveries(
    request: Request,
    reads: Reads,
    visible: Visible,
    status: Annotated[DeliveryStatus | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the deliveries to an endpoint, newest first."""
    endpoint, _ = visible
    page = await query.deliveries(
        reads, endpoint.endpoint_id, status=status, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[DeliveryView].model_validate(page.value), page.position)
