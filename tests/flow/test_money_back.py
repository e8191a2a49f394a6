"""Refunds in one process: the test decides when the provider reports."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from commands.caller import Caller
from commands.order_saga import OrderIds
from domain.errors import Conflict
from domain.ids import library_id
from domain.ledger import (
    BUYER_EXTERNAL,
    CLEARING,
    REVENUE,
    receivable_account,
    seller_account,
    wallet_account,
)
from domain.payments import Method
from kit.uuid7 import uuid7
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till, ordered

PENDING = Method("card", "pm_card_pendingRefund")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with open_till(module_database, tmp_path_factory.mktemp("till")) as opened:
        yield opened


async def bought(
    till: Till, method: Method, seller: Caller | None = None
) -> tuple[Caller, OrderIds]:
    ann = await till.person()
    game = await till.game(1999, seller or await till.person("SELLER"))
    placed = (await till.commands.orders.place(ann, game, method)).value
    await till.settle()
    return ann, placed


async def owns(till: Till, person: Caller) -> bool:
    events = await till.core.log.read_stream(library_id(person.person()))
    return bool(events) and events[-1].env.name == "library.game.added.v1"


# -- refunds of orders -----------------------------------------------------------------------------


async def test_a_pending_refund_changes_nothing_until_it_succeeded(till: Till) -> None:
    seller = await till.person("SELLER")
    ann, placed = await bought(till, PENDING, seller)
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "regret")
    await till.settle()
    payment = await till.payment(placed.payment_id)
    assert (payment.status, payment.refund_status, payment.refunded_cents) == (
        "CAPTURED",
        "PENDING",
        0,
    )
    assert (await till.order(placed.order_id)).status == "COMPLETED"
    assert await owns(till, ann)
    assert (await till.accounts())[seller_account(seller.person())] == 1799
    with pytest.raises(Conflict, match="refund_exceeds_capture"):
        await till.commands.orders.refund(ADMIN, placed.order_id, None, "again")
    for _ in range(2):
        await till.refund_notice(placed.payment_id, "refund.updated", "succeeded")
        await till.settle()
        assert (await till.payment(placed.payment_id)).status == "REFUNDED"
        assert (await till.order(placed.order_id)).status == "REFUNDED"
        assert not await owns(till, ann)
        assert (await till.accounts())[seller_account(seller.person())] == 0


@pytest.mark.parametrize("type", ["refund.failed", "refund.updated", "charge.refund.updated"])
async def test_a_refund_that_failed_leaves_everything_and_is_tried_again(
    till: Till, type: str
) -> None:
    ann, placed = await bought(till, PENDING)
    first = (await till.commands.orders.refund(ADMIN, placed.order_id, None, "regret")).value
    await till.settle()
    await till.fail_refund(placed.payment_id, type)
    alarm = till.dead[-1]
    assert (alarm.kind, alarm.body["refund_id"]) == ("refund_failed", str(first))
    payment = await till.payment(placed.payment_id)
    assert (payment.status, payment.refund_status) == ("CAPTURED", "FAILED")
    assert await owns(till, ann)
    second = (await till.commands.orders.refund(ADMIN, placed.order_id, None, "once more")).value
    assert second != first
    dead = len(till.dead)
    await till.queue.publish([alarm])  # an operator repeats it
    await till.settle()
    assert len(till.dead) == dead
    await till.refund_notice(placed.payment_id, "refund.updated", "succeeded")
    await till.settle()
    assert (await till.order(placed.order_id)).status == "REFUNDED"
    assert not await owns(till, ann)


async def test_a_pending_refund_whose_notice_was_lost_is_looked_at_when_its_job_is_done_again(
    till: Till,
) -> None:
    _, placed = await bought(till, VISA)
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "regret")
    await till.react()
    (job,) = till.queue.jobs
    sent = await till.core.adapters.payment_provider.refund(
        str((await till.payment(placed.payment_id)).provider_ref),
        amount_cents=1999,
        payment_id=placed.payment_id,
        refund_id=UUID(job.body["refund_id"]),
        idempotency_key=job.body["refund_id"],
    )
    await till.refund_notice(placed.payment_id, "refund.created", "pending", id=sent.ref)
    assert (await till.payment(placed.payment_id)).refund_status == "PENDING"
    await till.settle()
    assert (await till.payment(placed.payment_id)).refund_status == "SUCCEEDED"
    assert (await till.order(placed.order_id)).status == "REFUNDED"


async def test_money_that_the_bank_sent_back_is_the_sellers_again_until_it_is_sent_once_more(
    till: Till,
) -> None:
    seller = await till.person("SELLER")
    _, placed = await bought(till, VISA, seller)
    before = await till.accounts()
    await till.commands.orders.refund(ADMIN, placed.order_id, 999, "a part")
    await till.settle()
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "the rest")
    await till.settle()
    assert (await till.accounts())[seller_account(seller.person())] == 0
    await till.refund_notice(placed.payment_id, "refund.failed", "failed")
    await till.settle()
    payment, order = await till.payment(placed.payment_id), await till.order(placed.order_id)
    assert (payment.status, payment.refunded_cents, payment.refund_status) == (
        "PARTIALLY_REFUNDED",
        999,
        "FAILED",
    )
    assert (order.status, order.refunded_cents) == ("REFUNDED", 999)
    accounts = await till.accounts()
    assert accounts[CLEARING] == before[CLEARING]
    assert accounts[BUYER_EXTERNAL] - before[BUYER_EXTERNAL] == 999
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "once more")
    await till.settle()
    accounts = await till.accounts()
    assert accounts[seller_account(seller.person())] == 0
    assert accounts[REVENUE] - before[REVENUE] == -200
    assert (await till.order(placed.order_id)).refunded_cents == 1999


async def test_late_money_goes_back_by_the_same_way_and_may_fail_and_be_tried_again(
    till: Till,
) -> None:
    ann = await till.person()
    placed = (await till.commands.orders.place(ann, await till.game(), None)).value
    await till.settle()
    ref = (await till.payment(placed.payment_id)).provider_ref
    assert ref is not None
    await till.core.adapters.payment_provider.confirm(
        ref, method="pm_card_pendingRefund", idempotency_key=f"{ref}-late"
    )
    await till.commands.orders.cancel(ann, placed.order_id)
    await till.settle()
    payment = await till.payment(placed.payment_id)
    assert (payment.status, payment.refund_status) == ("CAPTURED", "PENDING")
    await till.fail_refund(placed.payment_id)
    await till.commands.payments.refund(ADMIN, placed.payment_id, None, "once more")
    await till.settle()
    await till.refund_notice(placed.payment_id, "refund.updated", "succeeded")
    await till.settle()
    assert (await till.payment(placed.payment_id)).status == "REFUNDED"
    assert (await till.order(placed.order_id)).status == "CANCELLED"


async def test_a_refund_by_hand_that_names_only_its_intent_finds_its_payment(till: Till) -> None:
    ann, placed = await bought(till, VISA)
    await till.refund_notice(placed.payment_id, "refund.created", "pending", metadata={})
    await till.settle()
    assert (await till.payment(placed.payment_id)).refund_status == "PENDING"
    assert await owns(till, ann)
    await till.refund_notice(placed.payment_id, "refund.updated", "succeeded", metadata={})
    await till.settle()
    assert (await till.order(placed.order_id)).status == "REFUNDED"
    assert not await owns(till, ann)


async def test_a_refund_of_an_intent_that_nobody_knows_is_ignored(till: Till) -> None:
    _, placed = await bought(till, VISA)
    stranger = {"metadata": {}, "payment_intent": f"pi_{uuid7().hex}"}
    assert (
        await till.refund_notice(placed.payment_id, "refund.updated", "succeeded", **stranger)
        is None
    )


async def test_an_intent_under_way_leaves_the_payment_processing(till: Till) -> None:
    ann = await till.person()
    placed = (await till.commands.orders.place(ann, await till.game(), None)).value
    await till.settle()
    await till.notice(placed.payment_id, "payment_intent.processing")
    await till.settle()
    assert (await till.payment(placed.payment_id)).status == "PROCESSING"
    assert (await till.order(placed.order_id)).status == "PENDING_PAYMENT"
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await till.settle()
    assert (await till.order(placed.order_id)).status == "COMPLETED"


async def test_what_was_paid_beside_a_wallet_counts_as_returned_once_it_is(till: Till) -> None:
    ann = await till.person()
    wallet, game = await till.wallet(ann, 5000), await till.game()
    placed = (await till.commands.orders.place(ann, game, None)).value
    await till.settle()
    ref = (await till.payment(placed.payment_id)).provider_ref
    assert ref is not None
    await till.core.adapters.payment_provider.confirm(
        ref, method="pm_card_visa", idempotency_key=f"{ref}-by the buyer"
    )
    await till.commands.transactions.pay(ann, wallet, placed.order_id, 1999, "USD")
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await till.settle()
    assert (await till.payment(placed.payment_id)).surplus_returned


# -- refunds of free orders ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        None,
        VISA,
        BY_WALLET,
        Method("wallet", "zzz"),
        Method("wallet", "00000000-0000-4000-8000-000000000001"),
    ],
    ids=str,
)
async def test_a_free_game_is_bought_and_given_back_whatever_the_method(
    till: Till, method: Method | None
) -> None:
    ann = await till.person()
    placed = (await till.commands.orders.place(ann, await till.game(0), method)).value
    payment = await till.payment(placed.payment_id)
    assert (payment.status, payment.method) == ("CAPTURED", None)
    await till.settle()
    assert await owns(till, ann)
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "regret")
    assert (await till.payment(placed.payment_id)).refund_status == "SUCCEEDED"
    await till.react()
    assert till.queue.jobs == []
    await till.settle()
    assert (await till.order(placed.order_id)).status == "REFUNDED"
    assert not await owns(till, ann)
    with pytest.raises(Conflict, match="refund_exceeds_capture"):
        await till.commands.orders.refund(ADMIN, placed.order_id, None, "again")


# -- refunds of deposits ---------------------------------------------------------------------------


async def transferred(
    till: Till, caller: Caller, source: UUID, target: UUID, amount_cents: int
) -> None:
    """A transfer in USD, completed: it runs in the background."""
    asked = await till.commands.transactions.transfer(caller, source, target, amount_cents, "USD")
    found = await till.commands.transactions.when_ready(asked.value, 10)
    assert found.transaction.status == "COMPLETED"


async def deposited(till: Till, ann: Caller, wallet: UUID, cents: int) -> tuple[UUID, UUID]:
    deposit = (await till.commands.transactions.deposit(ann, wallet, cents, "USD", VISA)).value
    await till.settle()
    payment_id = (await till.transaction(deposit)).payment_id
    assert payment_id is not None
    return deposit, payment_id


@pytest.mark.parametrize(
    ("type", "about"),
    [
        ("refund.updated", {}),
        ("charge.refunded", {"amount_refunded": 100, "currency": "usd"}),
        ("charge.dispute.funds_withdrawn", {"id": "dp_1", "metadata": {}}),
    ],
)
async def test_a_deposit_taken_back_after_it_was_spent_is_owed_and_settled_by_what_comes_in(
    till: Till, type: str, about: dict[str, object]
) -> None:
    ann, bob = await till.person(), await till.person()
    wallet, other, before = (
        await till.wallet(ann),
        await till.wallet(bob, 500),
        await till.accounts(),
    )
    deposit, payment = await deposited(till, ann, wallet, 100)
    await transferred(till, ann, wallet, other, 80)
    await till.settle()
    await till.refund_notice(payment, type, "succeeded", **about)
    await till.settle()

    state, receivable = await till.wallet_state(wallet), receivable_account(ann.person())
    assert (state.status, state.balance_cents, state.owed_cents) == ("FROZEN", 0, 80)
    (reversal,) = [
        each.event
        for each in await till.core.log.read_stream(deposit)
        if each.env.name == "transaction.reversed.v1"
    ]
    assert (reversal.amount_cents, reversal.recovered_cents, reversal.owed_cents) == (100, 20, 80)
    accounts = await till.accounts()
    assert (accounts[receivable], accounts.get(wallet_account(wallet), 0)) == (-80, 0)
    assert accounts[CLEARING] == before.get(CLEARING, 0)

    with pytest.raises(Conflict, match="wallet_frozen"):
        await till.commands.transactions.transfer(ann, wallet, other, 1, "USD")
    with pytest.raises(Conflict, match="wallet_frozen"):
        await till.commands.orders.place(ann, await till.game(1), BY_WALLET)

    await transferred(till, bob, other, wallet, 30)
    await till.settle()
    assert (await till.wallet_state(wallet)).owed_cents == 50
    await deposited(till, ann, wallet, 70)
    state = await till.wallet_state(wallet)
    assert (state.status, state.balance_cents, state.owed_cents) == ("ACTIVE", 20, 0)
    accounts = await till.accounts()
    assert (accounts[receivable], accounts[wallet_account(wallet)]) == (0, 20)
    assert accounts[CLEARING] == before.get(CLEARING, 0)
    await transferred(till, ann, wallet, other, 20)


async def test_a_deposit_that_was_reversed_and_came_again_is_the_wallets(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    deposit, payment = await deposited(till, ann, wallet, 100)
    await till.commands.orders.place(ann, await till.game(60), BY_WALLET)
    dispute = {"id": f"dp_{payment.hex}", "metadata": {}}
    await till.refund_notice(payment, "charge.dispute.funds_withdrawn", "lost", **dispute)
    await till.settle()
    assert (await till.wallet_state(wallet)).owed_cents == 60
    await till.refund_notice(payment, "charge.dispute.funds_reinstated", "won", **dispute)
    await till.settle()
    state = await till.wallet_state(wallet)
    assert (state.status, state.balance_cents, state.owed_cents) == ("ACTIVE", 40, 0)
    assert (await till.transaction(deposit)).reversed_cents == 0
    accounts = await till.accounts()
    assert (accounts[receivable_account(ann.person())], accounts[wallet_account(wallet)]) == (0, 40)


async def test_a_deposit_that_never_came_into_its_wallet_goes_back_and_may_be_tried_again(
    till: Till,
) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    deposit = (await till.commands.transactions.deposit(ann, wallet, 100, "USD", PENDING)).value
    await till.react()
    await till.commands.wallets.deactivate(ADMIN, wallet, "lost phone")
    await till.settle()
    transaction = await till.transaction(deposit)
    assert transaction.status == "FAILED"
    assert transaction.payment_id is not None
    await till.fail_refund(transaction.payment_id)
    await till.commands.payments.refund(ADMIN, transaction.payment_id, None, "once more")
    await till.settle()
    await till.refund_notice(transaction.payment_id, "refund.updated", "succeeded")
    await till.settle()
    assert (await till.payment(transaction.payment_id)).status == "REFUNDED"
    assert (await till.wallet_state(wallet)).owed_cents == 0


async def test_a_deposit_in_its_wallet_is_not_refunded_by_an_operator(till: Till) -> None:
    ann = await till.person()
    _, payment = await deposited(till, ann, await till.wallet(ann), 100)
    with pytest.raises(Conflict, match="deposit_not_refundable"):
        await till.commands.payments.refund(ADMIN, payment, None, "please")


# -- orders that await their payment ---------------------------------------------------------------


async def test_a_game_in_an_unpaid_order_is_pending_and_owned_only_once_it_is_paid(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.game()
    placed = (await till.commands.orders.place(ann, game, None)).value
    for again in (
        till.commands.orders.place(ann, game, VISA),
        till.commands.carts.add(ann, game, 1),
    ):
        with pytest.raises(Conflict, match="order_pending") as pending:
            await again
        assert pending.value.extra["order_id"] == str(placed.order_id)
    await till.settle()
    await till.commands.payments.attach(ann, placed.order_id, VISA)
    await till.settle()
    for again in (
        till.commands.orders.place(ann, game, VISA),
        till.commands.carts.add(ann, game, 1),
    ):
        with pytest.raises(Conflict, match="already_owned"):
            await again


async def test_an_overdue_order_keeps_a_game_from_nobodys_cart(till: Till) -> None:
    ann, game = await till.person(), await till.game()
    await till.commands.orders.place(ann, game, None)
    till.clock.advance(timedelta(minutes=31))
    await till.commands.carts.add(ann, game, 1)
    placed = await ordered(till.commands.carts.check_out(ann, VISA, None))
    assert (await till.order(placed.order_id)).status == "PENDING_PAYMENT"


async def test_a_purchase_is_published_with_its_games_under_the_contracts_names(
    till: Till,
) -> None:
    _, placed = await bought(till, VISA)
    _, failed = await bought(till, Method("card", "pm_card_chargeDeclined"))
    for payment_id, name in (
        (placed.payment_id, "payment.transaction.completed.v1"),
        (failed.payment_id, "payment.transaction.failed.v1"),
    ):
        payment = await till.payment(payment_id)
        assert payment.order_id is not None
        (event,) = [
            each.event
            for each in await till.core.log.read_stream(payment_id)
            if each.env.name == name
        ]
        order = await till.order(payment.order_id)
        assert event.transaction_id == payment_id
        assert event.user_id == event.buyer_id == order.buyer_id
        assert event.game_ids == tuple(line.game_id for line in order.lines)
