"""Connections to PostgreSQL that notice when it falls silent, or becomes read-only.

A statement may take long, and a server or network may vanish without a word; the client cannot tell
them apart. Nor can TCP: the kernel of a host whose processes hang still acknowledges packets. So
after some seconds a waiting connection asks the server, over another connection, whether it is
still working on the statement. Where a watch over the database runs (eventstore/database/watch.py),
it asks for all connections, sooner, and closes those that fell silent.
"""

import asyncio
import errno
import os
import re
import socket
from collections.abc import Awaitable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from typing import Any, Protocol, Self, TypeVar

import psycopg
from psycopg import errors, generators, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

RV = TypeVar("RV")

SILENCE_SECONDS = 5.0
"""How long a statement may take before the server is asked whether it is working on it, and between
further such questions."""

INQUIRY_SECONDS = 4
"""The timeout of connecting for that question, and of waiting for its answer."""

_INTERVAL = 0.1

IS_AT_WORK = """
state = 'disabled' OR state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
AND (wait_event IS DISTINCT FROM 'SyncRep' OR state_change > clock_timestamp() - interval '5 s')
"""
"""Whether a session in pg_stat_activity is at work. One that waits for the client is not: a message
was lost. Nor is one whose commit waits for a synchronous standby for five seconds: the server would
wait for ever, and no time-out of its own ends that. `disabled`: track_activities is off."""

_AT_WORK = f"SELECT {IS_AT_WORK} FROM pg_stat_activity WHERE pid = %s"

_STARTING = "the database system is"
"""… starting up, shutting down, in recovery mode, not yet accepting connections."""

_SAID = re.compile(r"failed: [^\s:]+:  ")

_DOWN = (
    *map(os.strerror, (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT)),
    "server closed the connection",  # by a proxy whose server is gone
)

_LOST = "the server does not answer"


