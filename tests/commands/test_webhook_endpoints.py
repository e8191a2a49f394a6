"""Commands on webhook endpoints."""

from datetime import timedelta
from unittest.mock import ANY
from uuid import UUID

import pytest

from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.ids import PLATFORM_ID
from domain.webhook_deliveries import DeliveryRequested, RedeliveryRequested
from domain.webhook_endpoints import (
    MAX_ENDPOINTS,
    EndpointAdded,
    EndpointCreated,
    EndpointDeleted,
    EndpointDisabled,
    EndpointEnabled,
    EndpointRemoved,
    EndpointUpdated,
    SecretRotated,
    index_id,
)
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, Shop, Streams, caller
from tests.support.given_when_then import NOON, an_id
from tests.support.past import ANA, BEN_ID, SELLER, SELLER_ID, account

URL, ENDPOINT = "https://merchant.example/hook", an_id("endpoint")
OTHER_SELLER = caller(BEN_ID, "SELLER")
MADE = EndpointCreated(seller_id=SELLER_ID, url=URL, events=("order.*",), secret_ref="sealed")
THERE: Streams = {ENDPOINT: [MADE], index_id(SELLER_ID): [EndpointAdded(endpoint_id=ENDPOINT)]}
DISABLED = EndpointDisabled(reason="owner")


async def test_a_seller_makes_an_endpoint_with_a_secret_of_its_own(shop: Shop) -> None:
    making = shop.given(account(SELLER_ID, "SELLER")).when(
        shop.webhook_endpoints.create(SELLER, URL, ["order.*", "order.*"], "till")
    )
    made = await making.then(
        EndpointCreated(
            seller_id=SELLER_ID, url=URL, events=("order.*",), secret_ref=ANY, description="till"
        ),
        EndpointAdded(endpoint_id=ANY),
    )
    (created,) = await shop.log.read_stream(made.value)
    assert "whsec_" not in created.event.secret_ref
    assert str(shop.sealed_secrets.open(made.value, created.event.secret_ref)).startswith("whsec_")


async def test_an_admins_endpoint_is_the_platforms(shop: Shop) -> None:
    made = await shop.webhook_endpoints.create(ADMIN, URL, ["*"])
    (created,) = await shop.log.read_stream(made.value)
    assert created.event.seller_id == PLATFORM_ID


@pytest.mark.parametrize(
    ("url", "events", "code"),
    [
        ("https://localhost/hook", ["order.*"], "webhook_url_refused"),
        (URL, ["nothing.*"], "unknown_event_pattern"),
        (URL, [], "unknown_event_pattern"),
    ],
    ids=["own network", "unknown", "none"],
)
async def test_what_cannot_be_told_makes_no_endpoint(
    shop: Shop, url: str, events: list[str], code: str
) -> None:
    making = shop.given(account(SELLER_ID, "SELLER")).when(
        shop.webhook_endpoints.create(SELLER, url, events)
    )
    await making.then_refused(Invalid, code)


async def test_a_buyer_has_none_and_a_seller_not_too_many(shop: Shop) -> None:
    added = [EndpointAdded(endpoint_id=an_id(f"endpoint {n}")) for n in range(MAX_ENDPOINTS)]
    full = shop.given(account(SELLER_ID, "SELLER"), {index_id(SELLER_ID): added})
    await full.when(shop.webhook_endpoints.create(SELLER, URL, ["*"])).then_refused(
        Conflict, "too_many_webhook_endpoints"
    )
    with pytest.raises(Forbidden, match="not_a_seller"):
        await shop.webhook_endpoints.create(ANA, URL, ["*"])


async def test_under_a_key_it_is_made_once(shop: Shop) -> None:
    once = IdempotencyKey(an_id("key"))
    made = await shop.webhook_endpoints.create(ADMIN, URL, ["*"], once=once)
    done = await shop.when(shop.webhook_endpoints.create(ADMIN, URL, ["*"], once=once)).then_known()
    assert done.result_ids == {"endpoint_id": str(made.value)}


