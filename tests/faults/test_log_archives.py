"""Archives of the log: what was exported is imported as it was, or nothing is."""

import asyncio
import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from domain import catalog
from domain.catalog import GameUpdated, Listing
from domain.events import Event
from domain.ids import PLATFORM_ID
from eventstore.chain import GENESIS, digest, link
from eventstore.database.postgres import connect
from eventstore.log import IdempotencyKey, Metadata, StreamAppend
from eventstore.postgres_log import PostgresLog
from runtime.archive import reading
from runtime.archive.loading import load
from runtime.archive.reading import Archive, checkers
from runtime.wiring.codec import codec
from tests.support.archives import ArchiveText
from tests.support.servers import shared
from tests.support.shops.commands import Ludoteca, Shop

GAMES = 20
END = 1 + GAMES + 3 + 2
"""The position of the last event of `kept`."""

LAST_EDIT = END - 2

EVENTS = """
SELECT string_agg(e::text, E'\\n' ORDER BY position) FROM log.events e
"""
ONCES = "SELECT string_agg(o::text, E'\\n') FROM log.once o WHERE expires_at IS NULL"
CONSUMERS = """
SELECT string_agg(concat(feed, ' ', projection, ' ', version, ' ', position, ' ', event_id), ', ')
FROM consumers.feeds JOIN consumers.checkpoints USING (feed)
"""
KEYS = """
SELECT string_agg(pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint
WHERE conrelid = 'log.events'::regclass AND contype IN ('p', 'u')
"""


Into = Callable[..., tuple[int, str]]
"""Runs a command on `other`; returns its exit code and what it said."""


def silent(_what: str, _done: int, _all: int) -> None:
    pass


@pytest.fixture
def kept(ludoteca: Ludoteca, shop: Shop) -> Shop:
    """A log of games, one of which was edited again and again, with the keys of some appends, and a
    reactor that has read half of it."""
    game_id = shop.list_game("Edited")
    shop.list_games(GAMES)
    for version in range(1, 4):
        shop.append(game_id, version, *_edited(version))
    _append_once(shop)
    shop.tamper(
        "INSERT INTO consumers.feeds (feed, projection, version) VALUES ('ledger.1', 'ledger', 1);"
        "INSERT INTO consumers.checkpoints SELECT 'ledger.1', position, now(), event_id"
        " FROM log.events WHERE position = 10"
    )
    return shop


@pytest.fixture
def other(postgres_url: str, postgres_template: str) -> Iterator[Shop]:
    """A database with an empty log."""
    url = shared.create_database(postgres_url, template=postgres_template)
    yield Shop(url)
    shared.drop_database(url)


@pytest.fixture
def archive(ludoteca: Ludoteca, kept: Shop, tmp_path: Path) -> Path:
    """The whole log of `kept` in a file."""
    result = ludoteca("log", "export", tmp_path / "shop.jsonl")
    assert result.exit_code == 0, result.output
    return tmp_path / "shop.jsonl"


@pytest.fixture
def into(monkeypatch: pytest.MonkeyPatch, ludoteca: Ludoteca, other: Shop) -> Into:
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setenv("LUDOTECA_DATABASE_URL", other.url)
        result = ludoteca(*arguments)
        return result.exit_code, result.stdout + result.stderr

    return run


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_an_export_is_imported_byte_for_byte(
    ludoteca: Ludoteca,
    kept: Shop,
    other: Shop,
    into: Into,
    tmp_path: Path,
    suffix: str,
) -> None:
    file = tmp_path / f"shop{suffix}"
    assert ludoteca("log", "export", file).exit_code == 0
    anchor = re.search(r"anchor.*", ludoteca("audit", "verify").stdout)
    code, said = into("log", "import", file)
    assert code == 0, said
    for query in (EVENTS, ONCES, CONSUMERS, KEYS):
        assert other.ask(query) == kept.ask(query)
        assert other.ask(query)
    assert anchor
    assert anchor[0] in into("audit", "verify")[1]
    assert into("log", "check", file)[0] == 0
    # it goes on as any other log
    assert other.append(uuid4(), 0, *_created("After")) == END + 1


