"""PostgreSQL: one way to open a connection, and what its failures mean.

Every connection of the program is opened here. Each end notices within some 15 seconds that the other vanished without
a word (eventstore/database/connections.py); a server that is, or was made, read-only is not connected to, but to read.

A failure has a class, told by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), which
psycopg has as a type. Ask in this order, for some of TOO_MUCH are OperationalErrors as well:

    TOO_MUCH  less at once may do: a smaller page
    AWAY      not the fault of what was asked: wait, connect again, perhaps elsewhere
    AT_FAULT  the values are not such as can be kept: trying again would end the same

Who passes on what others asked for (a request, a job, a decision, an event) asks `is_away`, for it may be their fault.
Who goes on for ever, and asks for nothing but what it always asks for, catches AWAY.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from eventstore.database.connections import AsyncConnection, Connection, Makeshift, PooledConnection, Watch, prove
from eventstore.log import LogUnavailable

LIMITS: tuple[type[Exception], ...] = (
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.TooManyColumns,
    errors.TooManyArguments,
)
"""All of 54, what is larger than the server can do: to psycopg they have nothing in common."""

TOO_MUCH: tuple[type[Exception], ...] = (errors.QueryCanceled, errors.OutOfMemory, *LIMITS)
"""57014, as by statement_timeout; 54, as of a row, an index entry or a tsvector that is too large; 53200."""

AWAY: tuple[type[Exception], ...] = (
    psycopg.OperationalError,  # 08, 28, 3D, 40, 53, 55, 57, 58; no connection, a lost one, none left in the pool
    psycopg.InterfaceError,  # the connection was closed before
    errors.ReadOnlySqlTransaction,  # 25006: demoted to a standby, or full
    errors.IdleInTransactionSessionTimeout,  # 25P03
    errors.TransactionTimeout,  # 25P04
    errors.InternalError_,  # XX000
    errors.DataCorrupted,  # XX001
    errors.IndexCorrupted,  # XX002
    # What an operator has dropped, renamed or revoked, and can bring back:
    errors.InsufficientPrivilege,  # 42501
    errors.InvalidSchemaName,  # 3F000
    errors.UndefinedTable,  # 42P01
    errors.UndefinedColumn,  # 42703
    errors.UndefinedFunction,  # 42883
    errors.UndefinedObject,  # 42704
)
"""The server cannot be reached, or cannot do its work now."""

AT_FAULT: tuple[type[Exception], ...] = (psycopg.DataError, psycopg.IntegrityError, *LIMITS)
"""22, 23, and 54 once there is nothing smaller to try."""


def is_away(error: BaseException) -> bool:
    """Whether it says that our database, or the log in it, is away: not the fault of what was asked, where there is
    nothing smaller to ask for."""
    return isinstance(error, (LogUnavailable, *AWAY)) and not isinstance(error, AT_FAULT)


ROLE = "ludoteca_app"
"""The role under which the program runs: it cannot change or remove events."""

_PARAMETERS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}
"""libpq's parameters, unless the URL has others. A client that vanished is found by the same means at the server."""

