"""`ludoteca sql`: PostgreSQL's programs, which are not on the PATH, on the instance's database."""

import json
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.support.shops.commands import Ludoteca, Shop

BEGIN = "SELECT log.begin_epoch((SELECT max(number) FROM log.epochs), 'restored by hand')"


def test_it_asks_the_instances_database(
    ludoteca: Ludoteca, shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ludoteca("sql", "-qAt", "-c", "SELECT reason FROM log.epochs").exit_code == 0
    assert capfd.readouterr().out == "the first\n"


def test_it_changes_something_only_when_that_is_meant(
    ludoteca: Ludoteca, shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ludoteca("sql", "-c", BEGIN).exit_code == 1
    assert "read-only transaction" in capfd.readouterr().err
    assert ludoteca("sql", "--write", "-c", BEGIN).exit_code == 0
    with psycopg.connect(shop.url) as conn:
        assert conn.execute("SELECT count(*) FROM log.epochs").fetchone() == (2,)


def test_the_log_is_dumped_by_the_program_that_comes_with_it(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    dump = tmp_path / "log.dump"
    options = ["--schema=log", "--format=custom", f"--file={dump}"]
    assert ludoteca("sql", "--run", "pg_dump", *options).exit_code == 0
    assert dump.stat().st_size > 1000


def test_it_says_how_to_connect_and_by_what(ludoteca: Ludoteca, shop: Shop) -> None:
    found = json.loads(ludoteca("sql", "--where", "--json").stdout)
    psql = Path(found["programs"]) / "psql"
    asked = subprocess.run(
        [psql, found["dsn"], "-qAtc", "SELECT 1"], capture_output=True, text=True, check=True
    )
    assert asked.stdout == "1\n"
    assert found["programs"] in ludoteca("sql", "--where").stdout


def test_no_database_is_made_by_looking_for_it(ludoteca: Ludoteca, tmp_path: Path) -> None:
    assert ludoteca("sql").exit_code == 3
    assert not (tmp_path / "home" / "postgres").exists()
