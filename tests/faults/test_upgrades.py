"""Two releases of the program on one database: the older one neither starts nor leads, and no event
is skipped."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.database.migrations import MigrationError, migrate
from eventstore.database.postgres import connect
from eventstore.database.release import RELEASE, OutdatedRelease
from runtime.release.migrate import migrate as migrate_all
from tests.support.processes.instance import eventually
from tests.support.servers.shared import free_port
from tests.support.shops.gateway import open_shop

CLI = [sys.executable, "-m", "runtime.cli"]
COMMANDS = [["api"], ["projector"], ["worker"], ["provider"], ["projections", "list"]]
NEWER_MIGRATION = (
    "INSERT INTO log.migrations (component, number, name, sha256) VALUES ('eventstore', 9999,"
    " '9999_x.sql', '')"
)
NEWER_RELEASE = f"INSERT INTO log.releases (number) VALUES ({RELEASE + 1})"
MENDS_ITSELF = f"DELETE FROM log.releases WHERE number > {RELEASE}"


def execute(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        cursor = conn.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def environment(database: str, tmp_path: Path) -> Mapping[str, str]:
    own = {
        "LUDOTECA_HOME": str(tmp_path),
        "LUDOTECA_DATABASE_URL": database,
        "LUDOTECA_PORT": str(free_port()),
    }
    return {**os.environ, **own, "LUDOTECA_PROVIDER_URL": "http://127.0.0.1:9"}


def start(command: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "runtime.cli", command],
            env=environment,
            stdout=output,
            stderr=output,
        )


@pytest.mark.parametrize("newer", [NEWER_MIGRATION, NEWER_RELEASE], ids=["migration", "release"])
@pytest.mark.parametrize(
    "command",
    [["api"], ["projector"], ["worker"], ["provider"], ["projections", "list"]],
    ids=" ".join,
)
def test_an_older_program_does_not_start_on_a_newer_database(
    database: str, environment: Mapping[str, str], newer: str, command: list[str]
) -> None:
    execute(database, newer)
    ended = subprocess.run(
        [*CLI, *command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 3
    assert "newer release" in ended.stderr or f"release {RELEASE + 1}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["projector", "worker"])
def test_what_leads_ends_when_a_newer_release_begins(
    database: str, environment: Mapping[str, str], tmp_path: Path, command: str
) -> None:
    leader = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4911"
    process = start(command, environment, tmp_path / "log.txt")
    try:
        eventually(lambda: execute(database, leader)[0][0] or process.poll())
        execute(database, NEWER_RELEASE)
        assert process.wait(30) == 3, (tmp_path / "log.txt").read_text()
        assert f"release {RELEASE + 1} uses this database" in (tmp_path / "log.txt").read_text()
    finally:
        process.kill()
        process.wait()


async def test_an_event_that_only_a_newer_release_knows_is_named_as_such(
    database: str, tmp_path: Path
) -> None:
    async with open_shop(database, tmp_path) as shop:
        seller = await shop.register("SELLER")
        game = await shop.game(seller)
        append_unknown(database, UUID(game["id"]))
        shop.core.repository.forget(UUID(game["id"]))
        answer = await seller.delete(f"/api/v1/games/{game['id']}")
        assert (answer.status_code, answer.json()["code"]) == (503, "release_outdated"), answer.text
        assert answer.headers["Retry-After"]


def append_unknown(url: str, stream_id: UUID) -> None:
    """Append as a newer program would."""
    execute(
        url,
        "INSERT INTO log.events (position, event_id, stream_id, version, name, payload, actor,"
        " recorded_at, hash) SELECT (SELECT max(position) + 1 FROM log.events), %s, stream_id,"
        " max(version) + 1, 'game.levitated.v1', '{}', 'system', clock_timestamp(), '' FROM"
        " log.events WHERE stream_id = %s GROUP BY stream_id",
        uuid4(),
        stream_id,
    )


OF_RELEASE_1 = [
    (
        "SELECT projection, version, feed, storage, position FROM read.feeds WHERE active ORDER BY"
        " version"
    ),
    (
        "SELECT min(position) AS position, count(*) AS n FROM read.feeds WHERE feed = ANY"
        " ('{orders.2}') AND active"
    ),
    (
        "SELECT EXISTS (SELECT 1 FROM read.quarantine q JOIN read.feeds f USING (feed) WHERE"
        " f.projection = 'games')"
    ),
    (
        "SELECT feed, (SELECT count(*) FROM read.refusals r WHERE r.feed = f.feed), paused,"
        " building, updated_at FROM read.feeds f"
    ),
]
"""The statements of API processes from before there were release numbers."""


@pytest.mark.parametrize("query", OF_RELEASE_1, ids=range(len(OF_RELEASE_1)))
def test_what_older_api_processes_read_is_where_they_look_for_it(database: str, query: str) -> None:
    with connect(database, "test") as conn:
        conn.execute(query.encode()).fetchall()


def test_the_older_release_may_come_back_once_the_newer_has_gone(database: str) -> None:
    execute(database, NEWER_RELEASE)
    with pytest.raises(OutdatedRelease):
        migrate_all(database)
    execute(database, MENDS_ITSELF)
    assert migrate_all(database) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (id int);")
    return tmp_path


def test_a_file_may_supersede_what_others_ran(empty_database: str, folder: Path) -> None:
    migrate(empty_database, [("x", folder)])
    ((ran,),) = execute(empty_database, "SELECT sha256 FROM log.migrations")
    (folder / "0001_one.sql").write_text(
        f"-- supersedes {ran}\nCREATE TABLE IF NOT EXISTS one (id int);"
    )
    assert migrate(empty_database, [("x", folder)]) == []


def test_what_an_older_release_noted_elsewhere_is_found(empty_database: str, folder: Path) -> None:
    migrate(empty_database, [("x", folder)])
    execute(empty_database, "ALTER TABLE log.migrations RENAME TO ludoteca_migrations")
    execute(empty_database, "ALTER TABLE log.ludoteca_migrations SET SCHEMA public")
    assert migrate(empty_database, [("x", folder)]) == []
    assert execute(empty_database, "SELECT to_regclass('public.ludoteca_migrations')") == [(None,)]


def test_a_log_without_its_migrations_is_not_migrated_over(
    empty_database: str, folder: Path
) -> None:
    execute(empty_database, "CREATE SCHEMA log")
    with pytest.raises(MigrationError, match="restored without"):
        migrate(empty_database, [("x", folder)])
