"""A backup, and the shop restored from it: nothing is lost, and nothing is requested, sent or
published twice."""

import json
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from adapters.postgres.programs import program
from eventstore.database.migrations import MigrationError
from eventstore.database.postgres import connect
from runtime.archive.loading import check_unused, load
from runtime.archive.reading import Archive, Checkers
from runtime.backup import restoring
from runtime.backup.making import backup
from runtime.backup.manifest import BackupError
from runtime.release.migrate import migrate
from runtime.wiring.codec import codec
from tests.support.events.tallies import Counted
from tests.support.processes.instance import Instance, Person, eventually, running
from tests.support.processes.restoring import restore
from tests.support.servers import shared
from tests.support.shops.commands import Shop
from tests.support.shops.engine import Desk
from tests.support.shops.gateway import open_shop

LEFT_TO_DO = "SELECT count(*) FROM queue.jobs WHERE died_at IS NULL"
JOBS_SO_FAR = "SELECT coalesce(pg_sequence_last_value('queue.jobs_seq_seq'), 0)"
ALL_CAUGHT_UP = (
    "SELECT bool_and(position >= (SELECT max(position) FROM log.events)) FROM consumers.feeds"
    " JOIN consumers.checkpoints USING (feed)"
)
END_OF_LOG = "SELECT coalesce(max(position), 0) FROM log.events"
GAMES = 8


def silent(_what: str, _done: int, _all: int) -> None:
    pass


def ask(url: str, query: str) -> Any:
    with psycopg.connect(url) as conn:
        row = conn.execute(query.encode()).fetchone()
        return row[0] if row else None


def buy(buyer: Person, games: list[str]) -> None:
    for game in games:
        assert buyer.buy(game).status_code in {201, 202}


def settle(url: str) -> None:
    """Wait for a moment at which every consumer has read the log and every job is done."""
    eventually(lambda: ask(url, f"SELECT ({LEFT_TO_DO}) = 0 AND ({ALL_CAUGHT_UP})"), patience=300)


def fiscal_book(shop: Instance) -> dict[int, str]:
    """The orders in the fiscal operator's only book, by their numbers."""
    book, after = dict[int, str](), ""
    url = f"http://127.0.0.1:{shop.environment['LUDOTECA_FISCAL_PORT']}/v1/receipts"
    while page := httpx.get(url, params={"after": after}).json()["receipts"]:
        book |= {receipt["number"]: receipt["order_id"] for receipt in page}
        after = page[-1]["reference"]
    return dict(sorted(book.items()))


def read_models(shop: Instance) -> dict[str, Any]:
    """Count and hash of the rows of each read model, after checking that they equal a replay."""
    found = shop.verify()
    assert all(each["equal"] for each in found)
    return {each["projection"]: (each["rows"], each["hash"]) for each in found}


@pytest.fixture
def other_database(postgres_url: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template="template1")
    yield url
    shared.drop_database(url)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    "buyers", [3, pytest.param(125, marks=pytest.mark.soak)], ids=["24 purchases", "1,000"]
)
def test_a_restored_shop_goes_on_where_it_was(
    database: str, other_database: str, home: Path, tmp_path: Path, buyers: int
) -> None:
    folders = [str(tmp_path / "sunday"), str(tmp_path / "monday")]
    with running(home, database, {}) as shop:
        games = [shop.game(title=f"Game {n}") for n in range(GAMES)]
        shop.cli("backup", folders[0])
        people = [shop.register() for _ in range(buyers)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda person: buy(person, games), people))
        settle(database)
        assert all(len(person.titles()) == GAMES for person in people)
        rows, jobs, end = read_models(shop), ask(database, JOBS_SO_FAR), ask(database, END_OF_LOG)
        shop.cli("backup", folders[1], "--since", folders[0])  # while it runs
        late = [shop.game(title="Too late"), shop.game(title="Later still")]
        # the provider and the fiscal operator know these, and the backup does not
        buy(people[0], late)
        settle(database)
        assert len(list(fiscal_book(shop))) == buyers * GAMES + 2

    restored = Instance(
        shop.home, {**shop.environment, "LUDOTECA_DATABASE_URL": other_database}, shop.port
    )
    assert json.loads(restored.cli("restore", *folders, "--json"))["position"] == end
    restored.start("provider", "fiscal", "projector", "worker", "api")
    try:
        restored.await_ready()
        settle(other_database)
        assert read_models(restored) == rows
        assert (ask(other_database, JOBS_SO_FAR), ask(other_database, END_OF_LOG)) == (jobs, end)
        assert len(people[0].titles()) == GAMES  # known by the token from before
        buy(people[0], [restored.game(title="One more")])
        settle(other_database)
        assert len(people[0].titles()) == GAMES + 1
        reconciled = json.loads(
            restored.cli("receipts", "reconcile", "--since", "2020-01-01", "--json")
        )
        assert reconciled == {
            "found": [],
            "asked_anew": [],
        }, "new receipts have told of those that were lost"
        assert list(fiscal_book(restored)) == list(range(1, buyers * GAMES + 4))
        assert json.loads(restored.cli("dlq", "list", "--json")) == []
        assert ask(other_database, JOBS_SO_FAR) > jobs
        restored.cli("audit", "verify")
    finally:
        restored.stop()


