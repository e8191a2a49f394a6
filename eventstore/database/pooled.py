"""Connections of a pool, which read from a read-only server while no server is writable."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from eventstore.database.connections import AsyncConnection, Watch, is_refusal
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

PROOF_SECONDS = 2.0
"""How long a pooled connection may take to prove that it is alive."""

MAKESHIFT_SECONDS = 1.0
"""How often to look for a writable server while there is none."""

FRESH_SECONDS = 1.0
"""A pooled connection over which the server answered this recently is
handed out without a proof."""

LONGEST_SECONDS = 25.0
"""A statement over a pooled connection is ended before by the server (statement_timeout)."""

_PAUSE_SECONDS = 0.1
"""The pause between tries to connect while the server is up, but does not take connections."""


class Makeshift:
    """Reads from a read-only server while no server is writable. The pool keeps its connections
    to that server, and one more connection looks for a writable one: replacing the pool's
    connections to find out would leave readers without any."""

    def __init__(
        self, conninfo: str, watch: Watch | None, over: Callable[[], Awaitable[None]]
    ) -> None:
        """`conninfo` is the pool's: it leads to a writable server if there is one. `over` is called
        once one was found: it replaces the pool's connections."""
        self._conninfo = conninfo
        self._watch = watch
        self._over = over
        self._looking: asyncio.Task[None] | None = None
        self.needed = False
        """Whether a writable server is looked for, and none has been found yet."""

    def begin(self) -> None:
        """Read only, and start looking for a writable server."""
        if not self.needed:
            self.needed = True
            logger.warning("no server can be written to: reading only")
            self._looking = asyncio.create_task(
                self._look(), name="looking for a server that can be written to"
            )

    async def end(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(MAKESHIFT_SECONDS)
            stop_if_cancelled()
            with suppress(psycopg.Error, OSError):
                await (await AsyncConnection.connect(self._conninfo, watch=self._watch)).close()
                logger.warning("there is a server that can be written to")
                break
        self.needed = False
        await self._over()


class PooledConnection(AsyncConnection):
    """Connects to a read-only server while no server is writable."""

    longest_seconds = LONGEST_SECONDS

    makeshift: Makeshift | None = None
    """Set when the server is read-only: tells whether it is still needed."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, makeshift: Makeshift, watch: Watch | None = None, **options: Any
    ) -> Self:
        """Connect. Raises psycopg.OperationalError. Under a watch it raises only when the server
        refuses, and otherwise waits until the database is up: the pool itself would pause for
        seconds before it tried again."""
        while True:
            if watch is not None:
                await watch.until_there()
            try:
                return await cls._connect_somewhere(conninfo, makeshift, watch=watch, **options)
            except psycopg.OperationalError as error:
                if watch is None or is_refusal(error):
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    @classmethod
    async def _connect_somewhere(cls, conninfo: str, makeshift: Makeshift, **options: Any) -> Self:
        if not makeshift.needed:
            try:
                return await super().connect(conninfo, **options)
            except psycopg.OperationalError as error:
                if "read-only" not in str(error):
                    raise
                makeshift.begin()
        conn = await super().connect(make_conninfo(conninfo, target_session_attrs="any"), **options)
        conn.makeshift = makeshift
        return conn


async def prove(conn: psycopg.AsyncConnection[Any]) -> None:
    """A pool's check. Raises unless the connection is alive, and as good as a new one would be."""
    assert isinstance(conn, PooledConnection)
    now = monotonic()
    if conn.makeshift is not None and not conn.makeshift.needed:
        conn.pgconn.finish()  # a pool keeps a connection that fails its check, unless it is closed
        raise psycopg.OperationalError("there is a server by now that can be written to")
    # Without a round trip: the first call reads the final message of a server that hung up, the
    # second the end.
    async with conn.lock:  # a watch may be reading the answer to its own proof
        conn.pgconn.consume_input()
        conn.pgconn.consume_input()
    if now - conn.heard_at > FRESH_SECONDS:
        await conn.prove(PROOF_SECONDS if conn.watch is None else None)
