"""The delivery of one event to one webhook endpoint: asked for once, tried until it succeeds or is given up.

It can be asked for again at any time, under the same id, by which the receiver knows a repeat. What is sent is made of
the log's event at `position`; a test has none.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import derived

Status = Literal["PENDING", "DELIVERED", "FAILED"]

TEST = "webhook.test"
"""The name of an event that only says that the endpoint works."""

# -- events ------------------------------------------------------------------------------------------------------------


@event("webhook.delivery_requested.v1")
class DeliveryRequested(Event, frozen=True):
    """This endpoint is to hear of this event."""

    endpoint_id: UUID
    event_id: UUID
    event_name: str
    position: int | None = None


@event("webhook.redelivery_requested.v1")
class RedeliveryRequested(Event, frozen=True):
    """It is to be sent again, whatever came of it so far."""

    endpoint_id: UUID
    event_id: UUID


@event("webhook.attempt_failed.v1")
class AttemptFailed(Event, frozen=True):
    """The `attempt`-th try came to nothing (`code` is http_500, timeout, unreachable, …); it will be tried again."""

    endpoint_id: UUID
    event_id: UUID
    code: str
    attempt: int


@event("webhook.delivered.v1")
class Delivered(Event, frozen=True):
    """The endpoint answered with this 2xx status."""

    endpoint_id: UUID
    event_id: UUID
    status: int
    attempt: int


@event("webhook.delivery_failed.v1")
class DeliveryFailed(Event, frozen=True):
    """It was given up, after so many attempts."""

    endpoint_id: UUID
    event_id: UUID
    code: str
    attempts: int


# -- state -------------------------------------------------------------------------------------------------------------


class WebhookDelivery(msgspec.Struct, frozen=True):
    """A delivery as it stands."""

    endpoint_id: UUID
    event_id: UUID
    event_name: str
    position: int | None = None
    status: Status = "PENDING"
    attempts: int = 0


def evolve(state: WebhookDelivery | None, event: Event) -> WebhookDelivery | None:
    """The delivery after one more event."""
    replace = msgspec.structs.replace
    match state, event:
        case _, DeliveryRequested():
            return WebhookDelivery(**msgspec.structs.asdict(event))
        case WebhookDelivery(), RedeliveryRequested():
            return replace(state, status="PENDING")
        case WebhookDelivery(), AttemptFailed(attempt=attempts):
            return replace(state, attempts=attempts)
        case WebhookDelivery(), Delivered(attempt=attempts):
            return replace(state, status="DELIVERED", attempts=attempts)
        case WebhookDelivery(), DeliveryFailed(attempts=attempts):
            return replace(state, status="FAILED", attempts=attempts)
    return state


def delivery_id(endpoint_id: UUID, event_id: UUID) -> UUID:
    """The stream of the one delivery of an event to an endpoint."""
    return derived("webhook.delivery", endpoint_id, event_id)


# -- decisions ---------------------------------------------------------------------------------------------------------


def request(
    delivery: WebhookDelivery | None, *, endpoint_id: UUID, event_id: UUID, event_name: str, position: int | None = None
) -> list[Event]:
    """Ask for it; asking again changes nothing."""
    if delivery is not None:
        return []
    return [
        DeliveryRequested(endpoint_id=endpoint_id, event_id=event_id, event_name=event_name, position=position),
    ]


def redeliver(delivery: WebhookDelivery) -> list[Event]:
    """Ask for it again: now, though a later try may be due; and also of what was delivered."""
    return [RedeliveryRequested(endpoint_id=delivery.endpoint_id, event_id=delivery.event_id)]


def mark_delivered(delivery: WebhookDelivery, status: int) -> list[Event]:
    """The endpoint took it; saying so again changes nothing."""
    if delivery.status == "DELIVERED":
        return []
    about = {"endpoint_id": delivery.endpoint_id, "event_id": delivery.event_id}
    return [Delivered(**about, status=status, attempt=delivery.attempts + 1)]


def mark_failed(delivery: WebhookDelivery, code: str, *, last: bool) -> list[Event]:
    """A try came to nothing, or, when it was the last, all did. Nothing to say of what was delivered meanwhile."""
    if delivery.status == "DELIVERED":
        return []
    about, attempt = {"endpoint_id": delivery.endpoint_id, "event_id": delivery.event_id}, delivery.attempts + 1
    if last:
        return [DeliveryFailed(**about, code=code, attempts=attempt)]
    return [AttemptFailed(**about, code=code, attempt=attempt)]


def abandon(delivery: WebhookDelivery, code: str) -> list[Event]:
    """It is not tried (any more): its endpoint is disabled or deleted."""
    if delivery.status != "PENDING":
        return []
    return [
        DeliveryFailed(
            endpoint_id=delivery.endpoint_id, event_id=delivery.event_id, code=code, attempts=delivery.attempts
        )
    ]
