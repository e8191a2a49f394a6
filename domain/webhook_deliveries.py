"""The delivery of one event to one webhook endpoint: requested once, tried until it succeeds or is
given up.

A redelivery can be requested at any time. It has the same id, by which the receiver recognises a
repeat. The body is made from the log's event at `position`; a test delivery has none.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import derived

Status = Literal["PENDING", "DELIVERED", "FAILED"]

TEST = "webhook.test"
"""The name of a test event."""

# -- events ----------------------------------------------------------------------------------------


@event("webhook.delivery_requested.v1")
class DeliveryRequested(Event, frozen=True):
    """The event is to be delivered to this endpoint."""

    endpoint_id: UUID
    event_id: UUID
    event_name: str
    position: int | None = None


@event("webhook.redelivery_requested.v1")
class RedeliveryRequested(Event, frozen=True):
    """The event is to be delivered again, whatever the outcome so far."""

    endpoint_id: UUID
    event_id: UUID


@event("webhook.attempt_failed.v1")
class AttemptFailed(Event, frozen=True):
    """The `attempt`-th attempt failed (`code` is http_500, timeout, unreachable, …); the delivery
    will be retried."""

    endpoint_id: UUID
    event_id: UUID
    code: str
    attempt: int


@event("webhook.delivered.v1")
class WebhookDelivered(Event, frozen=True):
    """The endpoint accepted the event with this 2xx `status`."""

    endpoint_id: UUID
    event_id: UUID
    status: int
    attempt: int


@event("webhook.delivery_failed.v1")
class DeliveryFailed(Event, frozen=True):
    """The delivery was given up after `attempts` attempts."""

    endpoint_id: UUID
    event_id: UUID
    code: str
    attempts: int


# -- state -----------------------------------------------------------------------------------------


class WebhookDelivery(msgspec.Struct, frozen=True):
    endpoint_id: UUID
    event_id: UUID
    event_name: str
    position: int | None = None
    status: Status = "PENDING"
    attempts: int = 0


def evolve(state: WebhookDelivery | None, event: Event) -> WebhookDelivery | None:
    replace = msgspec.structs.replace
    match state, event:
        case _, DeliveryRequested():
            return WebhookDelivery(**msgspec.structs.asdict(event))
        case WebhookDelivery(), RedeliveryRequested():
            return replace(state, status="PENDING")
        case WebhookDelivery(), AttemptFailed(attempt=attempts):
            return replace(state, attempts=attempts)
        case WebhookDelivery(), WebhookDelivered(attempt=attempts):
            return replace(state, status="DELIVERED", attempts=attempts)
        case WebhookDelivery(), DeliveryFailed(attempts=attempts):
            return replace(state, status="FAILED", attempts=attempts)
    return state


def delivery_id(endpoint_id: UUID, event_id: UUID) -> UUID:
    """The stream of the one delivery of an event to an endpoint."""
    return derived("webhook.delivery", endpoint_id, event_id)


# -- decisions -------------------------------------------------------------------------------------


def request(
    delivery: WebhookDelivery | None,
    *,
    endpoint_id: UUID,
    event_id: UUID,
    event_name: str,
    position: int | None = None,
) -> list[Event]:
    """Request the delivery. Idempotent."""
    if delivery is not None:
        return []
    return [
        DeliveryRequested(
            endpoint_id=endpoint_id, event_id=event_id, event_name=event_name, position=position
        ),
    ]


def redeliver(delivery: WebhookDelivery) -> list[Event]:
    """Request an immediate redelivery, even of a delivered event or before a scheduled retry."""
    return [RedeliveryRequested(endpoint_id=delivery.endpoint_id, event_id=delivery.event_id)]


def mark_delivered(delivery: WebhookDelivery, status: int) -> list[Event]:
    """Record a successful attempt. Idempotent."""
    if delivery.status == "DELIVERED":
        return []
    about = {"endpoint_id": delivery.endpoint_id, "event_id": delivery.event_id}
    return [WebhookDelivered(**about, status=status, attempt=delivery.attempts + 1)]


def mark_failed(delivery: WebhookDelivery, code: str, *, last: bool) -> list[Event]:
    """Record a failed attempt; after the `last` one the delivery is given
    up. No-op once delivered."""
    if delivery.status == "DELIVERED":
        return []
    about, attempt = (
        {"endpoint_id": delivery.endpoint_id, "event_id": delivery.event_id},
        delivery.attempts + 1,
    )
    if last:
        return [DeliveryFailed(**about, code=code, attempts=attempt)]
    return [AttemptFailed(**about, code=code, attempt=attempt)]


def abandon(delivery: WebhookDelivery, code: str) -> list[Event]:
    """Give the delivery up because its endpoint is disabled or deleted.
    No-op unless it is PENDING."""
    if delivery.status != "PENDING":
        return []
    return [
        DeliveryFailed(
            endpoint_id=delivery.endpoint_id,
            event_id=delivery.event_id,
            code=code,
            attempts=delivery.attempts,
        )
    ]
