"""Persons' keys and the program's secrets are wrapped by a master key that is not in the
database."""

import stat
from base64 import b64encode
from os import urandom
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from adapters.master_key_file import MasterKeyFile
from eventstore import rewrapping
from eventstore.database.postgres import connect
from eventstore.keys import keys_now, secret
from eventstore.master_keys import (
    KEYRING,
    Keyring,
    MasterKeyMissing,
    id_of,
    of_person,
    wrapped_by,
)
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import admin


def in_use(database: str, folder: Path) -> MasterKeyFile:
    """The file with the database's new current master key."""
    file = MasterKeyFile(folder / "master.key")
    file.add(key := urandom(32))
    KEYRING.use(file)
    with connect(database, "test", role="") as conn:
        assert rewrapping.begin(conn, lambda _: id_of(key))
    return file


def stored_key(database: str, person: UUID) -> bytes:
    [[key]] = admin(database, f"SELECT key FROM private.person_keys WHERE person_id = '{person}'")
    assert isinstance(key, bytes)
    return key


async def test_the_database_has_no_key_as_it_is(
    postgres_log: PostgresLog, database: str, tmp_path: Path
) -> None:
    file = in_use(database, tmp_path)
    person = uuid4()
    await postgres_log.keys.create([person])
    key = (await postgres_log.keys.get([person]))[person]
    assert len(key) == 32
    stored = stored_key(database, person)
    assert key not in stored
    assert wrapped_by(stored) == id_of(file.load()[0])
    with psycopg.connect(database) as conn:
        assert keys_now(conn, [person]) == {person: key}
    assert await secret(postgres_log.pool, "pepper", lambda: b"a pepper") == b"a pepper"
    assert await secret(postgres_log.pool, "pepper", lambda: b"another") == b"a pepper"
    [[value]] = admin(database, "SELECT value FROM private.secrets WHERE name = 'pepper'")
    assert isinstance(value, bytes)
    assert b"a pepper" not in value


async def test_a_process_without_the_master_key_reads_nothing(
    postgres_log: PostgresLog, database: str, tmp_path: Path
) -> None:
    in_use(database, tmp_path)
    person = uuid4()
    await postgres_log.keys.create([person])
    stored = stored_key(database, person)
    with pytest.raises(MasterKeyMissing, match=wrapped_by(stored).hex()):  # type: ignore[union-attr]
        Keyring().unwrap(stored, of_person(person))


async def test_a_key_copied_to_another_person_does_not_open(
    postgres_log: PostgresLog, database: str, tmp_path: Path
) -> None:
    in_use(database, tmp_path)
    ana, ben = uuid4(), uuid4()
    await postgres_log.keys.create([ana, ben])
    with psycopg.connect(database) as conn:
        conn.execute(
            "UPDATE private.person_keys k SET key = other.key FROM private.person_keys other"
            " WHERE k.person_id = %s AND other.person_id = %s",
            (ana, ben),
        )
        with pytest.raises(psycopg.errors.DataCorrupted):
            keys_now(conn, [ana])


async def test_a_process_that_knows_only_the_master_key_before_makes_keys_with_the_current_one(
    postgres_log: PostgresLog, database: str, tmp_path: Path
) -> None:
    file = in_use(database, tmp_path)
    ana, ben = uuid4(), uuid4()
    await postgres_log.keys.create([ana])
    file.add(later := urandom(32))  # by another process, in the file that both read
    with connect(database, "test", role="") as conn:
        rewrapping.begin(conn, lambda _: id_of(later))
    await postgres_log.keys.create([ben])
    assert wrapped_by(stored_key(database, ben)) == id_of(later)
    assert len((await postgres_log.keys.get([ben]))[ben]) == 32
    assert await secret(postgres_log.pool, "new", lambda: b"x") == b"x"


async def test_what_an_older_release_stored_is_read_as_it_is_until_it_is_wrapped(
    postgres_log: PostgresLog, database: str, tmp_path: Path
) -> None:
    person = uuid4()
    await postgres_log.keys.create([person])
    key = (await postgres_log.keys.get([person]))[person]
    assert stored_key(database, person) == key, "no master key is in use yet"
    await secret(postgres_log.pool, "pepper", lambda: b"a pepper")
    in_use(database, tmp_path)
    assert await postgres_log.keys.get([person]) == {person: key}
    with connect(database, "test", role="") as conn:
        assert rewrapping.has_unwrapped(conn)
        assert rewrapping.rewrap(conn) == 2
        assert not rewrapping.has_unwrapped(conn)
        assert rewrapping.rewrap(conn) == 0
    assert key not in stored_key(database, person)
    assert await postgres_log.keys.get([person]) == {person: key}
    assert await secret(postgres_log.pool, "pepper", lambda: b"another") == b"a pepper"


def test_the_file_is_its_owners_alone_and_keeps_all_its_keys(tmp_path: Path) -> None:
    file = MasterKeyFile(tmp_path / "keys")
    assert file.load() == []
    keys = [urandom(32), urandom(32)]
    file.path.write_text(f"# the first\n{b64encode(keys[0]).decode()}")  # without a line's end
    file.add(keys[1])
    assert file.load() == keys
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "line", ["c2hvcnQ=", "not base64!", b64encode(bytes(33)).decode()], ids=["short", "odd", "long"]
)
def test_a_line_that_is_no_key_is_named(tmp_path: Path, line: str) -> None:
    file = MasterKeyFile(tmp_path / "keys")
    file.add(urandom(32))
    with file.path.open("a") as opened:
        opened.write(f"{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        file.load()
