"""A merchant's server: records the webhooks that it receives, and answers as set."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Arrived:
    """A webhook as received."""

    body: bytes
    headers: dict[str, str]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The content, verified by the standard's own package. Raises WebhookVerificationError
        unless the secret signed it."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Merchant:
    """Answers with each of `statuses` in turn, then with 200; or always with `reply`."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    reply: Reply | None = None
    arrived: list[Arrived] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.StreamResponse:
        async with self._changed:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.arrived.append(Arrived(await request.read(), headers))
            self._changed.notify_all()
        if self.reply is not None:
            return await self.reply(request)
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def received(self, count: int) -> list[Arrived]:
        """The webhooks received, once there are this many."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.arrived) >= count)
        return list(self.arrived)


@asynccontextmanager
async def running_merchant() -> AsyncIterator[Merchant]:
    merchant = Merchant()
    app = web.Application()
    app.router.add_post("/hook", merchant.take)
    async with TestServer(app) as server:
        merchant.url = str(server.make_url("/hook"))
        yield merchant
