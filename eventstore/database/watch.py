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
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from traceback import format_exc
from weakref import WeakSet

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from eventstore.database.connections import (
    IS_AT_WORK,
    AsyncConnection,
    is_down,
    is_refusal,
)
from eventstore.database.dependents import Dependents, WhileThere
from eventstore.database.doubts import Doubts
from eventstore.database.postgres import conninfo
from eventstore.database.ways import CONNECT_SECONDS, Ways
from eventstore.database.writable import WritableSearch
from kit.cancellation import cancelled, stop_if_cancelled
from kit.seldom import Seldom

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.15
"""The pause between an answer and the next query."""

TICK_SECONDS = 0.04
"""How often to check for an answer."""

DEAF_SECONDS = 0.1
"""How long an answer may take before another connection is tried."""

DOUBT_SECONDS = 0.2
"""How long a statement may take before the server is asked about it."""

AWAY_SECONDS = 0.5
"""After how long a silence the database counts as down."""

_AT_WORK = f"SELECT pid FROM pg_stat_activity WHERE pid IN (%s) AND ({IS_AT_WORK})"

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class DatabaseWatch:
    """The watch of one process, to be run as a task. Used from one event loop only."""

    def __init__(self, url: str, name: str = "the database", *, writable: bool = True) -> None:
        """`name` is what the log calls it. Unless it has to be `writable`, any server is as
        good."""
        self._name = name
        # As the login user: the server hides sessions' states from other roles.
        where, kind = conninfo(url, "ludoteca watch", role=""), "read-write" if writable else "any"
        self._ways = Ways(url, where, kind)
        self._search = WritableSearch(partial(Ways, url, where, kind))
        self._reads_only = False  # whether the server that answers was not found writable
        self._there = asyncio.Event()
        self._there.set()
        self._away_since = float("inf")
        self._known = asyncio.Event()  # set once it is known whether the database is up
        self._dependents = Dependents()
        self._connections: WeakSet[AsyncConnection] = WeakSet()
        self._doubts = Doubts()
        self._silence = 0.0
        self._asked_at = monotonic()
        self._refusals = 0  # how many addresses in a row have refused
        self._another: asyncio.Task[AsyncConnection] | None = None
        self._proof: asyncio.Task[None] | None = None
        self._inquiries: dict[AsyncConnection, asyncio.Task[None]] = {}
        self._failures = Seldom(logger)

    @property
    def away(self) -> bool:
        """Whether the database is down."""
        return self._dependents.away

    def while_there(self) -> WhileThere:
        """Wrap work that needs the database. Raises DatabaseAway as soon as the database is known
        to be down."""
        return WhileThere(self._dependents)

    async def until_there(self) -> None:
        """Wait until the database is up."""
        await self._there.wait()

    async def nearest(self, conninfo: str) -> str:
        """The connection string, with the address that answered last in front."""
        if not self._known.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._known.wait()
        return self._ways.nearest(conninfo)

    def see_to(self, conn: AsyncConnection) -> None:
        """Close this connection when it falls silent."""
        self._connections.add(conn)

    async def run(self) -> None:
        """Watch until cancelled."""
        conn: AsyncConnection | None = None
        try:
            while True:
                stop_if_cancelled()
                before, pause = conn, PAUSE_SECONDS
                try:
                    conn = conn or await self._connected()
                    conn = self._writable(await self._ask(conn))
                    # others may have fallen silent with the previous connection
                    if self._doubts or conn is not before:
                        pause = TICK_SECONDS
                except (psycopg.Error, OSError) as error:
                    logger.info("the watch over %s lost its connection: %s", self._name, error)
                    _finish(conn)
                    conn, pause = None, 0.0
                except Exception:
                    self._failures.warning(
                        "failed", f"the watch over {self._name} begins anew: {format_exc()}"
                    )
                    _finish(conn)
                    conn = None
                await asyncio.sleep(pause)
        finally:
            _finish(conn)
            await self._drop_another()
            await self._search.stop()
            await cancelled([self._proof, *self._inquiries.values()])

    # -- asking ------------------------------------------------------------------------------------

    async def _ask(self, conn: AsyncConnection) -> AsyncConnection:
        """Query once. Returns the connection that answered, which may be another one. Raises
        psycopg.Error when it is lost."""
        pgconn, now = conn.pgconn, monotonic()
        doubtful = {
            other: other.waits_since
            for other in self._connections
            if other.waits_since is not None
            and now - other.waits_since > DOUBT_SECONDS
            and not other.closed
        }
        pids = {
            other: other.pgconn.backend_pid
            for other in doubtful
            if _same_server(other.pgconn, pgconn)
        }
        self._inquire(doubtful.keys() - pids.keys())
        self._asked_at = now
        pgconn.send_query((_AT_WORK % ", ".join(map(str, pids.values()))).encode() if pids else b"")
        at_work = set[int]()
        while True:
            await self._tick()
            if _has_answered(pgconn, at_work):
                break
            if self._silence > DEAF_SECONDS and (found := self._tried()) is not None:
                pgconn.finish()
                self._is_there()
                return found
        await self._drop_another()
        self._is_there()
        self._judge({other: doubtful[other] for other, pid in pids.items() if pid not in at_work})
        return conn

    async def _connected(self) -> AsyncConnection:
        """Wait for a connection."""
        self._asked_at = monotonic()
        self._refusals = 0
        while True:
            if (found := self._tried()) is not None:
                self._is_there()
                return found
            # nothing listens anywhere: no need to wait for long
            if self._refusals >= self._ways.count:
                self._silence = max(self._silence, AWAY_SECONDS - DEAF_SECONDS)
            await self._tick()

    def _tried(self) -> AsyncConnection | None:
        """A new connection, if one is ready by now; otherwise keeps trying."""
        found: AsyncConnection | None = None
        if self._another is not None and self._another.done():
            task = self._another
            self._another = None
            try:
                found = task.result()
                self._ways.answered()
                self._reads_only = not self._ways.is_first_choice
            except TimeoutError:
                logger.debug("the database says nothing to a new connection")
                self._ways.failed()
            except (psycopg.Error, OSError) as error:
                if is_refusal(error):  # it answered, if only to refuse another connection
                    self._ways.answered()
                if is_refusal(error) or "read-only" in str(error):
                    self._is_there()
                self._refusals = self._refusals + 1 if is_down(error) else 0
                self._ways.failed()
        elif self._another is None:
            self._another = asyncio.create_task(self._ways.connect(), name="database-watch")
        return found

    async def _drop_another(self) -> None:
        task = self._another
        self._another = None
        for found in await cancelled([task]):
            if isinstance(found, AsyncConnection):
                found.pgconn.finish()

    def _writable(self, conn: AsyncConnection) -> AsyncConnection:
        """A connection to a writable server, if one was found by now; until then the given one."""
        if not self._reads_only or (found := self._search.found()) is None:
            return conn
        conn.pgconn.finish()
        conn, self._ways = found
        self._reads_only = False
        return conn

    # -- waiting for an answer ---------------------------------------------------------------------

    async def _tick(self) -> None:
        """Count one tick in which the loop ran, however long it took."""
        began = monotonic()
        await asyncio.sleep(TICK_SECONDS)
        # a busy machine may delay the database, too
        late = monotonic() - began > 1.5 * TICK_SECONDS
        self._silence += TICK_SECONDS / 2 if late else TICK_SECONDS
        if self._silence > DEAF_SECONDS:
            self._prove_another()
        if self.away:
            self._wait_for_it()
        elif self._silence >= AWAY_SECONDS:
            self._is_silent()

    def _prove_another(self) -> None:
        """Make a round trip over an unused connection: only the watch's own connection may be
        silent."""
        if self._proof is not None and not self._proof.done():
            return
        unused = [conn for conn in self._connections if not conn.closed and conn.unused]
        if unused:
            self._proof = asyncio.create_task(
                _proven(max(unused, key=_heard_at)), name="database-watch proof"
            )

    def _inquire(self, conns: Collection[AsyncConnection]) -> None:
        """Ask other servers than the watch's whether they are working on these connections'
        statements."""
        for conn in conns:
            if (
                conn not in self._inquiries
                and monotonic() - (conn.waits_since or 0.0) > AWAY_SECONDS
            ):
                task = asyncio.create_task(self._ask_elsewhere(conn), name="database-watch inquiry")
                self._inquiries[conn] = task
                task.add_done_callback(partial(self._has_asked, conn))

    def _has_asked(self, conn: AsyncConnection, task: asyncio.Task[None]) -> None:
        del self._inquiries[conn]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.warning(
                "inquiry", f"a connection to {self._name} is not watched: {error!r}"
            )

    async def _ask_elsewhere(self, conn: AsyncConnection) -> None:
        since, doubts, at_work = conn.waits_since, Doubts(), False
        while not at_work and since is not None and conn.waits_since == since and not conn.closed:
            if doubts.look({conn: since}):
                logger.warning("a connection to %s fell silent: it is hung up", self._name)
                conn.hang_up()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    at_work = await conn.is_worked_on()
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(CONNECT_SECONDS)  # before the next question, if it goes on

    # -- the verdict -------------------------------------------------------------------------------

    def _is_silent(self) -> None:
        if self._heard_since(self._asked_at):
            # only the watch's own connection is silent
            self._silence = 0.0
            self._asked_at = monotonic()
            return
        logger.error("%s is away: what needs it is answered at once, until it is back", self._name)
        self._dependents.away = True
        self._away_since = monotonic()
        self._there.clear()
        self._known.set()
        for conn in self._connections:
            if conn.waits_since is not None or conn.pgconn.transaction_status in _OPEN:
                # also between the statements of a transaction, which is about to be undone
                conn.hang_up()
        self._dependents.cancel()

    def _wait_for_it(self) -> None:
        """While the database is down, hang up waiting connections, until one of them receives
        something."""
        if self._heard_since(self._away_since):
            self._is_there()
            return
        for conn in self._connections:
            if conn.waits_since is not None and monotonic() - conn.waits_since > AWAY_SECONDS:
                conn.hang_up()

    def _heard_since(self, moment: float) -> bool:
        return any(conn.heard_at > moment for conn in self._connections)

    def _is_there(self) -> None:
        self._silence = 0.0
        self._known.set()
        if not self.away:
            return
        logger.warning("%s is back", self._name)
        self._dependents.away = False
        for conn in self._connections:  # old ones may lead to a server or network path that is gone
            if conn.heard_at < self._away_since:
                conn.hang_up()
        self._doubts.clear()
        self._there.set()

    def _judge(self, idle: dict[AsyncConnection, float]) -> None:
        """Close connections that fell silent."""
        lost = self._doubts.look(idle, self._connections)
        if not lost:
            return
        logger.warning("connections to %s fell silent: they are hung up", self._name)
        began = min(conn.waits_since or 0.0 for conn in lost)
        for conn in self._connections:
            if conn in lost or (
                conn.heard_at < began and (conn.waits_since is None or conn in self._doubts)
            ):
                conn.hang_up()  # also those unheard since: their next user would wait, too
        self._doubts.clear()


@asynccontextmanager
async def watching(
    url: str, name: str = "the database", *, writable: bool = True
) -> AsyncIterator[DatabaseWatch]:
    """A running watch. For the parameters see `DatabaseWatch`."""
    watch = DatabaseWatch(url, name, writable=writable)
    task = asyncio.create_task(watch.run(), name="database-watch")
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _has_answered(pgconn: PGconn, at_work: set[int]) -> bool:
    """Read what has come, without waiting. Returns whether that is all. Raises psycopg.Error."""
    pgconn.flush()
    pgconn.consume_input()
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is None:
            return True
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
        at_work.update(int(result.get_value(row, 0) or 0) for row in range(result.ntuples))
    return False


def _same_server(one: PGconn, other: PGconn) -> bool:
    return (one.hostaddr or one.host, one.port) == (other.hostaddr or other.host, other.port)


def _heard_at(conn: AsyncConnection) -> float:
    return conn.heard_at


async def _proven(conn: AsyncConnection) -> None:
    with suppress(psycopg.Error, OSError):
        await conn.prove()


def _finish(conn: AsyncConnection | None) -> None:
    if conn is not None:
        conn.pgconn.finish()
