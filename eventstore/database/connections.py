"""Connections to PostgreSQL that notice when it has fallen silent, or turned read-only.

A statement may take long; a server, or a network, may be gone without a word. From this side they look alike, and TCP
does not tell them apart either: the kernel of a host whose processes stand still goes on acknowledging. So who has
waited for some seconds asks the server, over another connection, whether it is still at work on the statement.
"""

import logging
from collections.abc import Generator
from time import monotonic
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo

log = logging.getLogger(__name__)

RV = TypeVar("RV")

SILENCE_SECONDS = 5.0
"""How long a statement may take before the server is asked whether it is at work on it; then again as long."""

INQUIRY_SECONDS = 4
"""How long connecting for that may take, and the answer as well."""

PROOF_SECONDS = 2.0
"""How long a pooled connection may take to show that it is alive."""

FRESH_SECONDS = 1.0
"""A pooled connection over which the server was heard so lately is given out unproved."""

_INTERVAL = 0.1
_AT_WORK = """
SELECT state = 'disabled' OR state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
FROM pg_stat_activity WHERE pid = %s"""
"""Not when it waits for the client: then a message was lost. `disabled`: track_activities is off."""

_LOST = "the server does not answer"


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

    async def wait(self, gen: PQGen[RV], interval: float = _INTERVAL, timeout: float | None = None) -> RV:
        """Every operation waits here. One with a `timeout` (a listener's) has its own end."""
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


class PooledConnection(AsyncConnection):
    """Where no server can be written to, one that can be read from will do, for a moment."""

    makeshift_until: float | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect. Raises psycopg.OperationalError."""
        try:
            return await super().connect(conninfo, **options)
        except psycopg.OperationalError as error:
            if "read-only" not in str(error):
                raise
            conn = await super().connect(make_conninfo(conninfo, target_session_attrs="any"), **options)
            conn.makeshift_until = monotonic() + FRESH_SECONDS
            log.warning("no server can be written to: reading only")
            return conn


async def prove(conn: psycopg.AsyncConnection[Any]) -> None:
    """A pool's check. Raises unless the connection is alive, and as good as one that would be opened now."""
    assert isinstance(conn, PooledConnection)
    now = monotonic()
    if conn.makeshift_until is not None and now > conn.makeshift_until:
        conn.pgconn.finish()  # a pool keeps what fails its check, unless it is closed
        raise psycopg.OperationalError("there may be a server by now that can be written to")
    # Without a round trip: the first call reads the last words of a server that hung up, the second the end.
    conn.pgconn.consume_input()
    conn.pgconn.consume_input()
    if now - conn.heard_at > FRESH_SECONDS:
        try:
            await conn.wait(_round_trip(conn), timeout=PROOF_SECONDS)
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
