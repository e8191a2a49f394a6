"""Calls to addresses given by others, none of which may lead into our own network.

Each address is checked when its socket is created, after the name was resolved: a name that
resolves differently the next time gains nothing.
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.web_addresses import is_public

CONNECTIONS_PER_HOST = 8
RESOLVERS = 8
"""Threads for name look-ups."""

Private = Literal["refuse", "allow"]
"""Whether non-public addresses may be called: for development and tests."""


class AddressRefused(OSError):
    """The address may not be called. The text is the same for all, so that aiohttp reports one
    error for several addresses."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


class OwnResolver(AbstractResolver):
    """Resolves names in its own threads: a name server that never answers does not delay payments,
    whose look-ups use the loop's few threads."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, name)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=0,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Release the threads; those that still wait end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class PublicClient:
    """Connects to public addresses only, without cookies or proxies; for others the requests of its
    session raise ClientConnectorError with AddressRefused. Create and close it within a running
    event loop."""

    RESOLVER: ClassVar[str]
    """The name of its threads."""

    TIMEOUT_SECONDS: ClassVar[float]
    """How long a call takes at most, unless told otherwise."""

    def __init__(
        self,
        *,
        private: Private = "refuse",
        timeout_seconds: float | None = None,
        tls: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._private_allowed = private == "allow"
        self._resolver = OwnResolver(self.RESOLVER)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit_per_host=CONNECTIONS_PER_HOST,
                socket_factory=_any_socket if self._private_allowed else _public_socket,
                resolver=self._resolver,
                ssl=tls,
            ),
            timeout=aiohttp.ClientTimeout(
                total=self.TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.close()
        await self._resolver.close()


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    if not is_public(str(info[4][0])):
        raise AddressRefused
    return _any_socket(info)


def _any_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)
