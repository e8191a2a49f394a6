"""Files that are no archive of a log, or only begin as one: they are named, whatever they are."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from eventstore.chain import GENESIS
from eventstore.database.release import RELEASE
from runtime.archive import reading
from runtime.archive.lines import FORMAT, ArchiveFault
from runtime.archive.reading import Archive, checkers, verify
from tests.support.archives import ArchiveText

EVENTS = 4
TIME = "2026-01-01T00:00:00Z"
DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b","
ENDLESS = bytes(100_000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A header, four events, a key, and the end."""
    ends = {"after": 0, "after_hash": GENESIS.hex(), "position": EVENTS, "hash": ""}
    header = {"format": FORMAT, "release": RELEASE, "made_at": TIME, "kinds": {}, **ends}
    events = [
        {
            "position": number,
            "event_id": str(uuid4()),
            "stream_id": str(uuid4()),
            "version": 1,
            "name": "test.noted.v1",
            "recorded_at": TIME,
            "actor": "test",
            "hash": "",
            "payload": {},
        }
        for number in range(1, EVENTS + 1)
    ]
    once = {"key": str(uuid4()), "fingerprint": "", "refs": "{}", "position": EVENTS}
    end = {"events": EVENTS, "onces": 1, "consumers": 0}
    file = tmp_path / "shop.jsonl"
    lines = [header, *events, {"once": once}, {"end": end}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = ArchiveText(file)
    text.chain()
    return text.write(file)


def check(file: Path) -> None:
    with checkers(1) as workers:
        verify([Archive(file)], workers, lambda _what, _done, _all: None)


def test_this_one_is_sound(archive: Path) -> None:
    check(archive)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (1, "line 1: no archive"),
        (3, "line 3, position 2: no event"),
        (EVENTS + 2, "line 6: cut or changed"),
    ],
    ids=["header", "event", "key"],
)
def test_a_line_that_is_nested_too_deeply_is_named(archive: Path, line: int, said: str) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    lines[line - 1] = DEEP + lines[line - 1][1:]
    archive.write_bytes(b"".join(lines))
    with pytest.raises(ArchiveFault, match=said):
        check(archive)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (1, "line 1: no archive"),
        (3, "line 3, position 2: longer than 10,000 bytes"),
        (EVENTS + 2, "line 6: cut or changed"),
    ],
    ids=["header", "event", "key"],
)
def test_a_line_without_an_end_is_not_read_into_memory(
    archive: Path, monkeypatch: pytest.MonkeyPatch, line: int, said: str
) -> None:
    """As in /dev/zero, or in a gigabyte of zeros that somebody compressed to a megabyte."""
    monkeypatch.setattr(reading, "MAX_LINE", 10_000)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100)
    lines = archive.read_bytes().splitlines(keepends=True)
    archive.write_bytes(b"".join(lines[: line - 1]) + ENDLESS)
    with pytest.raises(ArchiveFault, match=said):
        check(archive)