def test_several_processes_check_blocks_of_any_size(
    archive: Path, kept: Shop, other: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (1, 700, 5_000):
        monkeypatch.setattr(reading, "BLOCK_BYTES", size)
        with checkers(2) as workers:
            reading.verify([Archive(archive)], workers, silent)
    with connect(other.url, "test", role="") as conn, checkers(2) as workers, conn.transaction():
        load(conn, [Archive(archive)], codec().kinds, workers, silent)
    assert other.ask(EVENTS) == kept.ask(EVENTS)


def test_payloads_and_columns_of_every_form_are_kept(
    ludoteca: Ludoteca, shop: Shop, other: Shop, into: Into, tmp_path: Path
) -> None:
    """What older releases and other programs have written: no time of decision, a version 0,
    payloads that are no JSON or more than a line of it."""
    shop.list_games(6)
    odd = [b'{"a":1}\n', b" {} ", b"no JSON", b"\xff\x00", b'{"a":"\\u00e9\xc3\xa9"}', b"[" * 3_000]
    for position, payload in enumerate(odd, 1):
        shop.tamper(
            "UPDATE log.events SET payload = %s, correlation_id = gen_random_uuid(),"
            " causation_id = event_id, traceparent = '00-é', version = 0,"
            " occurred_at = CASE WHEN position %% 2 = 0 THEN occurred_at END WHERE position = %s",
            payload,
            position,
        )
    _mend_chain(shop)
    assert ludoteca("log", "export", tmp_path / "odd.jsonl").exit_code == 0
    code, said = into("log", "import", tmp_path / "odd.jsonl")
    assert code == 0, said
    assert other.ask(EVENTS) == shop.ask(EVENTS)


# -- what does not fit -----------------------------------------------------------------------------

Change = Callable[[ArchiveText], object]


def _set(position: int, **fields: object) -> Change:
    return lambda text: text.event(position).update(fields)


def _swap(text: ArchiveText) -> None:
    text.lines[5], text.lines[6] = text.lines[6], text.lines[5]


def _set_in(sort: str, **values: object) -> Callable[[ArchiveText], object]:
    """Set fields of the first key, or consumer."""

    def change(text: ArchiveText) -> None:
        next(line[sort] for line in text.lines if sort in line).update(values)

    return change


def _chained(change: Change) -> Change:
    def changed(text: ArchiveText) -> None:
        change(text)
        text.chain()

    return changed


WRONG: dict[str, tuple[Change, str]] = {
    "payload": (_set(4, payload={}), "line 5, position 4: changed"),
    "version": (_set(4, version=2), "line 5, position 4: changed"),
    "time": (
        _set(9, recorded_at="2001-01-01T00:00:00Z"),
        "line 10, position 9: its time is before",
    ),
    "hash": (_set(7, hash="00" * 32), "line 8, position 7: changed"),
    "the last hash": (_set(25, hash="00" * 32), "position 25"),
    "removed": (lambda text: text.lines.pop(3), "line 4, position 4: position 3 has to be here"),
    "inserted": (
        lambda text: text.lines.insert(3, text.lines[2]),
        "line 4, position 2: position 3 has to be here",
    ),
    "swapped": (_swap, "line 6, position 6: position 5 has to be here"),
    "no time zone": (_set(4, recorded_at="2026-01-01T00:00:00"), "line 5, position 4: no event"),
    "no number": (_set(4, version="one"), "line 5, position 4: no event"),
    "a version that is taken, in a chain that fits": (
        _chained(_set(LAST_EDIT, version=3)),
        "line 25, position 24: version 3 of the stream",
    ),
    "a version that is left out, in a chain that fits": (
        _chained(_set(LAST_EDIT, version=5)),
        "line 25, position 24: version 5 of the stream",
    ),
    "a stream that begins late, in a chain that fits": (
        _chained(_set(LAST_EDIT, stream_id=str(uuid4()), version=3)),
        "line 25, position 24: version 3 of the stream",
    ),
    "another kind, in a chain that fits": (
        _chained(_set(LAST_EDIT, name="wallet.created.v1")),
        "line 25, position 24: wallet.created.v1 is of kind wallet, and its stream",
    ),
    "an event that nobody knows, in a chain that fits": (
        _chained(_set(LAST_EDIT, name="spaceship.landed.v1")),
        "line 25, position 24: spaceship.landed.v1 is no event that this release knows",
    ),
    "a text that PostgreSQL cannot store, in a chain that fits": (
        _chained(_set(LAST_EDIT, actor="\0")),
        "line 25, position 24: invalid byte sequence",
    ),
    "an event twice, in a chain that fits": (
        _chained(lambda text: text.event(24).update(event_id=text.event(3)["event_id"])),
        "line 25, position 24: the event",
    ),
    "a time in a far future, in a chain that fits": (
        _chained(lambda text: text.event(END).update(recorded_at="9999-12-01T00:00:00Z")),
        f"position {END}: recorded on 9999-12-01",
    ),
    "a payload that no append may have, in a chain that fits": (
        _chained(lambda text: text.event(24).update(payload={"x": "y" * (16 << 20)})),
        "line 25, position 24: its payload has",
    ),
    "a header of a later end": (
        lambda text: text.header.update(position=text.header["position"] + 1),
        "position 27: no event",
    ),
    "a header of another end": (
        lambda text: text.header.update(hash="ab" * 32),
        "position 26: not the event that the header names as the last",
    ),
    "a newer release": (lambda text: text.header.update(release=10_000), "line 1: of the format"),
    "another format": (lambda text: text.header.update(format="csv"), "line 1: of the format"),
    "no header": (lambda text: text.lines.pop(0), "line 1: no archive of a log"),
    "a kind that PostgreSQL cannot store": (
        lambda text: text.header["kinds"].update({"spaceship.landed.v1": "\0"}),
        "line 1: no archive of a log",
    ),
    "a key of an event elsewhere": (
        _set_in("once", position=END + 1),
        "a key of an event that is not in the archive",
    ),
    "a key with half a byte": (_set_in("once", fingerprint="abc"), "cut or changed"),
    "a key without results": (_set_in("once", refs="{"), "cut or changed"),
    "a consumer before the first event": (_set_in("consumer", position=-1), "cut or changed"),
    "a consumer of no version": (_set_in("consumer", version=2**31), "cut or changed"),
    "a consumer without a name": (_set_in("consumer", feed="\0"), "cut or changed"),
    "fewer keys": (lambda text: text.lines.pop(27), "the end does not fit"),
    "no end": (lambda text: text.lines.pop(), "cut: the line that ends it is missing"),
    "more after the end": (
        lambda text: text.lines.append(text.lines[-2]),
        "the end does not fit",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_archive_that_does_not_fit_is_named_and_not_imported(
    archive: Path, other: Shop, into: Into, tmp_path: Path, what: str
) -> None:
    change, reason = WRONG[what]
    text = ArchiveText(archive)
    change(text)
    code, said = into("log", "import", text.write(tmp_path / "changed.jsonl"))
    assert code == 1
    assert "changed.jsonl" in said
    assert reason in said
    assert other.ask("SELECT count(*) FROM log.events") == 0
    assert other.ask("SELECT count(*) FROM log.once") == 0
    assert other.ask(KEYS)
    assert into("log", "import", archive)[0] == 0  # and the right one is, afterwards


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_cut_file_is_refused_wherever_it_is_cut(
    archive: Path, other: Shop, into: Into, tmp_path: Path, suffix: str
) -> None:
    whole = archive.read_bytes()
    content = gzip.compress(whole) if suffix else whole
    file = tmp_path / f"cut.jsonl{suffix}"
    for part in (1, 2, 5, 10, 19):
        file.write_bytes(content[: len(content) * part // 20])
        code, said = into("log", "import", file)
        assert code == 1, said
        assert "cut" in said or "no archive" in said
        assert other.ask("SELECT count(*) FROM log.events") == 0


# -- parts of a log --------------------------------------------------------------------------------


def test_archives_that_continue_each_other_are_one_log(
    ludoteca: Ludoteca, kept: Shop, other: Shop, into: Into, archive: Path
) -> None:
    kept.list_game("Later")
    more = archive.with_name("more.jsonl")
    assert ludoteca("log", "export", "--after", END, more).exit_code == 0
    kept.list_game("Latest")
    most = archive.with_name("most.jsonl")
    assert ludoteca("log", "export", "--after", END + 1, most).exit_code == 0

    code, said = into("log", "import", archive, most)
    assert code == 1
    assert "it continues another log, or from another place" in said
    code, said = into("log", "import", more)
    assert code == 1
    assert f"begins after position {END}, and the log ends at 0" in said

    assert into("log", "import", archive, more)[0] == 0
    assert into("log", "import", most)[0] == 0
    assert other.ask(EVENTS) == kept.ask(EVENTS)
    code, said = into("log", "import", most)
    assert code == 1
    assert "and the log ends at" in said


def test_an_archive_of_another_log_is_refused(
    ludoteca: Ludoteca, kept: Shop, other: Shop, into: Into, archive: Path
) -> None:
    kept.list_game("Later")
    more = archive.with_name("more.jsonl")
    assert ludoteca("log", "export", "--after", END, more).exit_code == 0
    other.list_games(END)
    code, said = into("log", "import", more)
    assert code == 1
    assert "continues another log" in said
    assert other.ask("SELECT count(*) FROM log.events") == END


def test_an_event_that_does_not_continue_a_stream_of_the_log_is_refused(
    ludoteca: Ludoteca, kept: Shop, other: Shop, into: Into, archive: Path
) -> None:
    game_id = kept.ask("SELECT stream_id FROM log.events WHERE position = 1")
    kept.append(game_id, 4, *_edited(4))
    more = archive.with_name("more.jsonl")
    assert ludoteca("log", "export", "--after", END, more).exit_code == 0
    assert into("log", "import", archive)[0] == 0
    for change, reason in (
        ({"version": 4}, "already exists"),
        ({"version": 6}, "version 6 of the stream"),
        ({"name": "wallet.created.v1"}, "is of kind wallet"),
    ):
        text = ArchiveText(more)
        text.event(END + 1).update(change)
        text.chain()
        code, said = into("log", "import", text.write(archive.with_name("wrong.jsonl")))
        assert code == 1
        assert f"line 2, position {END + 1}: " in said
        assert reason in said
    assert into("log", "import", more)[0] == 0
    assert other.ask(EVENTS) == kept.ask(EVENTS)


def test_up_to_a_position_neither_events_nor_keys_nor_consumers_are_beyond_it(
    kept: Shop, other: Shop, into: Into, archive: Path
) -> None:
    assert into("log", "import", archive, "--upto", 7)[0] == 0
    assert other.ask(EVENTS) == kept.ask(EVENTS + " WHERE position <= 7")
    assert other.ask("SELECT count(*) FROM log.once") == 0
    assert other.ask("SELECT position FROM consumers.checkpoints") == 7


# -- others ----------------------------------------------------------------------------------------


async def test_an_append_meanwhile_waits_and_comes_after_it(archive: Path, other: Shop) -> None:
    async with PostgresLog.open(other.url, codec(), pool_size=2) as log:
        with connect(other.url, "test", role="") as conn:
            with conn.transaction():
                loaded = load(conn, [Archive(archive)], codec().kinds, reading.Checkers(), silent)
                appending = asyncio.create_task(
                    log.append([StreamAppend(uuid4(), 0, _created("Meanwhile"))], Metadata("test"))
                )
                done, _ = await asyncio.wait([appending], timeout=0.2)
                assert not done
            assert (await appending).position == loaded.position + 1


async def test_a_process_that_follows_the_log_is_woken(archive: Path, other: Shop) -> None:
    async with PostgresLog.open(other.url, codec(), pool_size=2) as log:
        waiting = asyncio.create_task(anext(log.subscribe(0)))
        with connect(other.url, "test", role="") as conn, conn.transaction():
            load(conn, [Archive(archive)], codec().kinds, reading.Checkers(), silent)
        assert (await waiting)[0].env.position == 1


def test_a_shop_in_use_is_left_alone(other: Shop, into: Into, archive: Path) -> None:
    with psycopg.connect(other.url, application_name="ludoteca api"):
        code, said = into("log", "import", archive)
    assert code == 1
    assert "stop them first" in said


def test_a_broken_log_is_not_exported(ludoteca: Ludoteca, kept: Shop, tmp_path: Path) -> None:
    kept.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 4")
    result = ludoteca("log", "export", tmp_path / "shop.jsonl")
    assert result.exit_code == 1
    assert "broken at position 4" in result.stderr
    assert not list(tmp_path.glob("shop*"))


# -- a log -----------------------------------------------------------------------------------------


def _created(title: str) -> Sequence[Event]:
    return catalog.create(PLATFORM_ID, Listing(sku=title, title=title, kind="DIGITAL"))


def _edited(version: int) -> Sequence[Event]:
    return [GameUpdated(title=f"Edited {version}")]


def _append_once(shop: Shop) -> None:
    """Append twice under a key: one that lasts, and one that has expired."""

    async def append() -> None:
        async with PostgresLog.open(shop.url, codec(), pool_size=2) as log:
            for name, expires_at in (("lasting", None), ("gone", datetime(2026, 1, 1, tzinfo=UTC))):
                key = IdempotencyKey(uuid4(), b"\x01\xff", {"game_id": name}, expires_at)
                await log.append([StreamAppend(uuid4(), 0, _created(name))], once=key)

    asyncio.run(append())


def _mend_chain(shop: Shop) -> None:
    """Give each event the hash that follows from the one before it."""
    columns = (
        "event_id, stream_id, version, name, payload, actor, correlation_id, causation_id,"
        " traceparent, occurred_at"
    )
    with psycopg.connect(shop.url) as conn:
        rows = conn.execute(
            f"SELECT position, recorded_at, {columns} FROM log.events ORDER BY position"
        ).fetchall()
    previous = GENESIS
    for position, recorded_at, *fields in rows:
        previous = link(previous, position, recorded_at, digest(*fields))
        shop.tamper("UPDATE log.events SET hash = %s WHERE position = %s", previous, position)
