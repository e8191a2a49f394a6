"""Webhook endpoints of merchants: where they want to hear of what, and what became of each
delivery."""

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
from queries import webhook_endpoints as query

router = APIRouter(prefix="/api/v1/webhook-endpoints", tags=["webhooks"])

EndpointUrl = Annotated[Url, Field(examples=["https://merchant.example/webhooks"])]
Pattern = Annotated[SingleLine, Field(min_length=1, max_length=100, examples=["order.*"])]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=MAX_PATTERNS)]
DeliveryStatus = Literal["PENDING", "DELIVERED", "FAILED"]


# -- what goes in ----------------------------------------------------------------------------------


class NewEndpoint(Body):
    """Where to send events, and which: names (`order.completed.v1`), `order.*`, or `*` for all."""

    url: EndpointUrl
    events: Patterns
    description: SingleLine = ""


class EndpointChanges(Body):
    """What is to change; what is not given stays."""

    url: EndpointUrl | None = None
    events: Patterns | None = None
    description: SingleLine | None = None


# -- what comes out --------------------------------------------------------------------------------


class EndpointView(Answer):
    """An endpoint. `failures`: deliveries given up in a row; after five it is disabled."""

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
    """An endpoint with the secret that signs: shown when it is made, and never again."""

    secret: str | None


class DeliveryView(Answer):
    """A delivery; `id` is the webhook-id header's. `code` tells why the last attempt failed."""

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
    """A delivery that was asked for just now."""

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
    """Subscribe to events (SELLER; ADMIN: to everybody's). 422 `webhook_url_refused`,
    `unknown_event_pattern`."""

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
    """Edit an endpoint. 412 when If-Match is stale."""
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
    """Remove an endpoint for good."""
    result = await services.commands.webhook_endpoints.delete(
        caller, endpoint_id, expected_version=expected_version
    )
    return answer(None, status=204, position=await position_of(result, services))


@router.post("/{endpoint_id}/rotate-secret", response_model=EndpointWithSecret)
async def rotate_webhook_secret(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Make another secret. The old one signs beside it for 24 hours."""
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
    """Send to it again what happens from now on. 403 `disabled_by_operator`."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.enable(caller, endpoint_id, once=once),
        recorded_id("endpoint_id"),
        lambda result: _endpoint_now(services, result),
    )


@router.post("/{endpoint_id}/disable", response_model=EndpointView)
async def disable_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Send nothing more to it."""
    return await idempotency.answer(
        lambda once: services.commands.webhook_endpoints.disable(caller, endpoint_id, once=once),
        recorded_id("endpoint_id"),
        lambda result: _endpoint_now(services, result),
    )


@router.post("/{endpoint_id}/test", status_code=202, response_model=RequestedDelivery)
async def test_webhook_endpoint(
    endpoint_id: UUID, services: ServicesOf, caller: Merchant, idempotency: Idempotency
) -> Response:
    """Send a `webhook.test`. 409 `webhook_endpoint_disabled`."""
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
    """Send a delivery again, now, under the same id: one that failed, waits for its next try, or
    was delivered."""
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
    """The endpoint as a command left it: from the log, which the read model may not have reached. A
    repeat of the command shows what the first answer did, whatever was done to the endpoint since:
    a secret made later, for instance, is none of its; and of an endpoint that was deleted there is
    nothing to show. Raises NotFound."""
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
    """One's own endpoints; an ADMIN's are all there are."""
    seller_id = seller_of(caller)
    page = await query.endpoints(
        reads, seller_id=None if caller.is_admin else seller_id, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[EndpointView].model_validate(page.value), page.position)


async def _visible(
    endpoint_id: UUID, services: ServicesOf, reads: Reads, caller: Merchant
) -> tuple[WebhookEndpoint, int]:
    """An endpoint of the caller's, and the position. Raises NotFound, also for another's."""
    seller_id = seller_of(caller)
    endpoint, position = await found(
        services,
        reads,
        lambda models: query.endpoint(models, endpoint_id),
        WEBHOOK_ENDPOINT.missing,
    )
    if not caller.is_admin and endpoint.seller_id != seller_id:
        raise WEBHOOK_ENDPOINT.missing()
    return endpoint, position


Visible = Annotated[tuple[WebhookEndpoint, int], Depends(_visible)]


@router.get("/{endpoint_id}", response_model=EndpointView)
async def get_webhook_endpoint(request: Request, visible: Visible) -> Response:
    """An endpoint, without its secret."""
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
    """What was sent to an endpoint, the newest first, and what became of it."""
    endpoint, _ = visible
    page = await query.deliveries(
        reads, endpoint.endpoint_id, status=status, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[DeliveryView].model_validate(page.value), page.position)
