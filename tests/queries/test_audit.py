from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.catalog import GameRetired, GameUpdated
from domain.identity import EmailVerified, ProfileChanged, UserDeactivated, UserForgotten
from domain.orders import OrderConfirmed
from eventstore.log import Metadata, StreamAppend
from kit.forgotten import ENCRYPTED
from queries.engine.positions import PositionUnknown
from tests.support.events.history import (
    BUYER,
    GAME,
    ORDER,
    PAYMENT,
    game_created,
    notice_requested,
    order_created,
    payment_requested,
    registered,
    some_id,
)
from tests.support.shops.projected import Shop


async def test_events_are_found_by_all_that_an_envelope_says(idle_shop: Shop) -> None:
    shop, request = idle_shop, UUID(int=42)
    await shop.happened(BUYER, registered())
    await shop.log.append([StreamAppend(GAME, 0, [game_created()])], Metadata("user:ana", request))
    await shop.log.append([StreamAppend(GAME, 1, [GameRetired()])], Metadata("user:bob"))

    async def found(**wanted: Any) -> list[str]:
        trail = await shop.audit.events(**wanted)
        assert trail.next_after is None
        return [event.name for event in trail.items]

    assert await found() == ["user.registered.v1", "game.created.v1", "game.retired.v1"]
    assert await found(stream_id=GAME) == ["game.created.v1", "game.retired.v1"]
    assert await found(name="game.retired.v1") == ["game.retired.v1"]
    assert await found(actor="user:ana") == ["game.created.v1"]
    assert await found(correlation_id=request) == ["game.created.v1"]
    assert await found(actor="user:ana", name="game.retired.v1") == []
    assert await found(after=2) == ["game.retired.v1"]
    assert await found(after=99) == []


