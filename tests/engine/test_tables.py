"""Rows in PostgreSQL: every type of field is read back unchanged, after a write or a bulk load,
under any key."""

import datetime as dt
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from eventstore.database.postgres import connect
from projections.engine.advancing import POISON
from projections.engine.store import Difference
from projections.engine.tables import PostgresTable
from projections.projection import Row


class Part(msgspec.Struct, frozen=True):
    name: str
    size: int


class Everything(Row):
    KEY = ("id",)
    INDEXES = ("text", "USING gin (parts)")
    id: UUID
    text: str
    number: int
    real: float
    flag: bool
    raw: bytes
    at: dt.datetime
    day: dt.date
    parts: list[Part]
    named: dict[str, int]
    maybe_text: str | None = None
    maybe_number: int | None = None
    maybe_at: dt.datetime | None = None
    maybe_parts: list[Part] | None = None


class Odd(Row):
    """Column names that SQL might mistake for something else."""

    KEY = ("a", "select")
    a: str
    select: int
    t: int
    b: str = ""
    order: str = ""
    whole_row: int = 0


FULL = Everything(
    uuid4(),
    'text "quoted" \\ ñ \n {1,2}',
    2**63 - 1,
    0.1,
    True,
    b"\0\xff",
    dt.datetime(2026, 2, 3, 4, 5, 6, 7, dt.UTC),
    dt.date(2026, 2, 3),
    [Part("x", 1), Part('"', -1)],
    {"ñ": 1},
    "",
    0,
    dt.datetime(1999, 12, 31, tzinfo=dt.UTC),
    [],
)
SPARSE = Everything(uuid4(), "", -(2**63), -0.0, False, b"", FULL.at, FULL.day, [], {})


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection]:
    with connect(database, "test") as opened:
        yield opened


@pytest.fixture
def table(conn: psycopg.Connection) -> PostgresTable[Everything]:
    made = PostgresTable(Everything)
    made.prepare(conn, "everything_1")
    made.prepare(conn, "everything_1")  # again: nothing to do
    return made


def _compared(
    conn: psycopg.Connection, table: PostgresTable[Any], storage: str, rows: list[Any]
) -> Difference:
    aside = table.aside()
    aside.begin(conn, "replayed")
    aside.fill(conn, "replayed", rows)
    return table.frozen(conn, storage).compare(conn, aside, "replayed")


def _by_id(rows: object) -> dict[UUID, Everything]:
    return {row.id: row for row in rows}  # type: ignore[attr-defined]


def test_rows_come_back_as_they_were_written(
    conn: psycopg.Connection, table: PostgresTable[Everything]
) -> None:
    table.write(conn, "everything_1", [FULL, SPARSE], [])
    assert _by_id(table.fetch(conn, "everything_1", [FULL.id, SPARSE.id, uuid4()])) == {
        FULL.id: FULL,
        SPARSE.id: SPARSE,
    }


def test_rows_loaded_in_bulk_are_the_same_as_rows_written(
    conn: psycopg.Connection, table: PostgresTable[Everything]
) -> None:
    table.write(conn, "everything_1", [FULL, SPARSE], [])
    table.begin(conn, "everything_1_r1")
    table.fill(conn, "everything_1_r1", [SPARSE])
    table.fill(conn, "everything_1_r1", [FULL])
    table.finish(conn, "everything_1_r1")
    assert table.digest(conn, "everything_1") == table.digest(conn, "everything_1_r1")
    assert _by_id(table.fetch(conn, "everything_1_r1", [FULL.id, SPARSE.id])) == {
        FULL.id: FULL,
        SPARSE.id: SPARSE,
    }
    assert _compared(conn, table, "everything_1", [FULL, SPARSE]).equal


def test_a_table_of_an_older_release_may_have_its_columns_in_another_order(
    conn: psycopg.Connection, table: PostgresTable[Everything]
) -> None:
    names = [column.name for column in table.columns][::-1]
    table.write(conn, "everything_1", [SPARSE], [])
    conn.execute(
        f"CREATE TABLE read.everything_2 AS SELECT {', '.join(names)} FROM read.everything_1"
    )
    table.prepare(conn, "everything_2")
    table.write(conn, "everything_2", [FULL], [])
    assert _by_id(table.fetch(conn, "everything_2", [FULL.id, SPARSE.id])) == {
        FULL.id: FULL,
        SPARSE.id: SPARSE,
    }
    assert _compared(conn, table, "everything_2", [FULL, SPARSE]).equal
    assert _compared(conn, table, "everything_2", [SPARSE]).keys == [str(FULL.id)]


