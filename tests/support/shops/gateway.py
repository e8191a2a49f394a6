"""The whole shop in one process: the real gateway over the real log, projector, workers, and a
simulated card provider."""

import asyncio
import copy
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from argon2 import PasswordHasher

from adapters.passwords import Argon2Hasher
from api.app import create_app
from api.services import GatewaySettings, Services
from commands.aggregates import ALL
from commands.caller import SYSTEM, Caller
from commands.services import Commands
from domain.errors import Refused
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.database.postgres import open_pool
from eventstore.log import AlreadyDone
from kit.clock import Clock
from projections.engine.runner import Runner
from projections.registry import read_models
from queries.audit.log import Audit
from queries.audit.replays import Replays
from queries.engine.own_writes import OwnWrites
from queries.engine.past import PastTables
from queries.engine.read_models import ReadModels
from queries.operations.control import Operations
from queries.search.engines import SearchEngines
from runtime.gateway.app import Rebuilder
from runtime.gateway.audit_tasks import AuditTasks
from runtime.gateway.event_types import ProgramsEvents
from runtime.gateway.past import PastBuilder, bounds_of
from runtime.gateway.shown_settings import settings_shown
from runtime.processes.worker import consumers
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.core import Core, open_core
from runtime.wiring.work import Queues, open_queues, reactors_of
from tests.support.reactors import must_write_as_declared
from tests.support.servers.fiscal import running_operator
from tests.support.servers.provider import SECRET, running_provider, running_receiver
from tests.support.shops.small_gateway import client_of

T = TypeVar("T")

PASSWORD = "correct horse battery"
CARD, DECLINED, SECURE = "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"


@dataclass
class Person:
    """A person with an account, and a client with their token."""

    id: UUID
    email: str
    tokens: dict[str, Any]
    client: httpx.AsyncClient

    def __post_init__(self) -> None:
        self.get = self.client.get
        self.post = self.client.post
        self.put = self.client.put
        self.patch = self.client.patch
        self.delete = self.client.delete
        self.request = self.client.request


