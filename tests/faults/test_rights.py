"""The program runs with exactly the rights that docs/operations.md lists."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from eventstore.database.migrations import MigrationError
from eventstore.database.postgres import connect
from projections.engine.erasing import erase
from projections.registry import read_models
from runtime.release.migrate import migrate
from runtime.wiring.codec import codec
from tests.support.databases.log_dump import LogDump
from tests.support.shops.gateway import open_shop

RIGHTS = """
CREATE ROLE {user} LOGIN PASSWORD 'secret' NOSUPERUSER NOCREATEDB NOCREATEROLE;
GRANT ludoteca_app TO {user};
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {database} TO {user};
"""


@pytest.fixture
def user() -> str:
    return f"shop_{uuid4().hex}"


@pytest.fixture
def modest(empty_database: str, postgres_template: str, user: str) -> Iterator[str]:
    """The URL of an empty database, for a user with no more than RIGHTS."""
    database = urlsplit(empty_database).path.removeprefix("/")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC".encode())
        conn.execute(b"REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for statement in RIGHTS.format(user=user, database=database).strip().split("\n"):
            conn.execute(statement.encode())
    yield urlsplit(empty_database)._replace(netloc=f"{user}:secret@").geturl()
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(f"DROP OWNED BY {user} CASCADE".encode())
        conn.execute(f"DROP ROLE {user}".encode())


async def test_a_shop_runs_with_the_rights_that_are_documented(
    modest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert migrate(modest)
    assert migrate(modest) == []
    async with open_shop(modest, tmp_path) as shop:
        seller, buyer = await shop.register("SELLER"), await shop.register()
        game = await shop.game(seller)
        answer = await buyer.post("/api/v1/orders", json={"game_id": game["id"]})
        assert answer.status_code == 201, answer.text
        found = await buyer.get("/api/v1/orders", headers=await shop.reached())
        assert len(found.json()["items"]) == 1, found.text


async def test_who_was_forgotten_is_erased_with_these_rights_and_the_log_cut_with_more(
    modest: str, empty_database: str, user: str, tmp_path: Path
) -> None:
    migrate(modest)
    async with open_shop(modest, tmp_path) as shop:
        for more in ("", f"GRANT pg_monitor, pg_checkpoint TO {user}"):
            buyer = await shop.register()
            forgotten = await buyer.delete("/api/v1/users/me", params={"forget": True})
            assert forgotten.status_code == 204, forgotten.text
            await shop.client().get("/api/v1/games", headers=await shop.reached())
            with psycopg.connect(empty_database, autocommit=True) as conn:
                if more:
                    conn.execute(more.encode())
                    conn.execute(f"GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {user}".encode())
            with connect(modest, "test", role="") as conn:
                await shop.eventually(lambda: asyncio.to_thread(reached, conn))
                done = erase(conn, codec(), {each.projection.name: each for each in read_models()})
            assert (done.persons, done.reasons, done.log_cut) == (1, (), bool(more))


def reached(conn: psycopg.Connection) -> bool:
    """Whether the accounts' read model has the whole log."""
    row = conn.execute(
        "SELECT position = (SELECT max(position) FROM log.events) FROM consumers.checkpoints"
        " WHERE feed = 'users.2'"
    ).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("GRANT ludoteca_app TO {user};", "GRANT ludoteca_app TO"),
        ("GRANT CONNECT, TEMPORARY, CREATE ON", "permission denied for database"),
    ],
    ids=["role", "database"],
)
def test_missing_things_are_reported(
    modest: str, empty_database: str, user: str, missing: str, told: str
) -> None:
    database = urlsplit(empty_database).path.removeprefix("/")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        if "DATABASE" in missing or "CONNECT" in missing:
            conn.execute(f"REVOKE CREATE ON DATABASE {database} FROM {user}".encode())
        else:
            conn.execute(f"REVOKE ludoteca_app FROM {user}".encode())
    with pytest.raises(psycopg.Error, match=told):
        migrate(modest)


def test_a_log_that_was_put_into_a_schema_made_by_hand_may_be_used_once_a_process_has_started(
    database: str,
) -> None:
    dump = LogDump(database)
    dump.keep()
    dump.put_back(by_hand=True)
    with connect(database, "shop") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT FROM log.events")
    assert migrate(database) == []
    with connect(database, "shop") as conn:
        conn.execute("SELECT FROM log.events")
        conn.execute("SELECT log.look(1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM log.events")

    dump.put_back("--no-privileges", by_hand=True)
    with pytest.raises(MigrationError, match="restored without its rights"):
        migrate(database)


def test_a_missing_privilege_on_a_schema_names_who_must_grant_it(
    modest: str, empty_database: str
) -> None:
    assert migrate(modest)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("ALTER SCHEMA queue OWNER TO CURRENT_USER")
        conn.execute("REVOKE ALL ON SCHEMA queue FROM ludoteca_app")
    with pytest.raises(
        MigrationError, match="has to run: GRANT USAGE ON SCHEMA queue TO ludoteca_app"
    ):
        migrate(modest)
