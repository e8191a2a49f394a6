"""Event ids: UUIDv7 in the layout of RFC 9562, and increasing."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

import pytest

from kit.uuid7 import uuid7


def test_an_id_is_a_version_7_uuid_that_begins_with_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_increase() -> None:
    ids = [uuid7() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_ids_made_by_several_threads_differ() -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = [
            made
            for some in pool.map(lambda _: [uuid7() for _ in range(5_000)], range(4))
            for made in some
        ]
    assert len(set(ids)) == 20_000


def test_ids_increase_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = uuid7()
    monkeypatch.setattr("kit.uuid7.time.time_ns", lambda: 1_000_000_000)
    later = [uuid7() for _ in range(100)]
    assert [now, *later] == sorted({now, *later})
    assert all(made.version == 7 and made.variant == RFC_4122 for made in later)
