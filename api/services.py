"""What the gateway is given by the composition root: the write side, the read side, and settings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.limits import Rates
from api.tokens import Tokens
from commands.catalog import Catalog
from commands.identity import Accounts
from commands.orders import Orders
from commands.payments import Payments
from commands.ports import WorkQueue
from eventstore.clock import Clock
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from queries.search import GameSearch

HealthCheck = Callable[[], Awaitable[None]]
"""Raises whatever shows that a dependency is down."""


@dataclass(frozen=True)
class GatewaySettings:
    """What operators decide. `trusted_proxies` are addresses or networks whose X-Forwarded-For is believed."""

    public_url: str = "http://127.0.0.1:8000"
    rate_limit: bool = True
    rates: Rates = field(default_factory=Rates)
    trusted_proxies: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    body_limit_bytes: int = 1024 * 1024


@dataclass(frozen=True)
class Services:
    """Everything that routes call. `secret` keys the fingerprints of requests; all processes share it."""

    accounts: Accounts
    catalog: Catalog
    orders: Orders
    payments: Payments
    search: GameSearch
    log: PostgresLog
    repository: Repository
    tokens: Tokens
    clock: Clock
    secret: bytes
    may_act: Callable[[UUID], Awaitable[bool]]
    queues: Sequence[WorkQueue] = ()
    health: Mapping[str, HealthCheck] = field(default_factory=dict)
    settings: GatewaySettings = field(default_factory=GatewaySettings)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