class DatabaseAway(psycopg.OperationalError):
    """The watch over the database reports that it is down."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class Watch(Protocol):
    """What connections need of `eventstore.database.watch.DatabaseWatch`."""

    async def nearest(self, conninfo: str) -> str:
        """The connection string, with the address that answered last in front."""
        ...

    def see_to(self, conn: "AsyncConnection") -> None:
        """Close this connection when it falls silent."""

    def while_there(self) -> AbstractContextManager[object]:
        """Wrap work that needs the database. Raises DatabaseAway as soon as the database is known
        to be down."""

    async def until_there(self) -> None:
        """Wait until the database is up."""


class _Silent(Exception):
    """Nothing was received for SILENCE_SECONDS."""


def _until_silent(steps: PQGen[RV], first: Any) -> Generator[Any, Any, RV]:
    """The steps of an operation. Raises _Silent between two steps; continue from there with `first`
    = 0 (not ready)."""
    until = monotonic() + SILENCE_SECONDS
    try:
        wanted = steps.send(first)
        while True:
            ready = yield wanted
            if ready:  # a large message goes on
                until = monotonic() + SILENCE_SECONDS
            elif monotonic() > until:
                raise _Silent
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Connection(psycopg.Connection[Any]):
    """For threads. When the server falls silent, a statement raises psycopg.OperationalError within
    some 15 seconds."""

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        """Every operation waits here. One with a `timeout` (a listener's) ends by itself."""
        interval = max(interval, timeout or 0)  # a listener need not wake up in between
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
            self.pgconn.finish()  # a new connection finds the writable server
            raise

    def _at_work(self) -> bool:
        try:
            with _Asking.connect(same_server(self), autocommit=True) as asking:
                row = asking.execute(_AT_WORK, (self.info.backend_pid,)).fetchone()
        except psycopg.Error as error:
            return was_refused(error)
        return bool(row and row[0])


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """As `Connection`, for asyncio."""

    heard_at = float("-inf")
    """When the server last answered (monotonic time)."""

    waits_since: float | None = None
    """Since when an answer is due (monotonic time); None when none is."""

    longest_seconds = float("inf")
    """How long a statement takes at most."""

    watch: Watch | None = None

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, watch: Watch | None = None, **options: Any
    ) -> Self:
        """Connect; `watch` guards the connection from then on. Raises psycopg.OperationalError."""
        if watch is None:
            return await super().connect(conninfo, **options)
        with watch.while_there():
            conn = await super().connect(await watch.nearest(conninfo), **options)
        conn.watch = watch
        watch.see_to(conn)
        return conn

    def hang_up(self) -> None:
        """Shut the connection down at this side, so that its current or next user gets an error."""
        with suppress(psycopg.OperationalError, OSError), self.borrowed_socket() as sock:
            sock.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def borrowed_socket(self) -> Iterator[socket.socket]:
        """The connection's socket, not to be closed. Raises psycopg.OperationalError when there is
        none."""
        # no copy: there may be no file descriptors left
        sock = socket.socket(fileno=self.pgconn.socket)
        try:
            yield sock
        finally:
            sock.detach()

    @property
    def unused(self) -> bool:
        """Whether it is connected, and nobody uses it now."""
        return (
            self.waits_since is None
            and not self.lock.locked()
            and self.pgconn.pipeline_status == PipelineStatus.OFF
            and self.pgconn.transaction_status == TransactionStatus.IDLE
        )

    async def prove(self, timeout: float | None = None) -> None:
        """Make a round trip to the server. Raises unless it answers; the connection is closed
        then."""
        async with self.lock:
            try:
                await self.wait(_round_trip(self.pgconn), timeout=timeout)
            except BaseException:
                self.pgconn.finish()
                raise

    async def wait(
        self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None
    ) -> RV:
        """Every operation waits here. One with a `timeout` (a listener's) ends by itself."""
        interval = max(interval, timeout or 0)  # a listener need not wake up in between
        first = None
        if timeout is None:
            self.waits_since = monotonic()
        try:
            while True:
                try:
                    steps = gen if timeout is not None else _until_silent(gen, first)
                    outcome = await self._wait(steps, interval, timeout)
                    break
                except _Silent:
                    first = 0
                    if not await self.is_worked_on():
                        self.pgconn.finish()
                        raise psycopg.OperationalError(_LOST) from None
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise
        except errors.ReadOnlySqlTransaction:
            self.pgconn.finish()
            raise
        finally:
            self.waits_since = None
        self.heard_at = monotonic()
        return outcome

    def _wait(self, steps: PQGen[RV], interval: float, timeout: float | None) -> Awaitable[RV]:
        if self.watch is None:
            return super().wait(steps, interval, timeout)
        # When cancelled, psycopg would wait for the server to cancel the statement, which may not
        # answer.
        return waiting.wait_async(steps, self.pgconn.socket, interval, timeout)

    async def is_worked_on(self) -> bool:
        """Ask the server, over another connection, whether it is working on this connection's
        statement. If it refuses another connection, True is assumed for a while."""
        try:
            async with await _AskingAsync.connect(same_server(self), autocommit=True) as asking:
                row = await (await asking.execute(_AT_WORK, (self.info.backend_pid,))).fetchone()
        except psycopg.Error as error:
            return was_refused(error) and not self.takes_too_long()
        return bool(row and row[0])

    def takes_too_long(self) -> bool:
        return (
            self.waits_since is not None and monotonic() - self.waits_since > self.longest_seconds
        )


def is_refusal(error: Exception) -> bool:
    """Whether the server answered and refused the connection. A server that starts or stops does
    not count: it will accept."""
    return was_refused(error) and _STARTING not in str(error)


def is_down(error: Exception) -> bool:
    """Whether an error of connecting shows that nothing listens there, that the listener hangs up,
    or that the server starts or stops. A client's lack of file descriptors, ports or name service
    shows nothing."""
    said = str(error)
    return any(sign in said for sign in _DOWN) or (was_refused(error) and _STARTING in said)


def _round_trip(pgconn: PGconn) -> PQGen[None]:
    pgconn.send_query(b"")
    yield from generators.execute(pgconn)


class _Asking(psycopg.Connection[Any]):
    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        return super().wait(gen, interval, timeout or INQUIRY_SECONDS)


class _AskingAsync(psycopg.AsyncConnection[Any]):
    async def wait(
        self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None
    ) -> RV:
        return await super().wait(gen, interval, timeout or INQUIRY_SECONDS)


def same_server(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> str:
    """How to connect to the same server, as the login user: the server does not show other users
    what a session does."""
    info = conn.info
    parameters: dict[str, Any] = dict(info.get_parameters())
    if info.password:
        parameters["password"] = info.password
    changed = {
        "host": info.host,
        "hostaddr": info.hostaddr,
        "port": info.port,
        "options": "",
        "target_session_attrs": "any",
        "connect_timeout": INQUIRY_SECONDS,
        "application_name": "ludoteca inquiry",
    }
    return make_conninfo(**{**parameters, **changed})


def was_refused(error: Exception) -> bool:
    """Whether the server answered, if only to refuse another connection: it is asked again later.
    Its messages begin with a severity ("FATAL", in its language), a colon and two spaces."""
    return _SAID.search(str(error)) is not None
