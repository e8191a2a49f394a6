"""`ludoteca keys`, and processes that start with the wrong master key."""

import asyncio
import os
import subprocess
import sys
from base64 import b64encode
from os import urandom
from pathlib import Path

import psycopg
import pytest

from commands.caller import SYSTEM
from eventstore import rewrapping
from eventstore.database.postgres import connect
from runtime.release.migrate import prepare_database
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.master_key import WrongMasterKey
from tests.support.shops.commands import Ludoteca, Shop


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUDOTECA_MASTER_KEY_FILE", str(tmp_path / "keys"))
    return tmp_path / "keys"


def register(email: str) -> None:
    async def main() -> None:
        async with open_core(Settings()) as core:
            await core.commands.accounts.register(
                SYSTEM, email=email, password="correct horse", name="Ann", account_type="ADMIN"
            )

    asyncio.run(main())


def content(shop: Shop) -> list[tuple[object, ...]]:
    """All that the database has of keys and secrets."""
    with psycopg.connect(shop.url) as conn:
        return [
            row
            for table in ("person_keys", "secrets", "master_keys")
            for row in conn.execute(f"SELECT * FROM private.{table} ORDER BY 1".encode()).fetchall()
        ]


def test_rotating_says_what_may_be_destroyed(
    ludoteca: Ludoteca, shop: Shop, key_file: Path
) -> None:
    register("ann@example.org")
    shown = ludoteca.json("keys", "show")
    assert shown["master_keys"] == []
    stored = shown["unwrapped"]
    assert stored > 3
    first = ludoteca.json("keys", "rotate")
    assert (first["rewrapped"], first["unused"]) == (stored, [])
    result = ludoteca("keys", "rotate")
    assert result.exit_code == 0, result.output
    assert f"{first['current']} wraps nothing any more" in result.output
    shown = ludoteca.json("keys", "show")
    assert [(key["current"], key["wraps"], key["at_hand"]) for key in shown["master_keys"]] == [
        (False, 0, True),
        (True, stored, True),
    ]
    assert shown["unwrapped"] == 0
    register("ben@example.org")


def test_a_key_can_be_added_for_other_machines_before_it_is_used(
    ludoteca: Ludoteca, shop: Shop, key_file: Path
) -> None:
    ludoteca.json("keys", "rotate")
    added = ludoteca.json("keys", "rotate", "--only-add")["added"]
    assert len(key_file.read_text().split()) == 2
    assert ludoteca.json("keys", "rotate")["current"] == added


def test_rotating_needs_a_file(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("keys", "rotate")
    assert result.exit_code == 2
    assert "LUDOTECA_MASTER_KEY_FILE" in result.stderr


def test_a_new_shop_begins_with_its_key(shop: Shop, key_file: Path) -> None:
    with pytest.raises(WrongMasterKey, match="openssl rand"):
        prepare_database(shop.url, Settings())
    key_file.write_bytes(b64encode(urandom(32)))
    prepare_database(shop.url, Settings())
    register("ann@example.org")
    with connect(shop.url, "test", role="") as conn:
        assert rewrapping.current(conn)
        assert not rewrapping.has_unwrapped(conn)


def test_a_shop_that_an_older_release_may_still_read_is_not_wrapped_by_itself(
    shop: Shop, key_file: Path
) -> None:
    key_file.write_bytes(b64encode(urandom(32)))
    register("ann@example.org")
    before = content(shop)
    prepare_database(shop.url, Settings())
    register("ben@example.org")
    assert content(shop)[0] in before
    with connect(shop.url, "test", role="") as conn:
        assert rewrapping.current(conn) is None


@pytest.mark.parametrize("given", ["no file", "another key", "no setting", "no key"])
def test_no_process_starts_without_the_right_master_key(
    ludoteca: Ludoteca, shop: Shop, key_file: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    ludoteca.json("keys", "rotate")
    ludoteca("admin", "create", "--email", "ann@example.org", stdin="correct horse\n")
    before = content(shop)
    key_file.rename(key_file.with_name("elsewhere"))
    if given == "another key":
        key_file.write_bytes(b64encode(urandom(32)))
    elif given == "no key":
        key_file.write_bytes(b"a key")
    elif given == "no setting":
        monkeypatch.delenv("LUDOTECA_MASTER_KEY_FILE")
    for command in ("api", "worker", "projector"):
        ended = subprocess.run(
            [sys.executable, "-m", "runtime.cli", command],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 3
        assert "master key" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert content(shop) == before
