"""A connection pooler between the program and PostgreSQL: pgbouncer in transaction mode.

It lends a session of the server for each transaction, so nothing may rest on a session: no LISTEN,
no lock of a session, no setting but those that the pooler keeps for each client. So only the log's
pool of short statements uses it. Whatever needs a session connects to PostgreSQL directly.
"""

from contextlib import AbstractAsyncContextManager

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from eventstore.database.connections import AsyncConnection, Watch, same_server, was_refused
from eventstore.database.pooled import PooledConnection, prove
from eventstore.database.postgres import (
    PARAMETERS,
    POOLED,
    ROLE,
    SETTINGS,
    Step,
    UnsafeDatabase,
    Way,
    pool_over,
)

PATIENCE_SECONDS = 1.0
"""How long to wait for a pooled connection. A pooler that is away makes no new ones."""

_KEPT = {"TimeZone": "UTC", "DateStyle": "ISO,MDY", "standard_conforming_strings": "on"}
"""Settings that every pooler keeps for each client, as PostgreSQL reports their changes."""

_BEGIN = "; ".join(f"SET {name} = '{value}'" for name, value in _KEPT.items())

_LENT = {
    "role": ROLE,
    "search_path": "read",
    **{name: value.replace("\\", "") for name, value in SETTINGS.items()},
    "statement_timeout": POOLED["statement_timeout"],
    "idle_in_transaction_session_timeout": POOLED["idle_in_transaction_session_timeout"],
}
"""What a session that the pooler lends has to be set to."""

_NOT_LENT = {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"}
_NOT_LENT |= {"tcp_user_timeout", "client_encoding", *_KEPT}
"""What is between the pooler and the server, or is set by each client."""

_PREPARED = "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name LIKE 'PGBOUNCER%'"

CLOSES_PREPARED = 170_000
"""From this version on libpq drops a prepared statement by a message, which pgbouncer understands,
and not by a statement."""

_SETTING = "SELECT current_setting(%s)"


def conninfo(url: str, name: str) -> str:
    """The connection string for the pooler at `url`. It refuses settings of sessions."""
    given = conninfo_to_dict(url)
    wanted = {key: value for key, value in PARAMETERS.items() if key not in given}
    wanted |= {"target_session_attrs": "any", "client_encoding": "UTF8"}
    return make_conninfo(url, **wanted, application_name=name)


def open_pool_through(
    url: str,
    size: int,
    *,
    configure: Step | None = None,
    check: Step = prove,
    watch: Watch | None = None,
) -> AbstractAsyncContextManager[AsyncConnectionPool]:
    """As `postgres.open_pool`, through the pooler at `url`."""
    way = Way(conninfo(url, "ludoteca"), PoolerConnection, _begin, PATIENCE_SECONDS)
    return pool_over(way, size, configure=configure, check=check, watch=watch)


async def _begin(conn: psycopg.AsyncConnection) -> None:
    await conn.execute(_BEGIN)
    if not await _keeps_prepared(conn):
        conn.prepare_threshold = None


async def _keeps_prepared(conn: psycopg.AsyncConnection) -> bool:
    """Whether the pooler keeps the statements that a client prepares. pgbouncer from 1.21 on
    prepares them, under names of its own, in each session that it lends; others leave them in the
    one that they were prepared in."""
    if pq.version() < CLOSES_PREPARED:
        return False
    async with conn.transaction():
        found = await (await conn.execute(_PREPARED, prepare=True)).fetchone()
        keeps = found == (True,)
        if not keeps:  # nor must it be found by the next client
            await conn.execute("DEALLOCATE ALL")
    return keeps


def check_pooler(url: str) -> None:
    """Refuse a pooler whose sessions are not as the program needs them. Raises UnsafeDatabase,
    psycopg.OperationalError."""
    with psycopg.connect(
        conninfo(url, "ludoteca"), autocommit=True, prepare_threshold=None
    ) as conn:
        conn.execute(_BEGIN)
        wrong = [
            f"SET {name} = '{wanted}'"
            for name, wanted in _LENT.items()
            if name not in _NOT_LENT and conn.execute(_SETTING, (name,)).fetchone() != (wanted,)
        ]
    if wrong:
        query = "; ".join(wrong).replace("'", "''")
        raise UnsafeDatabase(
            "the pooler of LUDOTECA_DATABASE_URL lends sessions that are not as the program needs"
            f" them: add connect_query='{query}' to the database in pgbouncer.ini, and RECONNECT"
            " (docs/replicas.md)"
        )


class PoolerConnection(PooledConnection):
    """A connection to a pooler. No process of the server belongs to it: while the pooler answers,
    a statement counts as being worked on, until it would have been ended by the server."""

    async def is_worked_on(self) -> bool:
        """Ask the pooler for another connection."""
        try:
            await (await AsyncConnection.connect(same_server(self))).close()
        except psycopg.Error as error:
            return was_refused(error) and not self.takes_too_long()
        return not self.takes_too_long()
