"""Tracks whether the database is up, so that no request has to find out by waiting for it.

A process sends a small query over a connection of its own, a few times a second. When there is no
answer, no new connection can be made, and none of the process's other connections received
anything, the database is down: everybody who waits for it fails at once, and so do new requests,
until it answers again. While all is well, requests pay nothing for this.

A slow statement is no outage, and a single connection may fall silent. So the same query asks
whether the server is working on the statements that have taken a while; a connection that receives
nothing while the server is not working on its statement is closed.

A delayed event loop sees answers late. So silence is counted in ticks in which the loop ran, and a
connection's socket is checked before it is given up: the answer may be there, unread.
"""

import asyncio
import logging
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from eventstore.database.connections import MAKESHIFT_SECONDS, AsyncConnection, DatabaseAway, is_refusal
from eventstore.database.postgres import conninfo
from kit.cancellation import stop_if_cancelled

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.15
"""Between an answer and the next query."""

TICK_SECONDS = 0.04
"""How often to check for an answer."""

DEAF_SECONDS = 0.1
"""How long an answer may take before another connection is tried."""

DOUBT_SECONDS = 0.2
"""How long a statement may take before the server is asked about it."""

AWAY_SECONDS = 0.5
"""How long a silence means that the database is down."""

CONNECT_SECONDS = 1.0
"""The timeout of connecting to a host, after which it is tried again."""

_AT_WORK = """
SELECT pid FROM pg_stat_activity
WHERE pid IN (%s) AND (state = 'disabled' OR state = 'active' AND wait_event_type IS DISTINCT FROM 'Client')"""
"""A session that waits for the client is not at work: a message was lost. `disabled`:
track_activities is off."""


