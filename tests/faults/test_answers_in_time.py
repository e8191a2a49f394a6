"""No answer takes longer than a second because PostgreSQL is away, frozen or read-only; and it is
never reported away when it is not."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from queries.catalog.game_tail import STALE_SECONDS
from tests.support.processes.instance import PASSWORD
from tests.support.processes.program import Process, started
from tests.support.servers.faulty_proxy import BOTH, Proxy, Way
from tests.support.servers.own_postgres import OwnPostgres

BOUND = 2.0
"""Seconds: one is promised, on a machine without other load."""

BACK_SECONDS = 5.0
"""Seconds within which normal service resumes: about one is promised."""

READS, WRITES = "reads", "writes"


@dataclass
class Route:
    """A request, and what it needs of the database."""

    name: str
    needs: str
    method: str
    path: str
    body: Callable[[], dict[str, Any]] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Stage:
    """A server, a proxy in front of it, an API process behind the proxy, and requests to it."""

    server: OwnPostgres
    proxy: Proxy
    api: Process
    routes: list[Route]

    async def answers(
        self, needs: str = "", *, prefer: str = "wait=2"
    ) -> dict[str, tuple[httpx.Response, float]]:
        """The answers to all requests, or those with these `needs`, sent at once, and how long each
        took."""
        routes = [route for route in self.routes if needs in ("", route.needs)]
        async with httpx.AsyncClient(base_url=self.api.url, timeout=60, limits=_MANY) as client:

            async def ask(route: Route) -> tuple[httpx.Response, float]:
                body = None if route.body is None else route.body()
                headers = {**route.headers, "Prefer": prefer}
                start = monotonic()
                answer = await client.request(route.method, route.path, json=body, headers=headers)
                return answer, monotonic() - start

            found = await asyncio.gather(*map(ask, routes))
        return {route.name: one for route, one in zip(routes, found, strict=True)}

    async def until_served(self) -> float:
        """How long until all reads are answered as usual; then all writes, too."""
        took = await self._until_served(READS)
        await self._until_served(WRITES)
        return took

    async def until_read(self) -> None:
        """Wait until all reads are answered as usual."""
        await self._until_served(READS)

    async def _until_served(self, needs: str) -> float:
        start = monotonic()
        while True:
            answers = await self.answers(needs, prefer="respond-async")
            bad = {
                name: answer.status_code
                for name, (answer, _) in answers.items()
                if answer.status_code >= 500
            }
            if not bad:
                return monotonic() - start
            assert monotonic() - start < 30, (bad, self.api.said[-3000:])
            await asyncio.sleep(0.05)


# the server ends idle ones
_MANY = httpx.Limits(max_connections=100, max_keepalive_connections=0)

FAULTS: dict[str, tuple[Callable[[Stage], None], Callable[[Stage], None]]] = {
    "the server stands still": (
        lambda stage: stage.server.pause(),
        lambda stage: stage.server.go_on(),
    ),
    "the network is frozen": (
        lambda stage: stage.proxy.freeze(BOTH),
        lambda stage: stage.proxy.heal(),
    ),
    "the network drops all": (
        lambda stage: stage.proxy.drop(BOTH),
        lambda stage: stage.proxy.heal(),
    ),
    "answers are dropped": (
        lambda stage: stage.proxy.drop([Way.TO_CLIENT]),
        lambda stage: stage.proxy.heal(),
    ),
    "the server is gone": (lambda stage: stage.server.kill(), lambda stage: stage.server.start()),
    "connections are refused": (
        lambda stage: _refuse(stage.proxy),
        lambda stage: stage.proxy.heal(),
    ),
}


def _refuse(proxy: Proxy) -> None:
    proxy.refusing = True
    proxy.cut()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home: Path = tmp_path_factory.mktemp("home")
    with OwnPostgres(shared_preload_libraries="") as server, Proxy(server.url) as proxy:
        api, projector = Process("api", home, proxy.url), Process("projector", home, server.url)
        with started(api, projector):
            api.await_ready()
            yield Stage(server, proxy, api, _routes(api.url))


def _routes(url: str) -> list[Route]:
    """Requests about a game, its seller and a buyer."""
    client = httpx.Client(base_url=url, timeout=30)

    def register(kind: str) -> tuple[str, dict[str, str]]:
        email = f"{uuid4().hex}@example.com"
        body = {
            "email": email,
            "password": PASSWORD,
            "name": "Ann",
            "account_type": kind,
            "region": "US",
        }
        made = client.post("/api/v1/users", json=body).raise_for_status().json()
        return email, {"Authorization": f"Bearer {made['access_token']}"}

    (_, seller), (email, buyer) = register("SELLER"), register("BUYER")

    def game() -> str:
        price = {"region": "*", "amount_cents": 1999, "currency": "USD"}
        body = {
            "sku": uuid4().hex,
            "title": "Celeste",
            "genres": ["Platformer"],
            "prices": [price],
            "status": "ACTIVE",
        }
        return str(
            client.post("/api/v1/games", json=body, headers=seller).raise_for_status().json()["id"]
        )

    game_id = game()
    order = client.post(
        "/api/v1/orders", json={"game_id": game()}, headers={**buyer, "Prefer": "respond-async"}
    )
    order_id = order.raise_for_status().json()["order_id"]
    client.post("/api/v1/wallets", json={"currency": "USD"}, headers=buyer).raise_for_status()
    login = {"email": email, "password": PASSWORD}
    newcomer = {"password": PASSWORD, "name": "Ann", "account_type": "BUYER", "region": "US"}
    return [
        Route("game", READS, "GET", f"/api/v1/games/{game_id}"),
        Route("list", READS, "GET", "/api/v1/games"),
        Route("search", READS, "GET", "/api/v1/games/search?q=celeste"),
        Route("library", READS, "GET", "/api/v1/library", headers=buyer),
        Route("order", READS, "GET", f"/api/v1/orders/{order_id}", headers=buyer),
        Route("wallet", READS, "GET", "/api/v1/wallets/me", headers=buyer),
        Route("cart", READS, "GET", "/api/v1/cart", headers=buyer),
        Route("login", WRITES, "POST", "/api/v1/auth/login", lambda: login),
        Route(
            "order a game again",
            READS,
            "POST",
            "/api/v1/orders",
            lambda: {"game_id": game_id},
            buyer,
        ),
        Route(
            "register",
            WRITES,
            "POST",
            "/api/v1/users",
            lambda: {**newcomer, "email": f"{uuid4().hex}@example.com"},
        ),
        Route(
            "new game",
            WRITES,
            "POST",
            "/api/v1/games",
            lambda: {"sku": uuid4().hex, "title": "Draft"},
            seller,
        ),
    ]


@pytest.mark.parametrize("fault", FAULTS)
async def test_nobody_waits_for_a_database_that_is_away_and_all_goes_on_when_it_is_back(
    stage: Stage, fault: str
) -> None:
    begin, end = FAULTS[fault]
    await stage.until_served()
    begin(stage)
    begun = monotonic()
    try:
        found = await stage.answers()
        at_once = await stage.answers()
        ready, health = await _health(stage)
        await asyncio.sleep(begun + STALE_SECONDS - monotonic())
        at_last = await stage.answers()
    finally:
        end(stage)
    back = await stage.until_served()
    worst = max(found, key=lambda name: found[name][1])
    print(
        f"{fault}: at first {found[worst][1]:.2f} s ({worst}), then"
        f" {max(took for _, took in at_once.values()):.2f} s, readiness {health:.2f} s, served"
        f" again after {back:.2f} s"
    )
    for name, (answer, took) in (*found.items(), *at_once.items()):
        assert took < BOUND, (name, took)
        known = name in KEPT and answer.status_code == 200
        assert known or _says_away(answer), (name, answer.status_code, answer.text)
    for name, (answer, took) in at_last.items():
        assert took < BOUND, (name, took)
        assert _says_away(answer), (name, answer.status_code, answer.text)
    assert health < BOUND
    assert ready.status_code == 503
    states = {name: one["status"] for name, one in ready.json()["dependencies"].items()}
    assert states == {"database": "down", "writer": "down", "clock": "ok"}
    assert back < BACK_SECONDS


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/.well-known/jwks.json", 200),
        (f"/api/v1/images/{UUID(int=0)}", 404),
    ],
)
async def test_what_needs_no_database_is_answered_without_it_also_to_who_is_signed_in(
    stage: Stage, path: str, status: int
) -> None:
    await stage.until_served()
    async with httpx.AsyncClient(base_url=stage.api.url, timeout=60) as client:
        (register,) = (route for route in stage.routes if route.name == "register")
        assert register.body is not None
        made = await client.post(register.path, json=register.body())
        token = made.raise_for_status().json()["access_token"]  # of a session not asked for yet
        stage.proxy.freeze(BOTH)
        try:
            answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        finally:
            stage.proxy.heal()
    assert answer.status_code == status, answer.text
    assert "retry-after" not in answer.headers


async def test_on_a_read_only_server_writes_fail_in_time_and_reads_succeed(
    stage: Stage,
) -> None:
    await stage.until_served()
    usual = max(took for _, took in (await stage.answers()).values())  # hashing takes a while
    stage.server.read_only()
    try:
        found = await stage.answers()
        again = await stage.answers()
        ready, health = await _health(stage)
    finally:
        stage.server.writable()
    back = await stage.until_served()
    worst = max(took for _, took in [*found.values(), *again.values()])
    print(
        f"read-only: at most {worst:.2f} s (else {usual:.2f} s), readiness {health:.2f} s, served"
        f" after {back:.2f} s"
    )
    assert worst < BOUND + usual
    assert health < BOUND
    for route in stage.routes:
        for answer, _ in (found[route.name], again[route.name]):
            # which is decided without a write
            served = answer.is_success or answer.status_code == 409
            assert served if route.needs == READS else _says_away(answer), (route.name, answer.text)
    states = {name: one["status"] for name, one in ready.json()["dependencies"].items()}
    assert states == {"database": "ok", "writer": "down", "clock": "ok"}


@pytest.mark.parametrize(
    ("right", "down"),
    [
        ("EXECUTE ON FUNCTION log.append_v4", "writer"),
        ("SELECT ON private.person_keys", "writer"),
        ("SELECT ON consumers.feeds", "database"),
    ],
)
async def test_readiness_names_what_cannot_be_written_or_read_for_lack_of_a_right(
    stage: Stage, right: str, down: str
) -> None:
    await stage.until_served()
    stage.server.run(f"REVOKE {right} FROM ludoteca_app")
    try:
        lacking, _ = await _health(stage)
    finally:
        stage.server.run(f"GRANT {right} TO ludoteca_app")
    states = {name: one["status"] for name, one in lacking.json()["dependencies"].items()}
    assert states == {"database": "ok", "writer": "ok", "clock": "ok", down: "down"}
    assert lacking.status_code == 503
    assert (await _health(stage))[0].status_code == 200


async def test_a_database_that_is_made_read_only_and_ends_all_sessions_is_read_on(
    stage: Stage,
) -> None:
    await stage.until_served()
    stage.server.read_only_from_now_on()
    try:
        stage.server.end_sessions()
        await stage.until_read()
        opened, until = stage.server.sessions(), monotonic() + 3
        turns = 0
        while monotonic() < until:
            turns += 1
            for name, (answer, took) in (await stage.answers(READS)).items():
                assert answer.is_success or answer.status_code == 409, (name, answer.text)
                assert took < BOUND, (name, took)
        opened = stage.server.sessions() - opened
        writes = await stage.answers(WRITES)
    finally:
        stage.server.writable_from_now_on()
    back = await stage.until_served()
    print(
        f"{turns} turns, {opened} sessions were opened meanwhile; served again after {back:.2f} s"
    )
    assert opened < 30  # a few per second: connections are kept until a writable server is found
    for name, (answer, took) in writes.items():
        assert _says_away(answer), (name, answer.text)
        assert took < BOUND + 1, (name, took)  # hashing passwords takes a while
    assert back < BACK_SECONDS


async def test_sessions_that_are_ended_again_and_again_cost_those_under_way(stage: Stage) -> None:
    await stage.until_served()
    over = asyncio.Event()

    async def end_them() -> None:
        while not over.is_set():
            await asyncio.to_thread(stage.server.end_sessions)
            await asyncio.sleep(0.4)

    ending = asyncio.create_task(end_them())
    told: list[Any] = []
    until = monotonic() + 3
    while monotonic() < until:
        told += (await stage.answers(prefer="respond-async")).items()
    over.set()
    await ending
    refused = [name for name, (answer, _) in told if answer.status_code == 503]
    print(
        f"of {len(told)} answers {len(refused)} were 503, at most after"
        f" {max(took for _, (_, took) in told):.2f} s"
    )
    for name, (answer, took) in told:
        assert took < BOUND + 1, (name, took)
        assert answer.status_code < 500 or _says_away(answer), (name, answer.text)
    assert len(refused) < len(told) / 2
    assert await stage.until_served() < BACK_SECONDS


@pytest.mark.parametrize(
    "ways", [BOTH, (Way.TO_SERVER,), (Way.TO_CLIENT,)], ids=["both", "to server", "to client"]
)
async def test_connections_that_fell_silent_hold_up_nobody_for_long_while_new_ones_are_answered(
    stage: Stage, ways: tuple[Way, ...]
) -> None:
    await stage.until_served()
    stage.proxy.freeze(ways, only_present=True)
    found = await stage.answers(prefer="respond-async")
    worst = max(found, key=lambda name: found[name][1])
    refused = [name for name, (answer, _) in found.items() if answer.status_code == 503]
    print(f"silent connections: at most {found[worst][1]:.2f} s ({worst}), refused {refused}")
    for name, (answer, took) in found.items():
        assert took < BOUND, (name, took)
        assert answer.status_code < 500 or _says_away(answer), (name, answer.text)
    assert await stage.until_served() < BACK_SECONDS


async def test_a_process_that_was_stopped_itself_blames_nobody(stage: Stage) -> None:
    await stage.until_served()
    asking = asyncio.create_task(stage.answers(READS))
    said = len(stage.api.said)
    for _ in range(3):
        stage.api.pause()
        await asyncio.sleep(1.0)  # how long it hangs
        stage.api.go_on()
        assert all(answer.status_code < 500 for answer, _ in (await asking).values())
        asking = asyncio.create_task(stage.answers(READS))
    await asking
    assert "database is away" not in stage.api.said[said:]


async def test_64_callers_on_a_busy_machine_are_no_outage(stage: Stage, tmp_path: Path) -> None:
    paths = [route.path for route in stage.routes if route.name in ("game", "list", "search")]
    with started(Process("api", tmp_path, stage.server.url)) as (api,):
        api.await_ready()
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=_MANY) as client:

            async def call(n: int) -> list[str]:
                answers = [await client.get(paths[(n + turn) % len(paths)]) for turn in range(8)]
                return [answer.text for answer in answers if answer.status_code != 200]

            wrong = [
                text for found in await asyncio.gather(*map(call, range(64))) for text in found
            ]
        assert wrong == []
        assert "database is away" not in api.said


async def test_a_socket_opened_meanwhile_is_closed_with_try_again_later(stage: Stage) -> None:
    await stage.until_served()
    (token,) = {
        route.headers["Authorization"].split()[1] for route in stage.routes if route.name == "cart"
    }
    stage.proxy.freeze()
    try:
        start = monotonic()
        async with connect(
            f"{stage.api.url.replace('http', 'ws')}/api/v1/ws/orders", proxy=None
        ) as socket:
            await socket.send(json.dumps({"token": token}))
            said = json.loads(await socket.recv())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        took = monotonic() - start
    finally:
        stage.proxy.heal()
    assert took < BOUND
    assert said["code"] == "dependency_unavailable"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def _health(stage: Stage) -> tuple[httpx.Response, float]:
    async with httpx.AsyncClient(base_url=stage.api.url, timeout=60) as client:
        start = monotonic()
        return await client.get("/health/ready"), monotonic() - start


KEPT = {"game", "list", "search"}
"""The requests that a process answers from memory, for STALE_SECONDS after it last looked."""


def _says_away(answer: httpx.Response) -> bool:
    if answer.status_code != 503 or "retry-after" not in answer.headers:
        return False
    return bool(answer.json()["code"] == "dependency_unavailable")
