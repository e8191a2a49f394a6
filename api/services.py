"""What the gateway is given by the composition root: the write side, the read side, and
settings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from api.middleware.limits import Rates
from api.tokens import Tokens
from commands.accounts.session_ends import SessionEnds
from commands.images import MAX_IMAGE_BYTES
from commands.ports.queue import WorkQueue
from commands.services import Commands
from eventstore.clock_watch import ClockWatch
from eventstore.database.watch import DatabaseWatch
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from kit.clock import Clock
from queries.audit import Audit
from queries.game_pages import GamePages
from queries.operations import Operations
from queries.read_models import ReadModels
from queries.search.engines import SearchEngines

HealthCheck = Callable[[], Awaitable[None]]
"""Raises whatever shows that a dependency is down."""

Rebuild = Callable[[str], Awaitable[bool]]
"""Starts to rebuild the projection of a name, and returns; False when there is none. Raises
Conflict when one runs."""


@dataclass(frozen=True)
class GatewaySettings:
    """What operators decide. `public_url` is where clients reach the API, empty: where they ask;
    `trusted_proxies` are addresses or networks whose X-Forwarded-For is believed;
    `sockets_per_user` are open at a time in one process, each closed when it does not take what it
    is told in so many seconds.
    """

    rate_limit: bool = True
    public_url: str = ""
    rates: Rates = field(default_factory=Rates)
    trusted_proxies: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    body_limit_bytes: int = 1024 * 1024
    upload_limit_bytes: int = MAX_IMAGE_BYTES + 64 * 1024  # an image, and the form around it
    sockets_per_user: int = 10
    socket_patience_seconds: float = 10.0


@dataclass(frozen=True)
class Services:
    """Everything that routes call.

    `secret` keys the fingerprints of requests; all processes share it. `dependency_errors` are what
    adapters raise when what they speak to is down. `optional_dependencies` names those of `health`
    without which requests are answered all the same. `dropped_log_lines` counts, by kind of
    process, what nobody read. `database_watch` ends what waits for a database that is away.
    """

    commands: Commands
    reads: ReadModels
    search: SearchEngines
    audit: Audit
    operations: Operations
    rebuild: Rebuild
    log: PostgresLog
    repository: Repository
    tokens: Tokens
    session_ends: SessionEnds
    clock: Clock
    clock_watch: ClockWatch
    secret: bytes
    queues: Sequence[WorkQueue] = ()
    health: Mapping[str, HealthCheck] = field(default_factory=dict)
    optional_dependencies: frozenset[str] = frozenset()
    dependency_errors: tuple[type[Exception], ...] = ()
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    game_pages: GamePages = field(default_factory=GamePages)
    dropped_log_lines: Callable[[], Mapping[str, int]] = dict
    database_watch: DatabaseWatch | None = None

    def while_there(self) -> AbstractContextManager[object]:
        """Around what needs the database. Raises DatabaseAway as soon as it is known that it is
        away."""
        return nullcontext() if self.database_watch is None else self.database_watch.while_there()


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
