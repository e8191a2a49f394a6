"""A process that runs without the current master key answers that it cannot now, and takes nobody
for forgotten."""

import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from adapters.master_key_file import MasterKeyFile
from eventstore import master_keys, rewrapping
from eventstore.database.postgres import connect
from eventstore.master_keys import KEYRING, MasterKeyMissing
from projections.engine import rebuild
from projections.models.users import User, Users
from projections.registry import read_models
from runtime.database.key_rotation import rotate
from runtime.release.migrate import prepare_database
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.master_key import WrongMasterKey
from tests.support.servers.own_postgres import OwnPostgres
from tests.support.shops.gateway import Shop, open_shop


@pytest.fixture(autouse=True)
def _read_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_keys, "RELOAD_SECONDS", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[MasterKeyFile]:
    yield MasterKeyFile(tmp_path / "master.key")
    KEYRING._ciphers.clear()


def lose(file: MasterKeyFile) -> Path:
    """The file vanishes, and what this process knew of it."""
    KEYRING._ciphers.clear()
    return file.path.rename(file.path.with_name("elsewhere"))


async def test_requests_are_told_to_try_again_until_the_key_is_there(
    database: str, tmp_path: Path, file: MasterKeyFile
) -> None:
    async with open_shop(database, tmp_path) as shop:
        with connect(database, "test", role="") as conn:
            rotate(conn, file)
        ann = await shop.register(name="Ann")
        kept = lose(file)
        shop.core.repository.forget(ann.id)
        answer = await ann.put("/api/v1/users/me", json={"name": "Anna"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
        kept.rename(file.path)
        assert (await ann.put("/api/v1/users/me", json={"name": "Anna"})).status_code == 200


async def test_no_row_is_folded_as_if_its_person_were_forgotten(
    database: str, tmp_path: Path, file: MasterKeyFile
) -> None:
    async with open_shop(database, tmp_path) as shop:
        with connect(database, "test", role="") as conn:
            rotate(conn, file)
        ann = await shop.register(name="Ann")
        await ann.get("/api/v1/users/me", headers=await shop.reached())
        kept = lose(file)
        with connect(database, "test") as conn, pytest.raises(MasterKeyMissing):
            rebuilt(conn)
        assert await shown(shop) == ["Ann"]
        kept.rename(file.path)
        with connect(database, "test") as conn:
            rebuilt(conn)
        assert await shown(shop) == ["Ann"]


async def shown(shop: Shop) -> list[str | None]:
    """The names in the read model that queries read."""
    return [
        user.name for user in (await shop.services.reads.rows(User, "SELECT * FROM @users")).value
    ]


def rebuilt(conn: psycopg.Connection) -> None:
    users = next(each for each in read_models() if isinstance(each.projection, Users))
    rebuild.rebuild(conn, codec(), users, lambda _done, _all: None)


async def test_an_embedded_shop_of_an_older_release_gets_one_and_does_not_start_without_it(
    tmp_path: Path,
) -> None:
    with OwnPostgres() as server:
        async with open_shop(server.url, tmp_path) as shop:
            ann = await shop.register(name="Ann")
            before = await shop.core.log.keys.get([ann.id])
            own = Settings(home=server.home, database_url="", allow_unsafe_database="on")
            prepare_database(server.url, own)
            with connect(server.url, "test", role="") as conn:
                assert not rewrapping.has_unwrapped(conn)
            made = server.home / "master.key"
            assert stat.S_IMODE(made.stat().st_mode) == 0o600
            assert await shop.core.log.keys.get([ann.id]) == before
            prepare_database(server.url, own)
            kept = made.rename(made.with_name("kept"))
            KEYRING._ciphers.clear()
            with pytest.raises(WrongMasterKey, match="Nothing was changed"):
                prepare_database(server.url, own)
            assert not made.exists(), "another one would open nothing"
            kept.rename(made)
            prepare_database(server.url, own)
            assert await shop.core.log.keys.get([ann.id]) == before
