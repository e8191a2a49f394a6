"""The rules of a webhook endpoint and its deliveries."""

from datetime import timedelta
from typing import Any

import pytest

from domain import webhook_deliveries as deliveries
from domain import webhook_endpoints as endpoints
from domain.errors import Conflict, Forbidden, Invalid
from domain.webhook_deliveries import (
    AttemptFailed,
    DeliveryFailed,
    DeliveryRequested,
    RedeliveryRequested,
    WebhookDelivered,
)
from domain.webhook_endpoints import (
    EndpointAdded,
    EndpointCreated,
    EndpointDeleted,
    EndpointDisabled,
    EndpointEnabled,
    EndpointFailing,
    EndpointRecovered,
    EndpointRemoved,
    EndpointUpdated,
    SecretRotated,
    evolve,
    evolve_index,
    matches,
)
from tests.support.given_when_then import NOON, an_id, fold, given, when

SELLER, ENDPOINT, EVENT = an_id("seller"), an_id("endpoint"), an_id("event")
URL = "https://merchant.example/hook"
CREATED = EndpointCreated(
    seller_id=SELLER, url=URL, events=("order.*",), secret_ref="sealed 1", description="stock"
)
GONE, DELETED = EndpointDisabled(reason="gone"), EndpointDeleted()
NAMES = [
    "game.created.v1",
    "order.completed.v1",
    "order.created.v1",
    "payment.transaction.completed.v1",
]


# -- endpoints -------------------------------------------------------------------------------------


def test_a_new_endpoint_is_in_its_sellers_index_at_once() -> None:
    created, added = endpoints.create(
        None,
        ENDPOINT,
        seller_id=SELLER,
        url=URL,
        events=("order.*",),
        secret_ref="sealed 1",
        description="stock",
    )
    assert (created, added) == ([CREATED], [EndpointAdded(endpoint_id=ENDPOINT)])
    assert fold(evolve_index, *added).endpoint_ids == (ENDPOINT,)


def test_a_seller_has_twenty_endpoints_at_most() -> None:
    full = fold(
        evolve_index,
        *[EndpointAdded(endpoint_id=an_id(str(n))) for n in range(endpoints.MAX_ENDPOINTS)],
    )
    with pytest.raises(Conflict, match="too_many_webhook_endpoints"):
        endpoints.create(
            full, ENDPOINT, seller_id=SELLER, url=URL, events=("*",), secret_ref="sealed"
        )


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*", NAMES),
        ("order.*", ["order.completed.v1", "order.created.v1"]),
        ("payment.transaction.*", ["payment.transaction.completed.v1"]),
        ("game.created.v1", ["game.created.v1"]),
        ("order", []),
        ("ord*", []),
        ("order.created", []),
        (".*", []),
    ],
)
def test_a_pattern_means_whole_parts_of_names(pattern: str, meant: list[str]) -> None:
    assert [name for name in NAMES if matches(pattern, name)] == meant


def test_patterns_that_mean_nothing_are_refused_and_repeats_dropped() -> None:
    assert endpoints.check_patterns(["order.*", "*", "order.*"], NAMES) == ("order.*", "*")
    for wrong in ([], ["order.*", "shipmint.*"], [f"order.{n}" for n in range(51)]):
        with pytest.raises(Invalid, match="unknown_event_pattern"):
            endpoints.check_patterns(wrong, NAMES)


def test_an_endpoint_wants_its_events_while_it_is_enabled() -> None:
    assert fold(evolve, CREATED).wants("order.created.v1")
    assert not fold(evolve, CREATED).wants("game.created.v1")
    assert not fold(evolve, CREATED, GONE).wants("order.created.v1")
    assert not fold(evolve, CREATED, DELETED).wants("order.created.v1")
    assert fold(evolve, CREATED, GONE, EndpointEnabled()).wants("order.created.v1")


def test_an_edit_says_only_what_changed() -> None:
    changed = EndpointUpdated(events=("game.*",))
    given(evolve, CREATED).when(lambda e: endpoints.update(e, url=URL, events=("game.*",))).then(
        changed
    )
    given(evolve, CREATED, changed).when(
        lambda e: endpoints.update(e, url=URL, events=("game.*",))
    ).then_nothing()
    assert fold(evolve, CREATED, changed).description == "stock"
    cleared = EndpointUpdated(description="")
    given(evolve, CREATED).when(lambda e: endpoints.update(e, description="")).then(cleared)
    assert fold(evolve, CREATED, cleared).description == ""


def test_after_a_rotation_the_old_secret_signs_for_a_day_more() -> None:
    rotated = SecretRotated(secret_ref="sealed 2", old_expires_at=NOON + timedelta(hours=24))
    when(lambda: endpoints.rotate_secret("sealed 2", NOON)).then(rotated)
    endpoint = fold(evolve, CREATED, rotated)
    assert endpoint.secret_refs(NOON + timedelta(hours=23, minutes=59)) == ("sealed 2", "sealed 1")
    assert endpoint.secret_refs(NOON + timedelta(hours=24)) == ("sealed 2",)
    assert fold(evolve, CREATED).secret_refs(NOON) == ("sealed 1",)


