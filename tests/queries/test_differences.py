"""What changed between two moments: the same as two whole folds tell, and by which events."""

import asyncio
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.catalog import GameUpdated
from domain.identity import ProfileChanged, UserDeactivated, UserReactivated
from domain.wallets import FundsAdded, WalletCreated
from eventstore.log import Recorded
from kit.forgotten import ENCRYPTED
from projections.projection import key_of
from projections.registry import TABLES
from queries.audit import differences as differences_query
from queries.audit.differences import About, Difference, differences
from queries.audit.why import NoSuchRow, Unanswerable
from tests.support.events.histories import EVERYTHING, STEPS, Flow, Step
from tests.support.events.history import (
    BUYER,
    ORDER,
    PAYMENT,
    game_created,
    order_created,
    payment_requested,
    registered,
    some_id,
)
from tests.support.shops.projected import CODEC, Shop, open_shop

_GIFT = FundsAdded(amount_cents=5, currency="USD", balance_cents=5)
WALLET, GAME = some_id("wallet"), some_id("game")


@settings(max_examples=4)
@given(steps=STEPS, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@example(steps=EVERYTHING, shares=(0.3, 1.0))
def test_a_difference_is_that_of_two_whole_folds(
    database: str, steps: list[Step], shares: tuple[float, float]
) -> None:
    asyncio.run(_agrees(database, steps, shares))


async def _agrees(url: str, steps: list[Step], shares: tuple[float, float]) -> None:
    flow = Flow()
    async with open_shop(url) as shop:
        for batch in flow.steps(steps):
            happened = [(id_, events) for id_, events in batch if events]
            if happened:
                await shop.all_happened(happened)
        events = await shop.log.read(limit=100_000)
        head = events[-1].env.position
        first, last = sorted(round(share * head) for share in shares)
        found = await differences(shop.log, shop.models, first, last)
    told = {
        (row.model, row.key, field.field): (field.before, field.after)
        for row in found.rows
        for field in row.fields
        if field.before != field.after or ENCRYPTED in (field.before, field.after)
    }
    for row in found.rows:
        for field in row.fields:
            assert all(first < at <= last for at in field.positions), (row.model, field)
    wanted = _by_whole_folds(events, first, last)
    assert told.keys() >= wanted.keys()
    for name, values in told.items():
        if ENCRYPTED not in values:
            assert values == wanted[name], name
    assert {each.position for each in found.events} == {
        at for row in found.rows for field in row.fields for at in field.positions
    }


def _by_whole_folds(
    events: list[Recorded], first: int, last: int
) -> dict[tuple[str, str, str], tuple[Any, Any]]:
    """The fields that differ, by folding everything twice."""
    wanted = {}
    for projection in TABLES:
        before, after = (
            _leaves_by_key(projection, [each for each in events if each.env.position <= end])
            for end in (first, last)
        )
        for key in before.keys() | after.keys():
            then, now = before.get(key, {}), after.get(key, {})
            for field in then.keys() | now.keys():
                if then.get(field) != now.get(field):
                    wanted[projection.name, key, field] = (then.get(field), now.get(field))
    return wanted


def _leaves_by_key(projection: Any, events: list[Recorded]) -> dict[str, dict[str, Any]]:
    key, rows = key_of(projection.row), projection().fold(events).all()
    return {
        differences_query._text(key(row)): dict(
            differences_query._flat(differences_query._fields(row))
        )
        for row in rows
    }


def fields_of(found: Difference, model: str) -> dict[str, tuple[Any, Any, list[int]]]:
    """The changed fields of the one row of a read model."""
    (row,) = [each for each in found.rows if each.model == model]
    return {each.field: (each.before, each.after, list(each.positions)) for each in row.fields}


async def test_a_figure_that_went_and_came_back_is_told_with_both_events(idle_shop: Shop) -> None:
    made = await idle_shop.happened(BUYER, registered(user_id=BUYER))
    off = await idle_shop.happened(BUYER, UserDeactivated())
    on = await idle_shop.happened(BUYER, UserReactivated())
    found = await differences(idle_shop.log, idle_shop.models, off - 1, on)
    before, after, positions = fields_of(found, "users")["status"]
    assert (made, positions) == (off - 1, [off, on])
    assert (before, after) == ("PENDING_VERIFICATION", "ACTIVE")
    assert [each.name for each in found.events] == [
        *("user.deactivated.v1", "user.reactivated.v1"),
    ]


async def test_personal_data_are_seen_to_change_but_not_to_what(idle_shop: Shop) -> None:
    made = await idle_shop.happened(BUYER, registered(user_id=BUYER, email="ann@example.com"))
    changed = await idle_shop.happened(
        BUYER, ProfileChanged(name="Anna", region="US", email=None, email_digest=None)
    )
    found = await differences(idle_shop.log, idle_shop.models, made, changed)
    fields = fields_of(found, "users")
    assert fields["name"] == (ENCRYPTED, ENCRYPTED, [changed])
    assert fields["region"][1:] == ("US", [changed])
    assert "email" not in fields
    from_nothing = fields_of(
        await differences(idle_shop.log, idle_shop.models, 0, changed), "users"
    )
    assert from_nothing["email"] == (None, ENCRYPTED, [made])


async def test_only_what_is_asked_about_is_compared(shop: Shop) -> None:
    await shop.happened(BUYER, registered(user_id=BUYER))
    await shop.all_happened(
        [
            (ORDER, [order_created(buyer_id=BUYER, payment_id=PAYMENT)]),
            (PAYMENT, [payment_requested(order_id=ORDER, buyer_id=BUYER)]),
        ]
    )
    await shop.happened(GAME, game_created(title="A"))
    await shop.happened(WALLET, WalletCreated(user_id=BUYER, currency="USD"), _GIFT)
    last = await shop.happened(GAME, GameUpdated(title="B"))
    await shop.projected()

    async def models_of(about: About | None, first: int = 0) -> set[str]:
        found = await differences(shop.log, shop.models, first, last, about)
        return {row.model for row in found.rows}

    assert await models_of(About("order", ORDER)) >= {"orders", "payments", "sales"}
    assert await models_of(About("game", GAME)) == {"games"}
    assert await models_of(About("wallet", WALLET)) == {"acts", "wallets", "wallet_movements"}
    of_person = await models_of(About("user", BUYER))
    assert of_person >= {"users", "orders", "payments", "wallets"}
    assert "games" not in of_person
    assert await models_of(About("order", ORDER), last - 1) == set()
    for other in (some_id("another wallet"), ORDER):
        with pytest.raises(NoSuchRow, match="no wallet"):
            await models_of(About("wallet", other))


async def test_a_request_is_refused_what_takes_too_long(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in "AB":
        await idle_shop.happened(some_id(title), game_created(title=title))

    async def refused(first: int, last: int) -> str:
        with pytest.raises(Unanswerable) as refusal:
            await differences(idle_shop.log, idle_shop.models, first, last, bounded=True)
        return refusal.value.code

    assert await refused(2, 1) == "moments_reversed"
    monkeypatch.setattr(differences_query, "MAX_ROWS", 1)
    found = await differences(idle_shop.log, idle_shop.models, 0, 2, bounded=True)
    assert (len(found.rows), found.left_out) == (1, 1)
    monkeypatch.setattr(differences_query, "MAX_STREAMS", 1)
    assert await refused(0, 2) == "range_too_long"
    assert len((await differences(idle_shop.log, idle_shop.models, 0, 2)).rows) == 2


async def test_an_event_that_cannot_be_applied_is_named(idle_shop: Shop) -> None:
    at = await idle_shop.happened(GAME, GameUpdated(title="a game out of nowhere"))
    await idle_shop.happened(GAME, GameUpdated(title="again"))
    found = await differences(idle_shop.log, idle_shop.models, 0, at + 1)
    assert found.rows == []
    assert {(stop.stream_id, stop.position) for stop in found.stopped_by} == {(GAME, at)}
    assert CODEC.knows(found.stopped_by[0].name)


async def test_an_event_that_cannot_be_read_is_named(idle_shop: Shop) -> None:
    at = await idle_shop.happened(BUYER, registered(user_id=BUYER))
    last = await idle_shop.happened(GAME, game_created(title="A"))
    with psycopg.connect(idle_shop.url, autocommit=True) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        conn.execute("UPDATE log.events SET payload = '{}' WHERE position = %s", [at])
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
    found = await differences(idle_shop.log, idle_shop.models, 0, last)
    assert {row.model for row in found.rows} == {"games"}
    assert [(stop.stream_id, stop.position) for stop in found.stopped_by] == [(BUYER, at)]
