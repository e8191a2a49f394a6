"""PostgreSQL: one way to open a connection, and what its failures mean.

Every connection of the program is opened here. Both ends notice within some 15 seconds that the
other one vanished (eventstore/database/connections.py). A read-only server is not connected to,
except for reading.

A failure belongs to a class, by its SQLSTATE
(https://www.postgresql.org/docs/current/errcodes-appendix.html), which psycopg represents as a
type. Check in this order, since some of TOO_MUCH are OperationalErrors as well:

    TOO_MUCH  asking for less at once may work: a smaller page
    AWAY      not the fault of the request: wait, connect again, perhaps elsewhere
    AT_FAULT  the values cannot be stored: trying again would fail again

Code that passes on what others asked for (a request, a job, a decision, an event) checks `is_away`,
since the fault may be theirs. Code that runs for ever and always asks the same catches AWAY.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from eventstore.database.connections import AsyncConnection, Connection, Watch
from eventstore.database.pooled import Makeshift, PooledConnection, prove
from eventstore.database.ways import servers
from eventstore.log import LogUnavailable
from kit.cancellation import cancellations, stop_if_cancelled
from kit.metrics import POOLS

Step = Callable[[psycopg.AsyncConnection], Awaitable[None]]
"""Something that is done on a pooled connection before it is used."""

LIMITS: tuple[type[Exception], ...] = (
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.TooManyColumns,
    errors.TooManyArguments,
)
"""Class 54, beyond the server's limits; psycopg has no common base class for these."""

TOO_MUCH: tuple[type[Exception], ...] = (errors.QueryCanceled, errors.OutOfMemory, *LIMITS)
"""57014, as by statement_timeout; 54, as of a row, an index entry or a tsvector that is too large;
53200."""

AWAY: tuple[type[Exception], ...] = (
    # 08, 28, 3D, 40, 53, 55, 57, 58; no connection, a lost one, an exhausted pool
    psycopg.OperationalError,
    psycopg.InterfaceError,  # the connection was closed before
    errors.ReadOnlySqlTransaction,  # 25006: demoted to a standby, or full
    errors.IdleInTransactionSessionTimeout,  # 25P03
    errors.TransactionTimeout,  # 25P04
    errors.InternalError_,  # XX000
    errors.DataCorrupted,  # XX001
    errors.IndexCorrupted,  # XX002
    # Dropped, renamed or revoked by an operator, who can restore it:
    errors.InsufficientPrivilege,  # 42501
    errors.InvalidSchemaName,  # 3F000
    errors.UndefinedTable,  # 42P01
    errors.UndefinedColumn,  # 42703
    errors.UndefinedFunction,  # 42883
    errors.UndefinedObject,  # 42704
)
"""The server is unreachable, or unable to work now."""

AT_FAULT: tuple[type[Exception], ...] = (psycopg.DataError, psycopg.IntegrityError, *LIMITS)
"""22, 23, and 54 once nothing smaller can be tried."""


def is_away(error: BaseException) -> bool:
    """Whether an error means that our database, or the log in it, is down: not the fault of a
    request that cannot be made smaller."""
    return isinstance(error, (LogUnavailable, *AWAY)) and not isinstance(error, AT_FAULT)


ROLE = "ludoteca_app"
"""The role under which the program runs: it cannot change or remove events."""

PARAMETERS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}
"""Defaults for libpq's parameters; the URL's own take precedence. The server finds vanished clients
by the same means."""

_OF_SEVERAL = {"connect_timeout": "2"}
"""The same, where there are several servers: one that hangs shall not keep us from the others."""

SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "TimeZone": "UTC",
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    "client_encoding": "UTF8",
    "default_transaction_isolation": r"read\ committed",
    "default_transaction_deferrable": "off",
    "default_tablespace": "",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
"""What the program relies on, whatever the database, the role or the environment is set to."""

