"""The two sides, ours and the twin, each a server with its data; sends requests and measures their
cost."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import httpx
import msgspec
import psycopg
import uvloop
from joserfc.jwk import OKPKey

from api.tokens import Tokens, new_private_key
from benchmarks.http import processes as serving
from benchmarks.http import shop
from benchmarks.http.cpu import Usage, spent, used, used_by_postgres, with_cpu
from benchmarks.http.endpoints import Endpoint
from benchmarks.http.processes import API, Serving
from benchmarks.http.shop import Account, Shop
from benchmarks.http.wrk import Failed, drive, send
from benchmarks.measuring import Log, Sample
from benchmarks.server import Server
from runtime.settings import Settings
from runtime.wiring.core import open_core

QUERIES = 2_000
"""How many different requests of a query there are; then they repeat."""

PREPARED_PER_SECOND = 4_000
"""How many commands, or queries that go on, are prepared: more than any side can answer."""

WARM_UP_SECONDS = 1.0
WARM_UP_CONNECTIONS = 8
QUIET_SECONDS = 1.5
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 180

_OUR_COMMANDS = "SELECT count(*) FROM log.events WHERE name = ANY(%s)"
_TWIN_COMMANDS = "SELECT count(*) FROM idempotency WHERE %s::text[] IS NOT NULL"
_AT_WORK = """
SELECT (SELECT max(position) FROM log.events), (SELECT count(*) FROM queue.jobs
    WHERE died_at IS NULL)"""

_ERRORS = """
SELECT DISTINCT queue, left(error, 300) FROM queue.jobs WHERE died_at IS NULL AND error IS NOT NULL
LIMIT 5"""


class Side:
    """A server that answers over its own database."""

    def __init__(
        self,
        serving: Serving,
        conn: psycopg.Connection,
        postgres: int,
        token: Callable[[Account], str],
        sent: Counter[str],
        *,
        is_ours: bool,
    ) -> None:
        """`conn`: a connection to its database, for the benchmark's own queries; `postgres`: the
        server's process; `sent`: how many requests of each endpoint this database has had."""
        self.serving = serving
        self._conn = conn
        self._postgres = postgres
        self._token = token
        self._is_ours = is_ours
        self._next = sent
        self._warm: set[str] = set()

    def ask(self, endpoint: Endpoint, data: Shop, connections: int, seconds: float) -> Sample:
        """Measure one endpoint over this many connections. The CPU of a command is that of all
        processes, until everything that it caused is done. Raises Failed."""
        tokens = [self._token(account) for account in data.accounts]
        if endpoint.name not in self._warm:
            self._warm.add(endpoint.name)
            self._drive(endpoint, data, tokens, WARM_UP_CONNECTIONS, WARM_UP_SECONDS)
        return self._drive(endpoint, data, tokens, connections, seconds)

    def _drive(
        self,
        endpoint: Endpoint,
        data: Shop,
        tokens: Sequence[str],
        connections: int,
        seconds: float,
    ) -> Sample:
        base, first = self.serving.base, self._next[endpoint.name]
        length = QUERIES
        if endpoint.is_command or endpoint.goes_on:
            length = int(PREPARED_PER_SECOND * seconds)
            self._next[endpoint.name] += length
        requests = list(islice(endpoint.requests(data, first), length))
        ahead = [*endpoint.ahead(data, first), requests.pop(0)]
        asyncio.run(send(base, ahead, tokens))
        self._rest(endpoint)
        done, before = self._done(endpoint), self._used(endpoint)
        sample = drive(base, requests, tokens, connections=connections, seconds=seconds)
        after = self._rest(endpoint) if endpoint.is_command else self._used(endpoint)
        count = self._done(endpoint) - done if endpoint.is_command else sample.count
        if count < sample.count:
            raise Failed(f"{endpoint.name}: {sample.count} were answered, and {count} done")
        return with_cpu(sample, spent(before, after), count)

    def _done(self, endpoint: Endpoint) -> int:
        """The number of commands carried out."""
        statement = _OUR_COMMANDS if self._is_ours else _TWIN_COMMANDS
        row = self._conn.execute(statement, (list(endpoint.events),)).fetchone()
        assert row is not None
        return int(row[0])

    def _rest(self, endpoint: Endpoint) -> Usage:
        """Wait until the processes have been idle for a while; returns their CPU time when that
        began. Raises Failed."""
        usage = self._used(endpoint)
        if not self._is_ours:
            return usage
        deadline = time.monotonic() + PATIENCE_SECONDS
        since, before = time.monotonic(), self._at_work()
        while before[1] or time.monotonic() - since < QUIET_SECONDS:
            time.sleep(LOOK_SECONDS)
            now = self._at_work()
            if now != before:
                since, before = time.monotonic(), now
            elif time.monotonic() - since < 2 * LOOK_SECONDS:
                usage = self._used(endpoint)  # includes folding the last event
            if time.monotonic() > deadline:
                raise Failed(
                    f"after {PATIENCE_SECONDS} s there are {before[1]} jobs left{self._errors()}"
                )
        return usage

    def _at_work(self) -> tuple[int, int]:
        """The last position, and the number of pending jobs."""
        row = self._conn.execute(_AT_WORK).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def _errors(self) -> str:
        """Why jobs are tried again later."""
        return "".join(f"\n{queue}: {error}" for queue, error in self._conn.execute(_ERRORS))

    @property
    def position(self) -> int:
        """The last position of our log."""
        return self._at_work()[0]

    def _used(self, endpoint: Endpoint) -> Usage:
        """The CPU time of the processes involved; with a query, only the API's."""
        info = self._conn.info
        postgres = used_by_postgres(self._postgres, info.dbname, without=info.backend_pid)
        pids = self.serving.pids
        return {**used(pids if endpoint.is_command else {API: pids[API]}), **postgres}


