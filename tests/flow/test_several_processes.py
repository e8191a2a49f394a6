"""`ludoteca run` with two API processes on one port, two workers and two projectors: one shop, also
while its processes are killed."""

import operator
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from runtime.settings import Settings
from runtime.supervision.connection_count import connections_needed
from tests.support.processes.instance import ADMIN, PASSWORD, VISA, Person, eventually
from tests.support.processes.supervised import Run, homes, is_alive, run_in
from tests.support.servers import shared

SEVERAL = {f"{kind}.{n}" for kind in ("api", "worker", "projector") for n in (1, 2)}
VICTIMS = ("api.1", "worker.1", "projector.1", "api.2", "worker.2", "projector.2")
BUYERS = 4
COUNTED = 'ludoteca_http_requests_total{method="GET",route="/api/v1/games/{game_id}",status="200"}'


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with homes() as folder:
        yield folder


@pytest.fixture(scope="module")
def several(folder: Path, postgres_url: str, postgres_template: str) -> Iterator[Run]:
    """A shop without rate limits. The last test stops it."""
    off = {"LUDOTECA_RATE_LIMIT": "off"}
    yield from running(folder, "several", postgres_url, postgres_template, **off)


@pytest.fixture(scope="module")
def limited(folder: Path, postgres_url: str, postgres_template: str) -> Iterator[Run]:
    """A shop with rate limits. The last test ends it."""
    yield from running(folder, "limited", postgres_url, postgres_template)


def running(folder: Path, name: str, url: str, template: str, **settings: str) -> Iterator[Run]:
    database = shared.create_database(url, template=template)
    numbers = {f"LUDOTECA_{kind}_PROCESSES": "2" for kind in ("API", "WORKER", "PROJECTOR")}
    own = {
        "LUDOTECA_DATABASE_URL": database,
        "LUDOTECA_ALLOW_UNSAFE_DATABASE": "on",  # the tests' own server is one
        "LUDOTECA_SAMPLE": "off",
        "LUDOTECA_ADMIN_EMAIL": ADMIN,
        "LUDOTECA_ADMIN_PASSWORD": PASSWORD,
        "LUDOTECA_PAYMENT_RETRY_SECONDS": ",".join(["0.2", "0.5", "1", "2", *["4"] * 12]),
    }
    with run_in(folder, name, **own, **numbers, **settings) as run:
        run.start()
        yield run
    shared.drop_database(database)


def anew(run: Run, path: str, person: Person | None = None) -> httpx.Response:
    """Ask over a new connection: the kernel chooses the process."""
    headers = {} if person is None else {"Authorization": person.http.headers["Authorization"]}
    return httpx.get(f"{run.shop.base}{path}", headers=headers, timeout=30)


def starts(run: Run, name: str) -> int:
    """How often a process has begun to listen."""
    listening = [line for line in run.output.splitlines() if "listening on port" in line]
    return sum(f"process={name}" in line for line in listening)


def buy_surely(buyer: Person, game: str) -> str:
    """Repeat the request under one key until it is answered; returns the order's id."""

    def ask() -> httpx.Response | None:
        try:
            return buyer.buy(game, VISA, **{"Idempotency-Key": f"{buyer.id}:{game}"})
        except httpx.TransportError:
            return None

    answer = eventually(
        ask, lambda a: a is not None and a.status_code < 500 and a.status_code != 409
    )
    assert answer is not None
    assert answer.status_code in {201, 202}, answer.text
    return str(answer.json()["order_id"])


# -- one shop --------------------------------------------------------------------------------------


def test_each_process_runs_and_is_named_in_the_log(several: Run) -> None:
    assert several.children().keys() == {"provider", "fiscal", "carrier", *SEVERAL}
    for name in ("api.1", "api.2"):
        assert f"process={name}" in several.output


