"""Carts: their items are checked again at checkout, and they reserve nothing for ever."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain import cart as carts
from domain import cart_review
from domain.cart import (
    Cart,
    CartAbandoned,
    CartCreated,
    CheckoutInitiated,
    CurrencyChanged,
    ExpiryShown,
    Item,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
    ItemRepriced,
    evolve,
)
from domain.cart_review import LineChange, LineNow
from domain.catalog import Price
from domain.errors import Conflict
from domain.events import Event
from kit.currencies import MAX_CENTS
from tests.support.given_when_then import NOON, an_id, fold, given, when

BUYER, ORDER, PAYMENT = an_id("buyer"), an_id("order"), an_id("payment")
TTL, SOON, END = timedelta(minutes=15), NOON + timedelta(minutes=15), NOON + timedelta(minutes=60)
CREATED = CartCreated(buyer_id=BUYER, currency="USD", expires_at=SOON, ends_at=END)


def added(name: str, quantity: int = 1, cents: int = 100, *, digital: bool = False) -> ItemAdded:
    """A line whose ids are derived from its name."""
    return ItemAdded(
        item_id=an_id(name), game_id=an_id(f"game {name}"), seller_id=an_id("seller"), sku=name,
        title=name,
        quantity=quantity, unit_price_cents=cents, expires_at=SOON,
        reservation_id=None if digital else an_id(f"hold {name}"),
    )  # fmt: skip


def now_at(cents: int, quantity: int = 10, currency: str = "USD") -> LineNow:
    return LineNow(Price("*", cents, currency), quantity)


GONE = LineNow(None, 0)
CHESS, GO, CELESTE = added("chess", 3), added("go", 1, 50), added("celeste", 1, 200, digital=True)


def reviewed(cart: Cart, **found: LineNow) -> tuple[list[LineChange], list[Event]]:
    return cart_review.review(cart, {an_id(name): line for name, line in found.items()}, SOON)


def after_review(*events: Event, **found: LineNow) -> Any:
    cart = fold(evolve, *events)
    changes, decided = reviewed(cart, **found)
    return changes, when(lambda: decided)


# -- changes since an item was added ---------------------------------------------------------------


def test_a_cart_whose_lines_can_be_had_as_they_stand_is_left_alone() -> None:
    changes, then = after_review(
        CREATED, CHESS, CELESTE, chess=now_at(100, 3), celeste=now_at(200, 1)
    )

    assert changes == []
    then.then_nothing()


def test_a_changed_price_is_reported_and_becomes_the_lines_price() -> None:
    changes, then = after_review(CREATED, CHESS, GO, chess=now_at(6000), go=now_at(50))

    assert changes == [
        LineChange(an_id("chess"), "price", 100, 6000, was_currency="USD", currency="USD")
    ]
    then.then(ItemRepriced(item_id=an_id("chess"), unit_price_cents=6000, expires_at=SOON))


def test_what_cannot_be_had_any_more_is_taken_out() -> None:
    changes, then = after_review(CREATED, CHESS, CELESTE, chess=now_at(100), celeste=GONE)

    assert changes == [LineChange(an_id("celeste"), "unavailable", 1, 0)]
    then.then(ItemRemoved(item_id=an_id("celeste"), expires_at=SOON))


def test_of_what_there_is_less_of_the_rest_stays() -> None:
    changes, then = after_review(CREATED, CHESS, GO, chess=now_at(100, 2), go=now_at(50, 0))

    assert changes == [
        LineChange(an_id("chess"), "stock", 3, 2),
        LineChange(an_id("go"), "stock", 1, 0),
    ]
    then.then(
        ItemChanged(item_id=an_id("chess"), quantity=2, expires_at=SOON),
        ItemRemoved(item_id=an_id("go"), expires_at=SOON),
    )


def test_less_of_it_at_another_price_is_two_changes_of_one_line() -> None:
    changes, then = after_review(CREATED, CHESS, chess=now_at(90, 1))

    assert [(each.code, each.was, each.now) for each in changes] == [
        ("stock", 3, 1),
        ("price", 100, 90),
    ]
    then.then(
        ItemRepriced(item_id=an_id("chess"), unit_price_cents=90, expires_at=SOON),
        ItemChanged(item_id=an_id("chess"), quantity=1, expires_at=SOON),
    )


def test_a_line_sold_only_in_another_currency_is_unavailable_beside_others_in_the_carts() -> None:
    changes, then = after_review(
        CREATED, CHESS, GO, chess=now_at(100), go=now_at(50, currency="EUR")
    )

    assert changes == [LineChange(an_id("go"), "unavailable", 1, 0)]
    then.then(ItemRemoved(item_id=an_id("go"), expires_at=SOON))


def test_a_cart_all_of_which_is_sold_in_another_currency_goes_over_to_it() -> None:
    cart = fold(evolve, CREATED, CHESS, GO)

    changes, events = reviewed(cart, chess=now_at(100, currency="BRL"), go=GONE)

    assert changes == [
        LineChange(an_id("chess"), "price", 100, 100, was_currency="USD", currency="BRL"),
        LineChange(an_id("go"), "unavailable", 1, 0),
    ]
    assert events[0] == CurrencyChanged(currency="BRL")
    after = fold(evolve, CREATED, CHESS, GO, *events)
    assert (after.currency, after.total_cents) == ("BRL", 300)


def test_what_was_reviewed_stands_a_second_review() -> None:
    found = {"chess": now_at(7, 2, "EUR"), "go": now_at(9, 1, "BRL"), "celeste": GONE}
    cart = fold(evolve, CREATED, CHESS, GO, CELESTE)
    _, events = reviewed(cart, **found)

    again, _ = reviewed(fold(evolve, CREATED, CHESS, GO, CELESTE, *events), **found)

    assert again == []


# -- changes of quantity ---------------------------------------------------------------------------


def change(quantity: int, price: Price | None) -> Any:
    return lambda cart: carts.change(cart, an_id("chess"), quantity, SOON, now=NOON, price=price)


def test_more_of_a_line_costs_what_the_game_costs_now_and_less_stays_as_it_was() -> None:
    more = ItemChanged(item_id=an_id("chess"), quantity=4, expires_at=SOON)
    anew = ItemRepriced(item_id=an_id("chess"), unit_price_cents=130, expires_at=SOON)
    less = ItemChanged(item_id=an_id("chess"), quantity=1, expires_at=SOON)

    given(evolve, CREATED, CHESS).when(change(4, Price("*", 130, "USD"))).then(anew, more)
    given(evolve, CREATED, CHESS).when(change(4, Price("*", 100, "USD"))).then(more)
    given(evolve, CREATED, CHESS).when(change(1, Price("*", 130, "USD"))).then(less)


MORE_CHESS = msgspec.structs.replace(
    CHESS, item_id=an_id("more chess"), reservation_id=an_id("more hold")
)


def add(cents: int) -> Any:
    """Add one more unit of chess, at its current price."""
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(MORE_CHESS).items()
        if name in Item.__struct_fields__
    }
    item = Item(**{**fields, "unit_price_cents": cents})
    return lambda cart: carts.add(cart, item, "USD", SOON, digital=False, now=NOON)


def test_more_of_a_game_costs_what_it_costs_now_on_all_its_lines() -> None:
    anew = [
        ItemRepriced(item_id=an_id(name), unit_price_cents=130, expires_at=SOON)
        for name in ("chess", "more chess")
    ]
    dearer = msgspec.structs.replace(MORE_CHESS, unit_price_cents=130)
    more = ItemChanged(item_id=an_id("chess"), quantity=4, expires_at=SOON)

    given(evolve, CREATED, CHESS, GO).when(add(130)).then(anew[0], dearer)
    given(evolve, CREATED, CHESS, GO).when(add(100)).then(MORE_CHESS)
    given(evolve, CREATED, CHESS, MORE_CHESS).when(change(4, Price("*", 130, "USD"))).then(
        *anew, more
    )


def test_what_a_cart_may_cost_counts_the_new_prices_of_all_lines() -> None:
    sixth = MAX_CENTS["USD"] // 6

    given(evolve, CREATED, CHESS).when(add(sixth + 1)).then_refused(Conflict, "amount_too_large")
    assert len(given(evolve, CREATED, CHESS).when(add(sixth)).decided()) == 2


def test_more_of_what_is_sold_in_another_currency_now_is_refused() -> None:
    given(evolve, CREATED, CHESS).when(change(4, Price("*", 1, "EUR"))).then_refused(
        Conflict, "currency_mismatch"
    )


# -- expiry ----------------------------------------------------------------------------------------


def touched(until: datetime) -> ItemChanged:
    return ItemChanged(item_id=an_id("chess"), quantity=3, expires_at=until)


def test_however_often_it_is_touched_it_ends_when_it_has_to() -> None:
    late = END - timedelta(minutes=5)
    cart = fold(evolve, CREATED, CHESS, touched(late))

    assert cart.until(NOON, TTL) == SOON
    assert cart.until(late, TTL) == END
    assert (
        cart.is_open(late - TTL),
        fold(evolve, CREATED, CHESS, touched(END + TTL)).is_open(END),
    ) == (True, False)


def test_a_cart_of_before_there_was_an_end_ends_an_hour_after_it_began_all_the_same() -> None:
    old = CartCreated(buyer_id=BUYER, currency="USD", expires_at=SOON)
    for_ever = touched(END + timedelta(days=1))

    cart = fold(evolve, old, CHESS, for_ever)

    assert cart.is_open(END - timedelta(seconds=1))
    given(evolve, old, CHESS, for_ever).when(lambda c: carts.expire(c, END)).then(
        CartAbandoned(reason="expired")
    )


def test_its_end_is_shown_once_and_only_if_it_had_lines() -> None:
    over = CartAbandoned(reason="expired")

    given(evolve, CREATED, CHESS, over).when(carts.show_expiry).then(ExpiryShown())
    given(evolve, CREATED, CHESS, over, ExpiryShown()).when(carts.show_expiry).then_nothing()
    given(evolve, CREATED, over).when(carts.show_expiry).then_nothing()
    given(evolve, CREATED, CHESS).when(carts.show_expiry).then_nothing()


def test_it_can_be_thrown_away_until_it_is_checked_out() -> None:
    checked_out = CheckoutInitiated(order_id=ORDER, payment_id=PAYMENT)

    given(evolve, CREATED, CHESS).when(carts.discard).then(CartAbandoned(reason="discarded"))
    given(evolve, CREATED, CHESS, checked_out).when(carts.discard).then_nothing()
    assert fold(evolve, CREATED, CHESS, CartAbandoned(reason="discarded")).status == "ABANDONED"


def test_a_price_that_has_grown_beyond_all_bounds_is_refused_at_the_checkout() -> None:
    dear = [ItemRepriced(item_id=an_id("chess"), unit_price_cents=99_999_999, expires_at=SOON)]
    order = lambda cart: carts.check_out(cart, ORDER, PAYMENT, now=NOON)  # noqa: E731

    given(evolve, CREATED, CHESS, *dear).when(order).then_refused(Conflict, "amount_too_large")


def test_nothing_is_put_into_a_cart_past_its_end() -> None:
    item = Item(UUID(int=1), UUID(int=2), UUID(int=3), "x", "x", 1, 1)
    add = lambda cart: carts.add(cart, item, "USD", END, digital=True, now=END)  # noqa: E731

    given(evolve, CREATED, CHESS, touched(END + TTL)).when(add).then_refused(
        Conflict, "cart_closed"
    )
