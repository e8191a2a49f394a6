"""The ways to a database: all addresses of all hosts that its URL, the environment (PGHOST) or a
service file names."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from eventstore.database.connections import AsyncConnection

CONNECT_SECONDS = 1.0
"""The timeout of connecting to a host, after which the next one is tried."""

RESOLVE_SECONDS = 0.5
"""How long to wait for the addresses of a host's name, once some are known."""

_NAMES = ("host", "hostaddr", "port")

Server = dict[str, str]
"""`host`, `hostaddr` and `port`, where given."""


class Ways:
    """Tries the addresses in turn: first for a writable server, then for any server."""

    def __init__(self, url: str, conninfo: str, kind: str = "read-write") -> None:
        """`conninfo`: how to connect to the database at `url`, at any of its addresses. `kind` is
        sought first: with "any", no server has to be writable."""
        self._conninfo = conninfo
        self._kind = kind
        self._given = servers(url)
        self._addresses = self._given
        self._turn = 0
        self._answered: Server | None = None

    async def current(self) -> str:
        """The connection string whose turn it is. Raises psycopg.OperationalError when no host's
        name can be resolved, and none could be before."""
        try:
            async with asyncio.timeout(
                RESOLVE_SECONDS if self._addresses is not self._given else None
            ):
                self._addresses = await _resolved(self._given)
        except (TimeoutError, psycopg.OperationalError):
            if self._addresses is self._given:
                raise
        kind = self._kind if self.is_first_choice else "any"
        return make_conninfo(self._conninfo, target_session_attrs=kind, **self._address)

    async def connect(self) -> AsyncConnection:
        """A connection on the current way. Raises TimeoutError, psycopg.Error, OSError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await AsyncConnection.connect(await self.current(), autocommit=True)

    @property
    def count(self) -> int:
        """How many addresses there are."""
        return len(self._addresses)

    @property
    def is_first_choice(self) -> bool:
        """Whether the current way accepts only what is sought first."""
        return self._turn % (2 * self.count) < self.count

    @property
    def _address(self) -> Server:
        return self._addresses[self._turn % self.count]

    def failed(self) -> None:
        """Go on to the next way."""
        self._turn = (self._turn + 1) % (2 * self.count)

    def answered(self) -> None:
        """Note that the current way leads to a server."""
        self._answered = self._address

    def begin_anew(self) -> None:
        """Begin again with the first way."""
        self._turn = 0

    def nearest(self, conninfo: str) -> str:
        """A connection string, with the address that answered last in front."""
        near = self._answered
        if near is None or (
            near.get("hostaddr") in (None, near.get("host")) and len(self._given) == 1
        ):
            return conninfo
        given = servers(conninfo)
        if _named(near) not in map(_named, given):
            return conninfo
        # a name may have other addresses by then
        order = [near, *(server for server in given if server != near)]
        return make_conninfo(
            conninfo, **{name: ",".join(one.get(name, "") for one in order) for name in _NAMES}
        )


def _named(server: Server) -> tuple[str, str]:
    return server.get("host", ""), server.get("port", "")


def servers(url: str) -> list[Server]:
    """The servers that a connection string leads to, with the environment's and service file's
    parameters."""
    given = conninfo_to_dict(url)
    with _service(str(given.get("service", ""))):
        defaults = {option.keyword.decode(): option.val for option in Conninfo.get_defaults()}
    if not any(given.get(name) for name in ("host", "hostaddr")):
        given.update({name: value.decode() for name in _NAMES[:2] if (value := defaults.get(name))})
    port = defaults.get("port")
    if not given.get("port") and port is not None:
        given["port"] = port.decode()
    several = {name: str(given[name]).split(",") for name in _NAMES if given.get(name)}
    most = max(map(len, several.values()))
    return [
        {
            name: part
            for name, each in several.items()
            if (part := each[n] if len(each) > 1 else each[0])
        }
        for n in range(most)
    ]


@contextmanager
def _service(name: str) -> Iterator[None]:
    """Sets PGSERVICE meanwhile: libpq reads a service file only for the service in the
    environment."""
    before = os.environ.get("PGSERVICE")
    if name:
        os.environ["PGSERVICE"] = name
    try:
        yield
    finally:
        if name and before is None:
            del os.environ["PGSERVICE"]
        elif name and before is not None:
            os.environ["PGSERVICE"] = before


async def _resolved(given: list[Server]) -> list[Server]:
    """Each server once per address. Raises psycopg.OperationalError when there is none."""
    found: list[Server] = []
    for server in given:
        host = server.get("host", "")
        if not host or host.startswith(("/", "@")) or "hostaddr" in server:
            found.append(server)
            continue
        try:
            found += [{**server, "hostaddr": address} for address in await resolve(host)]
        except OSError as error:
            reason = error
    if not found:
        raise psycopg.OperationalError(
            f"the addresses of the database's host are not known: {reason}"
        ) from reason
    return found


async def resolve(host: str) -> list[str]:
    """The addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