def test_people_buy_at_any_process(several: Run) -> None:
    shop = several.shop
    game = shop.game(title="Celeste")
    for buyer in [shop.register() for _ in range(8)]:
        order = buyer.buy(game).json()["order_id"]
        eventually(partial(buyer.completed, order))
        assert anew(several, f"/api/v1/orders/{order}", buyer).json()["status"] == "COMPLETED"
        library = anew(several, "/api/v1/library", buyer).json()["items"]
        assert [item["title"] for item in library] == ["Celeste"]
        eventually(buyer.notices, lambda told: told.count("purchase") == 2)


def test_every_process_reads_what_one_has_written(several: Run) -> None:
    shop = several.shop
    game, buyer = shop.stocked(1000), shop.register()
    made = buyer.http.post("/api/v1/cart/items", json={"product_id": game, "quantity": 1})
    item = made.json()["items"][0]["id"]
    stale = []
    for n in range(100):
        wanted = 2 + n % 3
        changed = httpx.put(
            f"{shop.base}/api/v1/cart/items/{item}",
            json={"quantity": wanted},
            headers={"Authorization": buyer.http.headers["Authorization"]},
            timeout=30,
        )
        assert changed.status_code == 200, changed.text
        seen = anew(several, "/api/v1/cart", buyer).json()["items"][0]["quantity"]
        stale += [(seen, wanted)] if seen != wanted else []
    assert stale == []


# -- metrics ---------------------------------------------------------------------------------------


