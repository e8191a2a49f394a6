"""Webhook endpoints on the seller's desk: the secret, deliveries, sending again."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.servers.merchant import Merchant, running_merchant
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Browser, Form, Page


@pytest_asyncio.fixture(loop_scope="module")
async def merchant() -> AsyncIterator[Merchant]:
    async with running_merchant() as merchant:
        yield merchant


async def created(desk: Browser, **typed: str) -> Page:
    """The page that answers the form for a new endpoint."""
    form = (await desk.get("/sell/webhooks")).form("/sell/webhooks")
    return await desk.send(form, **typed)


def secret_in(page: Page) -> str:
    (secret,) = [word for word in page.text.split() if word.startswith("whsec_")]
    return secret


async def endpoint_page(desk: Browser, secret_page: Page) -> Page:
    return await desk.get(secret_page.links["To the endpoint"])


async def with_delivery(shop: Shop, desk: Browser, path: str, status: str) -> Page:
    """The endpoint's page, once a delivery has this status."""

    async def look() -> Page:
        return await desk.get(f"{path}?status={status}")

    return await shop.eventually(look, lambda page: "Send again" in page.answer.text)


async def test_the_secret_is_shown_once_and_signs_what_is_sent(
    shop: Shop, desk: Browser, merchant: Merchant
) -> None:
    shown = await created(desk, url=merchant.url, events="game.*", description="my server")
    secret = secret_in(shown)
    assert shown.answer.headers["cache-control"] == "no-store"

    page = await endpoint_page(desk, shown)
    assert secret not in page.answer.text
    assert "my server" in (await desk.get("/sell/webhooks")).text
    await desk.send(page.form(f"{page.path}/test"))
    (arrived,) = await merchant.received(1)

    assert arrived.verified(secret)["type"] == "webhook.test"
    delivered = await with_delivery(shop, desk, page.path, "DELIVERED")
    assert "webhook.test" in delivered.text


async def test_a_failed_delivery_is_sent_again(
    shop: Shop, desk: Browser, merchant: Merchant
) -> None:
    merchant.statuses = [500] * 3
    page = await endpoint_page(desk, await created(desk, url=merchant.url, events="game.*"))
    await desk.send(page.form(f"{page.path}/test"))

    failed = await with_delivery(shop, desk, page.path, "FAILED")
    assert "500" in failed.text
    again = next(form for form in failed.forms if form.action.endswith("/redrive"))
    told = await desk.send(again)

    assert "It is sent again." in told.text
    await with_delivery(shop, desk, page.path, "DELIVERED")


async def test_a_new_secret_replaces_the_old_one(
    shop: Shop, desk: Browser, merchant: Merchant
) -> None:
    shown = await created(desk, url=merchant.url, events="*")
    page = await endpoint_page(desk, shown)

    rotated = await desk.send(page.form(f"{page.path}/rotate"))

    assert secret_in(rotated) != secret_in(shown)


async def test_an_endpoint_is_changed_disabled_enabled_and_deleted(
    desk: Browser, merchant: Merchant, shop: Shop
) -> None:
    page = await endpoint_page(desk, await created(desk, url=merchant.url, events="game.*"))
    path = page.path
    page = await desk.send(page.form(path), events="order.*, game.*", description="both")
    assert page.form(path).fields["events"] == "order.*, game.*"

    page = await desk.send(page.form(f"{path}/disable"))
    assert "You have disabled it." in page.text
    page = await desk.send(page.form(f"{path}/enable"))
    assert "Enabled" in page.text
    gone = await desk.send(page.form(f"{path}/delete"))
    assert gone.path == "/sell/webhooks"
    assert (await desk.get(path)).status == 404


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"url": "ftp://example.com/x"}, "url"),
        ({"events": "nothing.*"}, "events"),
        ({"events": ""}, "events"),
    ],
    ids=["scheme", "pattern", "no event"],
)
async def test_what_is_wrong_is_said_beside_its_field(
    desk: Browser, shop: Shop, typed: dict[str, str], field: str
) -> None:
    page = await created(desk, **{"url": "https://example.com/x", **typed})

    assert page.status == 422
    assert [given["name"] for _, given in page.elements if "aria-invalid" in given] == [field]


async def test_nobody_sees_anothers_endpoint(
    desk: Browser, other: Person, merchant: Merchant, shop: Shop
) -> None:
    body = {"url": merchant.url, "events": ["*"]}
    theirs = (await other.post("/api/v1/webhook-endpoints", json=body)).json()["id"]
    form = (await desk.get("/sell/webhooks")).form("/sell/webhooks")

    assert (await desk.get(f"/sell/webhooks/{theirs}")).status == 404
    for step in ("", "/rotate", "/disable", "/delete", "/test"):
        fields = {**form.fields, "url": merchant.url, "events": "*"}
        page = await desk.send(Form(f"/sell/webhooks/{theirs}{step}", "post", fields))
        assert page.status in {403, 404}, step
        assert "whsec_" not in page.text
