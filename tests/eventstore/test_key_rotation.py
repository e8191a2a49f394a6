"""The master key is replaced while the shop runs: killed in between, twice at once, and beside
whoever makes and destroys keys."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.master_key_file import MasterKeyFile
from eventstore import rewrapping
from eventstore.database.postgres import connect
from eventstore.keys import secret
from eventstore.master_keys import KEYRING, id_of
from eventstore.postgres_log import PostgresLog
from runtime.database.key_rotation import Rotated, add_key, rotate

KILLED = """
import os, signal, sys
from pathlib import Path
from adapters.master_key_file import MasterKeyFile
from eventstore import rewrapping
from eventstore.database.postgres import connect
from eventstore.master_keys import KEYRING
from runtime.database.key_rotation import rotate
file = MasterKeyFile(Path(sys.argv[2]))
KEYRING.use(file)
rewrapping.BATCH = 5
with connect(sys.argv[1], "test", role="") as conn:
    rotate(conn, file, lambda done: done >= 10 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def file(tmp_path: Path) -> MasterKeyFile:
    return MasterKeyFile(tmp_path / "master.key")


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrapping, "BATCH", 5)


def rotated(database: str, file: MasterKeyFile) -> Rotated:
    with connect(database, "test", role="") as conn:
        return rotate(conn, file)


def wraps(database: str) -> dict[str, int]:
    """How many keys and secrets each master key wraps; "" those that are stored as they are."""
    with connect(database, "test", role="") as conn:
        found, unwrapped = rewrapping.states(conn)
    return {state.key_id.hex(): state.wraps for state in found} | {"": unwrapped}


async def people(log: PostgresLog, count: int) -> dict[UUID, bytes]:
    ids = [uuid4() for _ in range(count)]
    await log.keys.create(ids)
    return await log.keys.get(ids)


async def test_the_first_rotation_wraps_what_was_not_and_the_next_replaces_its_key(
    postgres_log: PostgresLog, database: str, file: MasterKeyFile
) -> None:
    keys = await people(postgres_log, 12)
    await secret(postgres_log.pool, "pepper", lambda: b"a pepper")
    first = rotated(database, file)
    assert (first.rewrapped, first.continued, first.unused) == (13, False, [])
    second = rotated(database, file)
    assert (second.rewrapped, second.continued, second.unused) == (13, False, [first.current])
    assert wraps(database) == {first.current: 0, second.current: 13, "": 0}
    assert [id_of(key).hex() for key in file.load()] == [first.current, second.current]
    assert await postgres_log.keys.get(keys) == keys
    assert await secret(postgres_log.pool, "pepper", lambda: b"another") == b"a pepper"


async def test_a_rotation_that_was_killed_is_completed_by_the_next_one(
    postgres_log: PostgresLog, database: str, file: MasterKeyFile
) -> None:
    keys = await people(postgres_log, 23)
    first = rotated(database, file)
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, database, str(file.path)],
        check=False,
        timeout=60,
    )
    assert killed.returncode == -9
    left = wraps(database)
    assert 0 < left[first.current] < 23
    assert await postgres_log.keys.get(keys) == keys, "those of both master keys are read"
    ended = rotated(database, file)
    assert ended.continued
    assert ended.rewrapped == left[first.current]
    assert wraps(database) == {first.current: 0, ended.current: 23, "": 0}
    assert len(file.load()) == 2
    assert await postgres_log.keys.get(keys) == keys


async def test_a_rotation_killed_before_it_began_uses_the_key_that_it_had_made(
    postgres_log: PostgresLog, database: str, file: MasterKeyFile
) -> None:
    await people(postgres_log, 1)
    rotated(database, file)
    with connect(database, "test", role="") as conn:
        added = add_key(conn, file)
        assert add_key(conn, file) == added
    assert rotated(database, file).current == added.hex()
    assert len(file.load()) == 2


async def test_two_at_once_beside_a_shop_that_makes_and_destroys_keys(
    postgres_log: PostgresLog, database: str, file: MasterKeyFile
) -> None:
    keys = await people(postgres_log, 60)
    rotated(database, file)
    done = asyncio.Event()
    made, destroyed = dict(keys), set[UUID]()

    async def traffic() -> None:
        while not done.is_set():
            made.update(await people(postgres_log, 2))
            gone = next(iter(made.keys() - destroyed))
            await postgres_log.keys.destroy(gone)
            destroyed.add(gone)

    shop = asyncio.create_task(traffic())
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as pool:
        both = [loop.run_in_executor(pool, rotated, database, file) for _ in range(2)]
        results = await asyncio.gather(*both)
    done.set()
    await shop
    left = {person: key for person, key in made.items() if person not in destroyed}
    assert await postgres_log.keys.get(made) == left
    current = rotated(database, file).current
    assert wraps(database)[current] == len(left)
    assert {result.current for result in results} <= {id_of(key).hex() for key in file.load()}
    assert KEYRING.has(bytes.fromhex(current))
