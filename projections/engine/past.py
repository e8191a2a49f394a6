"""Read models as they were at a position of the log, the tables of each position in a schema of its
own, `ludoteca_at_<position>`.

The schema has the storages of some or of all read models, and two tables: `moment`, a row about the
schema, and `built`, a row for each storage that is complete. That row is written last, so that
nothing half built is ever read. A schema whose log went back belongs to another history: then the
event at its position is another one, and the schema is made anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.database.locks import LEAD
from eventstore.database.postgres import ROLE, connect
from projections.engine import parts
from projections.engine.advancing import Registered
from projections.engine.dropping import Busy, await_parts
from projections.engine.one_pass import fold_together
from projections.engine.parts import Processes
from projections.engine.rebuild import looking_up
from projections.engine.replaying import Progress, Replay
from projections.engine.tables import PostgresTable
from projections.search.postgres_store import PostgresDocuments

PREFIX = "ludoteca_at_"

_BUILDS = "builds for queries"

DROP_TIMEOUT = "5s"
"""How long a drop waits for a build, and for queries that read the schema."""

_MAKE = """
CREATE TABLE {moment} (
    event_id uuid, kept boolean NOT NULL, made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE {built} (
    storage text PRIMARY KEY, model text NOT NULL, rows bigint NOT NULL, hash text NOT NULL,
    head bigint NOT NULL, built_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""
_NOTE_MOMENT = """
INSERT INTO {moment} (event_id, kept)
VALUES ((SELECT event_id FROM log.events WHERE position = %s), %s)"""
_NOTE_BUILT = """
INSERT INTO {built} (storage, model, rows, hash, head) VALUES (%s, %s, %s, %s, %s)"""
_FORGET_BUILT = "DELETE FROM {built} WHERE storage = %s"

SAME_HISTORY = """EXISTS (
    SELECT FROM {moment} m WHERE m.event_id IS NOT DISTINCT FROM
        (SELECT event_id FROM log.events WHERE position = {position})
)"""
"""SQL: whether the schema belongs to the log's history."""

_SCHEMAS = r"""
SELECT substr(nspname, 13)::bigint FROM pg_namespace WHERE nspname ~ '^ludoteca_at_\d{1,18}$'
ORDER BY 1"""
_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind = 'r'"""
_STATE = """
SELECT {same}, kept, made_at, used_at,
    obj_description({schema}::regnamespace, 'pg_namespace') IS NOT DISTINCT FROM {emptied}
FROM {moment}"""
_BUILT = "SELECT storage, model, rows, hash, head FROM {built} ORDER BY model"

EMPTIED = "rows with personal data were dropped: somebody was forgotten"
"""The comment on a schema that has lost tables."""

TABLES = """
SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename NOT IN ('moment', 'built')"""
"""SQL: the tables of a schema that read models have."""


class NoRight(Exception):
    """The database's user may not create schemas."""


class BuiltElsewhere(Exception):
    """Another process builds or drops the schema."""


class ReadNow(Exception):
    """The schema cannot be dropped now, as a query reads it."""


class BuiltModel(msgspec.Struct, frozen=True):
    """A read model that is complete in a schema; `hash` is as a rebuild's. Up to `head`, the end of
    the log when its build began or later, nobody was forgotten whom its rows show."""

    storage: str
    model: str
    rows: int
    hash: str
    head: int


class Moment(msgspec.Struct, frozen=True):
    """A schema, and the read models that are complete in it.

    `kept` is one that stays until it is dropped. `same_history` is False when the log went back
    behind its position since. `emptied` is one that has lost tables since, as somebody was
    forgotten. `tables` are all that
    it has, also those that a build left.
    """

    position: int
    kept: bool
    same_history: bool
    made_at: datetime
    used_at: datetime
    emptied: bool
    bytes: int
    models: Sequence[BuiltModel]
    tables: Sequence[str]

    @property
    def schema(self) -> str:
        """The schema's name."""
        return schema_at(self.position)


def schema_at(position: int) -> str:
    """The name of the schema of a position."""
    return f"{PREFIX}{position}"


def in_schema(registered: Registered, schema: str) -> Registered:
    """The read model with a store in that schema. Raises TypeError for a store outside
    PostgreSQL."""
    store = registered.store
    if isinstance(store, PostgresTable):
        return Registered(registered.projection, PostgresTable(store.row_type, schema))
    if isinstance(store, PostgresDocuments):
        return Registered(registered.projection, PostgresDocuments(schema))
    raise TypeError(f"{registered.projection.name} is not in PostgreSQL")


# -- schemas ---------------------------------------------------------------------------------------


def positions(conn: psycopg.Connection) -> list[int]:
    """The positions of all schemas, also of those that were not made whole."""
    return [position for (position,) in conn.execute(_SCHEMAS)]


def moments(conn: psycopg.Connection) -> list[Moment]:
    """All schemas, by position. One that was not made whole is left out."""
    found = (moment(conn, position) for position in positions(conn))
    return [each for each in found if each is not None]


def moment(conn: psycopg.Connection, position: int) -> Moment | None:
    """The schema of a position; None when there is none, or none that was made whole."""
    try:
        state = conn.execute(statement(_STATE, position)).fetchone()
        built = conn.execute(statement(_BUILT, position)).fetchall()
        size = conn.execute(_BYTES, [schema_at(position)]).fetchone()
        tables = [name for (name,) in conn.execute(TABLES, [schema_at(position)])]
    except psycopg.errors.UndefinedTable:
        return None
    if state is None or size is None:
        return None
    same, kept, made_at, used_at, emptied = state
    models = [BuiltModel(*row) for row in built]
    return Moment(position, kept, same, made_at, used_at, emptied, size[0], models, tables)


@contextmanager
def exclusively(conn: psycopg.Connection, position: int) -> Iterator[None]:
    """Keep others from building or dropping the schema. Raises BuiltElsewhere."""
    name = schema_at(position)
    if not checkpoints.try_lead(conn, name):
        raise BuiltElsewhere(f"another process builds or drops {name}")
    try:
        try:
            await_parts(conn, name)
        except Busy as error:
            raise BuiltElsewhere(f"{name}: a build that died has not ended yet") from error
        yield
    finally:
        if not conn.closed:
            checkpoints.stop_leading(conn, name)


@contextmanager
def in_turn(conn: psycopg.Connection, *, patience: str = "0") -> Iterator[None]:
    """Wait until no query has a moment built, and keep others waiting, who queue. To be entered
    before `exclusively`: who waits for a turn holds no moment. Raises BuiltElsewhere when it takes
    longer than the patience; 0 is endless."""
    conn.execute("SELECT set_config('lock_timeout', %s, false)", [patience])
    try:
        conn.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [LEAD, _BUILDS])
    except psycopg.errors.LockNotAvailable as error:
        raise BuiltElsewhere("a build for a query takes long") from error
    finally:
        conn.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        if not conn.closed:
            checkpoints.stop_leading(conn, _BUILDS)


def make(url: str, conn: psycopg.Connection, position: int, *, kept: bool) -> None:
    """Make the schema, unless it is there; one of another history is made anew. Within
    `exclusively`. Raises NoRight, ReadNow."""
    schema = Identifier(schema_at(position))
    found = moment(conn, position)
    if found is not None and found.same_history:
        if kept and not found.kept:
            conn.execute(statement("UPDATE {moment} SET kept = true", position))
        return
    drop_within(conn, position)
    try:
        with connect(url, "ludoteca", role="") as own:  # the program's role may not create it
            own.execute(SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(schema, Identifier(ROLE)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise NoRight(
            "the database's user may not create schemas; its owner has to run: GRANT CREATE ON"
            " DATABASE … TO …"
        ) from error
    with conn.transaction():
        conn.execute(statement(_MAKE, position))
        conn.execute(statement(_NOTE_MOMENT, position), [position, kept])


def drop(conn: psycopg.Connection, position: int) -> None:
    """Drop the schema. Raises BuiltElsewhere, ReadNow."""
    with exclusively(conn, position):
        drop_within(conn, position)


def drop_within(conn: psycopg.Connection, position: int) -> None:
    """As `drop`, within `exclusively`."""
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = '{DROP_TIMEOUT}'")
            schema = Identifier(schema_at(position))
            conn.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
    except psycopg.errors.LockNotAvailable as error:
        raise ReadNow(f"{schema_at(position)} is read by a query") from error


def missing(
    conn: psycopg.Connection, models: Iterable[Registered], position: int
) -> list[Registered]:
    """Those of the read models that are not complete in the schema, or whose tables are gone."""
    there = moment(conn, position)
    built = set() if there is None else {each.storage for each in there.models}
    return [
        each
        for each in models
        if each.storage not in built
        or not in_schema(each, schema_at(position)).store.exists(conn, each.storage)
    ]


# -- building --------------------------------------------------------------------------------------


def take_part(conn: psycopg.Connection, position: int) -> None:
    """Mark the connection of a forked process: should the process that forked it die, no other one
    builds before it has ended."""
    checkpoints.take_part(conn, schema_at(position))


def build(
    conn: psycopg.Connection,
    codec: Codec,
    registered: Registered,
    position: int,
    progress: Progress,
    processes: Processes | None = None,
) -> BuiltModel:
    """Fold a read model up to the position into the schema, which has to be there. Within
    `exclusively`, of this process or of the one that forked it, as one of its `take_part`.

    Streams in quarantine are left out from the failed event on, as in a rebuild. Raises
    ProcessDied, and what a store raises.
    """
    begun = _begun(conn, codec, registered, position)
    with looking_up(conn):
        if processes is not None:
            parts.advance(conn, begun.replay, processes, position, progress)
        begun.replay.advance(position, progress)
    return _finished(conn, begun, position)


def build_together(
    conn: psycopg.Connection,
    codec: Codec,
    models: Iterable[Registered],
    position: int,
    progress: Progress,
) -> Iterator[tuple[Registered, BuiltModel | Exception]]:
    """As `build`, for several read models in one pass over the log. Yields each when it is
    complete."""
    begun = [_begun(conn, codec, model, position) for model in models]
    with looking_up(conn):
        replays = {each.replay: position for each in begun}
        failed = fold_together(conn, codec, replays, progress)
    for each in begun:
        if each.replay in failed:
            yield each.registered, failed[each.replay]
        else:
            yield each.registered, _finished(conn, each, position)


class _Begun(NamedTuple):
    """A build under way; `head` was the end of the log when it began."""

    registered: Registered
    head: int
    replay: Replay


def _begun(conn: psycopg.Connection, codec: Codec, registered: Registered, position: int) -> _Begun:
    head, model = checkpoints.head(conn), in_schema(registered, schema_at(position))
    conn.execute(statement(_FORGET_BUILT, position), [model.storage])
    replay = Replay(
        conn,
        codec,
        model.projection,
        model.store,
        model.storage,
        _active(conn, model),
        name=schema_at(position),
        as_of=position,
    )
    return _Begun(registered, head, replay)


def _finished(conn: psycopg.Connection, begun: _Begun, position: int) -> BuiltModel:
    """Write what is still in memory, and note that the read model is complete."""
    model, storage = in_schema(begun.registered, schema_at(position)), begun.replay.storage
    begun.replay.write()
    model.store.finish(conn, storage)
    rows, digest = model.store.digest(conn, storage)
    built = BuiltModel(storage, model.projection.name, rows, digest, begun.head)
    conn.execute(
        statement(_NOTE_BUILT, position), [built.storage, built.model, rows, digest, built.head]
    )
    return built


def _active(conn: psycopg.Connection, model: Registered) -> str:
    """The subscription that queries of the present read; empty if there is none."""
    key = (model.projection.name, model.projection.version)
    subscriptions = checkpoints.subscriptions(conn)
    return next(
        (s.name for s in subscriptions if s.active and (s.projection, s.version) == key), ""
    )


# -- helpers ---------------------------------------------------------------------------------------


def statement(text: str, position: int) -> Composed:
    """The SQL with the names of the tables, and of the schema, of a position."""
    tables = {name: Identifier(schema_at(position), name) for name in ("moment", "built")}
    same = SQL(SAME_HISTORY).format(moment=tables["moment"], position=SQL(str(position)))
    schema, emptied = Literal(schema_at(position)), Literal(EMPTIED)
    return SQL(text).format(**tables, same=same, schema=schema, emptied=emptied)
