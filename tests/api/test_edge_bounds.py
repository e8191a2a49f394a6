"""Every input is bounded: a new field whose text, number, time or list has no bounds fails here."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal, get_origin
from uuid import UUID

import pytest
from fastapi import UploadFile

from api.routes.alerts import TheirText
from domain.email_addresses import as_kept
from domain.errors import Invalid
from domain.inventory import MAX_QUANTITY
from domain.times import EARLIEST, FIRST_DAY, LAST_DAY, LATEST
from tests.support.http.edge import NEVER_KEPT, Leaf, Many, edge
from tests.support.shops.small_gateway import every_route

EDGE = edge(every_route())
LEAVES = [each for each in EDGE if isinstance(each, Leaf)]
LISTS = [each for each in EDGE if isinstance(each, Many)]

SAFE_BY_TYPE: tuple[Any, ...] = (
    UUID,
    bool,
    bytes,
    UploadFile,
    dict[str, Any],  # a corrected payload, which its event's type judges: test_amendments.py
    dict[TheirText, TheirText],  # of Alertmanager, no stranger; cut to size: test_alerts.py
)
EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))
MOMENTS = [
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1999-12-31T23:59:59Z",
    "2200-01-01T00:00:01Z",
    "2026-01-01T00:00:00", "1767225600", 1767225600,
    datetime(1, 1, 1, tzinfo=EAST), datetime(9999, 12, 31, 23, tzinfo=WEST),
]  # fmt: skip
DAYS = ["0001-01-01", "9999-12-31", date.min, date.max]
INTEGERS = [2**63, -(2**63) - 1, 10**400, -(10**400)]
NO_TEXTS = ["\x00", "a\x00b", "\ud800"]


def of(*kinds: Any) -> list[Leaf]:
    return [leaf for leaf in LEAVES if leaf.type in kinds]


def test_there_is_a_judge_for_every_type_that_is_taken() -> None:
    for leaf in LEAVES:
        known = (
            leaf.type in {str, int, datetime, date, *SAFE_BY_TYPE}
            or get_origin(leaf.type) is Literal
        )
        assert known, f"{leaf.where}: {leaf.type} has no bounds that are tried here"
    assert len(LEAVES) > 100
    assert min(len(of(str)), len(of(int)), len(of(date)), len(of(datetime)), len(LISTS)) >= 1


@pytest.mark.parametrize("leaf", of(str), ids=lambda leaf: leaf.where)
def test_a_text_is_of_some_length_and_one_that_can_be_kept(leaf: Leaf) -> None:
    for letter in ("x", "é", "💩", " x"):
        assert not leaf.takes(letter * 100_001)
    if leaf.in_body and leaf.name not in NEVER_KEPT:  # the route checks those of paths and queries
        # the domain checks e-mail addresses
        takes = _is_address if leaf.name == "email" else leaf.takes
        assert not any(map(takes, NO_TEXTS))


def _is_address(text: str) -> bool:
    try:
        return bool(as_kept(f"{text}@example.com"))
    except Invalid:
        return False


@pytest.mark.parametrize("leaf", of(int), ids=lambda leaf: leaf.where)
def test_an_integer_fits_into_64_bits(leaf: Leaf) -> None:
    assert not any(map(leaf.takes, [*INTEGERS, *map(str, INTEGERS[:2])]))


@pytest.mark.parametrize("leaf", of(datetime), ids=lambda leaf: leaf.where)
def test_a_moment_has_a_zone_and_is_of_our_times(leaf: Leaf) -> None:
    assert [moment for moment in MOMENTS if leaf.takes(moment)] == []
    assert leaf.takes(EARLIEST.isoformat())
    assert leaf.takes((LATEST - timedelta(seconds=1)).isoformat())


@pytest.mark.parametrize("leaf", of(date), ids=lambda leaf: leaf.where)
def test_a_day_is_of_our_times(leaf: Leaf) -> None:
    assert [day for day in DAYS if leaf.takes(day)] == []
    assert leaf.takes(LAST_DAY.isoformat())
    assert leaf.takes(FIRST_DAY.isoformat()) or not leaf.in_body


@pytest.mark.parametrize("many", LISTS, ids=lambda many: many.where)
def test_a_list_ends(many: Many) -> None:
    assert many.longest is not None
    assert many.longest <= 1000


def test_accepted_times_fit_what_folds_can_hold() -> None:
    assert datetime(1000, 1, 1, tzinfo=UTC) < EARLIEST < LATEST < datetime(9000, 1, 1, tzinfo=UTC)
    assert MAX_QUANTITY < 2**31
