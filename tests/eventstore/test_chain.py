"""The hash chain detects every row that was changed, removed, inserted or moved, and its
position."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore import chain
from eventstore.chain import ChainVerifier, Fault
from eventstore.log import Metadata
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import admin, new_stream


@contextmanager
def _forger(database: str) -> Iterator[psycopg.Connection]:
    """An administrator who switches the protection of the log off."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        yield conn
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")


async def _fault(
    log: PostgresLog, *, upto: int = 12, verifier: ChainVerifier | None = None, page: int = 5
) -> Fault | None:
    steps = [step async for step in log.verify(verifier or ChainVerifier(), upto=upto, page=page)]
    assert all(isinstance(step, int) for step in steps[:-1])
    return steps[-1] if steps and isinstance(steps[-1], Fault) else None


@pytest.fixture
async def twelve(postgres_log: PostgresLog) -> PostgresLog:
    for n in range(6):
        await postgres_log.append(
            [new_stream(f"a{n}"), new_stream(f"b{n}")], Metadata(f"user:{n}", uuid4())
        )
    return postgres_log


async def test_a_log_that_nobody_touched_is_proven(twelve: PostgresLog) -> None:
    verifier = ChainVerifier()
    assert [step async for step in twelve.verify(verifier, upto=12, page=5)] == [5, 10, 12]
    assert verifier.hash != chain.GENESIS


async def test_an_empty_log_is_proven(postgres_log: PostgresLog) -> None:
    assert await _fault(postgres_log, upto=0) is None


SWAP = """
    WITH a AS (SELECT * FROM log.events WHERE position = 4), b AS (SELECT * FROM log.events
    WHERE position = 9)
    UPDATE log.events e SET payload = o.payload FROM (SELECT 4 AS at, payload FROM b UNION
    SELECT 9, payload FROM a) o
    WHERE e.position = o.at
"""
EXCHANGE = """
    UPDATE log.events SET position = -4 WHERE position = 4;
    UPDATE log.events SET position = 4 WHERE position = 5;
    UPDATE log.events SET position = 5 WHERE position = -4;
"""
INSERT = """
    UPDATE log.events SET position = -(position + 1) WHERE position >= 7;
    UPDATE log.events SET position = -position WHERE position < 0;
    INSERT INTO log.events SELECT 7, gen_random_uuid(), gen_random_uuid(), version, name, payload,
        actor,
        correlation_id, causation_id, traceparent, recorded_at, hash FROM log.events
        WHERE position = 6
"""


@pytest.mark.parametrize(
    ("forgery", "position"),
    [
        ('UPDATE log.events SET payload = \'{"text":"a9"}\' WHERE position = 3', 3),
        ("UPDATE log.events SET actor = 'user:9' WHERE position = 1", 1),
        ("UPDATE log.events SET name = 'test.counted.v1' WHERE position = 12", 12),
        ("UPDATE log.events SET version = 2 WHERE position = 5", 5),
        ("UPDATE log.events SET stream_id = gen_random_uuid() WHERE position = 5", 5),
        ("UPDATE log.events SET event_id = gen_random_uuid() WHERE position = 5", 5),
        ("UPDATE log.events SET correlation_id = NULL WHERE position = 5", 5),
        ("UPDATE log.events SET causation_id = gen_random_uuid() WHERE position = 5", 5),
        ("UPDATE log.events SET traceparent = '' WHERE position = 5", 5),
        (
            (
                "UPDATE log.events SET recorded_at = recorded_at + interval '1 microsecond' WHERE"
                " position = 6"
            ),
            6,
        ),
        (
            (
                "UPDATE log.events SET recorded_at = recorded_at - interval '1 hour' WHERE"
                " position = 6"
            ),
            6,
        ),
        (
            (
                "UPDATE log.events SET occurred_at = occurred_at - interval '1 microsecond' WHERE"
                " position = 6"
            ),
            6,
        ),
        ("UPDATE log.events SET occurred_at = NULL WHERE position = 6", 6),
        ("UPDATE log.events SET hash = sha256(hash) WHERE position = 8", 8),
        ("UPDATE log.events SET hash = hash || '\\x00' WHERE position = 8", 8),
        ("UPDATE log.events SET hash = '' WHERE position = 12", 12),
        (
            (
                "UPDATE log.events SET payload = set_byte(payload, 9, get_byte(payload, 9) # 1)"
                " WHERE position = 11"
            ),
            11,
        ),
        ("UPDATE log.events SET recorded_at = 'infinity' WHERE position = 6", 6),
        ("UPDATE log.events SET recorded_at = '-infinity' WHERE position = 1", 1),
        ("UPDATE log.events SET occurred_at = 'infinity' WHERE position = 6", 6),
        ("UPDATE log.events SET occurred_at = '0001-01-01 BC' WHERE position = 6", 6),
        ("DELETE FROM log.events WHERE position = 1", 1),
        ("DELETE FROM log.events WHERE position = 7", 7),
        ("DELETE FROM log.events WHERE position BETWEEN 4 AND 6", 4),
        ("DELETE FROM log.events WHERE position = 12", 12),
        ("DELETE FROM log.events", 1),
        (
            (
                "INSERT INTO log.events SELECT -3, gen_random_uuid(), stream_id, version + 1, name,"
                " payload, actor, NULL, NULL, NULL, recorded_at, hash FROM log.events WHERE"
                " position = 12"
            ),
            -3,
        ),
        (SWAP, 4),
        (EXCHANGE, 4),
        (INSERT, 7),
    ],
)
async def test_a_forgery_is_found_at_its_position(
    twelve: PostgresLog, database: str, forgery: str, position: int
) -> None:
    with _forger(database) as conn:
        conn.execute(forgery.encode())
    fault = await _fault(twelve)
    assert fault is not None
    assert fault.position == position


