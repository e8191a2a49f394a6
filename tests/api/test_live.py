"""The live status over a WebSocket, through the program's own server."""

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi import APIRouter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api import socket_sessions
from api.app import gateway
from api.routes import live
from api.services import Services
from commands.aggregates import USER
from domain.cart import CartCreated
from domain.orders import OrderStatusChanged
from eventstore.log import StreamAppend
from kit.clock import ManualClock
from kit.uuid7 import uuid7
from runtime.processes.servers import config_of
from tests.support.events.history import DUE, order_created
from tests.support.shops.gateway import DECLINED, Person, Shop
from tests.support.shops.market import check_out, put_in, stocked
from tests.support.shops.small_gateway import NOON, tokens_at

PATH = "/api/v1/ws/orders"
PATIENCE = 60
PING = b"\x89"  # RFC 6455: a final frame, opcode 9


@dataclasses.dataclass
class Server:
    """The gateway on its own port."""

    app: Any
    port: int
    uvicorn: uvicorn.Server

    def connect(self, path: str = PATH) -> connect:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}", open_timeout=PATIENCE, ping_interval=None
        )

    @property
    def sockets(self) -> float | None:
        """The number of open sockets, by /metrics."""
        open_now: float | None = self.app.state.metrics.registry.get_sample_value(
            "ludoteca_live_sockets"
        )
        return open_now

    def stop(self) -> None:
        self.uvicorn.should_exit = True


@asynccontextmanager
async def serving(
    services: Services, routers: Sequence[APIRouter] = (live.router,), **settings: object
) -> AsyncIterator[Server]:
    """Serve as `ludoteca api` does; connections are accepted from the start."""
    app = gateway(services, routers)
    config = config_of(app, "127.0.0.1", 0)
    for name, value in settings.items():
        setattr(config, name, value)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(app, listening.getsockname()[1], uvicorn.Server(config))
        task = asyncio.create_task(server.uvicorn.serve(sockets=[listening]))
        try:
            yield server
        finally:
            server.stop()
            await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shop: Shop) -> AsyncIterator[Server]:
    async with serving(shop.services) as running:
        yield running