_SETTINGS = {
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
"""What the program relies on, be the database, the role or the environment set to something else."""

_POOLED = {"statement_timeout": "20s", "idle_in_transaction_session_timeout": "20s"}
"""What is done over the pool takes milliseconds. A request, or a client, that stands still holds nothing for long."""

WAIT_SECONDS = 5.0
"""How long to wait for one of a pool's connections: all are busy, for under a watch the database is there."""

_TRIED_SECONDS = 4.0
"""How long a pool tries to connect, at growing intervals, before it waits to be asked again: then it tries at once."""

_NO_TRANSACTION_TIMEOUT = """
SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) <> '0'"""
"""Not among the settings above: PostgreSQL 16 does not know it."""

_SAFE = """
SELECT name, current_setting(name) FROM unnest(ARRAY['fsync', 'full_page_writes']) AS s(name)
WHERE current_setting(name) <> 'on'"""
_ENCODING = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"


def conninfo(url: str, name: str, *, role: str = ROLE, **settings: str) -> str:
    """How to connect to the database at `url` as `role` (empty: the user that logs in); `name` is shown in
    pg_stat_activity. `settings` are further ones of the session; the URL's own `options` come first.
    """
    given = conninfo_to_dict(url)
    of_role = {"role": role, "search_path": "read"} if role else {"search_path": "public"}
    of_session = {**_SETTINGS, **of_role, **settings}
    options = " ".join([str(given.get("options", "")), *(f"-c {key}={value}" for key, value in of_session.items())])
    wanted = {key: value for key, value in _PARAMETERS.items() if key not in given}
    return make_conninfo(url, **wanted, options=options.strip(), application_name=name)


def connect(url: str, name: str, *, role: str = ROLE, **settings: str) -> Connection:
    """A connection on which each statement is its own transaction. Raises psycopg.OperationalError."""
    conn = Connection.connect(conninfo(url, name, role=role, **settings), autocommit=True)
    try:
        conn.execute(_NO_TRANSACTION_TIMEOUT)
    except BaseException:
        conn.close()
        raise
    return conn


async def connect_async(
    url: str, name: str, *, role: str = ROLE, watch: Watch | None = None, **settings: str
) -> AsyncConnection:
    """As `connect`; `watch` ends what waits for the connection, should it fall silent."""
    conn = await AsyncConnection.connect(conninfo(url, name, role=role, **settings), autocommit=True, watch=watch)
    async with kept_once_set_up(conn):
        await _configure(conn)
    return conn


async def connect_beside(pool: AsyncConnectionPool, name: str) -> AsyncConnection:
    """As `connect_async`, to where the pool's connections lead: for who keeps one for long, such as a listener, and
    would leave the pool none."""
    assert isinstance(pool.conninfo, str)
    return await connect_async(pool.conninfo, name)


@asynccontextmanager
async def kept_once_set_up(conn: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """For the first steps on a new connection: closes it when one fails, or is cancelled. It holds a server process."""
    try:
        yield
    except BaseException:
        await conn.close()
        raise


class _Pool(AsyncConnectionPool):
    """Goes on to the next connection at once when one fails its check: the pool's own loop pauses for seconds when
    several do, as all do after a restart of the server."""

    def __init__(self, check: Callable[[psycopg.AsyncConnection], Awaitable[None]], **options: Any) -> None:
        super().__init__(**options)
        self._alive = check

    async def getconn(self, timeout: float | None = None) -> psycopg.AsyncConnection:
        """A connection that passed. Raises PoolTimeout."""
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            conn = await super().getconn(max(deadline - monotonic(), 0.001))
            try:
                await self._alive(conn)
            except psycopg.Error:
                await conn.close()  # else the pool would keep it
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
    configure: Callable[[psycopg.AsyncConnection], Awaitable[None]] | None = None,
    check: Callable[[psycopg.AsyncConnection], Awaitable[None]] = prove,
    watch: Watch | None = None,
) -> AsyncIterator[AsyncConnectionPool]:
    """A pool of connections as `connect` opens them, for short statements. Those that fell silent are replaced: with a
    `watch` within a second.

    Each is given to `configure` before its first use, and to `check` before every use: it raises
    psycopg.OperationalError for one that is not to be used any more.
    """

    async def prepare(conn: psycopg.AsyncConnection) -> None:
        await _configure(conn)
        if configure is not None:
            await configure(conn)

    where = conninfo(url, "ludoteca", **_POOLED)
    makeshift = Makeshift(where, watch)
    pool = _Pool(
        check,
        conninfo=where,
        connection_class=PooledConnection,
        min_size=1,
        max_size=size,
        open=False,
        timeout=WAIT_SECONDS,
        reconnect_timeout=_TRIED_SECONDS,
        configure=prepare,
        kwargs={"autocommit": True, "watch": watch, "makeshift": makeshift},
    )
    await pool.open()
    try:
        yield pool
    finally:
        await makeshift.end()
        with suppress(psycopg.Error, asyncio.CancelledError):
            await pool.close()


async def _configure(conn: psycopg.AsyncConnection) -> None:
    await conn.execute(_NO_TRANSACTION_TIMEOUT)


class UnsafeDatabase(Exception):
    """The server cannot keep what the program promises; the message says what to do."""


def check_server(conn: psycopg.Connection, *, allow_unsafe: bool) -> None:
    """Refuse a server that loses or changes what it was given. Raises UnsafeDatabase."""
    row = conn.execute(_ENCODING).fetchone()
    if row is not None and row[0] != "UTF8":
        raise UnsafeDatabase(
            f"the database is encoded as {row[0]}, which has no room for every text: create it with ENCODING 'UTF8'"
        )
    if conn.execute("SHOW session_replication_role").fetchone() != ("origin",):
        raise UnsafeDatabase("session_replication_role is set for this role or database: take that back")
    off = [f"{name} = {value}" for name, value in conn.execute(_SAFE).fetchall()]
    if off and not allow_unsafe:
        raise UnsafeDatabase(
            f"the server runs with {' and '.join(off)}: what it has acknowledged would be lost in a crash. Turn it on;"
            " for tests, LUDOTECA_ALLOW_UNSAFE_DATABASE=on takes the server as it is"
        )
