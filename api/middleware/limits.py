"""Rate limits.

All requests are limited per client, and writes also per user. Requests that authenticate or send
mail are limited per client and per account or address, so that an attacker gains nothing from many
clients or many accounts.

Nothing that clients choose freely is counted: an IPv6 client owns a whole network of addresses, and
a mailbox has many spellings. The `limits` library counts in moving windows: in this process, in
memory that it shares with the others on its port, or in the store that `Rates.storage` names.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import access_of
from api.middleware.context import context_of
from api.middleware.shared_windows import SharedWindows
from api.problems import Problem
from api.signed_webhooks import signed_webhooks
from api.tokens import Tokens
from domain.errors import Unauthorized

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

CLOCK_BACK_SECONDS = 1.0
"""A clock that goes back by less is ignored."""

KNOWN_SECONDS = 30 * 24 * 3600
"""How long an account remembers a client that logged in to it."""


@dataclass(frozen=True)
class Rates:
    """The limits, and where requests are counted: in memory, or in Redis (`async+redis://…`) for
    several hosts.

    The leading `ipv6_prefix` bits of an IPv6 address identify a client.
    """

    per_ip: int = 600  # a minute
    writes_per_user: int = 120  # a minute
    attempts_per_ip: int = 20  # a minute
    attempts_per_account: int = 20  # in five minutes
    mails_per_address: int = 5  # an hour
    ipv6_prefix: int = 64
    storage: str = "async+memory://"

    @property
    def amounts(self) -> set[int]:
        """How many requests each limit allows."""
        return {
            self.per_ip,
            self.writes_per_user,
            self.attempts_per_ip,
            self.attempts_per_account,
            self.mails_per_address,
        }


@dataclass(frozen=True)
class Allowance:
    """What is left of a rate limit, and in how many seconds more becomes available."""

    policy: str
    quota: int
    window_seconds: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={self.window_seconds}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_seconds}',
        }


class Limiter:
    """Counts requests against the rate limits. When it is off, every request is admitted.
    `windows` count instead of `Rates.storage`."""

    def __init__(
        self, rates: Rates, *, on: bool = True, windows: SharedWindows | None = None
    ) -> None:
        self.on = on
        storage = windows or storage_from_string(rates.storage)
        if not isinstance(storage, Storage):
            raise ValueError("the rate limit storage must be an asynchronous one (async+…)")
        self._storage = storage
        self._ipv6_prefix = rates.ipv6_prefix
        self._clock_ahead = time.time() - time.monotonic()
        self._window = MovingWindowRateLimiter(storage)
        self._policies: dict[str, RateLimitItem] = {
            "ip": RateLimitItemPerMinute(rates.per_ip),
            "writes": RateLimitItemPerMinute(rates.writes_per_user),
            "attempts": RateLimitItemPerMinute(rates.attempts_per_ip),
            "account": RateLimitItemPerMinute(rates.attempts_per_account, 5),
            "mails": RateLimitItemPerHour(rates.mails_per_address),
        }

    async def take(self, policy: str, who: str) -> Allowance:
        """Count one request. Raises Problem 429 when the limit is reached."""
        item = self._policies[policy]
        await self._follow_the_clock()
        allowed = await self._window.hit(item, policy, who)
        stats = await self._window.get_window_stats(item, policy, who)
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        allowance = Allowance(
            policy, item.amount, item.get_expiry(), max(0, stats.remaining), reset
        )
        if not allowed:
            headers = {**allowance.headers, "Retry-After": str(reset)}
            raise Problem(
                429, "rate_limited", "too many requests, try again later", headers=headers
            )
        return allowance

    async def _follow_the_clock(self) -> None:
        """Reset the counters after the clock went back. Otherwise their windows would lie in the
        future until the clock caught up."""
        before = self._clock_ahead
        self._clock_ahead = time.time() - time.monotonic()
        if self._clock_ahead < before - CLOCK_BACK_SECONDS and isinstance(
            self._storage, MemoryStorage
        ):
            await self._storage.reset()

    def client(self, scope: Scope) -> str:
        """The client as it is counted: an IPv4 address, or the network of an IPv6 address."""
        return client_of(context_of(scope).client_ip, self._ipv6_prefix)

    async def is_known(self, account: str, client: str) -> bool:
        """Whether the client has logged in to the account recently."""
        return await self._storage.get(_known(account, client)) > 0

    async def remember(self, account: str, client: str) -> None:
        """Record a login of the client to the account, so that failed attempts from elsewhere do
        not lock this client out."""
        await self._storage.incr(_known(account, client), KNOWN_SECONDS)


def client_of(address: str, ipv6_prefix: int) -> str:
    """An address in canonical form (RFC 5952): the network of an IPv6 address, the IPv4 address of
    an IPv4-mapped one. Other texts are returned unchanged."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((ip, ipv6_prefix), strict=False))


def _known(account: str, client: str) -> str:
    return f"known/{account}/{client}"


class RateLimit:
    """Middleware: counts every request, except probes, /metrics and signed webhooks."""

    def __init__(
        self, app: ASGIApp, limiter: Limiter, tokens: Tokens, routes: Iterable[BaseRoute]
    ) -> None:
        self._app = app
        self._signed = signed_webhooks(routes)
        self._limiter = limiter
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._limiter.on or self._is_exempt(scope):
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
        """Count the request. Returns the rate limit with the least left."""
        of_ip = await self._limiter.take("ip", self._limiter.client(scope))
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

    def _is_exempt(self, scope: Scope) -> bool:
        path = scope["path"]
        return (
            path.startswith("/health/")
            or path == "/metrics"
            or self._signed.find(scope) is not None
        )