class Shops(msgspec.Struct, frozen=True):
    """Our shop and the twin's, with the same data; nothing serves them yet."""

    server: Server
    home: Path
    settings: Settings
    twin_url: str
    data: Shop
    tokens: Tokens
    key_file: Path
    sent: Counter[str] = msgspec.field(default_factory=Counter)
    sent_to_twin: Counter[str] = msgspec.field(default_factory=Counter)

    @contextmanager
    def ours(self, processes: int = 1) -> Iterator[Side]:
        """Our program, with this many API processes."""
        environment = shop.environment(self.settings)
        url = self.settings.database_url.get_secret_value()
        token = partial(shop.our_token, self.tokens)
        with (
            serving.ours(self.home, environment, processes) as running,
            psycopg.connect(url, autocommit=True) as conn,
        ):
            yield Side(running, conn, self.server.pid, token, self.sent, is_ours=True)

    @contextmanager
    def twin(self, processes: int = 1) -> Iterator[Side]:
        arguments = ("benchmarks.http.twin.app", self.twin_url, self.key_file)
        token = partial(shop.twin_token, OKPKey.import_key(self.key_file.read_bytes()))
        with (
            serving.module(*arguments, home=self.home, processes=processes) as running,
            psycopg.connect(self.twin_url, autocommit=True) as conn,
        ):
            yield Side(running, conn, self.server.pid, token, self.sent_to_twin, is_ours=False)


@contextmanager
def open_shops(server: Server, home: Path, games: Path | None, log: Log) -> Iterator[Shops]:
    """Fill a new database by our program, and another one for the twin from what it answers."""
    with server.fresh("ours") as url, server.fresh() as twin_url:
        settings = shop.settings(url, home)
        with serving.ours(home, shop.environment(settings)) as running:
            log("filling the shop")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                games = shop.games_file(games, home)
                data, tokens, position = runner.run(_fill(settings, running.base, games))

            def asking(account: Account | None) -> httpx.AsyncClient:
                token = "" if account is None else shop.our_token(tokens, account)
                return shop.client(running.base, position, token)

            asyncio.run(shop.copy(asking, data, twin_url))
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
        key_file = home / "twin.pem"
        key_file.write_bytes(new_private_key())
        yield Shops(server, home, settings, twin_url, data, tokens, key_file)


async def _fill(settings: Settings, base: str, games: Path) -> tuple[Shop, Tokens, int]:
    async with open_core(settings) as core:
        return await shop.fill(core, base, games), core.tokens, await core.log.head()
