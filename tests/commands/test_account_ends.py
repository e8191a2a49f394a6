"""Commands that close, forget and reopen accounts, with everything that belongs to them."""

from unittest.mock import ANY

from domain.cart import CartAbandoned, CartCreated
from domain.catalog import GameResumed, GameSuspended
from domain.claims import ClaimReleased, ClaimTaken
from domain.errors import Conflict, Forbidden, NotFound, Stale
from domain.identity import (
    ForgettingBegun,
    SessionsEnded,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
)
from domain.ids import claim_id
from domain.orders import OrderCancelled
from domain.payments import PaymentIntentCancelled
from kit.forgotten import FORGOTTEN
from tests.support.commands import ADMIN, ADMIN_ID, RULES, Shop, Streams
from tests.support.given_when_then import NOON, an_id
from tests.support.past import ANA, ANA_ID, BEN, SELLER, SELLER_ID, account, game, order, wallet

CART = an_id("cart")
CLOSED = UserDeactivated()


async def test_a_person_closes_their_account_and_their_unpaid_order_is_called_off(
    shop: Shop,
) -> None:
    await (
        shop.given(account(ANA_ID), game(), order())
        .when(shop.account_ends.close(ANA, ANA_ID))
        .then(
            CLOSED,
            OrderCancelled(reason="account_closed"),
            PaymentIntentCancelled(reason="order_cancelled"),
            ClaimReleased(reason="order cancelled"),
        )
    )
    await shop.when(shop.account_ends.close(ANA, ANA_ID)).then_nothing()


async def test_with_the_account_its_cart_ends(shop: Shop) -> None:
    created = CartCreated(
        buyer_id=ANA_ID,
        currency="EUR",
        expires_at=NOON + RULES.cart_ttl,
        ends_at=NOON + RULES.cart_max,
    )
    cart: Streams = {
        CART: [created],
        claim_id("cart", ANA_ID): [ClaimTaken(kind="cart", holder_id=CART)],
    }
    await (
        shop.given(account(ANA_ID), cart)
        .when(shop.account_ends.close(ANA, ANA_ID))
        .then(CLOSED, CartAbandoned(reason="account_closed"), ClaimReleased(reason=ANY))
    )


async def test_a_closed_sellers_games_are_off_sale_until_it_is_reopened(shop: Shop) -> None:
    there = shop.given(account(SELLER_ID, "SELLER"), game())
    await there.when(shop.account_ends.close(SELLER, SELLER_ID)).then(CLOSED, GameSuspended())
    await shop.when(shop.account_ends.reopen(ADMIN, SELLER_ID, "a mistake")).then(
        UserReactivated(reason="a mistake"), SessionsEnded(), GameResumed()
    )
    again = shop.when(shop.account_ends.reopen(ADMIN, SELLER_ID))
    await again.then_refused(Conflict, "account_active")


async def test_others_close_nothing_and_only_an_admin_reopens(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID))
        .when(shop.account_ends.close(BEN, ANA_ID))
        .then_refused(Forbidden, "not_yours")
    )
    await shop.when(shop.account_ends.close(ADMIN, an_id("?"))).then_refused(
        NotFound, "user_not_found"
    )
    await shop.when(shop.account_ends.reopen(ANA, ANA_ID)).then_refused(Forbidden, "role_required")


async def test_who_saw_another_version_does_not_close_it(shop: Shop) -> None:
    stale = shop.given(account(ANA_ID)).when(
        shop.account_ends.close(ANA, ANA_ID, expected_version=2)
    )
    await stale.then_refused(Stale, "version_mismatch", version=1)


async def test_the_last_admin_stays(shop: Shop) -> None:
    alone = shop.given(account(ADMIN_ID, "ADMIN"))
    await alone.when(shop.account_ends.close(ADMIN, ADMIN_ID)).then_refused(Conflict, "last_admin")
    with_another = shop.given(account(an_id("another"), "ADMIN"))
    await with_another.when(shop.account_ends.close(ADMIN, ADMIN_ID)).then(CLOSED)


async def test_a_forgotten_person_is_unreadable_and_not_reopened(shop: Shop) -> None:
    forgetting = shop.given(account(ANA_ID)).when(shop.account_ends.close(ANA, ANA_ID, forget=True))
    await forgetting.then(ForgettingBegun(), CLOSED, UserForgotten())
    registered = (await shop.log.read_stream(ANA_ID))[0].event
    assert (registered.email, registered.name) == (FORGOTTEN, FORGOTTEN)
    await shop.when(shop.account_ends.reopen(ADMIN, ANA_ID)).then_refused(
        Conflict, "account_forgotten"
    )


async def test_who_has_money_here_is_not_forgotten(shop: Shop) -> None:
    rich = shop.given(account(ANA_ID), wallet(cents=1))
    await rich.when(shop.account_ends.close(ANA, ANA_ID, forget=True)).then_refused(
        Conflict, "account_has_obligations"
    )