class DatabaseWatch:
    """The watch of one process, to be run as a task. Used from one event loop only."""

    def __init__(self, url: str) -> None:
        self._hosts = _hosts(url)
        self._ways = [  # to a writable server, then to any, host by host
            make_conninfo(
                conninfo(url, "ludoteca watch", role=""),  # the server hides sessions' states from other roles
                target_session_attrs=kind,
                **host,
            )
            for kind in ("read-write", "any")
            for host in self._hosts
        ]
        self._way = 0
        self._makeshift_until = float("inf")
        self.away = False
        """Whether the database is down."""
        self._there = asyncio.Event()
        self._there.set()
        self._waiting: dict[asyncio.Task[Any], WhileThere] = {}
        self._connections: WeakSet[AsyncConnection] = WeakSet()
        self._suspects: dict[AsyncConnection, float] = {}
        self._silence = 0.0
        self._asked_at = monotonic()
        self._another: asyncio.Task[AsyncConnection] | None = None

    def while_there(self) -> "WhileThere":
        """Wrap work that needs the database. Raises DatabaseAway as soon as the database is known
        to be down."""
        return WhileThere(self)

    async def until_there(self) -> None:
        """Wait until the database is up."""
        await self._there.wait()

    def nearest(self, conninfo: str) -> str:
        """The connection string, with the host that answered last in front."""
        if len(self._hosts) < 2:
            return conninfo
        here = self._way % len(self._hosts)
        order = [self._hosts[here], *self._hosts[:here], *self._hosts[here + 1 :]]
        return make_conninfo(conninfo, **{name: ",".join(host[name] for host in order) for name in order[0]})

    def see_to(self, conn: AsyncConnection) -> None:
        """Close this connection when it falls silent."""
        self._connections.add(conn)

    async def run(self) -> None:
        """Watch until cancelled."""
        conn: AsyncConnection | None = None
        try:
            while True:
                stop_if_cancelled()
                before = conn
                try:
                    conn = conn or await self._connected()
                    conn = await self._ask(conn)
                    if monotonic() > self._makeshift_until:  # a writable server may be up by now
                        conn.pgconn.finish()
                        conn, self._way, self._makeshift_until = None, 0, float("inf")
                except (psycopg.Error, OSError) as error:
                    log.info("the watch over the database lost its connection: %s", error)
                    if conn is not None:
                        conn.pgconn.finish()
                    conn = None
                else:
                    soon = (
                        bool(self._suspects) or conn is not before
                    )  # others may have fallen silent with the previous connection
                    await asyncio.sleep(TICK_SECONDS if soon else PAUSE_SECONDS)
        finally:
            await self._drop_another()
            if conn is not None:
                conn.pgconn.finish()

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _ask(self, conn: AsyncConnection) -> AsyncConnection:
        """Query once. Returns the connection that answered, which may be another one. Raises
        psycopg.Error when it is lost."""
        pgconn, now = conn.pgconn, monotonic()
        doubtful = {
            other: other.waits_since
            for other in self._connections
            if other.waits_since is not None and now - other.waits_since > DOUBT_SECONDS and not other.closed
        }
        pids = {other: other.pgconn.backend_pid for other in doubtful if _same_server(other.pgconn, pgconn)}
        self._asked_at = now
        pgconn.send_query((_AT_WORK % ", ".join(map(str, pids.values()))).encode() if pids else b"")
        while True:
            await self._tick()
            pgconn.flush()
            pgconn.consume_input()
            if not pgconn.is_busy():
                break
            if self._silence > DEAF_SECONDS and (found := self._tried()) is not None:
                pgconn.finish()
                self._is_there()
                return found
        await self._drop_another()
        at_work = set[int]()
        while (result := pgconn.get_result()) is not None:
            at_work.update(int(result.get_value(row, 0) or 0) for row in range(result.ntuples))
        self._is_there()
        self._judge({other: doubtful[other] for other, pid in pids.items() if pid not in at_work})
        return conn

    async def _connected(self) -> AsyncConnection:
        """Wait for a connection."""
        self._asked_at = monotonic()
        while True:
            if (found := self._tried()) is not None:
                self._is_there()
                return found
            await self._tick()

    def _tried(self) -> AsyncConnection | None:
        """A new connection, if one is ready by now; otherwise keeps trying."""
        found: AsyncConnection | None = None
        if self._another is not None and self._another.done():
            task, self._another = self._another, None
            writable, way = self._way < len(self._hosts), self._way
            self._way = (way + 1) % len(self._ways)
            try:
                found, self._way = task.result(), way
                self._makeshift_until = float("inf") if writable else monotonic() + MAKESHIFT_SECONDS
            except TimeoutError:
                log.debug("the database says nothing to a new connection")
            except (psycopg.Error, OSError) as error:
                if is_refusal(error):
                    self._is_there()  # it answered, if only to refuse another connection
                elif not self.away and "read-only" not in str(error):
                    self._silence += AWAY_SECONDS  # nothing listens: no need to wait
                    self._is_silent()
        elif self._another is None:
            self._another = asyncio.create_task(self._connect(), name="database-watch")
        return found

    async def _connect(self) -> AsyncConnection:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await AsyncConnection.connect(self._ways[self._way], autocommit=True)

    async def _drop_another(self) -> None:
        task, self._another = self._another, None
        if task is None:
            return
        task.cancel()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(found, AsyncConnection):
            found.pgconn.finish()

    async def _tick(self) -> None:
        """Count one tick in which the loop ran, however long it took."""
        began = monotonic()
        await asyncio.sleep(TICK_SECONDS)
        late = monotonic() - began > 1.5 * TICK_SECONDS  # a busy machine may delay the database, too
        self._silence += TICK_SECONDS / 2 if late else TICK_SECONDS
        self._is_silent()

    # -- what is known -------------------------------------------------------------------------------------------------

    def _is_silent(self) -> None:
        if self.away or self._silence < AWAY_SECONDS:
            return
        if any(conn.heard_at > self._asked_at for conn in self._connections):
            self._silence, self._asked_at = 0.0, monotonic()  # only the watch's own connection is silent
            return
        log.error("the database is away: what needs it is answered at once, until it is back")
        self.away = True
        self._there.clear()
        for conn in self._connections:
            if conn.waits_since is not None:
                conn.hang_up()
        for waiting in list(self._waiting.values()):
            waiting.end()

    def _is_there(self) -> None:
        self._silence = 0.0
        if not self.away:
            return
        log.warning("the database is back")
        self.away = False
        for conn in self._connections:  # old ones may lead to a server or network path that is gone
            if conn.heard_at < self._asked_at:
                conn.hang_up()
        self._suspects = {}
        self._there.set()

    def _judge(self, idle: dict[AsyncConnection, float]) -> None:
        """Close connections found idle at two looks: nothing was received, and the server is not
        working for them."""
        silent = {c: since for c, since in idle.items() if c.waits_since == since and not c.closed and not _has_come(c)}
        lost = [conn for conn, since in silent.items() if self._suspects.get(conn) == since]
        self._suspects = {conn: since for conn, since in silent.items() if conn not in lost}
        if not lost:
            return
        log.warning("connections to the database fell silent: they are hung up")
        began = min(silent[conn] for conn in lost)
        for conn in self._connections:
            if conn in lost or (conn.heard_at < began and (conn.waits_since is None or conn in silent)):
                conn.hang_up()  # also those unheard since: their next user would wait, too


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[DatabaseWatch]:
    """A running watch."""
    watch = DatabaseWatch(url)
    task = asyncio.create_task(watch.run(), name="database-watch")
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _hosts(url: str) -> list[dict[str, str]]:
    """The parameters of each host in a URL."""
    given = conninfo_to_dict(url)
    names = [name for name in ("host", "hostaddr", "port") if given.get(name)]
    several = {name: str(given[name]).split(",") for name in names}
    most = max((len(each) for each in several.values()), default=1)
    if most == 1:
        return [{}]
    return [{name: each[n] if len(each) > 1 else each[0] for name, each in several.items()} for n in range(most)]


def _same_server(one: PGconn, other: PGconn) -> bool:
    return (one.host, one.port) == (other.host, other.port)


def _has_come(conn: AsyncConnection) -> bool:
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


class WhileThere:
    """Cancels the task that entered it when the database goes down."""

    __slots__ = ("_before", "_ended", "_task", "_watch")

    def __init__(self, watch: DatabaseWatch) -> None:
        self._watch, self._ended = watch, False
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        watch = self._watch
        if watch.away:
            raise DatabaseAway
        task = asyncio.current_task()
        assert task is not None
        if task not in watch._waiting:  # otherwise the outer one cancels it
            watch._waiting[task] = self
            self._task, self._before = task, task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        self.leave()
        if self._ended and task is not None and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise DatabaseAway from error

    def leave(self) -> None:
        """Stop needing the database: what follows is not cancelled."""
        if self._task is not None:
            self._watch._waiting.pop(self._task, None)

    def end(self) -> None:
        """Cancel the task, once."""
        if self._task is not None and not self._ended:
            self._ended = True
            self._task.cancel()