POOLED = {
    "statement_timeout": "20s",
    "idle_in_transaction_session_timeout": "20s",
    "client_connection_check_interval": "1s",
}
"""Work over the pool takes milliseconds. A request or client that hangs does not hold a lock for
long; what was cancelled does not occupy the server."""

WAIT_SECONDS = 5.0
"""How long to wait for a pooled connection. They are all busy then: under a watch, the database is
up."""

_TRIED_SECONDS = 4.0
"""How long a pool retries to connect, at growing intervals, before it stops until the next request,
which retries at once."""

_NO_TRANSACTION_TIMEOUT = """
SELECT set_config('transaction_timeout', '0', false)
WHERE current_setting('transaction_timeout', true) <> '0'"""
"""Not among the settings above, because PostgreSQL 16 does not have it."""

_POOLER = (
    "the database's URL leads to a connection pooler (pgbouncer), which lends no session for longer"
    " than a transaction: set LUDOTECA_DIRECT_URL to PostgreSQL itself (docs/replicas.md)"
)

_SAFE = """
SELECT name, current_setting(name) FROM unnest(ARRAY['fsync', 'full_page_writes']) AS s(name)
WHERE current_setting(name) <> 'on'"""
_ENCODING = """
SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()
"""


def conninfo(url: str, name: str, *, role: str = ROLE, **settings: str) -> str:
    """The connection string for the database at `url` as `role` (empty: the login user). `name`
    shows in pg_stat_activity. `settings` are further session settings; the URL's own `options` come
    first."""
    given = conninfo_to_dict(url)
    of_role = {"role": role, "search_path": "read"} if role else {"search_path": "public"}
    of_session = {**SETTINGS, **of_role, **settings}
    options = " ".join(
        [str(given.get("options", "")), *(f"-c {key}={value}" for key, value in of_session.items())]
    )
    defaults = {**PARAMETERS, **_OF_SEVERAL} if len(servers(url)) > 1 else PARAMETERS
    wanted = {key: value for key, value in defaults.items() if key not in given}
    return make_conninfo(url, **wanted, options=options.strip(), application_name=name)


def connect(url: str, name: str, *, role: str = ROLE, **settings: str) -> Connection:
    """A connection in autocommit mode. Raises psycopg.OperationalError; UnsafeDatabase when a
    pooler refuses its settings."""
    try:
        conn = Connection.connect(conninfo(url, name, role=role, **settings), autocommit=True)
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            raise UnsafeDatabase(_POOLER) from error
        raise
    try:
        conn.execute(_NO_TRANSACTION_TIMEOUT)
    except BaseException:
        conn.close()
        raise
    return conn


async def connect_async(
    url: str, name: str, *, role: str = ROLE, watch: Watch | None = None, **settings: str
) -> AsyncConnection:
    """As `connect`; `watch` ends waits on the connection if it falls silent."""
    conn = await AsyncConnection.connect(
        conninfo(url, name, role=role, **settings), autocommit=True, watch=watch
    )
    async with kept_once_set_up(conn):
        await _configure(conn)
    return conn