def test_writing_a_row_again_replaces_it(
    conn: psycopg.Connection, table: PostgresTable[Everything]
) -> None:
    table.write(conn, "everything_1", [FULL], [])
    changed = msgspec.structs.replace(FULL, text="other", maybe_parts=None)
    table.write(conn, "everything_1", [changed, SPARSE], [uuid4()])
    assert _by_id(table.fetch(conn, "everything_1", [FULL.id])) == {FULL.id: changed}
    table.write(conn, "everything_1", [], [FULL.id])
    assert table.digest(conn, "everything_1")[0] == 1


def test_a_table_can_be_loaded_empty_and_dropped(
    conn: psycopg.Connection, table: PostgresTable[Everything]
) -> None:
    table.begin(conn, "everything_1_r1")
    table.fill(conn, "everything_1_r1", [])
    table.finish(conn, "everything_1_r1")
    assert table.digest(conn, "everything_1_r1") == (0, "0")
    table.drop(conn, "everything_1_r1")
    table.drop(conn, "everything_1_r1")
    assert conn.execute("SELECT to_regclass('read.everything_1_r1')").fetchone() == (None,)


def test_keys_of_several_fields_and_odd_names_work(conn: psycopg.Connection) -> None:
    table = PostgresTable(Odd)
    table.prepare(conn, "odd_1")
    rows = [Odd("x", 1, 10), Odd("x", 2, 20), Odd("y", 1, 30)]
    table.write(conn, "odd_1", rows, [])
    assert list(table.fetch(conn, "odd_1", [("x", 2), ("y", 2)])) == [rows[1]]
    table.write(conn, "odd_1", [], [("x", 1)])
    assert _compared(conn, table, "odd_1", rows[1:]).equal


@pytest.mark.parametrize(
    "change", ["b = 'z'", "\"order\" = 'z'", "whole_row = 1", "t = 21", "a = 'z'"]
)
def test_a_change_in_any_column_is_seen_whatever_its_name(
    conn: psycopg.Connection, change: str
) -> None:
    table = PostgresTable(Odd)
    table.prepare(conn, "odd_1")
    rows = [Odd("x", 1, 10), Odd("y", 2, 20)]
    table.write(conn, "odd_1", rows, [])
    digest = table.digest(conn, "odd_1")
    conn.execute(f"UPDATE read.odd_1 SET {change} WHERE a = 'y'".encode())
    assert table.digest(conn, "odd_1") != digest
    assert "y 2" in _compared(conn, table, "odd_1", rows).keys


def test_a_row_type_may_be_nothing_but_its_key(conn: psycopg.Connection) -> None:
    class Member(Row):
        KEY = ("group", "person")
        group: str
        person: UUID

    table, person = PostgresTable(Member), uuid4()
    table.prepare(conn, "members_1")
    for _ in range(2):
        table.write(conn, "members_1", [Member("g", person)], [])
    assert list(table.fetch(conn, "members_1", [("g", person)])) == [Member("g", person)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", 2**63),
        ("number", "1"),
        ("text", "a lone surrogate \ud800"),
        ("text", "\0"),
        ("text", None),
        ("raw", "text"),
        ("at", FULL.at.replace(tzinfo=None)),
        ("id", str(FULL.id)),
    ],
    ids=[
        "too-large",
        "text-for-number",
        "surrogate",
        "NUL",
        "null",
        "text-for-bytes",
        "naive-time",
        "text-for-id",
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused_as_poison(
    table: PostgresTable[Everything], conn: psycopg.Connection, field: str, value: object
) -> None:
    row = msgspec.structs.replace(FULL, **{field: value})
    with pytest.raises(POISON):
        table.write(conn, "everything_1", [SPARSE, row], [])
    assert _by_id(table.fetch(conn, "everything_1", [FULL.id, SPARSE.id])) == {}