async def test_its_seller_edits_it(shop: Shop) -> None:
    other = "https://merchant.example/other"
    await (
        shop.given(THERE)
        .when(shop.webhook_endpoints.update(SELLER, ENDPOINT, url=other))
        .then(EndpointUpdated(url=other))
    )
    await shop.when(shop.webhook_endpoints.update(SELLER, ENDPOINT, url=other)).then_nothing()
    stale = shop.when(
        shop.webhook_endpoints.update(SELLER, ENDPOINT, description="x", expected_version=1)
    )
    await stale.then_refused(Stale, "version_mismatch", version=2)


@pytest.mark.parametrize("endpoint_id", [ENDPOINT, an_id("?")], ids=["another's", "unknown"])
async def test_anothers_endpoint_is_as_good_as_none(shop: Shop, endpoint_id: UUID) -> None:
    others = shop.given(THERE).when(shop.webhook_endpoints.disable(OTHER_SELLER, endpoint_id))
    await others.then_refused(NotFound, "webhook_endpoint_not_found")


async def test_a_new_secret_leaves_the_old_one_a_day(shop: Shop) -> None:
    await (
        shop.given(THERE)
        .when(shop.webhook_endpoints.rotate_secret(SELLER, ENDPOINT))
        .then(SecretRotated(secret_ref=ANY, old_expires_at=NOON + timedelta(days=1)))
    )


async def test_its_seller_disables_and_enables_it(shop: Shop) -> None:
    await shop.given(THERE).when(shop.webhook_endpoints.disable(SELLER, ENDPOINT)).then(DISABLED)
    await shop.when(shop.webhook_endpoints.disable(SELLER, ENDPOINT)).then_nothing()
    await shop.when(shop.webhook_endpoints.test(SELLER, ENDPOINT)).then_refused(
        Conflict, "webhook_endpoint_disabled"
    )
    await shop.when(shop.webhook_endpoints.enable(SELLER, ENDPOINT)).then(EndpointEnabled())


async def test_what_an_operator_disabled_its_seller_does_not_enable(shop: Shop) -> None:
    await (
        shop.given(THERE)
        .when(shop.webhook_endpoints.disable(ADMIN, ENDPOINT))
        .then(EndpointDisabled(reason="operator"))
    )
    await shop.when(shop.webhook_endpoints.enable(SELLER, ENDPOINT)).then_refused(
        Forbidden, "disabled_by_operator"
    )
    await shop.when(shop.webhook_endpoints.enable(ADMIN, ENDPOINT)).then(EndpointEnabled())


async def test_what_is_deleted_is_gone(shop: Shop) -> None:
    await (
        shop.given(THERE)
        .when(shop.webhook_endpoints.delete(SELLER, ENDPOINT, expected_version=1))
        .then(EndpointDeleted(), EndpointRemoved(endpoint_id=ENDPOINT))
    )
    await shop.when(shop.webhook_endpoints.enable(SELLER, ENDPOINT)).then_refused(
        NotFound, "webhook_endpoint_not_found"
    )


async def test_a_test_is_sent_and_sent_again(shop: Shop) -> None:
    sent = (
        await shop.given(THERE)
        .when(shop.webhook_endpoints.test(SELLER, ENDPOINT))
        .then(DeliveryRequested(endpoint_id=ENDPOINT, event_id=ANY, event_name="webhook.test"))
    )
    await shop.when(shop.webhook_endpoints.redeliver(SELLER, ENDPOINT, sent.value)).then(
        RedeliveryRequested(endpoint_id=ENDPOINT, event_id=ANY)
    )
    await shop.when(shop.webhook_endpoints.redeliver(SELLER, ENDPOINT, an_id("?"))).then_refused(
        NotFound, "webhook_delivery_not_found"
    )