@asynccontextmanager
async def kept_once_set_up(conn: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """Wrap the first steps on a new connection: closes it when one fails or is cancelled, as it
    occupies a server process."""
    try:
        yield
    except BaseException:
        await conn.close()
        raise


class _Pool(AsyncConnectionPool):
    """Takes the next connection at once when one fails its check: the pool's own loop pauses for
    seconds when several fail, as all do after a restart of the server."""

    def __init__(self, check: Step, **options: Any) -> None:
        super().__init__(**options)
        self._alive = check

    async def getconn(self, timeout: float | None = None) -> psycopg.AsyncConnection:
        """A connection that passed its check. Raises PoolTimeout."""
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        before = cancellations()
        while True:
            conn = await super().getconn(max(deadline - monotonic(), 0.001))
            try:
                stop_if_cancelled(before)
                await self._alive(conn)
            except psycopg.Error:
                await conn.close()  # otherwise the pool would keep it
                await self.putconn(conn)
            except BaseException:
                await self.putconn(conn)
                raise
            else:
                return conn


@asynccontextmanager
async def open_pool(
    url: str,
    size: int,
    *,
    configure: Step | None = None,
    check: Step = prove,
    watch: Watch | None = None,
    sessions: str = PARAMETERS["target_session_attrs"],
    patience: float | None = None,
) -> AsyncIterator[AsyncConnectionPool]:
    """A pool of connections as `connect` opens them, for short statements. Silent connections are
    replaced; with a `watch`, within a second. Users wait for one for
    `patience` seconds, by default WAIT_SECONDS.

    `sessions` says which servers are connected to (libpq's `target_session_attrs`), unless the URL
    does.

    Each connection is passed to `configure` before its first use, and to `check` before every use,
    which raises psycopg.OperationalError for one that must not be used any more.
    """

    kind = str(conninfo_to_dict(url).get("target_session_attrs", sessions))
    where = make_conninfo(conninfo(url, "ludoteca", **POOLED), target_session_attrs=kind)
    way = Way(where, PooledConnection, _configure, WAIT_SECONDS if patience is None else patience)
    async with pool_over(way, size, configure=configure, check=check, watch=watch) as pool:
        yield pool


class Way(NamedTuple):
    """How a pool connects."""

    conninfo: str
    connection_class: type[PooledConnection]
    begin: Step
    """What is done first on a new connection."""
    patience: float
    """Seconds for which users wait for a connection."""


@asynccontextmanager
async def pool_over(
    way: Way, size: int, *, configure: Step | None, check: Step, watch: Watch | None
) -> AsyncIterator[AsyncConnectionPool]:
    """A pool that connects in this way. For the other parameters see `open_pool`."""

    async def prepare(conn: psycopg.AsyncConnection) -> None:
        await way.begin(conn)
        if configure is not None:
            await configure(conn)

    makeshift = Makeshift(
        way.conninfo,
        watch,
        over=lambda: pool.drain(),  # noqa: PLW0108 - made below
    )
    pool = _Pool(
        check,
        conninfo=way.conninfo,
        connection_class=way.connection_class,
        min_size=1,
        max_size=size,
        open=False,
        timeout=way.patience,
        reconnect_timeout=_TRIED_SECONDS,
        configure=prepare,
        kwargs={"autocommit": True, "watch": watch, "makeshift": makeshift},
    )
    await pool.open()
    POOLS.pools.add(pool)
    try:
        yield pool
    finally:
        POOLS.pools.discard(pool)
        await makeshift.end()
        with suppress(psycopg.Error, asyncio.CancelledError):
            await pool.close()


async def _configure(conn: psycopg.AsyncConnection) -> None:
    await conn.execute(_NO_TRANSACTION_TIMEOUT)


class UnsafeDatabase(Exception):
    """The server cannot keep the program's promises. The message says what to do."""


def check_server(conn: psycopg.Connection, *, allow_unsafe: bool) -> None:
    """Refuse a server that may lose or alter data. Raises UnsafeDatabase."""
    if conn.execute("SELECT pg_backend_pid()").fetchone() != (conn.info.backend_pid,):
        raise UnsafeDatabase(_POOLER)
    row = conn.execute(_ENCODING).fetchone()
    if row is not None and row[0] != "UTF8":
        raise UnsafeDatabase(
            f"the database is encoded as {row[0]}, which has no room for every text: create it with"
            " ENCODING 'UTF8'"
        )
    if conn.execute("SHOW session_replication_role").fetchone() != ("origin",):
        raise UnsafeDatabase(
            "session_replication_role is set for this role or database: take that back"
        )
    off = [f"{name} = {value}" for name, value in conn.execute(_SAFE).fetchall()]
    if off and not allow_unsafe:
        raise UnsafeDatabase(
            f"the server runs with {' and '.join(off)}: what it has acknowledged would be lost in a"
            " crash. Turn it on; for tests, LUDOTECA_ALLOW_UNSAFE_DATABASE=on takes the server as"
            " it is"
        )