async def test_personal_data_cannot_be_read_without_the_keys(
    database: str, other_database: str, tmp_path: Path
) -> None:
    async with open_shop(database, tmp_path / "home") as shop:
        await shop.register(name="Ann Other")
    backup(database, tmp_path / "backup", None, silent)
    (tmp_path / "backup" / "keys.dump").unlink()
    with pytest.raises(BackupError, match="--without-keys"):
        restore(other_database, tmp_path / "backup", None, silent)
    restore(other_database, tmp_path / "backup", None, silent, without_keys=True)
    assert (
        ask(
            other_database, "SELECT count(*) FROM log.events WHERE payload::text LIKE '%Ann Other%'"
        )
        == 0
    )
    assert ask(other_database, "SELECT count(*) FROM private.person_keys") == 0


def test_images_are_in_it(database: str, other_database: str, tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "other" / "images"
    (images / "ab").mkdir(parents=True)
    (images / "ab" / "cover.png").write_bytes(b"a picture")
    elsewhere.parent.mkdir()
    backup(database, tmp_path / "backup", images, silent)
    restore(other_database, tmp_path / "backup", elsewhere, silent)
    assert (elsewhere / "ab" / "cover.png").read_bytes() == b"a picture"


def test_images_that_cannot_be_stored_leave_an_empty_database_which_may_be_tried_again(
    database: str, other_database: str, tmp_path: Path
) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "other" / "images"
    images.mkdir()
    (images / "cover.png").write_bytes(b"a picture")
    backup(database, tmp_path / "backup", images, silent)
    elsewhere.parent.mkdir()
    elsewhere.write_text("in the way, as a disk that is full")
    with pytest.raises(OSError, match="images"):
        restore(other_database, tmp_path / "backup", elsewhere, silent)
    assert ask(other_database, "SELECT count(*) FROM log.epochs") == 1
    elsewhere.unlink()
    restore(other_database, tmp_path / "backup", elsewhere, silent)
    assert (elsewhere / "cover.png").read_bytes() == b"a picture"


def test_the_restored_shop_has_search_indices_of_its_own(
    database: str, other_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(database) as conn:
        conn.execute(
            "INSERT INTO private.secrets (name, value) VALUES ('index_prefix', 'ludoteca-1'),"
            " ('kept', 'x')"
        )
    backup(database, tmp_path / "backup", None, silent)
    restore(other_database, tmp_path / "backup", None, silent)
    with psycopg.connect(other_database) as conn:
        assert [name for (name,) in conn.execute("SELECT name FROM private.secrets")] == ["kept"]


def test_a_missing_folder_is_not_created(database: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is not there"):
        backup(database, tmp_path / "unmounted" / "backup", None, silent)


def test_it_is_for_its_owner_alone(database: str, tmp_path: Path) -> None:
    backup(database, tmp_path / "backup", None, silent)
    folder = tmp_path / "backup"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_damaged_backup_is_not_restored(
    database: str, other_database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    backup(database, folder, None, silent)
    whole = (folder / "log.dump").read_bytes()
    (folder / "log.dump").write_bytes(whole[:-20])
    with pytest.raises(BackupError, match=r"log\.dump is not what was written"):
        restore(other_database, folder, None, silent)
    assert ask(other_database, "SELECT to_regnamespace('log')") is None


def test_a_restore_that_fails_leaves_an_empty_database_which_may_be_tried_again(
    database: str, other_database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    backup(database, folder, None, silent)
    migrate(other_database)
    with psycopg.connect(other_database, autocommit=True) as conn:  # as a dump that does not go in
        conn.execute("CREATE TABLE private.of_somebody_else (id int)")
        conn.execute("CREATE VIEW public.in_the_way AS SELECT * FROM private.of_somebody_else")
        conn.execute(
            "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not today'; END $$"
        )
        conn.execute(
            "CREATE EVENT TRIGGER refusing ON ddl_command_start WHEN TAG IN ('CREATE TABLE')"
            " EXECUTE FUNCTION public.refuse()"
        )
        with pytest.raises(BackupError, match="not today"):
            restore(other_database, folder, None, silent)
        assert ask(other_database, "SELECT to_regclass('log.events') IS NOT NULL")
        conn.execute("DROP EVENT TRIGGER refusing")
    assert restore(other_database, folder, None, silent).position == ask(database, END_OF_LOG)


@pytest.mark.parametrize("name", ["log.dump", "keys.dump"])
def test_a_restore_that_is_killed_restores_nothing(
    database: str, other_database: str, tmp_path: Path, name: str
) -> None:
    backup(database, tmp_path / "backup", None, silent)
    migrate(other_database)
    with closing(connect(other_database, "ludoteca restore", role="")) as conn:
        conn.execute("BEGIN")
        restoring._put(conn, tmp_path / "backup", name, silent)
    # a view of a table that was dropped
    assert ask(other_database, "SELECT to_regclass('read.feeds') IS NOT NULL")
    assert restore(other_database, tmp_path / "backup", None, silent).position == ask(
        database, END_OF_LOG
    )


async def test_a_database_with_a_log_is_not_restored_over(desk: Desk, tmp_path: Path) -> None:
    await desk.append(uuid4(), Counted(1))
    backup(desk.database, tmp_path / "backup", None, silent)
    with pytest.raises(BackupError, match="has a log already"):
        restore(desk.database, tmp_path / "backup", None, silent)


def test_a_session_that_is_ending_is_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of the connection over which the command has just migrated the database."""
    with connect(database, "test") as conn, connect(database, "ludoteca command") as ending:
        monkeypatch.setattr(time, "sleep", lambda _seconds: ending.close())
        check_unused(conn)


def test_the_log_alone_is_restored_from_a_backup(database: str, tmp_path: Path) -> None:
    """As docs/operations.md says: its schema, and then its events."""
    shop = Shop(database)
    shop.list_games(3)
    end = ask(database, END_OF_LOG)
    backup(database, tmp_path / "backup", None, silent)
    shop.list_games(1)
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("DROP SCHEMA log CASCADE")
        with pytest.raises(MigrationError, match="and the schema `log` does not: restore"):
            migrate(database)
        conn.execute("CREATE SCHEMA log")
    restored = ("pg_restore", "--exit-on-error", "--schema=log", f"--dbname={database}")
    subprocess.run([program(restored[0]), *restored[1:], tmp_path / "backup/log.dump"], check=True)
    migrate(database)
    with connect(database, "test", role="") as conn, conn.transaction():
        archive = Archive(tmp_path / "backup" / "events.jsonl.gz")
        assert load(conn, [archive], codec().kinds, Checkers(), silent).position == end


def test_an_existing_folder_is_not_overwritten(database: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is there already"):
        backup(database, tmp_path, None, silent)


@pytest.mark.parametrize("by", ["a link", "a file"])
def test_what_is_in_the_way_and_no_backup_s_is_left_alone(
    database: str, tmp_path: Path, by: str
) -> None:
    """A half backup's name, in a folder where others may write, can lead anywhere."""
    theirs, half = tmp_path / "theirs", tmp_path / "backup.part"
    theirs.mkdir()
    if by == "a link":
        half.symlink_to(theirs)
        kept = theirs / "log.dump"
    else:
        half.mkdir()
        kept = half / "notes.txt"
    kept.write_text("precious")
    with pytest.raises(BackupError, match=r"backup\.part is in the way"):
        backup(database, tmp_path / "backup", None, silent)
    assert kept.read_text() == "precious"
    assert not (tmp_path / "backup").exists()


def test_what_a_killed_backup_left_is_replaced(database: str, tmp_path: Path) -> None:
    half = tmp_path / "backup.part"
    half.mkdir(mode=0o755)
    for name in ("log.dump", "provider.sqlite3-journal"):
        (half / name).write_text("half")
    backup(database, tmp_path / "backup", None, silent)
    restoring.check([tmp_path / "backup"], Checkers(), silent)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    assert not half.exists()


def _lack(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["files"].pop(name)


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no dump": _lack("log.dump"),
    "no keys": _lack("keys.dump"),
    "no events": _lack("events.jsonl.gz"),
    "another beginning": lambda manifest: manifest.update(after=-1),
    "nested deeply": lambda manifest: manifest.update(other="DEEP"),
    "no UTF-8": lambda manifest: manifest.update(hash="BYTE"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_manifest_is_told_of(database: str, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "backup"
    backup(database, folder, None, silent)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    DAMAGED[what](manifest)
    text = json.dumps(manifest).encode()
    text = text.replace(b'"DEEP"', b"[" * 100_000 + b"]" * 100_000).replace(b"BYTE", b"\xff")
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BackupError, match=r"manifest"):
        restoring.check([folder], Checkers(), silent)
