"""Attempts at passwords and requests for mail are limited: per client, and per account or
address."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from api.middleware.limits import Rates
from api.services import GatewaySettings
from tests.support.shops.gateway import PASSWORD, Person, Shop

PLENTY = 1000


class Net:
    """Clients with their own addresses, at a gateway that counts."""

    def __init__(self, shop: Shop, **rates: int) -> None:
        some: dict[str, Any] = {
            "attempts_per_ip": PLENTY,
            "attempts_per_account": PLENTY,
            "mails_per_address": PLENTY,
            **rates,
        }
        settings = GatewaySettings(rates=Rates(**some))
        self._app = create_app(dataclasses.replace(shop.services, settings=settings))

    def at(self, address: str, who: Person | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._app, client=(address, 1))
        headers = {} if who is None else {"authorization": "Bearer " + who.tokens["access_token"]}
        return httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers)


def far(n: int) -> str:
    """A new client each time."""
    return f"192.0.2.{n}"


def near(n: int) -> str:
    """A new address of one client's network each time."""
    return f"2001:db8::{n:x}"


async def log_in(
    client: httpx.AsyncClient, email: str, password: str = "wrong password"
) -> httpx.Response:
    return await client.post("/api/v1/auth/login", json={"email": email, "password": password})


async def register(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post(
        "/api/v1/users", json={"email": email, "password": PASSWORD, "name": "Ann"}
    )


async def forgot(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/v1/auth/password/forgot", json={"email": email})


async def resend(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/v1/auth/verify-email/resend", json={"email": email})


async def move(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.put("/api/v1/users/me", json={"email": email, "current_password": PASSWORD})


Try = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


def limited(answers: list[httpx.Response]) -> list[bool]:
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["code"] == "rate_limited"
            assert int(answer.headers["retry-after"]) >= 1
    return [answer.status_code == 429 for answer in answers]


def some_email() -> str:
    return f"{uuid4().hex}@example.com"


@pytest.mark.parametrize("attempt", [log_in, register, forgot, resend, move])
async def test_a_client_tries_so_often_whatever_address_of_its_network_it_uses(
    shop: Shop, attempt: Try
) -> None:
    net, ann = Net(shop, attempts_per_ip=3), await shop.register()

    answers = [await attempt(net.at(near(n), ann), some_email()) for n in range(4)]

    assert limited(answers) == [False] * 3 + [True]
    assert limited([await attempt(net.at("2001:db8:0:1::1", ann), some_email())]) == [False]


async def test_all_that_a_client_tries_counts_together(shop: Shop) -> None:
    net = Net(shop, attempts_per_ip=4)

    answers = [
        await attempt(net.at(far(1)), some_email())
        for attempt in (log_in, register, forgot, resend, log_in)
    ]

    assert limited(answers) == [False] * 4 + [True]


@pytest.mark.parametrize("attempt", [register, forgot, resend])
@pytest.mark.parametrize("known", [True, False])
async def test_an_address_is_mailed_so_often_whoever_asks_and_however_it_is_spelled(
    shop: Shop, attempt: Try, known: bool
) -> None:
    net = Net(shop, mails_per_address=3)
    local = uuid4().hex
    if known:
        await register(shop.client(), f"{local}@bücher.example")
    spelled = [
        f"{local}@bücher.example",
        f"{local.upper()}@BÜCHER.example",
        f'"{local}"@xn--bcher-kva.example',
    ]

    answers = [
        await attempt(net.at(far(n)), email) for n, email in enumerate([*spelled, spelled[0]])
    ]

    assert limited(answers) == [False] * 3 + [True]
    assert limited([await attempt(net.at(far(9)), some_email())]) == [False]


async def test_an_account_names_so_many_new_addresses(shop: Shop) -> None:
    net, ann = Net(shop, mails_per_address=3), await shop.register()

    answers = [await move(net.at(far(n), ann), some_email()) for n in range(4)]

    assert limited(answers) == [False] * 3 + [True]


@pytest.mark.parametrize("known", [True, False])
async def test_an_account_is_tried_so_often_from_however_many_clients(
    shop: Shop, known: bool
) -> None:
    net = Net(shop, attempts_per_account=3)
    email = (await shop.register()).email if known else some_email()

    answers = [await log_in(net.at(far(n)), email.upper() if n % 2 else email) for n in range(4)]

    assert limited(answers) == [False] * 3 + [True]


async def test_its_owner_gets_in_all_the_same(shop: Shop) -> None:
    net, ann = Net(shop, attempts_per_account=3), await shop.register()
    home = net.at(far(100))
    assert (await log_in(home, ann.email, PASSWORD)).status_code == 200

    assert True in limited([await log_in(net.at(far(n)), ann.email) for n in range(4)])

    assert [(await log_in(home, ann.email, PASSWORD)).status_code for _ in range(5)] == [200] * 5
    assert limited([await log_in(net.at(far(101)), ann.email, PASSWORD)]) == [True]


async def test_who_has_a_token_does_not_guess_the_password_with_it(shop: Shop) -> None:
    net, ann = Net(shop, attempts_per_account=3), await shop.register()
    body = {"password": "another password", "current_password": "wrong password"}

    answers = [
        await net.at(far(n), ann).put(f"/api/v1/users/{ann.id}", json=body) for n in range(4)
    ]

    assert [answer.status_code for answer in answers] == [401] * 3 + [429]
