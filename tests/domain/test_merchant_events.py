"""Who receives which webhooks: by whitelists, and of an order only one's own lines."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain import catalog, fulfilment, inventory, merchant_events, orders
from domain.catalog import GameCreated, GameUpdated, Price
from domain.events import Event
from domain.fulfilment import ShipmentCreated, ShipmentStatusUpdated
from domain.ids import PLATFORM_ID
from domain.inventory import Reserved, StockCreated
from domain.ledger import Entry, TransactionPosted, seller_account
from domain.orders import OrderCompleted, OrderCreated, OrderLine, OrderRefunded
from domain.payments import PaymentCaptured
from tests.support.given_when_then import NOON, an_id, fold

ANN, BOB, BUYER, ORDER = map(an_id, ("ann", "bob", "buyer", "order"))


def line(seller_id: UUID, cents: int) -> OrderLine:
    return OrderLine(
        an_id(f"line {cents}"),
        an_id(f"game {cents}"),
        seller_id,
        "DIGITAL",
        f"{cents}",
        1,
        cents,
        1000,
    )


def placed(*lines: OrderLine) -> OrderCreated:
    return OrderCreated(
        buyer_id=BUYER,
        region="BR",
        currency="USD",
        total_cents=sum(each.unit_price_cents for each in lines),
        provisional=True,
        payment_id=an_id("payment"),
        expires_at=NOON,
        lines=lines,
        shipping_address={"name": "Ana", "line1": "Rua 1"},
    )


SHARED, ANNS = placed(line(ANN, 1000), line(BOB, 500), line(ANN, 20)), placed(line(ANN, 1000))
CAPTURED = PaymentCaptured(
    order_id=ORDER,
    buyer_id=BUYER,
    amount_cents=1520,
    currency="USD",
    method_type="card",
    provider_ref="pi_1",
)


def told(event: Event, order: OrderCreated, owner: UUID) -> dict[str, Any]:
    return merchant_events.of_order(event, ORDER, fold(orders.evolve, order)).payload_for(owner)


def test_an_order_is_news_for_each_seller_with_a_line_in_it() -> None:
    merchant_event = merchant_events.of_order(OrderCompleted(), ORDER, fold(orders.evolve, SHARED))
    assert merchant_event.sellers == {ANN, BOB}


def test_a_seller_sees_their_own_lines_and_what_these_cost() -> None:
    order = told(OrderCompleted(), SHARED, ANN)["order"]
    assert (order["order_id"], order["currency"], order["amount_cents"]) == (ORDER, "USD", 1020)
    assert [each["unit_price_cents"] for each in order["lines"]] == [1000, 20]
    assert [each["title"] for each in told(OrderCompleted(), SHARED, BOB)["order"]["lines"]] == [
        "500"
    ]


def test_the_platform_sees_all_lines_and_their_sellers() -> None:
    order = told(OrderCompleted(), SHARED, PLATFORM_ID)["order"]
    assert order["amount_cents"] == 1520
    assert [each["seller_id"] for each in order["lines"]] == [ANN, BOB, ANN]


@pytest.mark.parametrize(
    "event",
    [
        CAPTURED,
        OrderRefunded(payment_id=an_id("payment"), amount_cents=700, currency="USD", full=False),
    ],
    ids=lambda event: event.NAME,
)
def test_only_a_seller_who_owns_every_line_sees_amounts_of_the_whole_order(event: Any) -> None:
    assert told(event, ANNS, ANN)["amount_cents"] == event.amount_cents
    assert told(event, SHARED, PLATFORM_ID)["amount_cents"] == event.amount_cents
    assert "amount_cents" not in told(event, SHARED, ANN)


@pytest.mark.parametrize(
    "event", [SHARED, CAPTURED, OrderCompleted()], ids=lambda event: event.NAME
)
@pytest.mark.parametrize("owner", [ANN, BOB, PLATFORM_ID])
def test_no_seller_sees_who_the_buyer_is(event: Any, owner: UUID) -> None:
    text = msgspec.json.encode(told(event, SHARED, owner)).decode()
    assert [secret for secret in (str(BUYER), "Ana", "Rua 1", "pi_1") if secret in text] == []


def test_a_seller_sees_the_entries_of_their_own_account() -> None:
    entries = (
        Entry("STRIPE_CLEARING", "debit", 1520, "USD"),
        Entry(seller_account(ANN), "credit", 918, "USD"),
        Entry(seller_account(BOB), "credit", 450, "USD"),
        Entry("PLATFORM_REVENUE", "credit", 152, "USD"),
    )
    posted = TransactionPosted(cause_event_id=an_id("cause"), entries=entries, order_id=ORDER)
    merchant_event = merchant_events.of_posting(posted, an_id("posting"))
    assert merchant_event.sellers == {ANN, BOB}
    assert merchant_event.payload_for(ANN) == {
        "ledger_transaction_id": an_id("posting"),
        "cause_event_id": an_id("cause"),
        "order_id": ORDER,
        "entries": [entries[1]],
    }
    assert merchant_event.payload_for(PLATFORM_ID)["entries"] == list(entries)


def test_a_game_is_news_for_its_seller_and_an_edit_says_what_changed() -> None:
    listing = catalog.Listing(
        sku="S-1", title="Chess", kind="DIGITAL", prices=(Price("*", 999, "USD"),)
    )
    (created,) = catalog.create(ANN, listing, "ACTIVE")
    assert isinstance(created, GameCreated)
    game, game_id = fold(catalog.evolve, created), an_id("game")
    merchant_event = merchant_events.of_game(GameUpdated(title="Go"), game_id, game)
    assert merchant_event.sellers == {ANN}
    assert merchant_event.payload_for(ANN) == {"game_id": game_id, "title": "Go"}
    assert merchant_events.of_game(created, game_id, game).payload_for(ANN)["prices"] == (
        Price("*", 999, "USD"),
    )


def test_a_shipment_is_news_for_who_sends_it() -> None:
    created = ShipmentCreated(order_id=ORDER, seller_id=ANN, lines=())
    shipped = ShipmentStatusUpdated(
        status="SHIPPED", at=NOON, carrier="Correios", tracking_number="BR1"
    )
    merchant_event = merchant_events.of_shipment(
        shipped, an_id("shipment"), fold(fulfilment.evolve, created)
    )
    assert merchant_event.sellers == {ANN}
    assert merchant_event.payload_for(ANN) == {
        "shipment_id": an_id("shipment"),
        "order_id": ORDER,
        "status": "SHIPPED",
        "at": NOON,
        "carrier": "Correios",
        "tracking_number": "BR1",
    }


def test_stock_is_news_for_its_seller_but_not_whose_cart_holds_it() -> None:
    stock = fold(inventory.evolve, StockCreated(game_id=an_id("game"), seller_id=ANN, sku="S-1"))
    held = Reserved(
        reservation_id=an_id("hold"), cart_id=an_id("cart"), quantity=2, expires_at=NOON
    )
    merchant_event = merchant_events.of_stock(held, stock)
    told = {
        "game_id": an_id("game"),
        "reservation_id": an_id("hold"),
        "quantity": 2,
        "expires_at": NOON,
    }
    assert merchant_event.sellers == {ANN}
    assert merchant_event.payload_for(ANN) == told


def test_every_field_on_a_whitelist_is_there_and_none_is_personal_or_names_a_person() -> None:
    for event, names in merchant_events.PUBLIC_FIELDS.items():
        assert set(names) <= set(event.__struct_fields__), event
        assert not {name for name in names if name in {"buyer_id", "user_id"} or "address" in name}