OTHER = {
    "uuid": "gen_random_uuid()",
    "bigint": "{column} + 100",
    "text": "coalesce({column}, '') || 'x'",
    "bytea": "{column} || '\\x00'",
    "timestamp with time zone": "{column} + interval '1 microsecond'",
}
"""By type, another value of a column."""


async def test_a_change_of_any_column_of_the_table_is_found(
    twelve: PostgresLog, database: str
) -> None:
    """Also of one that a later release adds."""
    with _forger(database) as conn:
        columns = conn.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE (table_schema, table_name) = ('log', 'events')"
        ).fetchall()
        assert len(columns) >= 13
        conn.execute("CREATE TEMPORARY TABLE before AS SELECT * FROM log.events")
        for column, kind in columns:
            changed = f"{column} = {OTHER[kind].format(column=column)}"
            conn.execute(f"UPDATE log.events SET {changed} WHERE position = 9".encode())
            fault = await _fault(twelve)
            assert fault is not None, column
            assert fault.position == 9, column
            conn.execute("DELETE FROM log.events")
            conn.execute("INSERT INTO log.events SELECT * FROM pg_temp.before")
        assert await _fault(twelve) is None


@pytest.mark.parametrize(
    ("forgery", "position", "repair"),
    [
        (
            "ALTER TABLE log.events ALTER COLUMN name DROP NOT NULL;"
            "UPDATE log.events SET name = NULL WHERE position = 6",
            6,
            "DELETE FROM log.events; ALTER TABLE log.events ALTER COLUMN name SET NOT NULL",
        ),
        (
            "ALTER TABLE log.events DROP CONSTRAINT events_pkey;"
            "ALTER TABLE log.events DROP CONSTRAINT events_stream_id_version_key;"
            "INSERT INTO log.events SELECT * FROM log.events WHERE position = 7",
            7,
            "DELETE FROM log.events; ALTER TABLE log.events"
            " ADD CONSTRAINT events_pkey PRIMARY KEY (position),"
            " ADD CONSTRAINT events_stream_id_version_key UNIQUE (stream_id, version)",
        ),
    ],
    ids=["null", "twice"],
)
async def test_a_forgery_past_the_constraints_is_found(
    twelve: PostgresLog, database: str, forgery: str, position: int, repair: str
) -> None:
    with _forger(database) as conn:
        conn.execute(forgery.encode())
        fault = await _fault(twelve)
        conn.execute(repair.encode())  # the database is used again
    assert fault is not None
    assert fault.position == position


async def test_a_large_event_is_hashed_as_any_other(postgres_log: PostgresLog) -> None:
    large = "x" * 700_000  # several do not fit into a page
    texts = ["a", large, "b", large, large, "c"]
    for text in texts:
        await postgres_log.append([new_stream(text)])
    verifier = ChainVerifier()
    steps = [step async for step in postgres_log.verify(verifier, upto=6)]
    assert steps[-1] == verifier.position == 6


async def test_a_row_appended_past_the_chain_is_found(twelve: PostgresLog, database: str) -> None:
    with _forger(database) as conn:
        conn.execute(
            "INSERT INTO log.events SELECT 13, gen_random_uuid(), gen_random_uuid(), 1, name,"
            " payload, actor, NULL, NULL, NULL, recorded_at, sha256(hash) FROM log.events WHERE"
            " position = 12"
        )
    fault = await _fault(twelve, upto=await twelve.head())
    assert fault is not None
    assert fault.position == 13


async def test_events_of_the_release_before_occurred_when_they_were_recorded(
    twelve: PostgresLog, database: str
) -> None:
    event, stream = uuid4(), uuid4()
    payload = b'{"text":"old"}'
    digest = chain.digest(
        event, stream, 1, "test.noted.v1", payload, "system", None, None, None, None
    )
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("SET ROLE ludoteca_app")
        conn.execute(
            "SELECT log.append_v3(ARRAY[(%s, %s, 1, 'test.noted.v1', %s, 'system', NULL, NULL,"
            " NULL)::log.new_event], ARRAY[%s]::bytea[], '{}', '{}', '{}', '{}', '{}', '{}', true)",
            (event, stream, payload, digest),
        )
    await twelve.append([new_stream("new")])
    old, new = await twelve.read(12)
    assert old.env.occurred_at == old.env.recorded_at
    assert new.env.occurred_at != new.env.recorded_at
    assert await _fault(twelve, upto=14) is None


