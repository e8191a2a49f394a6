"""PostgreSQL: one way to open a connection, and what its failures mean.

Every connection of the program is opened here. Over a network each end notices within some 15 seconds that the other
vanished without a word; a server that is, or was made, read-only is not connected to.

A failure has a class, told by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), which
psycopg has as a type. Ask in this order, for some of TOO_MUCH are OperationalErrors as well:

    TOO_MUCH  less at once may do: a smaller page
    AWAY      not the fault of what was asked: wait, connect again, perhaps elsewhere
    AT_FAULT  the values are not such as can be kept: trying again would end the same
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

TOO_MUCH: tuple[type[Exception], ...] = (errors.QueryCanceled, errors.ProgramLimitExceeded, errors.OutOfMemory)
"""57014, as by statement_timeout; 54, as of a row, an index entry or a tsvector that is too large; 53200."""

AWAY: tuple[type[Exception], ...] = (
    psycopg.OperationalError,  # 08, 28, 3D, 40, 53, 55, 57, 58; no connection, a lost one, none left in the pool
    psycopg.InterfaceError,  # the connection was closed before
    errors.ReadOnlySqlTransaction,  # 25006: demoted to a standby, or full
    errors.IdleInTransactionSessionTimeout,  # 25P03
    errors.InternalError_,  # XX000
)
"""The server cannot be reached, or cannot do its work now."""

AT_FAULT: tuple[type[Exception], ...] = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded)
"""22, 23, and 54 once there is nothing smaller to try."""

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
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "client_encoding": "UTF8",
    "default_transaction_isolation": r"read\ committed",
}
"""What the program relies on, be the database, the role or the environment set to something else."""


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


def connect(url: str, name: str, *, role: str = ROLE, **settings: str) -> psycopg.Connection:
    """A connection on which each statement is its own transaction. Raises psycopg.OperationalError."""
    return psycopg.connect(conninfo(url, name, role=role, **settings), autocommit=True)


async def connect_async(url: str, name: str, *, role: str = ROLE, **settings: str) -> psycopg.AsyncConnection:
    """As `connect`."""
    return await psycopg.AsyncConnection.connect(conninfo(url, name, role=role, **settings), autocommit=True)


async def alive(conn: psycopg.AsyncConnection) -> None:
    """Notice without a round trip that the server hung up: the first call reads its last words, the second the end."""
    conn.pgconn.consume_input()
    conn.pgconn.consume_input()


@asynccontextmanager
async def open_pool(
    url: str,
    size: int,
    *,
    configure: Callable[[psycopg.AsyncConnection], Awaitable[None]] | None = None,
    check: Callable[[psycopg.AsyncConnection], Awaitable[None]] = alive,
) -> AsyncIterator[AsyncConnectionPool]:
    """A pool of connections as `connect` opens them, each given to `configure` before its first use, and to `check`
    before every use: it raises psycopg.OperationalError for one that is not to be used any more."""
    pool = AsyncConnectionPool(
        conninfo(url, "ludoteca"),
        min_size=1,
        max_size=size,
        open=False,
        timeout=5,
        configure=configure,
        check=check,
        kwargs={"autocommit": True},
    )
    await pool.open()
    try:
        yield pool
    finally:
        with suppress(psycopg.Error, asyncio.CancelledError):
            await pool.close()
