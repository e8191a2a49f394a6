"""How often a client may ask: per IP address for everything, per user for writes, per IP address to prove who one is.

Moving windows of a minute, by the `limits` library; in this process, or in what its storage URL names.
"""

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import access_of
from api.context import context_of
from api.problems import Problem
from api.tokens import Tokens
from domain.errors import Unauthorized

WINDOW_SECONDS = 60
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Rates:
    """Requests per minute, and where they are counted (`async+redis://…` for several hosts)."""

    per_ip: int = 600
    writes_per_user: int = 120
    attempts_per_ip: int = 20
    storage: str = "async+memory://"


@dataclass(frozen=True)
class Allowance:
    """What is left of a policy, and in how many seconds some of it comes back."""

    policy: str
    quota: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_seconds}',
        }


class Limiter:
    """Counts. When it is off, nothing is refused."""

    def __init__(self, rates: Rates, *, on: bool = True) -> None:
        self.on = on
        storage = storage_from_string(rates.storage)
        if not isinstance(storage, Storage):
            raise ValueError("the storage of rate limits has to be an async one: async+…")
        self._window = MovingWindowRateLimiter(storage)
        self._policies = {
            "ip": RateLimitItemPerMinute(rates.per_ip),
            "writes": RateLimitItemPerMinute(rates.writes_per_user),
            "attempts": RateLimitItemPerMinute(rates.attempts_per_ip),
        }

    async def take(self, policy: str, who: str) -> Allowance:
        """Count one request. Raises Problem 429 when there are too many."""
        item = self._policies[policy]
        allowed = await self._window.hit(item, policy, who)
        stats = await self._window.get_window_stats(item, policy, who)
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        allowance = Allowance(policy, item.amount, max(0, stats.remaining), reset)
        if not allowed:
            headers = {**allowance.headers, "Retry-After": str(reset)}
            raise Problem(429, "rate_limited", "too many requests, try again later", headers=headers)
        return allowance


class RateLimit:
    """Middleware: counts every request but those of probes and of signed webhooks."""

    def __init__(self, app: ASGIApp, limiter: Limiter, tokens: Tokens) -> None:
        self._app, self._limiter, self._tokens = app, limiter, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._limiter.on or _is_exempt(scope["path"]):
            return await self._app(scope, receive, send)
        allowance = await self._allowance(scope)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in allowance.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return await self._app(scope, receive, send_with_limits)

    async def _allowance(self, scope: Scope) -> Allowance:
        """Count it; of two policies the one with less left is shown."""
        of_ip = await self._limiter.take("ip", context_of(scope).client_ip)
        user = self._user(scope) if scope["method"] in WRITES else None
        if user is None:
            return of_ip
        return min(of_ip, await self._limiter.take("writes", user), key=lambda each: each.remaining)

    def _user(self, scope: Scope) -> str | None:
        try:
            access = access_of(scope, self._tokens)
        except Unauthorized:
            return None
        return str(access.user_id) if access else None


def _is_exempt(path: str) -> bool:
    return path.startswith("/health/") or path == "/metrics" or path.endswith("/webhook")
