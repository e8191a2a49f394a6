"""What the composition root gives to the gateway: commands, queries and settings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Protocol
from uuid import UUID

from fastapi import Depends, Request

from api.middleware.limits import Rates
from api.middleware.request_log import LogRequest
from api.siblings import Siblings
from api.tokens import Tokens
from commands.accounts.session_ends import SessionEnds
from commands.caller import Caller
from commands.images import MAX_IMAGE_BYTES
from commands.ports.queue import WorkQueue
from commands.services import Commands
from eventstore.clock_watch import ClockWatch
from eventstore.database.watch import DatabaseWatch
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from kit.clock import Clock
from queries.audit.log import Audit
from queries.audit.replays import Replays
from queries.audit.tasks import Work
from queries.catalog.game_pages import GamePages
from queries.engine.own_writes import OwnWrites
from queries.engine.read_models import ReadModels
from queries.engine.replica import Replica
from queries.operations.control import Operations
from queries.search.engines import SearchEngines

HealthCheck = Callable[[], Awaitable[None]]
"""Raises any exception when a dependency is down."""

Rebuild = Callable[[str, Caller, str | None], Awaitable[int | None]]
"""Starts a rebuild of the named projection for somebody, with their reason, and returns the
position at which that is recorded; None when there is no such projection. Raises Conflict while a
rebuild is running."""


RollBack = Callable[[str], Awaitable[str]]
"""Lets queries read the storage of the named projection again that it had before the last rebuild;
returns its name. Raises Conflict("nothing_earlier", "catching_up", "rebuild_running")."""


class StartTask(Protocol):
    """Starts work for somebody, with their reason, and records the act that it is."""

    async def __call__(self, work: Work, caller: Caller, reason: str | None = None, /) -> UUID:
        """Returns once it is under way. Raises Conflict("audit_task_running") while another one
        is."""
        ...


class SettingShown(NamedTuple):
    """A setting: its variable, its value with secrets masked, where that comes from, its default
    and its meaning."""

    variable: str
    value: str
    source: Literal["environment", "default"]
    default: str
    meaning: str


class EventTypes(Protocol):
    """The program's events. Both calls take a moment, in which they compute."""

    def catalog(self, pattern: str) -> Sequence[Mapping[str, Any]]:
        """The events whose names match a pattern, such as `payment.*`."""
        ...

    def check(self, old: Mapping[str, Any]) -> Mapping[str, Any]:
        """How the events of another release fare. Raises Invalid("invalid_event_shapes")."""
        ...


@dataclass(frozen=True)
class GatewaySettings:
    """Operators' settings.

    `public_url` is where clients reach the API (empty: the URL of the request). X-Forwarded-For is
    trusted from `trusted_proxies`, which are addresses or networks. Alertmanager's alerts are taken
    with the `alertmanager_token` (empty: none). A user may have
    `sockets_per_user` WebSockets open in one process; one that does not accept a message within
    `socket_patience_seconds` is closed.
    """

    rate_limit: bool = True
    public_url: str = ""
    rates: Rates = field(default_factory=Rates)
    trusted_proxies: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    body_limit_bytes: int = 1024 * 1024
    upload_limit_bytes: int = MAX_IMAGE_BYTES + 64 * 1024  # an image and its form
    alertmanager_token: str = field(default="", repr=False)
    sockets_per_user: int = 10
    socket_patience_seconds: float = 10.0


@dataclass(frozen=True)
class Services:
    """Everything that routes call.

    `secret` keys the fingerprints of requests, and is the same in all processes. Adapters raise one
    of `dependency_errors` when their service is down. Readiness does not need the
    `optional_dependencies` among the `health` checks. `dropped_log_lines` returns the number of log
    lines dropped by each kind of process. `database_watch` interrupts whatever waits for a database
    that is down. `siblings` are the API processes that share this one's port, if any.
    `replica` answers queries in place of the primary, if there is one. `mirror_lag` tells how many
    seconds the mirror of KurrentDB is behind, if there is one. `log_request` takes a line for each
    request, if they are logged. `settings_shown` are the settings of this process, in order.
    """

    commands: Commands
    reads: ReadModels
    own_writes: OwnWrites
    search: SearchEngines
    audit: Audit
    operations: Operations
    rebuild: Rebuild
    roll_back: RollBack
    start_task: StartTask
    replays: Replays
    event_types: EventTypes
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
    siblings: Siblings | None = None
    replica: Replica | None = None
    mirror_lag: Callable[[], Awaitable[float]] | None = None
    log_request: LogRequest | None = None
    settings_shown: Sequence[SettingShown] = ()

    def while_there(self) -> AbstractContextManager[object]:
        """A context that needs the database. Raises DatabaseAway as soon as the database is found
        to be down."""
        return nullcontext() if self.database_watch is None else self.database_watch.while_there()


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
