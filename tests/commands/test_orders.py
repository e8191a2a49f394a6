"""Commands on orders."""

import asyncio
from unittest.mock import ANY
from uuid import UUID

import pytest

from commands.caller import SYSTEM
from domain.claims import ClaimReleased, ClaimTaken
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.identity import UserDeactivated
from domain.orders import OrderCancelled, OrderCreated, OrderLine
from domain.payments import (
    Method,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentMethodAttached,
    PaymentRefundRequested,
    PaymentRequested,
)
from domain.wallets import FundsDeducted, WalletDeactivated
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, RULES, Shop
from tests.support.given_when_then import NOON, an_id
from tests.support.past import (
    ANA,
    ANA_ID,
    BEN,
    BOARD,
    BY_WALLET,
    CARD,
    GAME,
    ORDER,
    PAYMENT,
    SELLER_ID,
    WALLET,
    account,
    game,
    order,
    wallet,
)

DEADLINE = NOON + RULES.payment_ttl
OWNED = ClaimTaken(kind="ownership", holder_id=ANY)
RELEASED = ClaimReleased(reason="order cancelled")
CLOSED = PaymentIntentCancelled(reason="order_cancelled")


def created(cents: int = 1999) -> OrderCreated:
    line = OrderLine(
        line_id=ANY,
        game_id=GAME,
        seller_id=SELLER_ID,
        kind="DIGITAL",
        title="A DIGITAL game",
        quantity=1,
        unit_price_cents=cents,
        fee_bps=RULES.fee_bps,
    )
    return OrderCreated(
        buyer_id=ANA_ID,
        region="BR",
        currency="EUR",
        total_cents=cents,
        provisional=True,
        payment_id=ANY,
        expires_at=DEADLINE,
        lines=(line,),
    )


def requested(cents: int = 1999, method: Method | None = None) -> PaymentRequested:
    return PaymentRequested(
        buyer_id=ANA_ID,
        amount_cents=cents,
        currency="EUR",
        expires_at=DEADLINE,
        order_id=ANY,
        method=method,
        payment_id=ANY,
        game_ids=(GAME,),
    )


def captured(cents: int, by: str) -> PaymentCaptured:
    return PaymentCaptured(
        order_id=ANY,
        buyer_id=ANA_ID,
        amount_cents=cents,
        currency="EUR",
        method_type=by,  # type: ignore[arg-type]
        user_id=ANA_ID,
        game_ids=(GAME,),
        transaction_id=ANY,
    )


# -- placing one -----------------------------------------------------------------------------------


async def test_a_buyer_orders_a_game_and_its_money_is_asked_for(shop: Shop) -> None:
    ordering = shop.given(account(ANA_ID), game()).when(shop.orders.place(ANA, GAME, CARD))
    made = await ordering.then(OWNED, created(), requested(method=CARD))
    found = await shop.orders.when_ready(made.value.order_id, 0)
    assert (found.order.status, found.payment.status, found.ready_to_answer) == (
        "PENDING_PAYMENT",
        "REQUESTED",
        False,
    )


async def test_what_costs_nothing_is_paid_at_once(shop: Shop) -> None:
    ordering = shop.given(account(ANA_ID), game(cents=0)).when(shop.orders.place(ANA, GAME, CARD))
    await ordering.then(OWNED, created(0), requested(0), captured(0, "free"))


async def test_from_a_wallet_it_is_paid_in_the_same_append(shop: Shop) -> None:
    ordering = shop.given(account(ANA_ID), game(), wallet(cents=2000)).when(
        shop.orders.place(ANA, GAME, BY_WALLET)
    )
    await ordering.then(
        OWNED,
        created(),
        requested(method=Method("wallet", str(WALLET))),
        FundsDeducted(amount_cents=1999, currency="EUR", balance_cents=1, payment_id=ANY),
        captured(1999, "wallet"),
    )