async def hear(ws: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        return dict(json.loads(await ws.recv()))


async def greet(ws: ClientConnection, who: Person, **more: object) -> dict[str, Any]:
    """Authenticate; returns the server's answer."""
    await ws.send(json.dumps({"token": who.tokens["access_token"], **more}))
    return await hear(ws)


async def hear_until(ws: ClientConnection, type: str, status: str) -> list[dict[str, Any]]:
    found = [await hear(ws)]
    while (found[-1]["type"], found[-1]["status"]) != (type, status):
        found.append(await hear(ws))
    return found


async def goodbye(ws: ClientConnection) -> tuple[int | None, str]:
    """How the server closed the socket."""
    try:
        while True:
            await hear(ws)
    except ConnectionClosed:
        return ws.close_code, ws.close_reason or ""


def statuses(found: list[dict[str, Any]], type: str) -> list[str]:
    return [each["status"] for each in found if each["type"] == type]


# -- messages --------------------------------------------------------------------------------------


async def test_a_buyer_hears_how_cart_order_and_payment_go_and_can_look_each_of_it_up(
    shop: Shop, server: Server, buyer: Person, seller: Person
) -> None:
    game = await stocked(shop, seller, 5)
    async with server.connect() as ws:
        ready = await greet(ws, buyer)
        assert (ready["type"], ready["position"]) == ("ready", ready["head"])
        await put_in(buyer, game)
        await check_out(buyer)
        found = await hear_until(ws, "order.status", "CONFIRMED")

    assert statuses(found, "order.status") == ["PENDING_PAYMENT", "CONFIRMED"]
    assert statuses(found, "cart.status")[:2] == ["ACTIVE", "CHECKOUT"]
    assert statuses(found, "payment.status") == ["REQUESTED", "PROCESSING", "CAPTURED"]
    assert [each["position"] for each in found] == sorted({each["position"] for each in found})
    order, payment = found[-1]["order_id"], found[-1]["payment_id"]
    seen = {"Min-Position": str(found[-1]["position"])}
    assert (await buyer.get(f"/api/v1/orders/{order}", headers=seen)).json()[
        "status"
    ] == "CONFIRMED"
    history = (await buyer.get(f"/api/v1/payments/{payment}", headers=seen)).json()["history"]
    told = [
        (e["position"], e["event"], e["status"]) for e in found if e["type"] == "payment.status"
    ]
    assert set(told) <= {(e["position"], e["name"], e["status"]) for e in history}


async def test_who_comes_back_to_another_path_goes_on_where_they_were(
    shop: Shop, server: Server, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)
    await buyer.post("/api/v1/orders", json=by_card(game, DECLINED), headers={"Prefer": "wait=10"})
    async with server.connect() as ws:
        await greet(ws, buyer, after_position=0)
        everything = await hear_until(ws, "order.status", "CANCELLED")

    async with server.connect("/api/ws/orders") as ws:
        ready = await greet(ws, buyer, after_position=everything[1]["position"])
        again = await hear_until(ws, "order.status", "CANCELLED")

    assert again == everything[2:]
    assert ready["position"] == everything[1]["position"] < ready["head"]
    failed = next(each for each in everything if each["status"] == "FAILED")
    assert failed["code"] == "card_declined"


async def test_nobody_hears_of_what_is_anothers_be_they_admin(
    shop: Shop, server: Server, buyer: Person, seller: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 5)
    async with server.connect() as ws:
        await greet(ws, admin)
        await put_in(buyer, game)
        await put_in(admin, game)
        mine = await hear(ws)

    assert (
        mine["cart_id"]
        == (await admin.get("/api/v1/cart", headers=await shop.reached())).json()["id"]
    )


def by_card(game: dict[str, Any], token: str) -> dict[str, Any]:
    return {"game_id": game["id"], "payment_method": {"type": "card", "token": token}}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "close_code"),
    [
        ("hello", "malformed_json", 1008),
        (b"\xff", "malformed_json", 1008),
        ("[]", "invalid_request", 1008),
        ('{"token": ""}', "invalid_request", 1008),
        ('{"token": "x", "after_position": -1}', "invalid_request", 1008),
        ('{"token": "x", "after_position": "1"}', "invalid_request", 1008),
        ('{"token": "x"}', "invalid_token", 4401),
    ],
)
async def test_a_first_message_that_says_nothing_good_is_the_last(
    server: Server, said: str | bytes, code: str, close_code: int
) -> None:
    async with server.connect() as ws:
        await ws.send(said)
        error = await hear(ws)

        assert (error["type"], error["code"]) == ("error", code)
        assert error["detail"]
        assert error["trace_id"]
        assert await goodbye(ws) == (close_code, code)


async def test_a_silent_client_is_disconnected_soon(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_sessions, "FIRST_MESSAGE_SECONDS", 0.05)
    async with server.connect() as ws:
        assert (await hear(ws))["code"] == "first_message_late"
        assert await goodbye(ws) == (1008, "first_message_late")


async def test_a_position_beyond_the_logs_end_is_refused(
    shop: Shop, server: Server, buyer: Person
) -> None:
    for beyond in (await shop.core.log.head() + 1_000_000, 10**30):
        async with server.connect() as ws:
            assert (await greet(ws, buyer, after_position=beyond))["code"] == "position_unknown"
            assert await goodbye(ws) == (1008, "position_unknown")


async def test_nothing_more_is_to_be_said(server: Server, buyer: Person) -> None:
    async with server.connect() as ws:
        await greet(ws, buyer)
        await ws.send("and?")
        assert await goodbye(ws) == (1008, "unexpected_message")