@dataclass
class Shop:
    """The shop. `reached` gives the header with which a query reflects all earlier events."""

    core: Core
    queues: Queues
    services: Services
    app: Any
    rebuilt: list[str] = field(default_factory=list)

    @property
    def commands(self) -> Commands:
        return self.core.commands

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A client without an account, or with this token."""
        client = client_of(self.app)
        if token:
            client.headers["authorization"] = f"Bearer {token}"
        return client

    async def register(self, account_type: str = "BUYER", **fields: Any) -> Person:
        """Register an account; one that only an ADMIN may create, as `system`."""
        email = f"{uuid4().hex}@example.com"
        body = {
            "email": email,
            "password": PASSWORD,
            "name": "Ann",
            "account_type": account_type,
            **fields,
        }
        if account_type in {"BUYER", "SELLER"}:
            answer = await self.client().post("/api/v1/users", json=body)
            assert answer.status_code == 201, answer.text
        else:
            await self.commands.accounts.register(SYSTEM, **body)
            answer = await self.client().post(
                "/api/v1/auth/login", json={"email": email, "password": PASSWORD}
            )
        tokens = answer.json()
        user_id = UUID(tokens["id"] if "id" in tokens else tokens["user"]["id"])
        return Person(user_id, email, tokens, self.client(tokens["access_token"]))

    async def game(self, seller: Person, **fields: Any) -> dict[str, Any]:
        """A game on sale."""
        answer = await seller.post("/api/v1/games", json=a_game(**fields))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def reached(self) -> dict[str, str]:
        """The header with which a query reflects everything so far."""
        return {"Min-Position": str(await self.core.log.head())}

    async def eventually(
        self, look: Callable[[], Awaitable[T]], wanted: Callable[[T], object] = bool
    ) -> T:
        """Poll until the result is as wanted, and return it; looks again whenever the log has
        grown, and soon in any case: what is kept of answers follows the log a little later."""
        async with asyncio.timeout(60):
            while True:
                head = await self.core.log.head()
                if wanted(found := await look()):
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.core.log.watcher.beyond(head), 0.1)


def a_game(**fields: Any) -> dict[str, Any]:
    """The body of a request that lists a game."""
    game = {
        "sku": uuid4().hex,
        "title": "Celeste",
        "genres": ["Platformer"],
        "prices": [{"region": "*", "amount_cents": 1999, "currency": "USD"}],
        "status": "ACTIVE",
    }
    return {**game, **fields}


@asynccontextmanager
async def open_shop(url: str, home: Path, **more: Any) -> AsyncIterator[Shop]:
    """Everything, running; `more` are further settings, and the `clock`, if it is another."""
    clock: Clock | None = more.pop("clock", None)
    with (
        running_receiver() as receiver,
        running_provider(home / "provider.sqlite3", receiver.url) as provider_url,
        running_operator(home / "fiscal.sqlite3") as fiscal_url,
    ):
        settings = Settings(
            home=home,
            database_url=url,
            provider_url=provider_url,
            fiscal_url=fiscal_url,
            payment_webhook_secrets=more.pop("payment_webhook_secrets", SECRET),
            payment_retry_seconds="0.05",
            webhook_retry_seconds="0.01,0.02",
            webhook_private="allow",
            **more,
        )
        hasher = Argon2Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        async with (
            open_core(settings, clock=clock, hasher=hasher) as core,
            open_queues(core) as queues,
            projecting(url),
            working(core, queues),
            searching(url) as search,
        ):
            rebuilt: list[str] = []
            services = services_of(core, queues, search, rebuilt)
            yield Shop(core, queues, services, create_app(services), rebuilt)
            await must_write_as_declared(core, queues)


def replaced(commands: Commands, **services: object) -> Commands:
    """The same commands with these services replaced."""
    changed = copy.copy(commands)
    vars(changed).update(services)
    return changed


@asynccontextmanager
async def another_process(shop: Shop) -> AsyncIterator[Shop]:
    """A second API process of the shop, which shares only the database with the first."""
    async with (
        open_core(shop.core.settings, hasher=shop.core.adapters.hasher) as core,
        open_queues(core) as queues,
    ):
        services = services_of(core, queues, shop.services.search, [])
        yield Shop(core, queues, services, create_app(services))


def services_of(core: Core, queues: Queues, search: SearchEngines, rebuilt: list[str]) -> Services:
    """The gateway's services, as the composition root builds them."""

    async def rebuild(name: str, _caller: Caller, _reason: str | None) -> int | None:
        rebuilt.append(name)
        return 0 if name == "games" else None

    async def look() -> None:
        await core.log.head()

    builder = PastBuilder(core.url, bounds_of(core.settings), 60.0)
    core.stack.push_async_callback(builder.close)
    tasks = AuditTasks(core.url, core.log.pool, core.commands.acts)
    core.stack.push_async_callback(tasks.close)
    reads = ReadModels(core.log.pool, past=PastTables(core.log.pool, builder.build))
    models = [model.projection for model in read_models()]
    return Services(
        commands=core.commands,
        reads=reads,
        own_writes=OwnWrites(core.log, reads.waiter, models, reactors_of(core, queues)),
        search=search,
        audit=Audit(core.log, ALL),
        operations=Operations(core.log.pool),
        rebuild=rebuild,
        roll_back=Rebuilder(core, read_models()).roll_back,
        start_task=tasks.start,
        replays=Replays(core.url),
        event_types=ProgramsEvents(),
        log=core.log,
        repository=core.repository,
        tokens=core.tokens,
        session_ends=core.session_ends,
        clock=core.clock,
        clock_watch=core.clock_watch,
        secret=b"of requests",
        queues=tuple(queues.values()),
        health={"database": look, "clock": core.clock_watch.check},
        settings=GatewaySettings(rate_limit=False),
        settings_shown=settings_shown(core.settings),
    )


@asynccontextmanager
async def projecting(url: str) -> AsyncIterator[None]:
    """Run a projector of all read models."""
    runner = Runner(url, codec(), read_models())
    thread = threading.Thread(target=runner.run, name="projector")
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        await asyncio.to_thread(thread.join)


@asynccontextmanager
async def working(core: Core, queues: Queues) -> AsyncIterator[None]:
    """Run reactors and workers."""
    reactors = ReactorRunner(
        core.url, core.log, reactors_of(core, queues), outcomes=(Refused, AlreadyDone)
    )
    tasks = [asyncio.create_task(each) for each in (reactors.run(), *consumers(core, queues))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def searching(url: str) -> AsyncIterator[SearchEngines]:
    """The search index in PostgreSQL."""
    async with open_pool(url, 4) as pool:
        yield SearchEngines(pool)
