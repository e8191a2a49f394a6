"""Personal data in read models as they were: rows that have some are dropped once somebody is
forgotten."""

from collections.abc import Callable, Collection, Iterable

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from domain.identity import UserForgotten
from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from projections.engine import past
from projections.engine.advancing import Registered

TURN_TIMEOUT = "60s"
"""How long the erasure of personal data waits for a build for a query."""

_NOTE_EMPTIED = "COMMENT ON SCHEMA {} IS {}"
_FORGET_OTHERS = "DELETE FROM {built} WHERE storage <> ALL (%s)"
_FORGOTTEN_BETWEEN = """
SELECT EXISTS (SELECT FROM log.events WHERE position > %s AND position <= %s AND name = ANY (%s))"""
_SEEN = "UPDATE {built} SET head = %s WHERE storage = %s"


def is_personal(codec: Codec, model: Registered) -> bool:
    """Whether the rows may have somebody's personal data."""
    return any(codec.is_personal(event) for event in model.projection.folds)


def drop_personal(
    conn: psycopg.Connection,
    codec: Codec,
    models: Iterable[Registered],
    *,
    which: Callable[[int, past.BuiltModel], bool] = lambda _position, _built: True,
) -> int:
    """Drop the rows with personal data in all schemas, once somebody's key is destroyed: the next
    query builds them anew, without the person. So are rows of other releases' read models, of which
    nothing is known, and what a build left that died. Returns how many tables there were.

    Raises BuiltElsewhere, ReadNow: then some are left, and this has to be tried again.
    """
    harmless = {each.projection.name for each in models if not is_personal(codec, each)}
    dropped = 0
    with past.in_turn(conn, patience=TURN_TIMEOUT):
        for position in past.positions(conn):
            with past.exclusively(conn, position):
                there = past.moment(conn, position)
                kept = {
                    each.storage
                    for each in ([] if there is None else there.models)
                    if each.model in harmless or not which(position, each)
                }
                dropped += 0 if there is None else _keep_only(conn, position, kept)
    return dropped


def drop_forgotten(conn: psycopg.Connection, codec: Codec, models: Iterable[Registered]) -> int:
    """As `drop_personal`, of what was built before somebody was forgotten. What is newer is not
    looked at again from its start."""
    head = checkpoints.head(conn)

    def is_older(position: int, built: past.BuiltModel) -> bool:
        if _forgotten_between(conn, codec, built.head, head):
            return True
        conn.execute(past.statement(_SEEN, position), [head, built.storage])
        return False

    return drop_personal(conn, codec, models, which=is_older)


def _keep_only(conn: psycopg.Connection, position: int, storages: Collection[str]) -> int:
    """Drop all tables of the schema but those of these storages."""
    schema = past.schema_at(position)
    doomed = [
        table
        for (table,) in conn.execute(past.TABLES, [schema])
        if not any(table == each or table.startswith(f"{each}_") for each in storages)
    ]
    if not doomed:
        return 0
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = '{past.DROP_TIMEOUT}'")
            conn.execute(past.statement(_FORGET_OTHERS, position), [list(storages)])
            tables = SQL(", ").join(Identifier(schema, table) for table in doomed)
            conn.execute(SQL("DROP TABLE {}").format(tables))
            conn.execute(SQL(_NOTE_EMPTIED).format(Identifier(schema), Literal(past.EMPTIED)))
    except psycopg.errors.LockNotAvailable as error:
        raise past.ReadNow(f"{schema} is read by a query") from error
    return len(doomed)


def _forgotten_between(conn: psycopg.Connection, codec: Codec, first: int, last: int) -> bool:
    names = codec.names_of([UserForgotten])
    row = conn.execute(_FORGOTTEN_BETWEEN, [first, last, names]).fetchone()
    return bool(row and row[0])