async def test_one_person_has_only_so_many_sockets(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    few = dataclasses.replace(shop.services.settings, sockets_per_user=1)
    async with (
        serving(dataclasses.replace(shop.services, settings=few)) as server,
        server.connect() as one,
        server.connect() as two,
        server.connect() as anothers,
    ):
        assert (await greet(one, buyer))["type"] == "ready"
        assert (await greet(two, buyer))["code"] == "too_many_sockets"
        assert await goodbye(two) == (1013, "too_many_sockets")
        assert (await greet(anothers, admin))["type"] == "ready"
        assert server.sockets == 2


# -- closing ---------------------------------------------------------------------------------------


async def test_it_ends_with_the_token(shop: Shop, buyer: Person) -> None:
    clock = ManualClock(NOON)
    tokens = tokens_at(clock)
    user = await shop.core.repository.state(USER, buyer.id)
    assert user is not None
    token = tokens.mint_access(
        buyer.id, "BUYER", (await shop.commands.logins.open(user)).session_id
    )
    clock.advance(timedelta(minutes=14, seconds=59.9))
    services = dataclasses.replace(shop.services, tokens=tokens, clock=clock)
    async with serving(services) as server, server.connect() as ws:
        await ws.send(json.dumps({"token": token}))
        assert (await hear(ws))["expires_at"] == "2026-03-01T12:15:00Z"
        assert (await hear(ws))["code"] == "token_expired"
        assert await goodbye(ws) == (4401, "token_expired")


async def test_whose_account_is_closed_is_refused(shop: Shop, server: Server) -> None:
    gone = await shop.register()
    await gone.delete(f"/api/v1/users/{gone.id}")
    async with server.connect() as ws:
        assert (await greet(ws, gone))["code"] == "session_ended"
        assert await goodbye(ws) == (4401, "session_ended")


async def test_whose_account_is_closed_meanwhile_hears_no_more(shop: Shop, server: Server) -> None:
    leaving = await shop.register()
    async with server.connect() as ws:
        assert (await greet(ws, leaving))["type"] == "ready"
        await leaving.delete(f"/api/v1/users/{leaving.id}")
        assert await goodbye(ws) == (4401, "session_ended")


async def test_a_server_that_stops_says_so_and_does_not_wait(shop: Shop, buyer: Person) -> None:
    async with serving(shop.services) as server, server.connect() as ws, server.connect() as silent:
        await greet(ws, buyer)
        server.stop()
        assert (await goodbye(ws))[0] == (await goodbye(silent))[0] == 1012


async def test_a_client_that_does_not_answer_pings_is_disconnected(shop: Shop) -> None:
    async with serving(shop.services, ws_ping_interval=0.05, ws_ping_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: shop\r\n{upgrade}\r\n{key}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert (await reader.read()).startswith(PING)  # and then the end
        writer.close()


class Wire:
    """A client at the other end of ASGI, which accepts this many messages until the server gives up
    on it."""

    def __init__(self, app: Any, who: Person, takes: float) -> None:
        self._takes = takes
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.taken: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._told = asyncio.Event()
        self._inbox.put_nowait({"type": "websocket.connect"})
        hello = json.dumps({"token": who.tokens["access_token"], "after_position": 0})
        self._inbox.put_nowait({"type": "websocket.receive", "text": hello})
        scope = {
            "type": "websocket",
            "path": PATH,
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
        }
        self.talk = asyncio.create_task(app(scope, self._inbox.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.closed = message["code"], message["reason"]
        elif message["type"] == "websocket.send":
            if len(self.taken) >= self._takes:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self._takes = float("inf")
            self.taken.append(json.loads(message["text"]))
            self._told.set()

    async def told_of(self, **about: str) -> None:
        """Return after the last message of this kind."""
        async with asyncio.timeout(PATIENCE):
            while not self.taken or not about.items() <= self.taken[-1].items():
                self._told.clear()
                await self._told.wait()

    async def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.talk


async def test_a_client_that_is_too_slow_is_disconnected_and_the_others_are_not(
    shop: Shop, buyer: Person
) -> None:
    impatient = dataclasses.replace(shop.services.settings, socket_patience_seconds=0.1)
    app = gateway(dataclasses.replace(shop.services, settings=impatient), [live.router])
    cart, order = uuid7(), uuid7()
    steps = [OrderStatusChanged(status, uuid7()) for status in ("PROCESSING", "SHIPPED") * 200]
    created = order_created(buyer_id=buyer.id, payment_id=uuid7())

    slow, quick = Wire(app, buyer, takes=5), Wire(app, buyer, takes=float("inf"))
    await shop.core.log.append([StreamAppend(order, 0, [created, *steps])])
    async with asyncio.timeout(PATIENCE):
        await slow.talk
    assert slow.closed == (1013, "too_slow")
    assert slow.taken[-1]["code"] == "too_slow"

    await shop.core.log.append([StreamAppend(cart, 0, [CartCreated(buyer.id, "USD", DUE)])])
    await quick.told_of(cart_id=str(cart))
    await quick.leave()
    told = [each["status"] for each in quick.taken[1:]]
    assert told == ["PENDING_PAYMENT", *(step.status for step in steps), "ACTIVE"]
    assert slow.taken[1:5] == quick.taken[1:5]
