"""Requests are limited per address, and writes per person; a client cannot fake its address."""

import time
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter

from api.app import gateway
from api.auth import SignedIn
from api.middleware.limits import Rates, client_of
from api.services import GatewaySettings, Services
from api.signed_webhooks import signed_webhook
from kit.clock import ManualClock
from tests.support.shops.small_gateway import NOON, services, tokens_at

ANN, BEN = UUID(int=1), UUID(int=2)


def shop(*, trusted_proxies: tuple[str, ...] = (), on: bool = True) -> Services:
    rates = Rates(per_ip=5, writes_per_user=2)
    return services(
        settings=GatewaySettings(rate_limit=on, rates=rates, trusted_proxies=trusted_proxies)
    )


def asking(shop: Services, peer: str = "192.0.2.1") -> httpx.AsyncClient:
    router = APIRouter()

    @router.get("/api/v1/things")
    @router.get("/health/live")
    @router.post("/api/v1/things/webhook")
    async def look() -> None: ...

    @router.post("/api/v1/payments/webhook")
    @signed_webhook
    async def hear() -> None: ...

    @router.post("/api/v1/things")
    async def write(caller: SignedIn) -> None: ...

    app = gateway(shop, [router])
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(peer, 1)), base_url="http://shop"
    )


def as_user(user_id: UUID) -> dict[str, str]:
    return {
        "authorization": (
            f"Bearer {tokens_at(ManualClock(NOON)).mint_access(user_id, 'BUYER', UUID(int=9))}"
        )
    }


async def statuses(
    client: httpx.AsyncClient, times: int, path: str = "/api/v1/things", **options: Any
) -> list[int]:
    return [(await client.get(path, **options)).status_code for _ in range(times)]


async def test_an_address_that_asks_too_often_gets_retry_after() -> None:
    client = asking(shop())

    assert await statuses(client, 5) == [200] * 5
    refused = await client.get("/api/v1/things")

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == '"ip";q=5;w=60'
    assert refused.headers["ratelimit"].startswith('"ip";r=0;t=')


async def test_a_clock_that_went_back_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    client, true, ahead = asking(shop()), time.time, 3600.0
    monkeypatch.setattr(time, "time", lambda: true() + ahead)
    assert await statuses(client, 6) == [200] * 5 + [429]
    ahead = 0.0
    assert await statuses(client, 6) == [200] * 5 + [429]


async def test_every_answer_says_what_is_left() -> None:
    client = asking(shop())

    left = [
        (await client.get("/api/v1/things")).headers["ratelimit"].split(";")[1] for _ in range(3)
    ]

    assert left == ["r=4", "r=3", "r=2"]


async def test_a_person_may_write_less_than_an_address_may_ask() -> None:
    client = asking(shop())

    of_ann = [
        (await client.post("/api/v1/things", headers=as_user(ANN))).status_code for _ in range(3)
    ]
    of_ben = (await client.post("/api/v1/things", headers=as_user(BEN))).status_code

    assert of_ann == [200, 200, 429]
    assert of_ben == 200


async def test_an_address_that_only_the_client_claims_does_not_count() -> None:
    client = asking(shop(), peer="192.0.2.1")

    spoofed = [
        (
            await client.get("/api/v1/things", headers={"x-forwarded-for": f"198.51.100.{n}"})
        ).status_code
        for n in range(6)
    ]

    assert spoofed[-1] == 429


async def test_a_trusted_proxy_says_who_the_client_is() -> None:
    client = asking(shop(trusted_proxies=("10.0.0.0/8",)), peer="10.0.0.1")

    assert 429 in await statuses(
        client, 6, headers={"x-forwarded-for": "203.0.113.9, 198.51.100.1"}
    )
    assert await statuses(client, 1, headers={"x-forwarded-for": "203.0.113.9, 198.51.100.2"}) == [
        200
    ]


async def test_probes_and_signed_webhooks_are_never_refused() -> None:
    client = asking(shop())

    assert await statuses(client, 10, "/health/live") == [200] * 10
    assert {(await client.post("/api/v1/payments/webhook")).status_code for _ in range(10)} == {200}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/things/webhook"),
        ("GET", "/api/v1/payments/webhook"),
        ("POST", "/nope/webhook"),
        ("POST", "/api/v1/payments/webhook/"),
        ("POST", "/api/v1/payments%2Fwebhook/webhook"),
    ],
)
async def test_what_only_looks_like_a_signed_webhook_is_counted(method: str, path: str) -> None:
    client = asking(shop())

    assert 429 in [(await client.request(method, path)).status_code for _ in range(6)]


async def test_an_ipv6_client_has_one_network_and_not_each_of_its_addresses() -> None:
    addresses = [f"2001:db8:1:2::{n:x}" for n in range(5)] + ["2001:DB8:1:2:ffff:0:0:1"]
    client = asking(shop(trusted_proxies=("10.0.0.0/8",)), peer="10.0.0.1")

    async def ask(address: str) -> int:
        return (
            await client.get("/api/v1/things", headers={"x-forwarded-for": address})
        ).status_code

    assert [await ask(address) for address in addresses] == [200] * 5 + [429]
    assert await ask("2001:db8:1:3::1") == 200


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("2001:0DB8:0:0::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
    ],
)
def test_a_client_is_named_in_one_way(address: str, client: str) -> None:
    assert client_of(address, 64) == client


def test_how_large_a_network_makes_a_client_is_the_operators_to_say() -> None:
    assert client_of("2001:db8:1:2::1", 48) == client_of("2001:db8:1:3::1", 48) == "2001:db8:1::/48"


async def test_limits_can_be_switched_off() -> None:
    assert await statuses(asking(shop(on=False)), 10) == [200] * 10
