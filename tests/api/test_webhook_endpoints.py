"""Merchants' webhooks: from a sale over HTTP to the merchant's own server."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from standardwebhooks import WebhookVerificationError

from adapters.webhooks.sender import HttpWebhookSender
from api.app import create_app
from commands.reactors.webhooks import merchant_webhooks, webhook_jobs
from commands.sealed_secrets import SealedSecrets
from commands.webhook_endpoints import WebhookEndpointCommands
from eventstore.log import AlreadyDone
from tests.support.servers.merchant import Merchant, running_merchant
from tests.support.shops.gateway import CARD, Person, Shop, replaced
from tests.support.shops.small_gateway import client_of

PATH = "/api/v1/webhook-endpoints"


@pytest_asyncio.fixture(loop_scope="module")
async def merchant() -> AsyncIterator[Merchant]:
    async with running_merchant() as merchant:
        yield merchant


async def subscribe(
    seller: Person, merchant: Merchant, *events: str, **said: object
) -> dict[str, Any]:
    """An endpoint at the merchant's server."""
    body = {"url": merchant.url, "events": list(events or ("order.completed.v1",)), **said}
    answer = await seller.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def sell(shop: Shop, seller: Person, buyer: Person) -> dict[str, Any]:
    """A paid sale."""
    game = await shop.game(seller)
    body = {"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}}
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})
    assert answer.json()["status"] == "COMPLETED", answer.text
    return {**answer.json(), "game_id": game["id"]}


async def all_told(shop: Shop) -> None:
    """Wait until the reactor has found the endpoints for every event so far."""
    assert await shop.services.reads.waiter.wait(
        ["merchant_webhooks"], await shop.core.log.head(), 10
    )