async def test_what_the_wallet_does_not_hold_is_not_ordered(shop: Shop) -> None:
    poor = shop.given(account(ANA_ID), game(), wallet(cents=1998)).when(
        shop.orders.place(ANA, GAME, BY_WALLET)
    )
    await poor.then_refused(Conflict, "insufficient_funds", balance_cents=1998)
    closed = shop.given({WALLET: [WalletDeactivated(reason="lost phone")]})
    await closed.when(shop.orders.place(ANA, GAME, BY_WALLET)).then_refused(
        Conflict, "wallet_inactive"
    )


async def test_who_has_no_wallet_pays_by_none(shop: Shop) -> None:
    ordering = shop.given(account(ANA_ID), game()).when(shop.orders.place(ANA, GAME, BY_WALLET))
    await ordering.then_refused(NotFound, "wallet_not_found")


async def test_a_game_is_ordered_once(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID), game(), order())
        .when(shop.orders.place(ANA, GAME, None))
        .then_refused(Conflict, "order_pending", order_id=str(ORDER))
    )


async def test_what_is_owned_is_not_ordered_again(shop: Shop) -> None:
    owned = shop.given(account(ANA_ID), game(), order(paid=True)).when(
        shop.orders.place(ANA, GAME, None)
    )
    await owned.then_refused(Conflict, "already_owned")


async def test_an_overdue_order_makes_room_for_the_next(shop: Shop) -> None:
    await shop.append(account(ANA_ID))
    await shop.append(game())
    await shop.append(order())
    shop.clock.advance(RULES.payment_ttl)
    made = await shop.orders.place(ANA, GAME, None)
    old, new = (
        await shop.orders.when_ready(ORDER, 0),
        await shop.orders.when_ready(made.value.order_id, 0),
    )
    assert (old.order.status, old.order.cancel_reason, new.order.status) == (
        "CANCELLED",
        "expired",
        "PENDING_PAYMENT",
    )


@pytest.mark.parametrize("game_id", [GAME, an_id("?")], ids=["draft", "unknown"])
async def test_what_nobody_sells_is_not_found(shop: Shop, game_id: UUID) -> None:
    there = shop.given(account(ANA_ID), game(status="DRAFT"))
    await there.when(shop.orders.place(ANA, game_id, None)).then_refused(NotFound, "game_not_found")


async def test_of_a_seller_who_has_left_nothing_is_bought(shop: Shop) -> None:
    left = shop.given(
        account(ANA_ID), account(SELLER_ID, "SELLER"), game(), {SELLER_ID: [UserDeactivated()]}
    )
    await left.when(shop.orders.place(ANA, GAME, None)).then_refused(Conflict, "game_unavailable")


async def test_what_is_shipped_goes_through_the_cart(shop: Shop) -> None:
    physical = shop.given(account(ANA_ID), game(BOARD, "PHYSICAL", units=1))
    await physical.when(shop.orders.place(ANA, BOARD, None)).then_refused(Invalid, "cart_required")


async def test_a_closed_account_orders_nothing(shop: Shop) -> None:
    closed = shop.given(account(ANA_ID), {ANA_ID: [UserDeactivated()]}, game())
    await closed.when(shop.orders.place(ANA, GAME, None)).then_refused(Forbidden, "user_inactive")
    await shop.when(shop.orders.place(SYSTEM, GAME, None)).then_refused(Forbidden, "no_account")


async def test_under_a_key_it_is_ordered_once_and_the_key_tells_what_was_made(shop: Shop) -> None:
    await shop.append(account(ANA_ID))
    await shop.append(game())
    once = IdempotencyKey(an_id("key"))
    made = await shop.orders.place(ANA, GAME, CARD, once=once)
    done = await shop.when(shop.orders.place(ANA, GAME, CARD, once=once)).then_known()
    assert done.result_ids == {
        "order_id": str(made.value.order_id),
        "payment_id": str(made.value.payment_id),
    }


async def test_of_two_who_order_the_same_game_for_one_buyer_at_once_one_does(shop: Shop) -> None:
    await shop.append(account(ANA_ID))
    await shop.append(game())
    outcomes = await asyncio.gather(
        *(shop.orders.place(ANA, GAME, CARD) for _ in range(5)), return_exceptions=True
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refusals) == 4
    assert all(
        isinstance(refusal, Conflict) and refusal.code == "order_pending" for refusal in refusals
    )


# -- cancelling ------------------------------------------------------------------------------------


