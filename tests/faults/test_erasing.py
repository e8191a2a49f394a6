"""What PostgreSQL's disk shows of forgotten persons, and what keeps it from being erased."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from adapters.master_key_file import MasterKeyFile
from eventstore.database.postgres import connect
from projections.engine import erasing
from projections.engine.erasing import Erased, erase
from projections.registry import read_models
from queries.engine.read_models import ReadModels
from runtime.database.key_rotation import rotate
from runtime.processes.erasing import delete_messages
from runtime.wiring.codec import codec
from tests.support.servers.own_postgres import OwnPostgres
from tests.support.shops.gateway import Person, Shop, open_shop
from tests.support.traces import in_database, in_files, needles

NAME = "Quölla Canary-7f3a"
MODELS = {each.projection.name: each for each in read_models()}
PERSONAL = {"users": MODELS["users"]}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres() as made:
        yield made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "OLD_SNAPSHOTS_SECONDS", 0.5)


@asynccontextmanager
async def shop_on(server: OwnPostgres, home: Path) -> AsyncIterator[Shop]:
    async with open_shop(server.url, home) as shop:
        yield shop


async def forgotten(shop: Shop, person: Person) -> None:
    answer = await person.delete("/api/v1/users/me", params={"forget": True})
    assert answer.status_code == 204, answer.text


def erased(url: str) -> Erased:
    with connect(url, "test", role="") as conn:
        return erase(conn, codec(), MODELS)


async def test_the_disk_shows_a_person_until_they_are_erased(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        email = f"quolla-{uuid4().hex}@example.com"
        ann, ben = await shop.register(name=NAME, email=email), await shop.register(name="Ben")
        await ann.get("/api/v1/users/me", headers=await shop.reached())
        key = (await shop.core.log.keys.get([ann.id]))[ann.id]
        wanted = needles(name=NAME, email=email, key=key)
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("ANALYZE")
        assert in_database(server.url, wanted).keys() == wanted.keys()
        await forgotten(shop, ann)
        assert "pg_catalog.pg_statistic" not in str(in_database(server.url, wanted))
        assert in_files(server.home, wanted).keys() == wanted.keys()
        await reached_by_read_models(shop)

        assert erased(server.url) == Erased(1)
        assert in_files(server.home, wanted) == {}
        assert in_database(server.url, wanted) == {}
        assert erased(server.url) == Erased(0)
        assert (await ben.get("/api/v1/users/me")).json()["name"] == "Ben"


async def test_files_of_the_write_ahead_log_that_are_kept_for_later_are_overwritten(
    server: OwnPostgres, tmp_path: Path
) -> None:
    log_files, wanted = server.home / "postgres" / "pg_wal", needles(name=NAME)
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await reached_by_read_models(shop)
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("SELECT pg_switch_wal()")
            conn.execute("CHECKPOINT")
            row = conn.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
        assert row is not None
        assert {name > row[0] for name in in_files(log_files, wanted)["name"]} == {True}
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        assert erased(server.url) == Erased(1)
    assert in_files(log_files, wanted) == {}


async def test_keys_that_were_stored_unwrapped_are_erased_once_they_are_wrapped(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register()
        key = (await shop.core.log.keys.get([ann.id]))[ann.id]
        wanted = needles(key=key, pepper=shop.core.secrets.pepper)
        file = MasterKeyFile(tmp_path / "master.key")
        with connect(server.url, "test", role="") as conn:
            rotate(conn, file)
            assert in_files(server.home, wanted).keys() == wanted.keys()
            assert erased(server.url) == Erased(0)
            assert in_files(server.home, wanted) == {}
            rotate(conn, file)
        assert erased(server.url) == Erased(0)
        assert await shop.core.log.keys.get([ann.id]) == {ann.id: key}


async def test_who_may_still_read_the_old_rows_is_named_and_waited_for(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await ann.get("/api/v1/users/me", headers=await shop.reached())
        with psycopg.connect(server.url, application_name="a report") as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1")
            await forgotten(shop, ann)
            await reached_by_read_models(shop)
            with connect(server.url, "test") as conn:
                assert [each.person_id for each in erasing.waiting(conn)] == [ann.id]
            waiting = erased(server.url)
            assert (waiting.persons, waiting.waiting) == (0, 1)
            assert "a report" in waiting.reasons[0]
        assert erased(server.url) == Erased(1)
        assert in_files(server.home, needles(name=NAME)) == {}


async def test_a_table_that_is_being_read_waits(server: OwnPostgres, tmp_path: Path) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        with psycopg.connect(server.url) as reader:
            reader.execute("LOCK TABLE private.person_keys IN ACCESS SHARE MODE")
            reader.execute("SELECT 1")
            assert erased(server.url).reasons
        assert erased(server.url) == Erased(1)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("UPDATE private.erasures SET position = 1000000", "users.2 is at position"),
        (
            "INSERT INTO consumers.quarantine (id, feed, stream_id, position, name, error)"
            " SELECT gen_random_uuid(), 'users.2', person_id, 1, 'x', '' FROM private.erasures",
            "users.2 has quarantined",
        ),
    ],
    ids=["behind", "quarantined"],
)
async def test_a_read_model_that_has_not_forgotten_yet_is_named(
    server: OwnPostgres, tmp_path: Path, state: str, reason: str
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        with connect(server.url, "test", role="") as conn, conn.transaction(force_rollback=True):
            conn.execute(state.encode())
            [(person, why)] = erasing._still_shown(
                conn, PERSONAL, dict(conn.execute(erasing._DUE).fetchall())
            )
        assert person == ann.id
        assert reason in why
        assert erased(server.url) == Erased(1)


async def test_one_who_has_to_wait_keeps_nobody_else_on_the_disk(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        with connect(server.url, "test", role="") as conn:
            conn.execute("INSERT INTO private.erasures VALUES (gen_random_uuid(), 1000000)")
            done = erased(server.url)
            assert (done.persons, done.waiting, len(done.reasons)) == (1, 1, 1)
            conn.execute("DELETE FROM private.erasures")
        assert in_files(server.home, needles(name=NAME)) == {}


async def test_tables_that_nobody_feeds_are_dropped(server: OwnPostgres, tmp_path: Path) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await ann.get("/api/v1/users/me", headers=await shop.reached())
        with connect(server.url, "test") as conn:
            for table in ("users_1", "users_2_r7"):
                conn.execute(f"CREATE TABLE read.{table} AS TABLE read.users_2".encode())
            conn.execute(
                "INSERT INTO consumers.feeds (feed, projection, version, storage, active)"
                " VALUES ('users.1', 'users', 1, 'users_1', true);"
                " INSERT INTO consumers.checkpoints (feed, position) VALUES ('users.1', 0)"
            )
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        assert erased(server.url) == Erased(1)
        assert in_files(server.home, needles(name=NAME)) == {}
        with connect(server.url, "test") as conn:
            assert conn.execute(
                "SELECT array_agg(tablename::text) FROM pg_tables WHERE tablename ~ '^users_'"
            ).fetchone() == (["users_2"],)


async def test_it_is_begun_again_after_a_crash(
    server: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann = await shop.register(name=NAME)
        await forgotten(shop, ann)
        await reached_by_read_models(shop)

        def killed(_: object) -> bool:
            raise ConnectionError

        with monkeypatch.context() as patched:
            patched.setattr(erasing, "_cut_log", killed)
            with pytest.raises(ConnectionError):
                erased(server.url)
        assert erased(server.url) == Erased(1)


async def test_files_of_messages_to_the_forgotten_are_deleted_and_no_others(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        ann, ben = await shop.register(name=NAME), await shop.register(name="Ben")
        mails = tmp_path / "mail"
        await shop.eventually(lambda: asyncio.sleep(0, len(list(mails.glob("*.eml")))), (2).__eq__)
        [own] = [path for path in mails.iterdir() if ann.email in path.read_text()]
        own.with_name(f"{own.name}.4711.part").write_text("half written")
        await forgotten(shop, ann)
        await reached_by_read_models(shop)
        assert await delete_messages(shop.core) == 2
        [left] = mails.iterdir()
        assert ben.email in left.read_text()
        assert await delete_messages(shop.core) == 0


async def reached_by_read_models(shop: Shop) -> None:
    """Return when all read models have the whole log."""
    head = await shop.core.log.head()
    models = {each.projection.name: each.projection for each in read_models()}
    for name, projection in models.items():
        await (
            ReadModels(shop.core.log.pool)
            .reaching(head)
            .first(projection.row, f"SELECT * FROM @{name} LIMIT 1")
        )
