"""Webhook endpoints and their deliveries."""

from domain.events import Event
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
from projections.models.webhook_endpoints import (
    WebhookDeliveries,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpoints,
)
from tests.support.events.history import DUE, SELLER, History, at, some_id

ENDPOINT, DELIVERY, EVENT = some_id("endpoint"), some_id("delivery"), some_id("event")
CREATED = EndpointCreated(
    seller_id=SELLER, url="https://m.example/\0", events=("*",), secret_ref="sealed-1"
)
ABOUT = {"endpoint_id": ENDPOINT, "event_id": EVENT}
REQUESTED = DeliveryRequested(**ABOUT, event_name="order.completed.v1", position=7)
TRIED = AttemptFailed(**ABOUT, code="http_500", attempt=1)
DELIVERED = WebhookDelivered(**ABOUT, status=204, attempt=2)


def endpoint_after(*events: Event) -> WebhookEndpoint:
    row = History().happened(ENDPOINT, CREATED, *events).row(WebhookEndpoints(), ENDPOINT)
    assert isinstance(row, WebhookEndpoint)
    return row


def delivery_after(*events: Event) -> WebhookDelivery:
    row = History().happened(DELIVERY, REQUESTED, *events).row(WebhookDeliveries(), DELIVERY)
    assert isinstance(row, WebhookDelivery)
    return row


def test_an_endpoint_shows_what_it_hears_of_and_no_secret() -> None:
    edited = endpoint_after(
        EndpointUpdated(events=("order.*",), description="stock"),
        SecretRotated(secret_ref="sealed-2", old_expires_at=DUE),
    )
    assert (edited.url, edited.events, edited.description) == (
        "https://m.example/",
        ["order.*"],
        "stock",
    )
    assert (edited.status, edited.version, edited.created_at, edited.updated_at) == (
        "ENABLED",
        3,
        at(1),
        at(3),
    )
    assert "sealed" not in str(edited)


def test_an_endpoint_shows_why_it_is_disabled_and_how_it_fares() -> None:
    failing = endpoint_after(EndpointFailing(failures=2))
    assert (failing.status, failing.failures) == ("ENABLED", 2)
    assert endpoint_after(EndpointFailing(failures=2), EndpointRecovered()).failures == 0
    disabled = endpoint_after(EndpointFailing(failures=5), EndpointDisabled(reason="failing"))
    assert (disabled.status, disabled.disabled_reason) == ("DISABLED", "failing")
    enabled = endpoint_after(
        EndpointFailing(failures=5), EndpointDisabled(reason="failing"), EndpointEnabled()
    )
    assert (enabled.status, enabled.disabled_reason, enabled.failures) == ("ENABLED", None, 0)


def test_a_deleted_endpoint_is_not_shown() -> None:
    assert (
        History().happened(ENDPOINT, CREATED, EndpointDeleted()).row(WebhookEndpoints(), ENDPOINT)
        is None
    )


def test_a_delivery_shows_how_often_it_was_tried_and_what_came_of_it() -> None:
    pending = delivery_after()
    assert (pending.status, pending.attempts, pending.requested_at, pending.attempted_at) == (
        "PENDING",
        0,
        at(1),
        None,
    )
    tried = delivery_after(TRIED)
    assert (tried.status, tried.attempts, tried.code, tried.attempted_at) == (
        "PENDING",
        1,
        "http_500",
        at(2),
    )
    done = delivery_after(TRIED, DELIVERED)
    assert (done.status, done.attempts, done.code, done.http_status) == ("DELIVERED", 2, None, 204)
    assert done.settled_at == at(3)


def test_a_delivery_that_was_given_up_can_be_under_way_again() -> None:
    failed = delivery_after(TRIED, DeliveryFailed(**ABOUT, code="timeout", attempts=2))
    assert (failed.status, failed.code, failed.attempts, failed.settled_at) == (
        "FAILED",
        "timeout",
        2,
        at(3),
    )
    again = delivery_after(TRIED, DELIVERED, RedeliveryRequested(**ABOUT))
    assert (again.status, again.settled_at, again.attempts) == ("PENDING", None, 2)
    abandoned = delivery_after(TRIED, DeliveryFailed(**ABOUT, code="endpoint_disabled", attempts=1))
    assert (abandoned.attempted_at, abandoned.settled_at) == (at(2), at(3))