async def deliveries(
    shop: Shop, seller: Person, endpoint: dict[str, Any], **query: str
) -> list[dict[str, Any]]:
    answer = await seller.get(
        f"{PATH}/{endpoint['id']}/deliveries", params=query, headers=await shop.reached()
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def delivery_that_is(
    shop: Shop, seller: Person, endpoint: dict[str, Any], status: str
) -> dict[str, Any]:
    """The endpoint's only delivery, once it satisfies the condition."""
    (found,) = await shop.eventually(lambda: deliveries(shop, seller, endpoint, status=status))
    return found


# -- a sale ----------------------------------------------------------------------------------------


async def test_a_sale_arrives_once_signed_at_the_sellers_server(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    order = await sell(shop, seller, buyer)
    (arrived,) = await merchant.received(1)

    content = arrived.verified(endpoint["secret"])
    (line,) = content["data"]["order"]["lines"]
    assert content["type"] == "order.completed.v1"
    assert content["timestamp"].endswith("Z")
    assert content["data"]["order"]["order_id"] == order["order_id"]
    assert (line["game_id"], line["title"], line["unit_price_cents"]) == (
        order["game_id"],
        "Celeste",
        1999,
    )
    delivery = await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    assert (delivery["id"], delivery["event"], delivery["attempts"]) == (
        arrived.id,
        "order.completed.v1",
        1,
    )
    assert (delivery["http_status"], delivery["code"]) == (200, None)

    await seller.post(f"{PATH}/{endpoint['id']}/test")
    assert [each.verified(endpoint["secret"])["type"] for each in await merchant.received(2)] == [
        "order.completed.v1",
        "webhook.test",
    ]


async def test_a_seller_hears_of_all_that_a_sale_is_and_nobody_says_who_bought(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    await subscribe(seller, merchant, "order.*", "payment.*", "ledger.*")
    order = await sell(shop, seller, buyer)
    arrived = {each["type"]: each["data"] for each in map(_content, await merchant.received(5))}

    assert set(arrived) == {
        "order.created.v1",
        "order.confirmed.v1",
        "order.completed.v1",
        "payment.transaction.completed.v1",
        "ledger.transaction_posted.v1",
    }
    assert arrived["payment.transaction.completed.v1"]["amount_cents"] == 1999
    (entry,) = arrived["ledger.transaction_posted.v1"]["entries"]
    assert (entry["account_id"], entry["direction"]) == (f"SELLER_PAYABLE:{seller.id}", "credit")
    assert arrived["ledger.transaction_posted.v1"]["order_id"] == order["order_id"]
    for each in merchant.arrived:
        assert str(buyer.id) not in each.body.decode()
        assert buyer.email not in each.body.decode()


def _content(arrived: Any) -> dict[str, Any]:
    return dict(httpx.Response(200, content=arrived.body).json())


async def test_an_event_that_is_reacted_to_again_is_sent_once(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    order = await sell(shop, seller, buyer)
    await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    (completed,) = [
        each
        for each in await shop.core.log.read_stream(UUID(order["order_id"]))
        if each.env.name == "order.completed.v1"
    ]
    reactor = merchant_webhooks(shop.core.handler)
    await reactor.react(completed)
    await subscribe(seller, merchant)
    # nor does an endpoint that is newer than the reaction
    with pytest.raises(AlreadyDone):
        await reactor.react(completed)
    jobs = webhook_jobs(shop.queues["ludoteca.webhooks"])
    (delivery,) = await deliveries(shop, seller, endpoint)
    (requested, *_) = await shop.core.log.read_stream(UUID(delivery["id"]))
    await jobs.react(requested)  # as after a crash: the same job again
    test = (await seller.post(f"{PATH}/{endpoint['id']}/test")).json()
    assert [each.id for each in await merchant.received(2)] == [delivery["id"], test["id"]]


async def test_another_sellers_sale_is_not_notified(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant, "*")
    await sell(shop, await shop.register("SELLER"), buyer)
    await all_told(shop)
    assert await deliveries(shop, seller, endpoint) == []
    assert merchant.arrived == []


async def test_the_platform_hears_of_everybodys_sales(
    shop: Shop, seller: Person, buyer: Person, admin: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(admin, merchant)
    order = await sell(shop, seller, buyer)
    (arrived,) = await merchant.received(1)
    told = arrived.verified(endpoint["secret"])["data"]["order"]
    assert (told["order_id"], told["lines"][0]["seller_id"]) == (order["order_id"], str(seller.id))
    await admin.delete(f"{PATH}/{endpoint['id']}")


async def test_a_disabled_endpoint_gets_nothing_until_it_is_enabled(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    disabled = await seller.post(f"{PATH}/{endpoint['id']}/disable")
    assert (disabled.json()["status"], disabled.json()["disabled_reason"]) == ("DISABLED", "owner")
    await sell(shop, seller, buyer)
    await all_told(shop)
    assert await deliveries(shop, seller, endpoint) == []
    refused = await seller.post(f"{PATH}/{endpoint['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_endpoint_disabled")

    assert (await seller.post(f"{PATH}/{endpoint['id']}/enable")).json()["status"] == "ENABLED"
    order = await sell(shop, seller, buyer)
    (arrived,) = await merchant.received(1)
    assert arrived.verified(endpoint["secret"])["data"]["order"]["order_id"] == order["order_id"]


async def test_a_closed_account_gets_no_more_updates(
    shop: Shop, admin: Person, merchant: Merchant
) -> None:
    seller = await shop.register("SELLER")
    endpoint = await subscribe(seller, merchant)
    assert (await seller.delete(f"/api/v1/users/{seller.id}")).status_code == 204

    async def now() -> dict[str, Any]:
        return dict(
            (await admin.get(f"{PATH}/{endpoint['id']}", headers=await shop.reached())).json()
        )

    closed = await shop.eventually(now, lambda found: found["status"] == "DISABLED")
    assert closed["disabled_reason"] == "account_closed"


# -- failed deliveries -----------------------------------------------------------------------------


async def test_a_failed_delivery_is_sent_again_unchanged_until_it_arrives(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    merchant.statuses = [500, 302]
    await seller.post(f"{PATH}/{endpoint['id']}/test")
    arrived = await merchant.received(3)
    assert len({(each.id, each.body) for each in arrived}) == 1
    assert arrived[2].verified(endpoint["secret"])["type"] == "webhook.test"
    delivery = await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    assert (delivery["attempts"], delivery["code"]) == (3, None)


async def test_a_delivery_given_up_is_a_dead_letter_and_can_be_sent_again(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    merchant.statuses = [500, 503, 404]
    await sell(shop, seller, buyer)
    failed = await delivery_that_is(shop, seller, endpoint, "FAILED")
    assert (failed["attempts"], failed["code"]) == (3, "http_404")

    shown = await seller.get(f"{PATH}/{endpoint['id']}", headers=await shop.reached())
    assert (shown.json()["status"], shown.json()["failures"]) == ("ENABLED", 1)

    again = await seller.post(f"{PATH}/{endpoint['id']}/deliveries/{failed['id']}/redrive")
    assert (again.status_code, again.json()["status"]) == (202, "PENDING")
    arrived = await merchant.received(4)
    assert {each.id for each in arrived} == {failed["id"]}
    delivered = await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    assert (delivered["attempts"], delivered["code"]) == (4, None)
    shown = await seller.get(f"{PATH}/{endpoint['id']}", headers=await shop.reached())
    assert shown.json()["failures"] == 0

    letters = await shop.queues["ludoteca.webhooks"].dead_letters()
    (letter,) = [each for each in letters if each.job.body["delivery_id"] == failed["id"]]
    assert (letter.error, letter.attempts) == ("WebhookUnsent: http_404", 3)
    assert await shop.queues["ludoteca.webhooks"].redrive(
        letter.job.id
    )  # requested by an operator, and delivered meanwhile
    test = (await seller.post(f"{PATH}/{endpoint['id']}/test")).json()
    assert [each.id for each in await merchant.received(5)] == [failed["id"]] * 4 + [test["id"]]


async def test_a_delivered_message_can_be_sent_again_under_the_same_id(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    test = (await seller.post(f"{PATH}/{endpoint['id']}/test")).json()
    await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    await seller.post(f"{PATH}/{endpoint['id']}/deliveries/{test['id']}/redrive")
    assert [each.id for each in await merchant.received(2)] == [test["id"]] * 2


async def test_a_redrive_under_one_key_sends_once(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    test = (await seller.post(f"{PATH}/{endpoint['id']}/test")).json()
    await delivery_that_is(shop, seller, endpoint, "DELIVERED")
    redrive, key = (
        f"{PATH}/{endpoint['id']}/deliveries/{test['id']}/redrive",
        {"Idempotency-Key": uuid4().hex},
    )
    first, second = await seller.post(redrive, headers=key), await seller.post(redrive, headers=key)
    assert (second.headers["idempotent-replayed"], second.content) == ("true", first.content)
    trail = await shop.core.log.read_stream(UUID(test["id"]))
    assert [each.env.name for each in trail].count("webhook.redelivery_requested.v1") == 1


async def test_a_server_that_says_gone_is_not_called_again(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    merchant.statuses = [410]
    test = (await seller.post(f"{PATH}/{endpoint['id']}/test")).json()
    failed = await delivery_that_is(shop, seller, endpoint, "FAILED")
    assert (failed["id"], failed["code"], failed["attempts"]) == (test["id"], "gone", 1)
    shown = (await seller.get(f"{PATH}/{endpoint['id']}", headers=await shop.reached())).json()
    assert (shown["status"], shown["disabled_reason"]) == ("DISABLED", "gone")
    assert test["id"] not in {
        each.job.body["delivery_id"]
        for each in await shop.queues["ludoteca.webhooks"].dead_letters()
    }


async def test_after_a_rotation_either_secret_verifies(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    rotated = (await seller.post(f"{PATH}/{endpoint['id']}/rotate-secret")).json()
    assert rotated["secret"] != endpoint["secret"]
    await seller.post(f"{PATH}/{endpoint['id']}/test")
    (arrived,) = await merchant.received(1)
    assert arrived.verified(rotated["secret"]) == arrived.verified(endpoint["secret"])
    with pytest.raises(WebhookVerificationError):
        arrived.verified("whsec_" + "A" * 44)


# -- endpoints -------------------------------------------------------------------------------------


async def test_the_secret_is_shown_when_it_is_made_and_never_again(
    shop: Shop, seller: Person, auditor: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant, "order.*", description="stock keeping")
    secret = endpoint.pop("secret")
    assert secret.startswith("whsec_")
    one = await seller.get(f"{PATH}/{endpoint['id']}", headers=await shop.reached())
    assert one.json() == endpoint
    assert (endpoint["status"], endpoint["events"], endpoint["seller_id"]) == (
        "ENABLED",
        ["order.*"],
        str(seller.id),
    )
    listed = await seller.get(PATH, headers=await shop.reached())
    assert listed.json() == {"items": [endpoint], "next_cursor": None}
    trail = await auditor.get(f"/api/v1/audit/streams/{endpoint['id']}")
    assert (trail.status_code, secret in trail.text, secret in one.text + listed.text) == (
        200,
        False,
        False,
    )


async def test_an_endpoint_made_twice_under_one_key_is_one_with_one_secret(
    seller: Person, merchant: Merchant
) -> None:
    body, key = {"url": merchant.url, "events": ["*"]}, {"Idempotency-Key": uuid4().hex}
    first = await seller.post(PATH, json=body, headers=key)
    second = await seller.post(PATH, json=body, headers=key)
    assert (second.headers["idempotent-replayed"], second.json()) == ("true", first.json())


async def test_a_repeat_shows_what_was_made_then_and_nothing_of_what_is_deleted(
    seller: Person, merchant: Merchant
) -> None:
    body, making, rotating = (
        {"url": merchant.url, "events": ["*"]},
        *({"Idempotency-Key": uuid4().hex} for _ in "12"),
    )
    made = (await seller.post(PATH, json=body, headers=making)).json()
    path = f"{PATH}/{made['id']}"
    rotated = (await seller.post(f"{path}/rotate-secret", headers=rotating)).json()
    again = (await seller.post(f"{path}/rotate-secret")).json()
    assert (await seller.post(f"{path}/disable")).json()["status"] == "DISABLED"

    assert (await seller.post(PATH, json=body, headers=making)).json() == made
    assert (await seller.post(f"{path}/rotate-secret", headers=rotating)).json() == rotated
    assert len({made["secret"], rotated["secret"], again["secret"]}) == 3

    assert (await seller.delete(path)).status_code == 204
    for repeat in (
        await seller.post(PATH, json=body, headers=making),
        await seller.post(f"{path}/rotate-secret", headers=rotating),
    ):
        assert (repeat.status_code, repeat.json()["code"]) == (404, "webhook_endpoint_not_found")


async def test_an_edit_is_based_on_what_was_seen(
    shop: Shop, seller: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    path = f"{PATH}/{endpoint['id']}"
    tag = {"If-Match": (await seller.get(path, headers=await shop.reached())).headers["etag"]}
    edited = await seller.put(
        path, json={"events": ["game.*"], "description": "games"}, headers=tag
    )
    assert (edited.json()["events"], edited.json()["description"]) == (["game.*"], "games")
    assert edited.json()["url"] == merchant.url
    assert (await seller.put(path, json={"description": "later"}, headers=tag)).status_code == 412
    assert (await seller.delete(path, headers=tag)).status_code == 412
    assert (
        await seller.delete(path, headers={"If-Match": edited.headers["etag"]})
    ).status_code == 204
    gone = await seller.get(path, headers=await shop.reached())
    assert (gone.status_code, gone.json()["code"]) == (404, "webhook_endpoint_not_found")


async def test_nobody_sees_or_touches_anothers_endpoint(
    shop: Shop, seller: Person, buyer: Person, merchant: Merchant
) -> None:
    endpoint = await subscribe(seller, merchant)
    other, path = await shop.register("SELLER"), f"{PATH}/{endpoint['id']}"
    test = (await seller.post(f"{path}/test")).json()
    for method, where, body in [
        ("GET", path, None),
        ("GET", f"{path}/deliveries", None),
        ("PUT", path, {"description": "mine"}),
        ("DELETE", path, None),
        *[
            ("POST", f"{path}/{verb}", None)
            for verb in ("enable", "disable", "test", "rotate-secret")
        ],
        ("POST", f"{path}/deliveries/{test['id']}/redrive", None),
    ]:
        answer = await other.client.request(method, where, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_endpoint_not_found"), (
            method,
            where,
        )
        answer = await buyer.client.request(method, where, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_seller"), (method, where)
    theirs = await subscribe(other, merchant)
    crossed = await other.post(f"{PATH}/{theirs['id']}/deliveries/{test['id']}/redrive")
    assert (crossed.status_code, crossed.json()["code"]) == (404, "webhook_delivery_not_found")
    assert (await shop.client().get(PATH)).status_code == 401


async def test_an_admin_disables_what_its_seller_then_cannot_enable(
    seller: Person, admin: Person, merchant: Merchant
) -> None:
    path = f"{PATH}/{(await subscribe(seller, merchant))['id']}"
    assert (await admin.post(f"{path}/disable")).json()["disabled_reason"] == "operator"
    refused = await seller.post(f"{path}/enable")
    assert (refused.status_code, refused.json()["code"]) == (403, "disabled_by_operator")
    assert (await admin.post(f"{path}/enable")).json()["status"] == "ENABLED"


@pytest.mark.parametrize(
    "events", [["shipmint.*"], ["order.*", "user.registered.v1"], ["wallet.*"]]
)
async def test_unpublished_events_cannot_be_subscribed_to(
    seller: Person, merchant: Merchant, events: list[str]
) -> None:
    answer = await seller.post(PATH, json={"url": merchant.url, "events": events})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_event_pattern")
    assert "order.completed.v1" in answer.json()["known"]


async def test_a_url_in_our_own_network_is_refused_and_leaves_no_trace(
    shop: Shop, merchant: Merchant
) -> None:
    seller = await shop.register("SELLER")
    endpoint = await subscribe(seller, merchant)
    careful = HttpWebhookSender()
    secrets = SealedSecrets(shop.core.secrets.client_secrets)
    as_in_production = WebhookEndpointCommands(shop.core.handler, careful, secrets)
    commands = replaced(shop.commands, webhook_endpoints=as_in_production)
    app = create_app(dataclasses.replace(shop.services, commands=commands))
    client = client_of(app)
    client.headers["authorization"] = seller.client.headers["authorization"]
    for url in [
        merchant.url,
        "http://merchant.example/hook",
        "https://localhost:8443/hook",
        "https://2130706433/hook",
        "https://[::1]/hook",
        "https://ann:secret@merchant.example/",
        "https://merchant.example:22/",
    ]:
        for answer in (
            await client.post(PATH, json={"url": url, "events": ["*"]}),
            await client.put(f"{PATH}/{endpoint['id']}", json={"url": url}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "webhook_url_refused"), url
    listed = await client.get(PATH, headers=await shop.reached())
    assert [(each["id"], each["url"]) for each in listed.json()["items"]] == [
        (endpoint["id"], merchant.url)
    ]
    await careful.aclose()


async def test_the_queue_is_seen_by_metrics(shop: Shop) -> None:
    assert (
        'ludoteca_queue_depth{queue="ludoteca.webhooks"}'
        in (await shop.client().get("/metrics")).text
    )
