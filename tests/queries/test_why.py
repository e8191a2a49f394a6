"""Which events made a figure, and what caused them."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalog import GameUpdated
from domain.events import Event
from domain.identity import ProfileChanged
from domain.ledger import Entry, TransactionPosted
from domain.orders import OrderCancelled, OrderConfirmed
from domain.wallets import FundsAdded, WalletCreated
from eventstore import finding
from eventstore.log import Metadata, StreamAppend
from eventstore.snapshots import plain
from kit.forgotten import ENCRYPTED
from projections.projection import key_of
from projections.registry import read_models
from queries.audit import why as why_query
from queries.audit.why import NoSuchRow, Unanswerable, Why, why
from tests.support.events.histories import STEPS, Flow, Step
from tests.support.events.history import (
    BUYER,
    GAME,
    ORDER,
    PAYMENT,
    game_created,
    order_created,
    registered,
    some_id,
)
from tests.support.shops.projected import Shop, open_shop

WALLET = some_id("wallet")


def _moves(found: Why) -> list[tuple[Any, Any]]:
    return [(step.before, step.after) for step in found.steps]


async def _append(shop: Shop, stream_id: UUID, metadata: Metadata, *events: Event) -> UUID:
    version = (await shop.log.versions([stream_id]))[0]
    landed = await shop.log.append([StreamAppend(stream_id, version, events)], metadata)
    return landed.event_ids[-1]


# -- any field of any row --------------------------------------------------------------------------


@settings(max_examples=2)
@given(steps=STEPS, share=st.floats(0.3, 1))
def test_the_steps_lead_to_the_figure_in_the_row_as_of_any_position(
    database: str, steps: list[Step], share: float
) -> None:
    asyncio.run(_every_figure(database, steps, share))


async def _every_figure(database: str, steps: list[Step], share: float) -> None:
    async with open_shop(database) as shop:
        for batch in Flow().steps(steps):
            await shop.all_happened([(stream_id, events) for stream_id, events in batch if events])
        events = await shop.log.read(limit=100_000)
        if not events:
            return
        upto = events[int((len(events) - 1) * share)].env.position
        past = [event for event in events if event.env.position <= upto]
        for projection in (each.projection for each in read_models()):
            key = key_of(projection.row)
            for row in projection.fold(past).all()[-1:]:
                parts = key(row) if isinstance(key(row), tuple) else (key(row),)
                for field in projection.row.__struct_fields__:
                    found = await why(
                        shop.log,
                        "/".join(map(str, parts)),
                        field,
                        model=projection.name,
                        position=upto,
                    )
                    value = msgspec.to_builtins(getattr(row, field), str_keys=True, enc_hook=plain)
                    assert found.value in (value, ENCRYPTED)
                    afters = [step.after for step in found.steps]
                    assert [step.before for step in found.steps] == [None, *afters][:-1] or (
                        found.value == ENCRYPTED or not afters
                    )
                    assert afters[-1:] in ([found.value], [])


# -- causes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("near", [2_000, 0], ids=["near", "by-time"])
async def test_each_step_leads_back_to_the_request(
    idle_shop: Shop, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "NEAR_POSITIONS", near)
    shop, request = idle_shop, uuid4()
    asked = Metadata("user:ana", request, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    first = await _append(shop, GAME, asked, game_created())
    caused = Metadata("reactor:settlement", request, first)
    second = await _append(shop, ORDER, caused, order_created())
    caused = Metadata("reactor:other", request, second)
    await _append(shop, ORDER, caused, OrderConfirmed(PAYMENT))

    found = await why(shop.log, str(ORDER), "status", model="orders")

    last = found.steps[-1]
    assert (last.event.name, last.event.actor) == ("order.confirmed.v1", "reactor:other")
    assert [(cause.name, cause.position) for cause in last.causes] == [
        ("order.created.v1", 2),
        ("game.created.v1", 1),
    ]
    origin = last.causes[-1]
    assert (origin.actor, origin.correlation_id) == ("user:ana", request)
    assert origin.traceparent == asked.traceparent


async def test_a_cause_that_the_log_does_not_have_ends_the_chain(idle_shop: Shop) -> None:
    shop = idle_shop
    for stream, cause in (
        (GAME, uuid4()),
        (some_id("other"), UUID(int=(2**48 - 1) << 80 | 7 << 76)),
    ):
        await _append(shop, stream, Metadata("system", None, cause), game_created())
        found = await why(shop.log, str(stream), "title", model="games")
        assert [step.causes for step in found.steps] == [[]]


# -- what is shown ---------------------------------------------------------------------------------


async def test_a_wallet_s_balance(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(
        WALLET,
        WalletCreated(user_id=BUYER, currency="USD"),
        FundsAdded(500, "USD", 500),
        FundsAdded(250, "USD", 750),
    )
    found = await why(shop.log, str(WALLET), "balance_cents")
    assert (found.model, found.value, found.exists) == ("wallets", 750, True)
    assert _moves(found) == [(None, 0), (0, 500), (500, 750)]
    past = await why(shop.log, str(WALLET), "balance_cents", position=2)
    assert (past.value, past.position, _moves(past)) == (500, 2, [(None, 0), (0, 500)])


async def test_personal_data_are_told_to_have_changed_and_not_shown(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(BUYER, registered(), ProfileChanged(name="Anna"))
    found = await why(shop.log, str(BUYER), "name", model="users")
    assert _moves(found) == [(None, ENCRYPTED), (ENCRYPTED, ENCRYPTED)]
    assert found.value == ENCRYPTED
    assert "Ana" not in repr(found)
    region = await why(shop.log, str(BUYER), "region", model="users")
    assert region.value == "BR"


async def test_what_is_inside_of_lists_and_objects(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(ORDER, order_created())
    sold = await why(shop.log, str(ORDER), "lines.0.gross_cents", model="sales")
    assert (sold.value, _moves(sold)) == (1499, [(None, 1499)])
    none = await why(shop.log, str(ORDER), "lines.7.gross_cents", model="sales")
    assert (none.value, none.steps, none.exists) == (None, [], True)
    with pytest.raises(Unanswerable, match="gross_cents"):
        await why(shop.log, str(ORDER), "lines.0.total", model="sales")
    with pytest.raises(Unanswerable, match="no total"):
        await why(shop.log, str(ORDER), "currency.total", model="sales")


async def test_a_row_that_was_removed_is_still_explained(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(ORDER, order_created(), OrderCancelled(reason="changed_mind"))
    found = await why(shop.log, str(ORDER), "currency", model="sales")
    assert (found.exists, found.value) == (False, None)
    assert _moves(found) == [(None, "USD"), ("USD", None)]


async def test_a_row_that_any_stream_may_feed(idle_shop: Shop) -> None:
    shop = idle_shop
    for number in range(3):
        posted = TransactionPosted(
            cause_event_id=some_id(f"cause {number}"),
            entries=(Entry("REVENUE", "credit", 100, "USD"), Entry("CASH", "debit", 100, "USD")),
        )
        await shop.happened(some_id(f"posting {number}"), posted)
    found = await why(shop.log, "REVENUE/USD", "balance_cents")
    assert (found.model, _moves(found)) == (
        "ledger_accounts",
        [(None, 100), (100, 200), (200, 300)],
    )
    with pytest.raises(Unanswerable, match="3 events takes too long"):
        await why(shop.log, "REVENUE/USD", "balance_cents", most_positions=2)


async def test_only_the_latest_steps_are_shown_and_the_others_counted(
    idle_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why_query, "MAX_STEPS", 2)
    shop = idle_shop
    await shop.happened(GAME, game_created(), *(GameUpdated(title=f"{n}") for n in range(3)))
    found = await why(shop.log, str(GAME), "title", model="games")
    assert (_moves(found), found.left_out) == ([("0", "1"), ("1", "2")], 2)


async def test_an_event_that_cannot_be_applied_is_named_and_ends_its_stream(
    idle_shop: Shop,
) -> None:
    shop, broken = idle_shop, OrderConfirmed("not an id")  # type: ignore[arg-type]
    await shop.happened(ORDER, order_created(), broken, OrderCancelled(reason="changed_mind"))
    found = await why(shop.log, str(ORDER), "status", model="orders")
    assert [step.event.position for step in found.steps] == [1]
    (stop,) = found.stopped_by
    assert (stop.stream_id, stop.position, stop.name) == (ORDER, 2, "order.confirmed.v1")
    assert "Invalid UUID" in stop.error


# -- what there is not -----------------------------------------------------------------------------


async def test_an_unknown_name_is_answered_with_the_known_ones(idle_shop: Shop) -> None:
    shop = idle_shop
    await shop.happened(ORDER, order_created())
    for row_id, field, model, error, said in (
        (
            str(ORDER),
            "status",
            "ordres",
            Unanswerable,
            "no read model ordres; there are: acts",
        ),
        (str(ORDER), "totl", "orders", Unanswerable, "orders has: cancel_reason"),
        (str(ORDER), "totl", None, Unanswerable, "no field totl; orders has: cancel_reason"),
        (str(ORDER), "balance_cents", None, NoSuchRow, f"no row {ORDER}; orders has: cancel"),
        (str(uuid4()), "totl", None, Unanswerable, "no read model has a field totl, or a row"),
        ("CASH/USD", "totl", None, Unanswerable, "ledger_accounts has: account_id, balance"),
        ("7", "total_cents", "orders", Unanswerable, "orders (order_id)"),
        (str(uuid4()), "total_cents", "orders", NoSuchRow, "orders had no row"),
        (str(ORDER), "currency", None, Unanswerable, "orders, sales; name one"),
        (f"{ORDER}/1/2", "currency", None, Unanswerable, "wallet_movements (wallet_id/position)"),
    ):
        with pytest.raises(error) as refused:
            await why(shop.log, row_id, field, model=model)
        assert said in str(refused.value)
        if field == "totl" and row_id != "CASH/USD":
            assert "account_id" not in str(refused.value), "fields of other read models"
