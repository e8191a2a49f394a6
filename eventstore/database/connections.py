"""Connections to PostgreSQL that notice when it has fallen silent, or turned read-only.

A statement may take long; a server, or a network, may be gone without a word. From this side they look alike, and TCP
does not tell them apart either: the kernel of a host whose processes stand still goes on acknowledging. So who has
waited for some seconds asks the server, over another connection, whether it is still at work on the statement. Where
a watch over the database runs (eventstore/database/watch.py), it asks for all, and hangs up what fell silent.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Generator
from contextlib import AbstractContextManager, suppress
from time import monotonic
from typing import Any, Protocol, Self, TypeVar

import psycopg
from psycopg import errors, generators, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from kit.cancellation import stop_if_cancelled

log = logging.getLogger(__name__)

RV = TypeVar("RV")

SILENCE_SECONDS = 5.0
"""How long a statement may take before the server is asked whether it is at work on it; then again as long."""

INQUIRY_SECONDS = 4
"""How long connecting for that may take, and the answer as well."""

PROOF_SECONDS = 2.0
"""How long a pooled connection may take to show that it is alive."""

MAKESHIFT_SECONDS = 1.0
"""How often it is looked for a server that can be written to, while there is none."""

FRESH_SECONDS = 1.0
"""A pooled connection over which the server was heard so lately is given out unproved."""

_INTERVAL = 0.1
_AT_WORK = """
SELECT state = 'disabled' OR state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
FROM pg_stat_activity WHERE pid = %s"""
"""Not when it waits for the client: then a message was lost. `disabled`: track_activities is off."""

_STARTING = "the database system is"
"""… starting up, shutting down, in recovery mode, not yet accepting connections."""

_LOST = "the server does not answer"


class DatabaseAway(psycopg.OperationalError):
    """The watch over the database says that it is away."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class Watch(Protocol):
    """What `eventstore.database.watch.DatabaseWatch` is to connections."""

    def nearest(self, conninfo: str) -> str:
        """How to connect, beginning with the host that answered last."""
        ...

    def see_to(self, conn: "AsyncConnection") -> None:
        """Have a connection hung up when it falls silent."""

    def while_there(self) -> AbstractContextManager[object]:
        """Around what needs the database. Raises DatabaseAway as soon as it is known that it is away."""

    async def until_there(self) -> None:
        """Wait until it answers again, if it is away."""


class _Silent(Exception):
    """Nothing has come for SILENCE_SECONDS."""


