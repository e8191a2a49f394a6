"""Migrations: numbered files, each run once, all of a call or none, also when processes start at
the same time."""

import multiprocessing
from pathlib import Path

import psycopg
import pytest

from eventstore.database.migrations import MigrationError, migrate
from eventstore.rewrapping import NOBODY
from runtime.release.migrate import FOLDERS
from runtime.release.migrate import migrate as migrate_all
from tests.support.events.notes import admin

ONE = "CREATE TABLE one (id int);"
TWO = "ALTER TABLE one ADD COLUMN two text; INSERT INTO one VALUES (1, '100%');"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text(ONE)
    (tmp_path / "0002_two.sql").write_text(TWO)
    return tmp_path


def test_each_file_runs_once_and_in_order(empty_database: str, folder: Path) -> None:
    assert migrate(empty_database, [("x", folder)]) == ["x/0001_one.sql", "x/0002_two.sql"]
    assert migrate(empty_database, [("x", folder)]) == []
    assert admin(empty_database, "SELECT * FROM one") == [(1, "100%")]


def test_a_new_file_runs_alone(empty_database: str, folder: Path) -> None:
    migrate(empty_database, [("x", folder)])
    (folder / "0003_three.sql").write_text("INSERT INTO one VALUES (3)")
    assert migrate(empty_database, [("x", folder)]) == ["x/0003_three.sql"]


def test_a_file_that_was_edited_after_it_ran_is_refused(empty_database: str, folder: Path) -> None:
    migrate(empty_database, [("x", folder)])
    (folder / "0001_one.sql").write_text(ONE + " -- a remark")
    (folder / "0003_three.sql").write_text("INSERT INTO one VALUES (3)")
    with pytest.raises(MigrationError, match="0001_one"):
        migrate(empty_database, [("x", folder)])
    assert admin(empty_database, "SELECT count(*) FROM one") == [(1,)]


def test_when_one_file_fails_none_has_run(empty_database: str, folder: Path) -> None:
    (folder / "0003_three.sql").write_text("INSERT INTO nowhere VALUES (1)")
    with pytest.raises(psycopg.errors.UndefinedTable):
        migrate(empty_database, [("x", folder)])
    assert admin(empty_database, "SELECT to_regclass('one'), to_regclass('log.migrations')") == [
        (None, None)
    ]
    (folder / "0003_three.sql").unlink()
    assert len(migrate(empty_database, [("x", folder)])) == 2


def test_a_file_without_a_number_is_refused(empty_database: str, folder: Path) -> None:
    (folder / "three.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="four digits"):
        migrate(empty_database, [("x", folder)])


def test_components_count_apart(
    empty_database: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "0001_other.sql").write_text("CREATE TABLE other (id int)")
    assert migrate(empty_database, [("x", folder), ("y", other)])[-1] == "y/0001_other.sql"


def test_a_function_is_installed_again_when_its_text_changes(
    empty_database: str, tmp_path: Path
) -> None:
    migrate_all(empty_database)
    text = "CREATE OR REPLACE FUNCTION log.answer() RETURNS int LANGUAGE sql AS 'SELECT {}'"
    for answer, ran in ((41, ["functions/answer.sql"]), (41, []), (42, ["functions/answer.sql"])):
        (tmp_path / "answer.sql").write_text(text.format(answer))
        assert migrate(empty_database, FOLDERS, functions=tmp_path) == ran
        assert admin(empty_database, "SELECT log.answer()") == [(answer,)]


def _migrate(
    url: str, barrier: "multiprocessing.synchronize.Barrier", answers: "multiprocessing.Queue[int]"
) -> None:
    barrier.wait()
    answers.put(len(migrate_all(url)))


def test_one_of_the_processes_that_start_together_migrates(empty_database: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    processes = [
        spawn.Process(target=_migrate, args=(empty_database, barrier, answers)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    ran = sorted(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert ran[:2] == [0, 0]
    assert ran[2] > 4
    assert migrate_all(empty_database) == []


def test_the_programs_role_owns_nothing_and_may_append(empty_database: str) -> None:
    migrate_all(empty_database)
    rights = """SELECT
        has_table_privilege('ludoteca_app', 'log.events', 'INSERT, UPDATE, DELETE, TRUNCATE'),
        has_table_privilege('ludoteca_app', 'log.events', 'SELECT'),
        has_function_privilege('ludoteca_app', 'log.append_v4', 'EXECUTE'),
        has_schema_privilege('ludoteca_app', 'log', 'CREATE')"""
    rights = rights.replace(
        "'log.append_v4'", "(SELECT oid FROM pg_proc WHERE proname = 'append_v4')"
    )
    assert admin(empty_database, rights) == [(False, True, True, False)]


def test_whom_an_older_release_forgot_is_to_be_erased_from_the_disk(empty_database: str) -> None:
    migrate_all(empty_database)
    erasures = "SELECT person_id, position FROM private.erasures"
    assert admin(empty_database, erasures) == []
    admin(
        empty_database,
        "INSERT INTO log.events (position, event_id, stream_id, version, name, payload, actor,"
        " recorded_at, hash) VALUES (1, gen_random_uuid(), gen_random_uuid(), 1,"
        " 'user.forgotten.v1', '{}', 'test', now(), sha256(''))",
    )
    migration = dict(FOLDERS)["eventstore"] / "0016_forgotten_by_older_releases.sql"
    for _ in range(2):
        admin(empty_database, migration.read_text())
        assert admin(empty_database, erasures) == [(NOBODY, 1)]