async def test_a_trail_goes_on_where_it_ended(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(GAME, game_created(), *(GameUpdated(title=f"{n}") for n in range(4)))
    positions: list[int] = []
    after: int | None = 0
    while after is not None:
        trail = await shop.audit.events(after=after, limit=2)
        positions += [event.position for event in trail.items]
        after = trail.next_after
    assert positions == [1, 2, 3, 4, 5]


async def test_personal_fields_stay_closed_and_the_rest_is_shown_as_stored(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(
        BUYER, registered(), ProfileChanged(name="Anna"), ProfileChanged(region="US")
    )
    await shop.happened(some_id("notice"), notice_requested())
    await shop.happened(GAME, game_created(title="1: a title that looks encrypted"))
    first, renamed, moved, notice, game = (await shop.audit.events()).items
    assert (
        first.payload["email"]
        == first.payload["name"]
        == first.payload["password_hash"]
        == ENCRYPTED
    )
    assert (first.payload["region"], first.payload["email_digest"]) == ("BR", "d1")
    assert (renamed.payload, moved.payload) == ({"name": ENCRYPTED}, {"region": "US"})
    assert (notice.payload["params"], notice.payload["template"]) == (ENCRYPTED, "welcome")
    assert game.payload["title"] == "1: a title that looks encrypted"
    assert (first.actor, first.version, first.stream_id) == ("system", 1, BUYER)


async def test_a_stream_is_read_from_a_version_on(idle_shop: Shop) -> None:
    await idle_shop.happened(GAME, game_created(), GameUpdated(title="B"), GameRetired())
    assert [event.version for event in await idle_shop.audit.stream(GAME)] == [1, 2, 3]
    assert [
        event.version for event in await idle_shop.audit.stream(GAME, after_version=1, limit=1)
    ] == [2]
    assert await idle_shop.audit.stream(some_id("nothing")) == []


async def test_a_stream_amounts_to_its_state_at_a_position_or_a_time(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.all_happened([(ORDER, [order_created()]), (PAYMENT, [payment_requested()])])
    created = (await shop.audit.stream(ORDER))[0].occurred_at
    await shop.happened(ORDER, OrderConfirmed(payment_id=PAYMENT))
    before, now = await shop.audit.state(ORDER, 2), await shop.audit.state(ORDER)
    assert before is not None
    assert now is not None
    assert (before.kind, before.version, before.position, before.state["status"]) == (
        "order",
        1,
        1,
        "PENDING_PAYMENT",
    )
    assert (now.version, now.position, now.state["status"]) == (2, 3, "CONFIRMED")
    assert await shop.audit.state(ORDER, created) == before
    assert await shop.audit.state(ORDER, created + timedelta(days=1)) == now
    assert await shop.audit.state(ORDER, created - timedelta(days=1)) is None
    assert await shop.audit.state(some_id("nothing")) is None
    payment = await shop.audit.state(PAYMENT)
    assert payment is not None
    assert (payment.kind, payment.state["amount_cents"]) == ("payment", 1499)
    with pytest.raises(PositionUnknown):
        await shop.audit.state(ORDER, 4)


async def test_a_state_is_that_before_an_event_that_cannot_be_read(idle_shop: Shop) -> None:
    shop, broken = idle_shop, OrderConfirmed(payment_id="no id")  # type: ignore[arg-type]
    await shop.happened(ORDER, order_created(), broken, OrderConfirmed(payment_id=PAYMENT))
    found = await shop.audit.state(ORDER)
    assert found is not None
    assert (found.version, found.position, found.state["status"]) == (1, 1, "PENDING_PAYMENT")
    assert found.stopped_by is not None
    assert (found.stopped_by.position, found.stopped_by.name) == (2, "order.confirmed.v1")

    await shop.happened(PAYMENT, broken)  # of another kind of stream, and the first
    found = await shop.audit.state(PAYMENT)
    assert found is not None
    assert (found.version, found.position, found.state) == (0, 0, {})
    assert found.stopped_by is not None


async def test_a_state_tells_nothing_personal(idle_shop: Shop) -> None:
    await idle_shop.happened(BUYER, registered(), EmailVerified(), ProfileChanged(name="Anna"))
    user = await idle_shop.audit.state(BUYER)
    assert user is not None
    assert (user.kind, user.state["status"], user.state["email"]) == ("user", "ACTIVE", ENCRYPTED)
    assert (user.state["name"], user.state["password_hash"]) == (ENCRYPTED, ENCRYPTED)
    await idle_shop.happened(BUYER, UserDeactivated(), UserForgotten())
    await idle_shop.log.keys.destroy(BUYER)
    gone = await idle_shop.audit.state(BUYER)
    assert gone is not None
    assert gone.state["status"] == "FORGOTTEN"


async def test_a_position_is_found_by_its_time_though_the_databases_clock_was_ahead(
    idle_shop: Shop,
) -> None:
    """Three of ten events were recorded while it was an hour ahead: the log's time stands still
    from then on."""
    shop = idle_shop
    for n in range(10):
        await shop.happened(some_id(f"game {n}"), game_created())
    with psycopg.connect(shop.url, autocommit=True) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        conn.execute(
            "UPDATE log.events SET recorded_at = recorded_at + interval '1 hour' WHERE position"
            " >= 4"
        )
        conn.execute(
            "UPDATE log.events SET recorded_at = (SELECT max(recorded_at) FROM log.events WHERE"
            " position < 7) WHERE position >= 7"
        )
    events = (await shop.audit.events(limit=200)).items
    assert events[9].recorded_at - events[9].occurred_at > timedelta(minutes=59)
    for event in events:
        assert await shop.audit.position_at(event.occurred_at) == event.position


async def test_every_position_is_found_by_its_time(idle_shop: Shop) -> None:
    shop = idle_shop
    for n in range(20):
        await shop.happened(some_id(f"game {n}"), *[game_created()] * (n % 3 + 1))
    events = (await shop.audit.events(limit=200)).items
    for event in events:
        last = max(other.position for other in events if other.occurred_at <= event.occurred_at)
        assert await shop.audit.position_at(event.occurred_at) == last
    assert await shop.audit.position_at(events[0].occurred_at - timedelta(microseconds=1)) == 0
