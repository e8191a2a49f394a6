"""Commands on wallets."""

from unittest.mock import ANY

import pytest

from domain.claims import ClaimTaken
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.identity import UserDeactivated
from domain.wallets import (
    FundsAdded,
    FundsDeducted,
    WalletCreated,
    WalletDeactivated,
    WalletReactivated,
)
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, Shop
from tests.support.given_when_then import an_id
from tests.support.past import ANA, ANA_ID, WALLET, account, wallet

CLOSED = WalletDeactivated(reason="lost phone")


async def test_a_person_opens_one_wallet_a_currency(shop: Shop) -> None:
    opened = shop.given(account(ANA_ID)).when(shop.wallets.create(ANA, "EUR"))
    made = await opened.then(
        ClaimTaken(kind="wallet", holder_id=ANY), WalletCreated(user_id=ANA_ID, currency="EUR")
    )
    assert [event.event.user_id for event in await shop.log.read_stream(made.value)] == [ANA_ID]
    await shop.when(shop.wallets.create(ANA, "EUR")).then_refused(Conflict, "wallet_exists")
    await shop.when(shop.wallets.create(ANA, "USD")).then(
        ClaimTaken(kind="wallet", holder_id=ANY), WalletCreated(user_id=ANA_ID, currency="USD")
    )


async def test_a_wallet_is_in_a_currency_that_exists(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID))
        .when(shop.wallets.create(ANA, "XXX"))
        .then_refused(Invalid, "invalid_currency")
    )


async def test_a_closed_account_opens_no_wallet(shop: Shop) -> None:
    closed = shop.given(account(ANA_ID), {ANA_ID: [UserDeactivated()]})
    await closed.when(shop.wallets.create(ANA, "EUR")).then_refused(Forbidden, "user_inactive")


async def test_under_a_key_a_wallet_is_opened_once_and_the_key_tells_which(shop: Shop) -> None:
    once = IdempotencyKey(an_id("key"), b"print")
    await shop.append(account(ANA_ID))
    made = await shop.wallets.create(ANA, "EUR", once=once)
    done = await shop.when(shop.wallets.create(ANA, "EUR", once=once)).then_known()
    assert (done.result_ids, done.position) == ({"wallet_id": str(made.value)}, made.position)


async def test_an_admin_moves_a_balance_up_and_down(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID), wallet())
        .when(shop.wallets.add_funds(ADMIN, WALLET, 500, "gift"))
        .then(FundsAdded(amount_cents=500, currency="EUR", balance_cents=500, reason="gift"))
    )
    await shop.when(shop.wallets.deduct_funds(ADMIN, WALLET, 200, "mistake")).then(
        FundsDeducted(amount_cents=200, currency="EUR", balance_cents=300, reason="mistake")
    )
    too_much = shop.when(shop.wallets.deduct_funds(ADMIN, WALLET, 301, "mistake"))
    await too_much.then_refused(Conflict, "insufficient_funds", balance_cents=300)


async def test_nobody_else_moves_a_balance(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), wallet())
    await there.when(shop.wallets.add_funds(ANA, WALLET, 500, "gift")).then_refused(
        Forbidden, "role_required"
    )


async def test_a_wallet_that_is_not_there_is_not_found(shop: Shop) -> None:
    await shop.when(shop.wallets.add_funds(ADMIN, WALLET, 500, "gift")).then_refused(
        NotFound, "wallet_not_found"
    )


async def test_nothing_comes_into_the_wallet_of_a_closed_account(shop: Shop) -> None:
    closed = shop.given(account(ANA_ID), wallet(cents=100), {ANA_ID: [UserDeactivated()]})
    await closed.when(shop.wallets.add_funds(ADMIN, WALLET, 1, "gift")).then_refused(
        Conflict, "recipient_closed"
    )
    await shop.when(shop.wallets.deduct_funds(ADMIN, WALLET, 100, "settled")).then(
        FundsDeducted(amount_cents=100, currency="EUR", balance_cents=0, reason="settled")
    )


async def test_an_adjustment_has_a_reason(shop: Shop) -> None:
    with pytest.raises(Invalid, match="reason"):
        await shop.wallets.add_funds(ADMIN, WALLET, 1, " ")


async def test_an_admin_deactivates_and_reactivates(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), wallet(cents=100))
    await there.when(shop.wallets.deactivate(ADMIN, WALLET, "lost phone")).then(CLOSED)
    await shop.when(shop.wallets.deduct_funds(ADMIN, WALLET, 1, "x")).then_refused(
        Conflict, "wallet_inactive"
    )
    await shop.when(shop.wallets.deactivate(ADMIN, WALLET, "again")).then_refused(
        Conflict, "wallet_inactive"
    )
    await shop.when(shop.wallets.reactivate(ADMIN, WALLET, "found")).then(
        WalletReactivated(reason="found")
    )
    await shop.when(shop.wallets.reactivate(ADMIN, WALLET, "again")).then_refused(
        Conflict, "wallet_active"
    )
