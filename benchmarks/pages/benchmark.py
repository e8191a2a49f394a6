"""What each page costs: CPU of the API's process, of which the pages are a part.

The CPU hardly depends on what else keeps the machine busy. It is read from the process's own clock
before each request, so that it includes what is done after an answer; the figure is the median.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psycopg
from starlette.routing import compile_path

from benchmarks.http import processes
from benchmarks.http.processes import API
from benchmarks.http.shop import environment, settings
from benchmarks.http.wrk import Failed
from benchmarks.measuring import Line, Log, Ratio, Table
from benchmarks.pages.shop import PASSWORD, Person, Shop, fill
from benchmarks.server import Server
from web.app import ROUTERS

MOST_MS = 20.0
"""The aim for a page."""

REQUESTS = 30
WARM_UP = 5

STREAMS = {"/cart/live", "/orders/{order_id}/live", "/console/live", "/console/log/live"}
"""What does not end by itself."""

NO_PAGES = {"/paid", "/profile/export"}
"""What only leads to other pages, and the file of all that is known of somebody."""

_SECRET = re.compile(r'name="csrf" value="([^"]+)"')

Pages = Mapping[str, str]
"""Paths by the name of what they show."""


def benchmark(server: Server, *, rounds: int, log: Log) -> list[Table]:
    """A table for each of the three front ends. Raises Failed if a page has no figure."""
    with server.fresh("ours") as url, TemporaryDirectory(prefix="ludoteca-pages-") as folder:
        home = Path(folder)
        told = environment(settings(url, home))
        with processes.ours(home, told) as running:
            log("filling the shop")
            shop = fill(running.base, told)
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("VACUUM ANALYZE")
            pages = pages_of(shop)
            _must_be_all(path for _, some in pages.values() for path in some.values())
            cpu = cpu_clock(running.pids[API][0])
            return [
                _table(title, visit(running.base, visitor), some, cpu, rounds, log)
                for title, (visitor, some) in pages.items()
            ]


def pages_of(shop: Shop) -> Mapping[str, tuple[Person | None, Pages]]:
    """The pages, and who looks at them: all of `web/`."""
    ids, last = shop.ids, shop.last
    consistency = "/console/proofs/consistency"
    differences = f"/console/differences?to={last}&from="
    guest = {
        "home": "/",
        "search": "/search?q=dark",
        "suggestions": "/search/suggest?q=dar",
        "a game": f"/games/{ids['game']}",
        "register": "/register",
        "sign in": "/sign-in",
        "forgot": "/forgot",
        "reset": "/reset-password",
        "verify": "/verify-email",
    }
    buyer = {
        "home": "/",
        "best-selling": "/best-selling",
        "reduced": "/reduced",
        "search": "/search?q=dark",
        "a game": f"/games/{ids['box']}",
        "cart": "/cart",
        "check-out": "/checkout",
        "orders": "/orders",
        "an order": f"/orders/{ids['order']}",
        "library": "/library",
        "wallets": "/wallet",
        "a wallet": f"/wallet/{ids['wallet']}",
        "profile": "/profile",
        "notifications": "/notifications",
    }
    seller = {
        "overview": "/sell",
        "games": "/sell/games",
        "a new game": "/sell/games/new",
        "a game": f"/sell/games/{ids['box']}",
        "stock": "/sell/stock",
        "shipments": "/sell/shipments",
        "a shipment": f"/sell/shipments/{ids['parcel']}",
        "sales": "/sell/sales",
        "account": "/sell/account",
        "webhooks": "/sell/webhooks",
        "an endpoint": f"/sell/webhooks/{ids['endpoint']}",
    }
    operator = {
        "overview": "/console",
        "find": f"/console/find?id={ids['order']}",
        "log": "/console/log",
        "log, of payments": "/console/log?name=payment.*",
        "an event": f"/console/events/{ids['event']}",
        "a proof": f"/console/events/{ids['event']}/proof",
        "streams": "/console/streams",
        "a stream": f"/console/streams/{ids['order']}",
        "a row": f"/console/rows?model=orders&key={ids['order']}&step=2",
        "orders": "/console/orders",
        "an order's story": f"/console/orders/{ids['order']}",
        "a figure's why": f"/console/why?of={ids['wallet']}.balance_cents",
        "projections": "/console/projections",
        "a projection": "/console/projections/orders",
        "quarantine": "/console/quarantine",
        "quarantine, all": "/console/quarantine/all",
        "amendments": "/console/amendments",
        "an amendment": f"/console/amendments/{ids['event']}",
        "dead letters": "/console/dead-letters",
        "dead letters, all": "/console/dead-letters/all",
        "dead letters, to discard": "/console/dead-letters/discard",
        "tasks": "/console/tasks",
        "a task": f"/console/tasks/{ids['task']}",
        "proofs": "/console/proofs",
        "a checkpoint": f"/console/proofs/checkpoints/{ids['checkpoint']}",
        "consistency": f"{consistency}?from={ids['first checkpoint']}&to={ids['checkpoint']}",
        "bundles": f"/console/bundles?id={ids['order']}",
        "differences, of an order": f"{differences}1&about=order&id={ids['order']}",
        "differences, of 100 events": f"{differences}{last - 100}",
        "ledger": "/console/ledger",
        "an account": f"/console/ledger/accounts/{ids['account']}",
        "postings": "/console/ledger/transactions",
        "people": "/console/people",
        "a person": f"/console/people/{shop.buyer.id}",
        "acts": "/console/acts",
        "alerts": "/console/alerts",
        "self-audit": "/console/self-audit",
        "catalog": "/console/catalog",
        "settings": "/console/settings",
    }
    return {
        "The shop, without an account": (None, guest),
        "The shop": (shop.buyer, buyer),
        "The seller's desk": (shop.seller, seller),
        "The console": (shop.operator, operator),
    }


def _must_be_all(paths: Iterator[str]) -> None:
    taken = [path.partition("?")[0] for path in paths]
    for router in ROUTERS:
        for page in router.pages:
            if page.method == "GET" and page.path not in STREAMS | NO_PAGES:
                pattern = compile_path(page.path)[0]
                if not any(map(pattern.match, taken)):
                    raise Failed(f"no page at {page.path} is measured")


def visit(base: str, visitor: Person | None) -> httpx.Client:
    """A browser, signed in if somebody is named."""
    browser = httpx.Client(base_url=base, headers={"accept": "text/html"}, timeout=30)
    if visitor is not None:
        found = _SECRET.search(browser.get("/sign-in").text)
        assert found is not None
        typed = {"csrf": found[1], "email": visitor.email, "password": PASSWORD}
        answer = browser.post("/sign-in", data=typed)
        if answer.status_code != 303:
            raise Failed(f"/sign-in: {answer.status_code} {answer.text}")
    return browser


def cpu_clock(pid: int) -> Callable[[], float]:
    """Reads a process's CPU seconds, of all its threads, to the nanosecond (Linux)."""
    clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of the process, as clock_getcpuclockid(3) makes it
    return lambda: time.clock_gettime(clock)


def _table(
    title: str,
    browser: httpx.Client,
    pages: Pages,
    cpu: Callable[[], float],
    rounds: int,
    log: Log,
) -> Table:
    lines = []
    for name, path in pages.items():
        figures = [_median_ms(browser, path, cpu) for _ in range(rounds)]
        figure = statistics.median(figures)
        aim = Ratio(f"{MOST_MS:g} ms", figure / MOST_MS, "≤ 1", figure <= MOST_MS)
        lines.append(Line(name, "ms of CPU", figure, min(figures), max(figures), ratios=[aim]))
        log(f"{title}, {name}: {figure:.1f} ms")
    return Table(f"Pages. {title}", lines)


def _median_ms(browser: httpx.Client, path: str, cpu: Callable[[], float]) -> float:
    """CPU milliseconds of a page. Raises Failed if it is not shown."""
    for _ in range(WARM_UP):
        answer = browser.get(path)
        if answer.status_code not in {200, 303}:
            raise Failed(f"{path}: {answer.status_code} {answer.text}")
    readings = []
    for _ in range(REQUESTS):
        readings.append(cpu())
        browser.get(path)
    readings.append(cpu())
    return statistics.median(after - before for before, after in pairwise(readings)) * 1000