def _until_silent(steps: PQGen[RV], first: Any) -> Generator[Any, Any, RV]:
    """The steps of an operation. Raises _Silent between two of them: go on from there, `first` being 0, not ready."""
    until = monotonic() + SILENCE_SECONDS
    try:
        wanted = steps.send(first)
        while True:
            ready = yield wanted
            if not ready and monotonic() > until:
                raise _Silent
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Connection(psycopg.Connection[Any]):
    """For threads. A statement whose server fell silent raises psycopg.OperationalError within some 15 seconds."""

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        """Every operation waits here. One with a `timeout` (a listener's) has its own end."""
        first = None
        try:
            while True:
                try:
                    steps = gen if timeout is not None else _until_silent(gen, first)
                    return super().wait(steps, interval, timeout)
                except _Silent:
                    first = 0
                    if not self._at_work():
                        self.pgconn.finish()
                        raise psycopg.OperationalError(_LOST) from None
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()  # connecting again finds the server that is not
            raise

    def _at_work(self) -> bool:
        try:
            with _Asking.connect(_same_server(self), autocommit=True) as asking:
                row = asking.execute(_AT_WORK, (self.info.backend_pid,)).fetchone()
        except psycopg.Error as error:
            return _was_refused(error)
        return bool(row and row[0])


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """As `Connection`, for asyncio."""

    heard_at = float("-inf")
    """When the server last answered (monotonic time)."""

    waits_since: float | None = None
    """Since when an answer is due, if one is (monotonic time)."""

    watch: Watch | None = None

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, watch: Watch | None = None, **options: Any
    ) -> Self:
        """Connect; `watch` sees to it from then on. Raises psycopg.OperationalError."""
        if watch is None:
            return await super().connect(conninfo, **options)
        with watch.while_there():
            conn = await super().connect(watch.nearest(conninfo), **options)
        conn.watch = watch
        watch.see_to(conn)
        return conn

    def hang_up(self) -> None:
        """End the connection at this side: who waits for it, or uses it next, is told."""
        with suppress(psycopg.OperationalError, OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    async def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        """Every operation waits here. One with a `timeout` (a listener's) has its own end."""
        if self.watch is None:
            return await self._wait_alone(gen, interval, timeout)
        if timeout is None:
            self.waits_since = monotonic()
        try:
            outcome = await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # psycopg would have the server cancel it, and wait for that, which may not answer
            raise
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()
            raise
        finally:
            self.waits_since = None
        self.heard_at = monotonic()
        return outcome

    async def _wait_alone(self, gen: PQGen[RV], interval: float, timeout: float | None) -> RV:
        first = None
        try:
            while True:
                try:
                    steps = gen if timeout is not None else _until_silent(gen, first)
                    outcome = await super().wait(steps, interval, timeout)
                except _Silent:
                    first = 0
                    if not await self._at_work():
                        self.pgconn.finish()
                        raise psycopg.OperationalError(_LOST) from None
                else:
                    self.heard_at = monotonic()
                    return outcome
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()
            raise

    async def _at_work(self) -> bool:
        try:
            async with await _AskingAsync.connect(_same_server(self), autocommit=True) as asking:
                row = await (await asking.execute(_AT_WORK, (self.info.backend_pid,))).fetchone()
        except psycopg.Error as error:
            return _was_refused(error)
        return bool(row and row[0])


class Makeshift:
    """Where no server can be written to, one that can be read from will do. A pool keeps connections to it, and looks
    for another beside them: to throw them away, to see what the next lead to, would leave its readers without any."""

    def __init__(self, conninfo: str, watch: Watch | None = None) -> None:
        """For connections as the pool's, which lead to a server that can be written to where there is one."""
        self._conninfo, self._watch = conninfo, watch
        self._looking: asyncio.Task[None] | None = None

    @property
    def needed(self) -> bool:
        """Whether no server that can be written to was found by now."""
        return self._looking is not None and not self._looking.done()

    def begin(self) -> None:
        """Read only, and look for a server that can be written to."""
        if not self.needed:
            log.warning("no server can be written to: reading only")
            self._looking = asyncio.create_task(self._look(), name="looking for a server that can be written to")

    async def end(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(MAKESHIFT_SECONDS)
            stop_if_cancelled()
            with suppress(psycopg.Error, OSError):
                await (await AsyncConnection.connect(self._conninfo, watch=self._watch)).close()
                log.warning("there is a server that can be written to")
                return


class PooledConnection(AsyncConnection):
    """Where no server can be written to, one that can be read from will do."""

    makeshift: Makeshift | None = None
    """Set where it leads to a server that cannot be written to: for how long that is needed."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, makeshift: Makeshift, watch: Watch | None = None, **options: Any
    ) -> Self:
        """Connect. Raises psycopg.OperationalError; under a watch only if the server refuses, otherwise it waits until
        the database is there: the pool itself would pause for seconds before it tried again."""
        while True:
            if watch is not None:
                await watch.until_there()
            try:
                return await cls._connect_somewhere(conninfo, makeshift, watch=watch, **options)
            except psycopg.OperationalError as error:
                if watch is None or is_refusal(error):
                    raise
                await asyncio.sleep(_INTERVAL)

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


def is_refusal(error: Exception) -> bool:
    """Whether the server answered to who would connect, if only to say no; one that starts or stops will say yes."""
    return "FATAL:" in str(error) and _STARTING not in str(error)


async def prove(conn: psycopg.AsyncConnection[Any]) -> None:
    """A pool's check. Raises unless the connection is alive, and as good as one that would be opened now."""
    assert isinstance(conn, PooledConnection)
    now = monotonic()
    if conn.makeshift is not None and not conn.makeshift.needed:
        conn.pgconn.finish()  # a pool keeps what fails its check, unless it is closed
        raise psycopg.OperationalError("there is a server by now that can be written to")
    # Without a round trip: the first call reads the last words of a server that hung up, the second the end.
    conn.pgconn.consume_input()
    conn.pgconn.consume_input()
    if now - conn.heard_at > FRESH_SECONDS:
        try:
            await conn.wait(_round_trip(conn), timeout=PROOF_SECONDS if conn.watch is None else None)
        except BaseException:
            conn.pgconn.finish()
            raise


def _round_trip(conn: PooledConnection) -> PQGen[None]:
    conn.pgconn.send_query(b"")
    yield from generators.execute(conn.pgconn)


class _Asking(psycopg.Connection[Any]):
    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        return super().wait(gen, interval, timeout or INQUIRY_SECONDS)


class _AskingAsync(psycopg.AsyncConnection[Any]):
    async def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        return await super().wait(gen, interval, timeout or INQUIRY_SECONDS)


def _same_server(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> str:
    """As the user that logged in: to others the server does not show what a session does."""
    info = conn.info
    parameters: dict[str, Any] = dict(info.get_parameters())
    if info.password:
        parameters["password"] = info.password
    changed = {
        "host": info.host,
        "hostaddr": "",
        "port": info.port,
        "options": "",
        "target_session_attrs": "any",
        "connect_timeout": INQUIRY_SECONDS,
        "application_name": "ludoteca inquiry",
    }
    return make_conninfo(**{**parameters, **changed})


def _was_refused(error: psycopg.Error) -> bool:
    """Whether the server answered, if only that it takes no more connections: it is asked again later."""
    return "FATAL:" in str(error)