def counted(run: Run) -> float:
    """How many times a game was asked for, by /metrics."""
    lines = anew(run, "/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(COUNTED))


def test_metrics_are_those_of_all_and_never_go_back(several: Run) -> None:
    game = several.shop.game()
    before = counted(several)
    for _ in range(30):
        assert anew(several, f"/api/v1/games/{game}").status_code == 200
    eventually(lambda: counted(several), lambda found: found == before + 30)

    os.kill(several.children()["api.1"], signal.SIGKILL)
    seen: list[float | None] = []

    def is_back() -> bool:
        seen.append(counted_or_none(several))
        return starts(several, "api.1") == 2

    eventually(is_back)
    seen.append(counted_or_none(several))
    told = [each for each in seen if each is not None]
    assert told
    assert set(told) == {before + 30}
    assert anew(several, f"/api/v1/games/{game}").status_code == 200
    eventually(lambda: counted(several), lambda found: found == before + 31)


def counted_or_none(run: Run) -> float | None:
    try:
        return counted(run)
    except httpx.TransportError:  # a connection that the killed process had
        return None


# -- processes that die ----------------------------------------------------------------------------


@pytest.mark.soak
def test_nothing_is_lost_when_each_is_killed_while_people_buy(several: Run) -> None:
    shop = several.shop
    games = [shop.game(100 + n, f"Game {n}") for n in range(40)]
    buyers = [shop.register() for _ in range(BUYERS)]
    orders: dict[str, tuple[Person, str]] = {}
    enough = threading.Event()

    def go_shopping(buyer: Person) -> None:
        for game in games:
            if enough.is_set():
                return
            orders[buy_surely(buyer, game)] = (buyer, game)

    def kill(victim: str) -> None:
        """Kill it, and wait until it is back: an API process until it listens, so that one of the
        two always does."""
        before, began = several.children()[victim], starts(several, victim)
        os.kill(before, signal.SIGKILL)
        eventually(several.children, lambda now: now.get(victim, before) != before)
        if victim.startswith("api"):
            eventually(lambda: starts(several, victim), lambda now: now > began, patience=180)

    def are_bought(number: int) -> bool:
        return len(orders) >= number or all(each.done() for each in shopping)

    with ThreadPoolExecutor(BUYERS) as pool:
        shopping = [pool.submit(go_shopping, buyer) for buyer in buyers]
        try:
            for victim in VICTIMS:
                eventually(partial(are_bought, len(orders) + 4))
                kill(victim)
        finally:
            enough.set()
        for each in shopping:
            each.result()
    assert len(orders) >= 4 * len(VICTIMS)
    for order, (buyer, _) in orders.items():
        path = f"/api/v1/orders/{order}"
        eventually(partial(answer, buyer, path), lambda found: found.get("status") == "COMPLETED")
    bought = Counter((buyer.id, game) for buyer, game in orders.values())
    eventually(partial(owned, buyers), partial(operator.eq, bought))
    assert all(row["equal"] for row in shop.verify())
    assert "intact" in shop.cli("audit", "verify")


def answer(buyer: Person, path: str) -> dict[str, Any]:
    """The answer to a query; empty if a killed process gave none."""
    try:
        told = buyer.http.get(path)
    except httpx.TransportError:
        return {}
    return dict(told.json()) if told.is_success else {}


def owned(buyers: list[Person]) -> Counter[tuple[str, str]]:
    """The games in the libraries."""
    return Counter(
        (buyer.id, item["game_id"])
        for buyer in buyers
        for item in answer(buyer, "/api/v1/library?limit=200").get("items", [])
    )


# -- limits ----------------------------------------------------------------------------------------


def test_a_limit_is_the_same_however_many_processes_there_are(limited: Run) -> None:
    left = [
        int(anew(limited, "/api/v1/games").headers["RateLimit"].split("r=")[1].split(";")[0])
        for _ in range(30)
    ]
    assert left == list(range(left[0], left[0] - 30, -1))
    body = {"email": "nobody@example.com", "password": PASSWORD}
    told = [
        httpx.post(f"{limited.shop.base}/api/v1/auth/login", json=body, timeout=30).status_code
        for _ in range(23)
    ]
    assert told == [*[401] * 20, *[429] * 3]


def test_the_processes_take_no_more_connections_than_was_reckoned(several: Run) -> None:
    url = several.environment["LUDOTECA_DATABASE_URL"]
    settings = Settings(api_processes=2, worker_processes=2, projector_processes=2)
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    assert 20 < row[0] <= connections_needed(settings)


# -- the end ---------------------------------------------------------------------------------------


def test_no_request_is_cut_when_the_shop_stops_under_load(several: Run) -> None:
    shop = several.shop
    game = shop.stocked(1000)
    visitors = [shop.register() for _ in range(6)]
    done, asked = count(), threading.Barrier(len(visitors) + 1)

    def use(visitor: Person) -> tuple[str, list[int]]:
        """Ask and order until nobody answers any more. Returns how it ended, and all statuses."""
        statuses: list[int] = []
        asked.wait()
        while True:
            try:
                statuses += [visitor.http.get("/api/v1/games").status_code]
                body = {"product_id": game, "quantity": 1}
                statuses += [visitor.http.post("/api/v1/cart/items", json=body).status_code]
                next(done)
            except httpx.ConnectError:
                return "refused", statuses
            except httpx.TransportError as error:
                return repr(error), statuses

    with ThreadPoolExecutor(len(visitors)) as pool:
        using = [pool.submit(use, visitor) for visitor in visitors]
        asked.wait()
        eventually(lambda: next(done) > 10 * len(visitors))
        began = time.monotonic()
        assert several.signal(signal.SIGTERM) == 0
        assert time.monotonic() - began < 60
        ended = [each.result() for each in using]
    assert {how for how, _ in ended} == {"refused"}
    assert max(status for _, statuses in ended for status in statuses) < 500


def test_a_second_signal_ends_everything_at_once(limited: Run) -> None:
    children = limited.children()
    os.kill(children["worker.1"], signal.SIGSTOP)
    assert limited.process is not None
    limited.process.send_signal(signal.SIGTERM)
    eventually(lambda: not any(map(is_alive, pids_but(children, "worker.1"))))
    assert limited.process.poll() is None
    assert limited.signal(signal.SIGINT) == 128 + signal.SIGINT
    eventually(lambda: not any(map(is_alive, children.values())))


def pids_but(children: dict[str, int], frozen: str) -> list[int]:
    return [pid for name, pid in children.items() if name != frozen]
