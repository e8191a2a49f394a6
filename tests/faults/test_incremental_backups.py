"""Backups that continue others: together they restore the shop as of the last one, or as of a
moment in between; what does not belong together is refused before anything is restored."""

import gzip
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from eventstore.log import IdempotencyKey, StreamAppend
from runtime.archive.reading import Checkers
from runtime.backup.making import backup
from runtime.backup.manifest import (
    EVENTS,
    KEYS,
    BackupError,
    File,
    read_manifest,
    write_manifest,
)
from runtime.backup.restoring import check
from tests.support.events.tallies import Counted
from tests.support.processes.restoring import restore
from tests.support.servers import shared
from tests.support.shops.engine import Desk

LOG = "SELECT position, event_id, payload, hash, recorded_at FROM log.events ORDER BY position"
QUEUE = "SELECT body FROM queue.jobs ORDER BY seq"
CHECKPOINT = """
SELECT position FROM consumers.feeds JOIN consumers.checkpoints USING (feed)
WHERE feed = 'a_reactor'
"""


def silent(_what: str, _done: int, _all: int) -> None:
    pass


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(query.encode()).fetchall()


@pytest.fixture
def other_database(postgres_url: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template="template1")
    yield url
    shared.drop_database(url)


class Shop:
    """A log with a reactor that has read all of it at each backup, and has put a job into a queue
    for each event."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self._folder = folder
        self.folders: list[Path] = []

    async def append(self, count: int) -> None:
        for number in range(count):
            await self.desk.append(uuid4(), Counted(number))

    def react(self) -> None:
        with psycopg.connect(self.desk.database) as conn:
            conn.execute(
                "INSERT INTO consumers.feeds (feed, projection, version, active)"
                " VALUES ('a_reactor', 'a_reactor', 1, true) ON CONFLICT DO NOTHING"
            )
            conn.execute(
                "INSERT INTO consumers.checkpoints (feed, position, event_id)"
                " SELECT 'a_reactor', position, event_id FROM log.events ORDER BY position DESC"
                " LIMIT 1 ON CONFLICT (feed) DO UPDATE SET position = excluded.position"
            )
            conn.execute(
                "INSERT INTO queue.jobs (queue, id, kind, body) SELECT 'mails', gen_random_uuid(),"
                " 'read', to_jsonb(max(position)) FROM log.events"
            )

    def back_up(self, **options: Any) -> Path:
        folder = self._folder / f"{len(self.folders)}"
        since = self.folders[-1] if self.folders else None
        backup(self.desk.database, folder, None, silent, **{"since": since, **options})
        self.folders.append(folder)
        return folder

    async def three(self) -> list[Path]:
        """Backups at positions 5, 8 and 12, and three more events."""
        for count in (5, 3, 4):
            await self.append(count)
            self.react()
            self.back_up()
        await self.append(3)
        return self.folders


@pytest.fixture
def shop(desk: Desk, tmp_path: Path) -> Shop:
    return Shop(desk, tmp_path)


async def test_backups_that_continue_each_other_restore_what_the_last_one_saw(
    shop: Shop, other_database: str
) -> None:
    log = []
    for count in (5, 3, 4):
        await shop.append(count)
        shop.react()
        shop.back_up()
        log = rows(shop.desk.database, LOG)
    jobs = rows(shop.desk.database, QUEUE)
    await shop.append(2)

    assert restore(other_database, shop.folders, None, silent).position == 12
    assert rows(other_database, LOG) == log
    assert rows(other_database, QUEUE) == jobs
    assert rows(other_database, CHECKPOINT) == [(12,)]


async def test_events_and_images_of_earlier_backups_are_left_out(
    shop: Shop, tmp_path: Path, other_database: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name, age in (("old.png", 9 * 86_400), ("new.png", 0)):
        (images / name).write_bytes(name.encode())
        os.utime(images / name, (time.time() - age,) * 2)
    await shop.append(3)
    backup(shop.desk.database, tmp_path / "sunday", images, silent)
    await shop.append(1)
    backup(shop.desk.database, tmp_path / "monday", images, silent, since=tmp_path / "sunday")

    with gzip.open(tmp_path / "monday" / EVENTS) as file:
        header = msgspec.json.decode(file.readline())
        assert msgspec.json.decode(file.readline())["position"] == 4
    assert (header["after"], header["position"]) == (3, 4)
    shutil.rmtree(images)
    folders = [tmp_path / "sunday", tmp_path / "monday"]
    assert b"old.png" not in (folders[1] / "images.tar").read_bytes()
    restore(other_database, folders, images, silent)
    assert sorted(path.name for path in images.iterdir()) == ["new.png", "old.png"]


async def test_a_position_in_between_is_restored_with_the_state_of_the_backup_before_it(
    shop: Shop, other_database: str
) -> None:
    folders = await shop.three()
    assert restore(other_database, folders, None, silent, until=10).position == 10
    assert rows(other_database, LOG) == rows(shop.desk.database, LOG)[:10]
    assert rows(other_database, CHECKPOINT) == [(8,)], "the reactor reacts to 9 and 10 again"
    assert rows(other_database, QUEUE) == [(5,), (8,)]


async def test_a_time_in_between_is_restored(shop: Shop, other_database: str) -> None:
    folders = await shop.three()
    times = [row[-1] for row in rows(shop.desk.database, LOG)]
    expected = sum(time <= times[6] for time in times)
    assert restore(other_database, folders, None, silent, until=times[6]).position == expected


async def test_a_key_that_expired_and_was_used_again_is_restored_as_last_used(
    shop: Shop, other_database: str
) -> None:
    key, log = uuid4(), shop.desk.log
    for used in ("first", "second"):
        once = IdempotencyKey(key, b"f", {"id": used}, datetime.now(UTC) + timedelta(hours=1))
        await log.append([StreamAppend(uuid4(), 0, (Counted(1),))], once=once)
        shop.back_up()
        with psycopg.connect(shop.desk.database) as conn:  # as `purge_expired` does, a day later
            conn.execute("DELETE FROM log.once")

    restore(other_database, shop.folders, None, silent)
    assert rows(other_database, "SELECT key, refs, position FROM log.once") == [
        (key, '{"id":"second"}', 2)
    ]


async def test_a_person_forgotten_since_stays_forgotten(shop: Shop, other_database: str) -> None:
    person, kept = uuid4(), uuid4()
    await shop.desk.log.keys.create([person, kept])
    await shop.append(2)
    shop.back_up()
    await shop.desk.log.keys.destroy(person)
    await shop.append(2)
    shop.back_up()
    restore(other_database, shop.folders, None, silent, until=2)
    with psycopg.connect(other_database) as conn:
        found = conn.execute("SELECT person_id FROM private.person_keys WHERE key IS NOT NULL")
        assert [row[0] for row in found] == [kept]


@pytest.mark.parametrize(
    ("until", "reason"),
    [
        (3, "the first backup ends later, at position 5"),
        (13, "the last backup ends at position 12"),
        ("2020-01-01T00:00:00+00:00", "the first backup ends later, at position 5"),
        ("2999-01-01T00:00:00+00:00", "has nothing later"),
    ],
)
async def test_a_moment_that_no_backup_has_is_refused(
    shop: Shop, other_database: str, until: int | str, reason: str
) -> None:
    folders = await shop.three()
    moment = until if isinstance(until, int) else datetime.fromisoformat(until)
    with pytest.raises(BackupError, match=reason):
        restore(other_database, folders, None, silent, until=moment)
    assert rows(other_database, "SELECT to_regnamespace('log')") == [(None,)]


Choose = Callable[[list[Path]], list[Path]]
UNFIT: Mapping[str, tuple[Choose, str]] = {
    "without the first": (lambda f: f[1:], "name the backups before it"),
    "with a gap": (lambda f: [f[0], f[2]], "another log, or from another place"),
    "in another order": (lambda f: [f[0], f[2], f[1]], "another log, or from another place"),
    "one twice": (lambda f: [f[0], f[1], f[1]], "another log, or from another place"),
}


@pytest.mark.parametrize("what", UNFIT)
async def test_backups_that_do_not_continue_each_other_are_refused(
    shop: Shop, other_database: str, what: str
) -> None:
    choose, reason = UNFIT[what]
    folders = choose(await shop.three())
    with pytest.raises(BackupError, match=reason):
        restore(other_database, folders, None, silent)
    with pytest.raises(BackupError, match=reason):
        check(folders, Checkers(), silent)
    assert rows(other_database, "SELECT to_regnamespace('log')") == [(None,)]


async def test_a_backup_does_not_continue_that_of_another_history(
    shop: Shop, tmp_path: Path
) -> None:
    await shop.append(3)
    other = shop.back_up()
    manifest = msgspec.structs.replace(read_manifest(other), hash="00" * 32)
    write_manifest(other, manifest)
    with pytest.raises(BackupError, match="the log is another one"):
        shop.back_up()
    write_manifest(other, msgspec.structs.replace(manifest, position=9))
    with pytest.raises(BackupError, match="it ends at 3"):
        shop.back_up()
    assert os.listdir(tmp_path) == [other.name]


async def test_a_changed_event_is_found_though_the_manifest_fits(
    shop: Shop, other_database: str
) -> None:
    folders = await shop.three()
    assert check(folders, Checkers(), silent).position == 12
    path = folders[1] / EVENTS
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"actor":"', b'"actor":"x')
    path.write_bytes(gzip.compress(b"".join(lines)))
    manifest = read_manifest(folders[1])
    content = path.read_bytes()
    forged = File(len(content), hashlib.sha256(content).hexdigest())
    files = {**manifest.files, EVENTS: forged}
    write_manifest(folders[1], msgspec.structs.replace(manifest, files=files))
    with pytest.raises(BackupError, match="position 7: changed, inserted or moved"):
        check(folders, Checkers(), silent)
    with pytest.raises(BackupError, match="position 7: changed, inserted or moved"):
        restore(other_database, folders, None, silent)
    assert rows(other_database, "SELECT count(*) FROM log.events") == [(0,)]


async def test_two_backups_at_once_into_one_folder_are_not_mixed(
    shop: Shop, tmp_path: Path, other_database: str
) -> None:
    folder, refused = tmp_path / "sunday", []
    await shop.append(2)

    def another(what: str, done: int, _all: int) -> None:
        if (what, done) == ("keys.dump written", 1):
            try:
                backup(shop.desk.database, folder, None, silent)
            except BackupError as error:
                refused.append(str(error))

    backup(shop.desk.database, folder, None, another)
    assert refused == [f"{folder} is being written by another backup"]
    assert restore(other_database, folder, None, silent).position == 2


async def test_a_backup_is_on_the_disk_when_it_appears(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    appeared: list[set[int]] = []
    sync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_name(path: Path, target: Path) -> Path:
        appeared.append(set(synced))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_name)
    await shop.append(1)
    folder = shop.back_up()
    assert appeared[-1] >= {path.stat().st_ino for path in (folder, *folder.iterdir())}
    assert folder.parent.stat().st_ino in synced


async def test_a_changed_event_in_the_database_is_not_backed_up(shop: Shop) -> None:
    await shop.append(3)
    with psycopg.connect(shop.desk.database) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        conn.execute("UPDATE log.events SET actor = 'x' WHERE position = 2")
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
    with pytest.raises(BackupError, match="the log is broken at position 2"):
        shop.back_up()


async def test_only_the_keys_of_the_last_backup_are_needed(shop: Shop, other_database: str) -> None:
    folders = await shop.three()
    for folder in folders[:-1]:
        (folder / KEYS).unlink()
    assert restore(other_database, folders, None, silent).position == 12


async def test_a_backup_by_an_older_release_is_restored_and_not_continued(
    shop: Shop, tmp_path: Path, other_database: str
) -> None:
    await shop.append(3)
    folder = _by_an_older_release(shop, tmp_path)
    log = rows(shop.desk.database, LOG)
    with pytest.raises(BackupError, match="of an older release"):
        shop.back_up(since=folder)
    assert restore(other_database, folder, None, silent).position == 3
    assert rows(other_database, LOG) == log


def _by_an_older_release(shop: Shop, tmp_path: Path) -> Path:
    """A backup in format 1, in which the dump has the events."""
    from runtime.backup import making

    tables = making.IN_ARCHIVE
    making.IN_ARCHIVE = ()  # type: ignore[assignment]
    try:
        folder = shop.back_up()
    finally:
        making.IN_ARCHIVE = tables
    (folder / EVENTS).unlink()
    manifest = read_manifest(folder)
    files = {name: file for name, file in manifest.files.items() if name != EVENTS}
    write_manifest(folder, msgspec.structs.replace(manifest, format=1, files=files))
    return folder
