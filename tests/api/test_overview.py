"""How the shop is right now, over HTTP and as it moves."""

import asyncio
import dataclasses

import pytest

from api import figures
from api import overview as api_overview
from api.middleware.metrics import Metrics
from api.overview import Overviews
from api.routes import overview
from tests.api.test_live import goodbye, greet, hear, serving
from tests.support.shops.gateway import Person, Shop

PATH = "/api/v1/ops/overview"
SOCKET = "/api/v1/ws/overview"


async def test_operators_see_how_the_shop_is(shop: Shop, buyer: Person, auditor: Person) -> None:
    assert (await buyer.get(PATH)).status_code == 403
    assert (await shop.client().get(PATH)).status_code == 401
    answer = await auditor.get(PATH)
    found = answer.json()
    assert answer.headers["event-position"] == str(found["head"])
    assert 0 < found["head"] <= await shop.core.log.head()
    assert {each["queue"] for each in found["queues"]} == {q.name for q in shop.services.queues}
    assert "orders" in " ".join(each["feed"] for each in found["consumers"])
    assert found["requests"] >= 2


async def test_it_is_sent_again_when_something_has_changed(
    shop: Shop, auditor: Person, seller: Person
) -> None:
    async with (
        serving(shop.services, routers=[overview.router]) as server,
        server.connect(SOCKET) as ws,
    ):
        first = await greet(ws, auditor)
        await shop.game(seller)
        head = await shop.core.log.head()
        assert first["head"] < head
        while (await hear(ws))["head"] < head:
            pass


async def test_a_socket_is_for_operators_and_not_for_too_many(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    one = dataclasses.replace(shop.services.settings, sockets_per_user=1)
    services = dataclasses.replace(shop.services, settings=one)
    async with serving(services, routers=[overview.router]) as server:
        async with server.connect(SOCKET) as ws:
            assert (await greet(ws, buyer))["code"] == "role_required"
            assert await goodbye(ws) == (1008, "role_required")
        async with server.connect(SOCKET) as ws:
            assert "head" in await greet(ws, admin)
            async with server.connect(SOCKET) as second:
                assert (await greet(second, admin))["code"] == "too_many_sockets"


async def test_however_many_watch_the_database_is_asked_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    consumers = figures.consumers

    async def counted(services: object) -> object:
        nonlocal looks
        looks += 1
        return await consumers(shop.services)

    monkeypatch.setattr(figures, "consumers", counted)
    monkeypatch.setattr(api_overview, "LOOK_SECONDS", 1000.0)
    overviews = Overviews(shop.services, Metrics())
    found = await asyncio.gather(*(overviews.current() for _ in range(20)))
    assert looks == 1
    assert {id(each) for each in found} == {id(found[0])}


async def test_rates_are_of_the_last_seconds_and_never_below_zero(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = iter((100, 200, 50, 60))

    async def consumers(_: object) -> figures.Consumers:
        return figures.Consumers(next(heads), {}, {})

    monkeypatch.setattr(figures, "consumers", consumers)
    monkeypatch.setattr(api_overview, "LOOK_SECONDS", 0.0)
    overviews = Overviews(shop.services, Metrics())
    first, second, after_going_back, last = [await overviews.current() for _ in range(4)]
    assert first.events_per_second is None
    assert second.events_per_second is not None
    assert second.events_per_second > 0
    assert not second.is_as(first)
    assert after_going_back.events_per_second is None
    assert last.events_per_second is not None
    assert last.events_per_second > 0