async def test_what_an_api_process_of_release_1_appends_is_in_the_chain_and_checked(
    twelve: PostgresLog, database: str
) -> None:
    stream = (await twelve.read(11))[0].env.stream_id

    def append(version: int) -> None:
        event, payload = uuid4(), b'{"text":"old"}'
        digest = chain.digest(
            event, stream, version, "test.noted.v1", payload, "system", None, None, None, None
        )
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute("SET ROLE ludoteca_app")
            conn.execute(
                "SELECT log.append(ARRAY[(%s, %s, %s, 'test.noted.v1', %s, 'system', NULL, NULL,"
                " NULL)::log.new_event], ARRAY[%s]::bytea[], ARRAY[%s], ARRAY[%s]::bigint[], '{}',"
                " '{}', '{}')",
                (event, stream, version, payload, digest, stream, version - 1),
            )

    version = len(await twelve.read_stream(stream))
    append(version + 1)
    for taken_or_beyond in (version + 1, version + 3):
        with pytest.raises(psycopg.errors.UniqueViolation):
            append(taken_or_beyond)
    assert len(await twelve.read_stream(stream)) == version + 1
    assert await _fault(twelve, upto=13) is None


async def test_verifying_goes_on_from_a_trusted_hash(twelve: PostgresLog, database: str) -> None:
    trusted = ChainVerifier()
    assert await _fault(twelve, upto=6, verifier=trusted) is None
    assert await _fault(twelve, verifier=ChainVerifier(trusted.position, trusted.hash)) is None
    fault = await _fault(twelve, verifier=ChainVerifier(6, chain.GENESIS))
    assert fault is not None
    assert fault.position == 7


# -- the encoding, as documented -------------------------------------------------------------------


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    ("head", "occurred_at", "tail"),
    [
        (
            b"ludoteca.event.2",
            datetime(2000, 1, 1, 0, 0, 1, 5, tzinfo=UTC),
            struct.pack(">Q", 1_000_005),
        ),
        (b"ludoteca.event.1", None, b""),  # of a release without occurred_at
    ],
    ids=["now", "before"],
)
def test_the_digest_is_of_the_bytes_that_are_documented(
    head: bytes, occurred_at: datetime | None, tail: bytes
) -> None:
    event, stream, correlation = (UUID(int=n) for n in (1, 2, 3))
    expected = hashlib.sha256(
        head
        + event.bytes
        + stream.bytes
        + struct.pack(">Q", 7)
        + _text(b"x.v1")
        + _text(b'{"a":1}')
        + _text("ána".encode())
        + b"\1"
        + correlation.bytes
        + b"\0"
        + b"\1"
        + _text(b"00-trace")
        + tail
    ).digest()
    cause = ("ána", correlation, None, "00-trace", occurred_at)
    assert chain.digest(event, stream, 7, "x.v1", b'{"a":1}', *cause) == expected


def test_a_hash_follows_from_the_one_before_it() -> None:
    at = datetime(2000, 1, 1, 0, 0, 1, 5, tzinfo=UTC)
    expected = hashlib.sha256(bytes(32) + struct.pack(">QQ", 1, 1_000_005) + b"d" * 32).digest()
    assert chain.link(chain.GENESIS, 1, at, b"d" * 32) == expected


# -- time, and the protection of the table ---------------------------------------------------------


async def test_time_never_runs_backwards_even_when_the_clock_did(
    postgres_log: PostgresLog, database: str
) -> None:
    await postgres_log.append([new_stream("before the clock was set back")])
    with _forger(database) as conn:
        conn.execute("UPDATE log.events SET recorded_at = recorded_at + interval '1 hour'")
    (first,) = await postgres_log.read()
    second = await postgres_log.append([new_stream("after")])
    assert second.recorded_at == first.env.recorded_at
    assert second.recorded_at > datetime.now(UTC) + timedelta(minutes=50)


CHANGES = ["UPDATE log.events SET actor = 'x'", "DELETE FROM log.events", "TRUNCATE log.events"]


@pytest.mark.parametrize("change", [*CHANGES, "INSERT INTO log.events SELECT * FROM log.events"])
async def test_the_programs_role_may_not_touch_the_events(
    twelve: PostgresLog, database: str, change: str
) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("SET ROLE ludoteca_app")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            conn.execute(change.encode())


@pytest.mark.parametrize("change", CHANGES)
async def test_even_the_owner_is_refused(twelve: PostgresLog, database: str, change: str) -> None:
    for how in ("", "SET session_replication_role = replica; "):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            admin(database, how + change)
    assert await twelve.head() == 12
