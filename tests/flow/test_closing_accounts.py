"""Closing an account at every step of what it has under way: afterwards no money is left without an
owner."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from commands.caller import Caller
from domain.errors import Conflict, Forbidden
from domain.ledger import BUYER_EXTERNAL, CLEARING, wallet_account
from domain.notifications import NotificationRequested
from domain.payments import Method
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till, ordered

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECURE = Method("card", "pm_card_authenticationRequired")
ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    home: Path = tmp_path_factory.mktemp("till")
    async with open_till(module_database, home) as till:
        yield till


async def close(till: Till, person: Caller) -> None:
    await till.commands.account_ends.close(person, person.person())


async def reopen(till: Till, person: Caller) -> None:
    await till.commands.account_ends.reopen(ADMIN, person.person())


@pytest.mark.parametrize("who", ["buyer", "seller"])
async def test_money_captured_after_the_closing_goes_back(till: Till, who: str) -> None:
    """The provider captures a payment that the buyer had begun: the notice comes after the closing,
    and before the intent is cancelled."""
    buyer, seller = await till.person(), await till.person("SELLER")
    before = await till.accounts()
    placed = (await till.commands.orders.place(buyer, await till.game(1999, seller), SECURE)).value
    await till.settle()
    assert (await till.payment(placed.payment_id)).status == "REQUIRES_ACTION"

    await close(till, buyer if who == "buyer" else seller)
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await till.settle()

    assert (await till.order(placed.order_id)).status == "CANCELLED"
    assert (await till.payment(placed.payment_id)).status == "REFUNDED"
    assert await till.accounts() == {
        **before,
        **{k: v for k, v in (await till.accounts()).items() if not v},
    }


@pytest.mark.parametrize("who", ["buyer", "seller"])
async def test_money_captured_between_the_closing_and_the_calling_off_goes_back(
    till: Till, who: str
) -> None:
    """The command crashed right after its event, and the capture is settled first."""
    buyer, seller = await till.person(), await till.person("SELLER")
    placed = (await till.commands.orders.place(buyer, await till.game(1999, seller), SECURE)).value
    await till.settle()
    await only_closed(till, buyer if who == "buyer" else seller)
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await till.settle()
    order = await till.order(placed.order_id)
    assert (order.status, order.cancel_reason) == (
        "CANCELLED",
        f"{'account' if who == 'buyer' else 'seller'}_closed",
    )
    assert (await till.payment(placed.payment_id)).status == "REFUNDED"


async def only_closed(till: Till, person: Caller) -> None:
    """The event alone, as by a command that crashed."""
    await till.commands.account_ends._close(person, person.person(), None)


@pytest.mark.parametrize("who", ["buyer", "seller"])
async def test_money_captured_before_the_closing_buys(till: Till, who: str) -> None:
    buyer, seller = await till.person(), await till.person("SELLER")
    placed = (await till.commands.orders.place(buyer, await till.game(1999, seller), SECURE)).value
    await till.settle()
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await close(till, buyer if who == "buyer" else seller)
    await till.settle()
    assert (await till.order(placed.order_id)).status == "COMPLETED"
    assert (await till.payment(placed.payment_id)).status == "CAPTURED"


@pytest.mark.parametrize("captured", ["before", "after"])
async def test_a_deposit_of_a_closed_person_goes_back(till: Till, captured: str) -> None:
    ann = await till.person()
    wallet, before = await till.wallet(ann), await till.accounts()
    asked = (await till.commands.transactions.deposit(ann, wallet, 700, "USD", SECURE)).value
    await till.settle()
    payment_id = (await till.transaction(asked)).payment_id
    assert payment_id is not None
    if captured == "before":
        await till.notice(payment_id, "payment_intent.succeeded")
    await close(till, ann)
    if captured == "after":
        await till.notice(payment_id, "payment_intent.succeeded")
    await till.settle()

    assert (await till.transaction(asked)).status == "FAILED"
    assert (await till.payment(payment_id)).status == "REFUNDED"
    assert await till.balance(wallet) == 0
    after = await till.accounts()
    for account in (BUYER_EXTERNAL, CLEARING, wallet_account(wallet)):
        assert after.get(account, 0) == before.get(account, 0)


@pytest.mark.parametrize(
    ("who", "code"), [("sender", "user_inactive"), ("recipient", "recipient_closed")]
)
async def test_a_transfer_under_way_ends_with_the_account_of_either(
    till: Till, who: str, code: str
) -> None:
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 500), await till.wallet(bob)
    asked = await till.transfer_under_way(ann, source, target, 300)
    await close(till, ann if who == "sender" else bob)
    await till.commands.transactions.resume(ADMIN, asked)
    failed = await till.transaction(asked)
    assert (failed.step, failed.code) == ("deduct" if who == "sender" else "credit", code)
    assert (await till.balance(source), await till.balance(target)) == (500, 0)


async def test_a_closed_persons_wallet_pays_for_nothing(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann, 5000)
    placed = (await till.commands.orders.place(ann, await till.game(), None)).value
    await close(till, ann)
    with pytest.raises(Forbidden, match="user_inactive"):
        await till.commands.payments.attach(ann, placed.order_id, BY_WALLET)
    with pytest.raises(Forbidden, match="user_inactive"):
        await till.commands.transactions.pay(ann, wallet, placed.order_id, 1999, "USD")
    with pytest.raises(Forbidden, match="user_inactive"):
        await till.commands.transactions.deposit(ann, wallet, 100, "USD", VISA)
    assert await till.balance(wallet) == 5000


async def test_a_refund_finds_a_closed_persons_wallet_but_not_a_forgotten_ones(till: Till) -> None:
    ann, bob = await till.person(), await till.person()
    for person, forget in ((ann, False), (bob, True)):
        wallet = await till.wallet(person, 1999)
        placed = (await till.commands.orders.place(person, await till.game(), BY_WALLET)).value
        await till.settle()
        await till.commands.account_ends.close(person, person.person(), forget=forget)
        if forget:
            with pytest.raises(Conflict, match="recipient_forgotten"):
                await till.commands.orders.refund(ADMIN, placed.order_id, None, "asked")
        else:
            await till.commands.orders.refund(ADMIN, placed.order_id, None, "asked")
        assert await till.balance(wallet) == (0 if forget else 1999)


async def test_the_reactor_does_what_the_command_did_not_come_to(till: Till) -> None:
    ann, seller = await till.person(), await till.person("SELLER")
    chess, celeste = await till.physical_game(3, seller=seller), await till.game(seller=seller)
    await till.commands.carts.add(ann, chess, 2)
    other = await till.person()
    await till.commands.carts.add(other, chess, 1)
    placed = await ordered(till.commands.carts.check_out(other, None, ADDRESS))
    await till.settle()

    await only_closed(till, ann)
    await till.settle()
    assert await till.stock(chess) == (3, 2, 0, 1)

    await only_closed(till, seller)
    await till.settle()
    assert [await status_of(till, game) for game in (chess, celeste)] == ["SUSPENDED", "SUSPENDED"]
    assert (await till.order(placed.order_id)).cancel_reason == "seller_closed"
    assert await till.stock(chess) == (3, 3, 0, 0)


async def test_admins_hear_of_a_parcel_that_is_paid_as_its_seller_leaves(till: Till) -> None:
    """Paid before the closing, settled after it: no shipment existed when the account was
    closed."""
    admin, ann, seller = (
        await till.person("ADMIN"),
        await till.person(),
        await till.person("SELLER"),
    )
    chess = await till.physical_game(3, seller=seller)
    await till.commands.carts.add(ann, chess, 1)
    placed = await ordered(till.commands.carts.check_out(ann, SECURE, ADDRESS))
    await till.settle()
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await close(till, seller)
    await till.settle()

    order = await till.order(placed.order_id)
    assert order.status == "CONFIRMED"
    told = [
        recorded.event
        for recorded in await till.core.log.read(
            0, names=["notification.requested.v1"], limit=1_000_000
        )
        if isinstance(recorded.event, NotificationRequested)
        and recorded.event.user_id == admin.person()
    ]
    assert [(each.template, (each.params or {})["shipments"]) for each in told] == [
        ("seller_closed", str(order.shipment_ids[0]))
    ]


async def test_an_account_that_was_opened_again_meanwhile_loses_nothing(till: Till) -> None:
    """The reactor handles the closing when the account is open again."""
    seller, ann = await till.person("SELLER"), await till.person()
    game = await till.game(seller=seller)
    placed = (await till.commands.orders.place(ann, game, None)).value
    await till.settle()
    await only_closed(till, seller)
    await reopen(till, seller)
    await till.settle()
    assert await status_of(till, game) == "ACTIVE"
    assert (await till.order(placed.order_id)).status == "PENDING_PAYMENT"


async def status_of(till: Till, game_id: Any) -> str:
    from commands.aggregates import GAME

    game = await till.core.repository.state(GAME, game_id)
    assert game is not None
    return game.status
