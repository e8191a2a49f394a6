"""A gateway with a few test routes, over services that the test chooses."""

from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI

from api.app import create_app, gateway
from api.services import GatewaySettings, Services
from api.tokens import Tokens, new_private_key
from commands.accounts.session_ends import Opened
from kit.clock import ManualClock
from queries.catalog.game_pages import GamePages
from queries.engine.positions import Progress

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = new_private_key()


def tokens_at(clock: ManualClock) -> Tokens:
    """Tokens issued by the shop "ludoteca"."""
    return Tokens(KEY, "ludoteca", "ludoteca", clock)


class NoHistory:
    """The history of a log that never changes."""

    def when_it_changes(self, _: object) -> None: ...


class NoLog:
    """A log that is never read."""

    history = NoHistory()


class NoSessionEnds:
    """No session has ended."""

    async def check(self, _: Opened) -> None: ...


class NoConsumers:
    """No consumer is astray."""

    async def astray(self) -> list[str]:
        return []


class NoReadModels:
    """No read model has to catch up."""

    async def catching_up(self) -> dict[str, Progress]:
        return {}


def services(**given: Any) -> Services:
    """Only the given services."""

    clock = ManualClock(NOON)
    rest: dict[str, Any] = {each.name: None for each in fields(Services)}
    rest |= {
        "clock": clock,
        "tokens": tokens_at(clock),
        "secret": b"secret",
        "session_ends": NoSessionEnds(),
        "log": NoLog(),
        "operations": NoConsumers(),
        "game_pages": GamePages(),
        "queues": (),
        "reads": NoReadModels(),
    }
    return Services(
        **{
            **rest,
            "health": {},
            "optional_dependencies": frozenset(),
            "dependency_errors": (),
            "settings": GatewaySettings(rate_limit=False),
            **given,
        }
    )


@cache
def every_route() -> FastAPI:
    """An application to look at, with all routes and no services. Tests share it, as it is made for
    a second or two, and its OpenAPI document again."""
    return create_app(services())


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    """A client of the app without a network; what the app raises fails the test."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url="http://shop")


def tiny(router: APIRouter, **given: Any) -> httpx.AsyncClient:
    """A client of a gateway with these routes."""
    return client_of(gateway(services(**given), [router]))
