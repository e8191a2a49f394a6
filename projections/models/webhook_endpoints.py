"""Webhook endpoints as their owners see them, and the status of each delivery. Secrets are not
stored here."""

from datetime import datetime
from uuid import UUID

from domain.webhook_deliveries import (
    AttemptFailed,
    DeliveryFailed,
    DeliveryRequested,
    RedeliveryRequested,
    WebhookDelivered,
)
from domain.webhook_endpoints import (
    EndpointCreated,
    EndpointDeleted,
    EndpointDisabled,
    EndpointEnabled,
    EndpointFailing,
    EndpointRecovered,
    EndpointUpdated,
    SecretRotated,
)
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, StreamRow, on


class WebhookEndpoint(StreamRow):
    """An endpoint that was not deleted. `status` is ENABLED or DISABLED (with `disabled_reason`);
    `failures` counts deliveries given up in a row."""

    KEY = ("endpoint_id",)
    INDEXES = ("seller_id, created_position",)

    endpoint_id: UUID
    seller_id: UUID
    url: str
    events: list[str]
    description: str
    status: str
    disabled_reason: str | None
    failures: int


class WebhookEndpoints(Projection[WebhookEndpoint]):
    """Every endpoint by its id, until it is deleted."""

    name, version, row = "webhook_endpoints", 1, WebhookEndpoint

    @on(EndpointCreated)
    def created(self, rows: Rows[WebhookEndpoint], event: EndpointCreated, env: Placed) -> None:
        rows.put(
            WebhookEndpoint(
                endpoint_id=env.stream_id,
                seller_id=event.seller_id,
                url=event.url,
                events=list(event.events),
                description=event.description,
                status="ENABLED",
                disabled_reason=None,
                failures=0,
            )
        )

    @on(EndpointUpdated)
    def updated(self, rows: Rows[WebhookEndpoint], event: EndpointUpdated, env: Placed) -> None:
        endpoint = rows[env.stream_id]
        if event.url is not None:
            endpoint.url = event.url
        if event.events is not None:
            endpoint.events = list(event.events)
        if event.description is not None:
            endpoint.description = event.description

    @on(SecretRotated)
    def secret_rotated(
        self, _rows: Rows[WebhookEndpoint], _event: SecretRotated, _env: Placed
    ) -> None:
        """Changes only the version and `updated_at`."""

    @on(EndpointFailing)
    def failing(self, rows: Rows[WebhookEndpoint], event: EndpointFailing, env: Placed) -> None:
        rows[env.stream_id].failures = event.failures

    @on(EndpointRecovered)
    def recovered(self, rows: Rows[WebhookEndpoint], _: EndpointRecovered, env: Placed) -> None:
        rows[env.stream_id].failures = 0

    @on(EndpointDisabled)
    def disabled(self, rows: Rows[WebhookEndpoint], event: EndpointDisabled, env: Placed) -> None:
        endpoint = rows[env.stream_id]
        endpoint.status = "DISABLED"
        endpoint.disabled_reason = event.reason

    @on(EndpointEnabled)
    def enabled(self, rows: Rows[WebhookEndpoint], _: EndpointEnabled, env: Placed) -> None:
        endpoint = rows[env.stream_id]
        endpoint.status = "ENABLED"
        endpoint.disabled_reason = None
        endpoint.failures = 0

    @on(EndpointDeleted)
    def deleted(self, rows: Rows[WebhookEndpoint], _: EndpointDeleted, env: Placed) -> None:
        rows.delete(env.stream_id)


class WebhookDelivery(Row):
    """A delivery. `status` is PENDING, DELIVERED or FAILED; `code` says why the last attempt
    failed, `http_status` is the endpoint's answer to the successful one; `settled_at` is when it
    was delivered or given up."""

    KEY = ("delivery_id",)
    INDEXES = ("endpoint_id, created_position", "endpoint_id, status, created_position")
    INTERNAL = ("created_position",)

    delivery_id: UUID
    endpoint_id: UUID
    event_id: UUID
    event_name: str
    status: str
    attempts: int
    code: str | None
    http_status: int | None
    requested_at: datetime
    attempted_at: datetime | None
    settled_at: datetime | None
    created_position: int = 0


class WebhookDeliveries(Projection[WebhookDelivery]):
    """Every delivery by its id."""

    name, version, row = "webhook_deliveries", 1, WebhookDelivery

    @on(DeliveryRequested)
    def requested(self, rows: Rows[WebhookDelivery], event: DeliveryRequested, env: Placed) -> None:
        rows.put(
            WebhookDelivery(
                delivery_id=env.stream_id,
                endpoint_id=event.endpoint_id,
                event_id=event.event_id,
                event_name=event.event_name,
                status="PENDING",
                attempts=0,
                code=None,
                http_status=None,
                requested_at=env.occurred_at,
                attempted_at=None,
                settled_at=None,
                created_position=env.position,
            )
        )

    @on(RedeliveryRequested)
    def requested_again(
        self, rows: Rows[WebhookDelivery], _: RedeliveryRequested, env: Placed
    ) -> None:
        delivery = rows[env.stream_id]
        delivery.status = "PENDING"
        delivery.settled_at = None

    @on(AttemptFailed)
    def attempt_failed(
        self, rows: Rows[WebhookDelivery], event: AttemptFailed, env: Placed
    ) -> None:
        delivery = rows[env.stream_id]
        delivery.attempts = event.attempt
        delivery.code = event.code
        delivery.attempted_at = env.occurred_at

    @on(WebhookDelivered)
    def delivered(self, rows: Rows[WebhookDelivery], event: WebhookDelivered, env: Placed) -> None:
        delivery = rows[env.stream_id]
        delivery.status = "DELIVERED"
        delivery.code = None
        delivery.http_status = event.status
        delivery.attempts = event.attempt
        delivery.attempted_at = env.occurred_at
        delivery.settled_at = env.occurred_at

    @on(DeliveryFailed)
    def failed(self, rows: Rows[WebhookDelivery], event: DeliveryFailed, env: Placed) -> None:
        delivery = rows[env.stream_id]
        delivery.status = "FAILED"
        delivery.code = event.code
        delivery.settled_at = env.occurred_at
        # no attempt was made if the endpoint was disabled meanwhile
        if event.attempts > delivery.attempts:
            delivery.attempts = event.attempts
            delivery.attempted_at = env.occurred_at