async def test_its_buyer_calls_it_off_before_it_is_paid(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), game(), order())
    await there.when(shop.orders.cancel(ANA, ORDER)).then(
        OrderCancelled(reason="cancelled_by_buyer"), CLOSED, RELEASED
    )
    await shop.when(shop.orders.cancel(ANA, ORDER)).then_nothing()


async def test_nobody_else_calls_it_off_and_nobody_once_it_is_paid(shop: Shop) -> None:
    await (
        shop.given(order(paid=True))
        .when(shop.orders.cancel(BEN, ORDER))
        .then_refused(Forbidden, "not_yours")
    )
    await shop.when(shop.orders.cancel(ANA, ORDER)).then_refused(Conflict, "order_not_cancellable")
    await shop.when(shop.orders.cancel(ANA, an_id("?"))).then_refused(NotFound, "order_not_found")


async def test_the_deadline_cancels_what_is_still_unpaid_by_then(shop: Shop) -> None:
    await shop.given(order()).when(shop.orders.expire(SYSTEM, ORDER)).then_nothing()
    shop.clock.advance(RULES.payment_ttl)
    await shop.when(shop.orders.expire(SYSTEM, ORDER)).then(
        OrderCancelled(reason="expired"), CLOSED, RELEASED
    )
    await shop.when(shop.orders.expire(SYSTEM, ORDER)).then_nothing()


async def test_the_deadline_leaves_alone_what_is_paid(shop: Shop) -> None:
    await shop.append(order(paid=True))
    shop.clock.advance(RULES.payment_ttl)
    await shop.when(shop.orders.expire(SYSTEM, ORDER)).then_nothing()


async def test_an_admin_sends_all_or_a_part_of_the_money_back(shop: Shop) -> None:
    paid = shop.given(order(paid=True))
    await paid.when(shop.orders.refund(ADMIN, ORDER, 999, "damaged")).then(
        PaymentRefundRequested(refund_id=ANY, amount_cents=999, reason="damaged")
    )
    await shop.when(shop.orders.refund(ADMIN, ORDER, 1001, "damaged")).then_refused(
        Conflict, "refund_exceeds_capture", refundable_cents=1000
    )
    await shop.when(shop.orders.refund(ADMIN, ORDER, None, "the rest")).then(
        PaymentRefundRequested(refund_id=ANY, amount_cents=1000, reason="the rest")
    )


async def test_nobody_else_sends_money_back_nor_what_did_not_come(shop: Shop) -> None:
    await (
        shop.given(order())
        .when(shop.orders.refund(ANA, ORDER, None, "x"))
        .then_refused(Forbidden, "role_required")
    )
    await shop.when(shop.orders.refund(ADMIN, ORDER, None, "x")).then_refused(
        Conflict, "payment_not_captured"
    )
    await shop.when(shop.orders.refund(ADMIN, an_id("?"), None, "x")).then_refused(
        NotFound, "order_not_found"
    )


# -- waiting ---------------------------------------------------------------------------------------


async def test_who_waits_for_an_order_hears_as_soon_as_it_is_settled(shop: Shop) -> None:
    await shop.append(order(method=CARD))
    waiting = asyncio.create_task(shop.orders.when_ready(ORDER, 60))
    await shop.append({PAYMENT: [failed()]})
    await shop.orders.cancel(ANA, ORDER)
    found = await waiting
    assert (found.order.status, found.payment.failure_code) == ("CANCELLED", "card_declined")


async def test_who_waits_for_what_is_not_settled_sees_it_as_it_is(shop: Shop) -> None:
    await shop.append(order())
    await shop.append({PAYMENT: [PaymentMethodAttached(method=CARD)]})
    found = await shop.orders.when_ready(ORDER, 0.01)
    assert not found.ready_to_answer
    with pytest.raises(NotFound, match="order_not_found"):
        await shop.orders.when_ready(an_id("?"), 0)


def failed() -> PaymentFailed:
    return PaymentFailed(
        order_id=ORDER,
        buyer_id=ANA_ID,
        amount_cents=1999,
        currency="EUR",
        code="card_declined",
        detail="no",
    )