def test_disabling_again_changes_nothing_but_an_operator_has_the_last_word() -> None:
    given(evolve, CREATED).when(lambda e: endpoints.disable(e, "owner")).then(
        EndpointDisabled(reason="owner")
    )
    given(evolve, CREATED, GONE).when(lambda e: endpoints.disable(e, "owner")).then_nothing()
    by_operator = EndpointDisabled(reason="operator")
    given(evolve, CREATED, GONE).when(lambda e: endpoints.disable(e, "operator")).then(by_operator)
    given(evolve, CREATED, by_operator).when(lambda e: endpoints.disable(e, "gone")).then_nothing()
    given(evolve, CREATED, DELETED).when(
        lambda e: endpoints.disable(e, "account_closed")
    ).then_nothing()


def test_what_an_operator_disabled_its_seller_does_not_enable() -> None:
    by_operator = EndpointDisabled(reason="operator")
    given(evolve, CREATED, by_operator).when(endpoints.enable).then_refused(
        Forbidden, "disabled_by_operator"
    )
    given(evolve, CREATED, by_operator).when(lambda e: endpoints.enable(e, by_operator=True)).then(
        EndpointEnabled()
    )
    given(evolve, CREATED, GONE).when(endpoints.enable).then(EndpointEnabled())
    given(evolve, CREATED).when(endpoints.enable).then_nothing()


def test_five_deliveries_given_up_in_a_row_disable_it() -> None:
    four = [EndpointFailing(failures=n) for n in range(1, 5)]
    given(evolve, CREATED, *four[:3]).when(endpoints.note_failure).then(four[3])
    disabled = EndpointDisabled(reason="failing")
    given(evolve, CREATED, *four).when(endpoints.note_failure).then(
        EndpointFailing(failures=5), disabled
    )
    given(evolve, CREATED, *four, EndpointRecovered()).when(endpoints.note_failure).then(four[0])
    given(evolve, CREATED, *four, disabled, EndpointEnabled()).when(endpoints.note_failure).then(
        four[0]
    )
    given(evolve, CREATED, disabled).when(endpoints.note_failure).then_nothing()


def test_a_success_is_news_only_after_failures() -> None:
    given(evolve, CREATED, EndpointFailing(failures=1)).when(endpoints.note_success).then(
        EndpointRecovered()
    )
    given(evolve, CREATED).when(endpoints.note_success).then_nothing()


def test_a_deleted_endpoint_leaves_the_index() -> None:
    deleted, removed = endpoints.delete(ENDPOINT)
    assert (deleted, removed) == ([DELETED], [EndpointRemoved(endpoint_id=ENDPOINT)])
    assert fold(evolve_index, EndpointAdded(endpoint_id=ENDPOINT), *removed).endpoint_ids == ()


# -- deliveries ------------------------------------------------------------------------------------

ABOUT = {"endpoint_id": ENDPOINT, "event_id": EVENT}
REQUESTED = DeliveryRequested(**ABOUT, event_name="order.completed.v1", position=7)
TRIED = AttemptFailed(**ABOUT, code="http_500", attempt=1)
DELIVERED = WebhookDelivered(**ABOUT, status=200, attempt=2)
FAILED = DeliveryFailed(**ABOUT, code="timeout", attempts=2)
AGAIN = RedeliveryRequested(**ABOUT)


def test_a_delivery_is_asked_for_once() -> None:
    asked: dict[str, Any] = {**ABOUT, "event_name": "order.completed.v1", "position": 7}
    when(lambda: deliveries.request(None, **asked)).then(REQUESTED)
    given(deliveries.evolve, REQUESTED).when(
        lambda d: deliveries.request(d, **asked)
    ).then_nothing()


def test_attempts_are_counted_until_it_is_delivered_or_given_up() -> None:
    story = given(deliveries.evolve, REQUESTED)
    story.when(lambda d: deliveries.mark_failed(d, "http_500", last=False)).then(TRIED)
    story = given(deliveries.evolve, REQUESTED, TRIED)
    story.when(lambda d: deliveries.mark_delivered(d, 200)).then(DELIVERED)
    story.when(lambda d: deliveries.mark_failed(d, "timeout", last=True)).then(FAILED)


def test_of_what_was_delivered_nothing_more_is_said() -> None:
    story = given(deliveries.evolve, REQUESTED, TRIED, DELIVERED)
    story.when(lambda d: deliveries.mark_delivered(d, 202)).then_nothing()
    story.when(lambda d: deliveries.mark_failed(d, "timeout", last=True)).then_nothing()
    story.when(lambda d: deliveries.abandon(d, "endpoint_disabled")).then_nothing()


def test_whatever_came_of_it_it_can_be_sent_again_and_attempts_count_on() -> None:
    for so_far in ([TRIED], [TRIED, DELIVERED], [TRIED, FAILED]):
        given(deliveries.evolve, REQUESTED, *so_far).when(deliveries.redeliver).then(AGAIN)
    again = given(deliveries.evolve, REQUESTED, TRIED, FAILED, AGAIN)
    assert again.state.status == "PENDING"
    again.when(lambda d: deliveries.mark_delivered(d, 204)).then(
        WebhookDelivered(**ABOUT, status=204, attempt=3)
    )


def test_a_delivery_to_a_disabled_endpoint_is_given_up_without_an_attempt() -> None:
    given(deliveries.evolve, REQUESTED, TRIED).when(
        lambda d: deliveries.abandon(d, "endpoint_disabled")
    ).then(DeliveryFailed(**ABOUT, code="endpoint_disabled", attempts=1))
    given(deliveries.evolve, REQUESTED, FAILED).when(
        lambda d: deliveries.abandon(d, "x")
    ).then_nothing()
