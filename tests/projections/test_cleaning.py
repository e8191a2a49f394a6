"""The values that a fold gets from an event."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest

from domain.catalog import GameCreated, Price
from domain.fulfilment import ShipmentCreated, ShipmentLine, ShipmentStatusUpdated
from projections.cleaning import cleaner_of
from projections.models.games import Games
from projections.search.projection import GamesText
from tests.support.events.history import History

LINE = ShipmentLine(UUID(int=1), UUID(int=2), "Ca\0tan", 2)
SHIPMENT = ShipmentCreated(order_id=UUID(int=3), seller_id=UUID(int=4), lines=(LINE, LINE))
GAME = GameCreated(
    seller_id=UUID(int=4), sku="\0", title="A\0B\0", description="", publisher="", category="c",
    genres=("x", "\0y"),
    tags=(), platforms=(), release_date=None, kind="DIGITAL", prices=(Price("*", 1, "U\0SD"),),
    image_ids=(),
    status="DRAFT",
)  # fmt: skip


@pytest.mark.parametrize("event", [SHIPMENT, GAME], ids=["in a tuple of structs", "at every depth"])
def test_there_is_no_nul_at_any_depth(event: msgspec.Struct) -> None:
    clean = cleaner_of(type(event))
    assert clean is not None
    cleaned = msgspec.json.encode(clean(event))
    assert cleaned == msgspec.json.encode(event).replace(b"\\u0000", b"")
    assert cleaned != msgspec.json.encode(event)


def test_an_event_that_is_clean_is_not_copied() -> None:
    clean = cleaner_of(GameCreated)
    assert clean is not None
    event = clean(GAME)
    assert clean(event) is event


def test_moments_are_in_utc() -> None:
    here = datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=3)))
    clean = cleaner_of(ShipmentStatusUpdated)
    assert clean is not None
    at = clean(ShipmentStatusUpdated(status="SHIPPED", at=here)).at
    assert (at, at.tzinfo) == (here, UTC)


def test_where_there_is_room_for_it_nul_is_kept() -> None:
    story = History().happened(UUID(int=9), GAME)
    assert GamesText().fold(story.events).all()[0].title == "A\0B\0"
    assert Games().fold(story.events).all()[0].title == "AB"
