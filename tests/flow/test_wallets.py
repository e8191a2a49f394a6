"""Money in and out of wallets: deposits, transfers, payments and refunds, and their postings in the
ledger."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from commands.caller import SYSTEM, Caller
from commands.ports.payments import ProviderRefused
from domain import transactions
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.ledger import (
    ADJUSTMENTS,
    BUYER_EXTERNAL,
    CLEARING,
    REVENUE,
    TRANSFERS,
    seller_account,
    wallet_account,
)
from domain.payments import Method
from domain.transactions import TransactionProcessing
from domain.wallets import FundsDeducted
from eventstore.log import Appended, StreamAppend
from kit.uuid7 import uuid7
from runtime.wiring.work import deadline_commands
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with open_till(module_database, tmp_path_factory.mktemp("till")) as opened:
        yield opened


# -- transfers -------------------------------------------------------------------------------------


async def test_a_transfer_moves_money_and_ends_completed(till: Till) -> None:
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 1000), await till.wallet(bob)
    landed = await till.commands.transactions.transfer(ann, source, target, 300, "USD")
    found = await till.commands.transactions.when_ready(landed.value, 10)
    assert (found.transaction.status, found.ready_to_answer) == ("COMPLETED", True)
    assert (await till.balance(source), await till.balance(target)) == (700, 300)
    await till.settle()
    accounts = await till.accounts()
    assert accounts[wallet_account(source)] == 700
    assert accounts[wallet_account(target)] == 300
    assert accounts.get(TRANSFERS, 0) == 0


async def test_a_target_that_takes_nothing_sends_the_money_back(till: Till) -> None:
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 1000), await till.wallet(bob)
    await till.commands.wallets.deactivate(ADMIN, target, "lost phone")
    landed = await till.commands.transactions.transfer(ann, source, target, 300, "USD")
    failed = (await till.commands.transactions.when_ready(landed.value, 10)).transaction
    assert (failed.status, failed.step, failed.code, failed.refunded_cents) == (
        "FAILED", "credit", "wallet_inactive", 300,
    )  # fmt: skip
    assert (await till.balance(source), await till.balance(target)) == (1000, 0)
    await till.settle()
    assert (await till.accounts())[wallet_account(source)] == 1000


async def test_many_at_once_never_take_more_than_there_is(till: Till) -> None:
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 1000), await till.wallet(bob)

    async def send() -> str:
        try:
            landed = await till.commands.transactions.transfer(ann, source, target, 100, "USD")
        except Conflict as refusal:
            return refusal.code
        return (await till.commands.transactions.when_ready(landed.value, 30)).transaction.status

    outcomes = await asyncio.gather(*[send() for _ in range(40)])
    assert outcomes.count("COMPLETED") == 10
    assert set(outcomes) <= {"COMPLETED", "FAILED", "insufficient_funds"}
    assert (await till.balance(source), await till.balance(target)) == (0, 1000)


AT_ONCE = [
    "transaction.created.v1",
    "transaction.processing.v1",
    "transaction.completed.v1",
    "wallet.funds_deducted.v1",
    "wallet.funds_added.v1",
]
"""The events of a transfer in the order of the log, where they are one append."""


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("kept", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(
    "target_active", [True, False], ids=["to an active wallet", "to an inactive wallet"]
)
async def test_a_transfer_killed_at_any_step_is_taken_to_its_end(
    till: Till, monkeypatch: pytest.MonkeyPatch, *, kept: bool, step: int, target_active: bool
) -> None:
    """Except when it is one append, its appends are creation, deduction, and credit or return: the
    process ends before or after one of them."""
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 1000), await till.wallet(bob)
    begun = await till.transfer_under_way(ann, source, target, 300)
    if not target_active:
        await till.commands.wallets.deactivate(ADMIN, target, "lost phone")
    append, appended = till.core.log.append, 1

    async def dying_append(*arguments: object, **named: object) -> Appended:
        nonlocal appended
        appended += 1
        if appended < step:
            return await append(*arguments, **named)  # type: ignore[arg-type]
        if appended == step and kept:
            await append(*arguments, **named)  # type: ignore[arg-type]
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(till.core.log, "append", dying_append)
        till.commands.transactions._start(begun, ann)
        [driving] = till.commands.transactions._running.values()
        await asyncio.wait({driving})
    till.core.repository.forget(begun)

    await deadline_commands(till.core.commands)["transfer"](SYSTEM, begun, None)  # type: ignore[arg-type]
    ended = await till.transaction(begun)
    assert ended.status == ("COMPLETED" if target_active else "FAILED")
    assert ended.refunded_cents == (0 if target_active else 300)
    assert (await till.balance(source), await till.balance(target)) == (
        (700, 300) if target_active else (1000, 0)
    )


@pytest.mark.parametrize("kept", [True, False], ids=["after", "before"])
async def test_a_transfer_killed_at_its_only_append_is_whole_or_never_was(
    till: Till, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    ann, bob = await till.person(), await till.person()
    source, target = await till.wallet(ann, 1000), await till.wallet(bob)
    append, head = till.core.log.append, await till.core.log.head()

    async def dying_append(*arguments: object, **named: object) -> Appended:
        if kept:
            await append(*arguments, **named)  # type: ignore[arg-type]
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(till.core.log, "append", dying_append)
        with pytest.raises(Killed):
            await till.commands.transactions.transfer(ann, source, target, 300, "USD")
    till.core.repository.forget(source)
    till.core.repository.forget(target)

    assert not till.commands.transactions._running
    appended = [each.env.name for each in await till.core.log.read(head)]
    assert appended == (AT_ONCE if kept else [])
    assert (await till.balance(source), await till.balance(target)) == (
        (700, 300) if kept else (1000, 0)
    )


async def test_transfers_that_cross_all_end(till: Till) -> None:
    """Around a ring of few wallets, both ways, by several clients each: every append changes two
    wallets that others change too."""
    people = [await till.person() for _ in range(4)]
    ring = [await till.wallet(person, 1000) for person in people]

    async def send(n: int, step: int) -> None:
        source, target = ring[n], ring[(n + step) % len(ring)]
        landed = await till.commands.transactions.transfer(people[n], source, target, 7, "USD")
        found = await till.commands.transactions.when_ready(landed.value, 30)
        assert found.transaction.status == "COMPLETED"

    await asyncio.gather(*[send(n, step) for n in range(4) for step in (1, 2, 3) for _ in range(8)])
    assert [await till.balance(wallet) for wallet in ring] == [1000] * 4
    await till.settle()
    accounts = await till.accounts()
    assert [accounts[wallet_account(wallet)] for wallet in ring] == [1000] * 4
    assert accounts.get(TRANSFERS, 0) == 0


async def test_no_transfer_goes_to_what_is_no_wallet(till: Till) -> None:
    ann = await till.person()
    source = await till.wallet(ann, 1000)
    placed = (await till.commands.orders.place(ann, await till.game(), None)).value
    for target in (placed.order_id, placed.payment_id, ann.person()):
        with pytest.raises(NotFound, match="wallet_not_found"):
            await till.commands.transactions.transfer(ann, source, target, 300, "USD")
    assert await till.balance(source) == 1000


@pytest.mark.parametrize("deducted", [True, False], ids=["deducted", "accepted"])
async def test_a_transfer_that_an_earlier_release_accepted_for_a_non_wallet_ends_and_gives_back(
    till: Till, deducted: bool
) -> None:
    ann = await till.person()
    source, transfer = await till.wallet(ann, 1000), uuid7()
    order = (await till.commands.orders.place(ann, await till.game(), None)).value.order_id
    created = transactions.transfer(
        user_id=ann.person(),
        from_wallet_id=source,
        to_wallet_id=order,
        amount_cents=300,
        currency="USD",
    )
    await till.core.log.append([StreamAppend(transfer, 0, created)])
    if deducted:
        taken = FundsDeducted(300, "USD", 700, transaction_id=transfer)
        version = (await till.core.log.versions([source]))[0]
        await till.core.log.append(
            [
                StreamAppend(source, version, [taken]),
                StreamAppend(transfer, 1, [TransactionProcessing()]),
            ]
        )
    await deadline_commands(till.core.commands)["transfer"](SYSTEM, transfer, None)  # type: ignore[arg-type]
    ended = await till.transaction(transfer)
    assert (ended.status, ended.code, ended.refunded_cents) == ("FAILED", "wallet_not_found", 300)
    assert await till.balance(source) == 1000


# -- deposits --------------------------------------------------------------------------------------


async def deposited(
    till: Till, owner: Caller, wallet_id: UUID, method: Method | None, cents: int = 500
) -> UUID:
    return (await till.commands.transactions.deposit(owner, wallet_id, cents, "USD", method)).value


async def test_a_deposit_by_card_reaches_the_wallet(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    before = await till.accounts()
    transaction_id = await deposited(till, ann, wallet, VISA)
    assert (await till.transaction(transaction_id)).status == "PENDING"
    await till.settle()
    assert (await till.transaction(transaction_id)).status == "COMPLETED"
    assert await till.balance(wallet) == 500
    accounts = await till.accounts()
    assert accounts[wallet_account(wallet)] == 500
    assert accounts[BUYER_EXTERNAL] - before.get(BUYER_EXTERNAL, 0) == -500
    assert accounts[CLEARING] == before.get(CLEARING, 0)


async def test_a_declined_deposit_fails_and_its_intent_is_given_up(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    transaction_id = await deposited(till, ann, wallet, Method("card", "pm_card_chargeDeclined"))
    await till.settle()
    failed = await till.transaction(transaction_id)
    assert (failed.status, failed.step, failed.code) == ("FAILED", "charge", "card_declined")
    assert failed.payment_id is not None
    assert (await till.payment(failed.payment_id)).closed
    assert await till.balance(wallet) == 0


async def test_a_deposit_to_a_wallet_deactivated_meanwhile_goes_back_to_the_card(
    till: Till,
) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    transaction_id = await deposited(till, ann, wallet, VISA)
    await till.commands.wallets.deactivate(ADMIN, wallet, "lost phone")
    await till.settle()
    failed = await till.transaction(transaction_id)
    assert (failed.status, failed.step, failed.code, failed.refunded_cents) == (
        "FAILED", "credit", "wallet_inactive", 500,
    )  # fmt: skip
    assert failed.payment_id is not None
    assert (await till.payment(failed.payment_id)).status == "REFUNDED"
    assert await till.balance(wallet) == 0


async def test_an_unpaid_deposit_expires_and_late_money_goes_back(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann)
    transaction_id = await deposited(till, ann, wallet, None)
    payment_id = (await till.transaction(transaction_id)).payment_id
    assert payment_id is not None
    await till.settle()
    till.clock.advance(timedelta(hours=1))
    await till.commands.transactions.expire_deposit(SYSTEM, payment_id)
    await till.settle()
    assert (await till.transaction(transaction_id)).code == "expired"
    await till.notice(payment_id, "payment_intent.succeeded")
    await till.settle()
    assert (await till.payment(payment_id)).status == "REFUNDED"
    assert await till.balance(wallet) == 0


async def test_a_deposit_is_not_refunded_here_but_follows_what_the_provider_gave_back(
    till: Till,
) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann, 100)
    payment_id = (await till.transaction(await deposited(till, ann, wallet, VISA))).payment_id
    assert payment_id is not None
    await till.settle()
    with pytest.raises(Conflict, match="deposit_not_refundable"):
        await till.commands.payments.refund(ADMIN, payment_id, None, "please")
    before = await till.accounts()
    await till.notice(payment_id, "charge.refunded", amount_refunded=500)
    await till.settle()
    accounts = await till.accounts()
    assert await till.balance(wallet) == accounts[wallet_account(wallet)] == 100
    assert accounts[CLEARING] == before[CLEARING]


# -- orders ----------------------------------------------------------------------------------------


async def test_an_order_is_paid_from_the_wallet_in_the_append_that_places_it(till: Till) -> None:
    ann, seller = await till.person(), await till.person("SELLER")
    wallet, game = await till.wallet(ann, 5000), await till.game(1999, seller)
    before = await till.accounts()
    placed = (await till.commands.orders.place(ann, game, BY_WALLET)).value
    assert (await till.payment(placed.payment_id)).status == "CAPTURED"
    assert await till.balance(wallet) == 3001
    await till.settle()
    assert (await till.order(placed.order_id)).status == "COMPLETED"
    accounts = await till.accounts()
    assert accounts[wallet_account(wallet)] == 3001
    assert accounts[seller_account(seller.person())] == 1799
    assert accounts[REVENUE] - before.get(REVENUE, 0) == 200


async def test_what_the_wallet_cannot_pay_is_not_ordered(till: Till) -> None:
    ann = await till.person()
    await till.wallet(ann, 100)
    game, head = await till.game(), await till.core.log.head()
    with pytest.raises(Conflict, match="insufficient_funds"):
        await till.commands.orders.place(ann, game, BY_WALLET)
    assert await till.core.log.head() == head


async def test_an_open_order_is_paid_by_a_transaction_and_its_intent_is_given_up(
    till: Till,
) -> None:
    ann = await till.person()
    wallet, game = await till.wallet(ann, 5000), await till.game()
    placed = (await till.commands.orders.place(ann, game, None)).value
    await till.settle()
    ref = (await till.payment(placed.payment_id)).provider_ref
    assert ref is not None
    landed = await till.commands.transactions.pay(ann, wallet, placed.order_id, 1999, "USD")
    assert (await till.transaction(landed.value)).status == "COMPLETED"
    await till.settle()
    assert (await till.order(placed.order_id)).status == "COMPLETED"
    assert (await till.core.adapters.payment_provider.get(ref)).status == "canceled"
    with pytest.raises(Conflict, match="order_paid"):
        await till.commands.transactions.pay(ann, wallet, placed.order_id, 1999, "USD")
    assert await till.balance(wallet) == 3001


async def test_what_is_paid_by_card_beside_the_wallet_goes_back_to_the_card(till: Till) -> None:
    ann = await till.person()
    wallet, game = await till.wallet(ann, 5000), await till.game()
    placed = (await till.commands.orders.place(ann, game, None)).value
    await till.settle()
    ref = (await till.payment(placed.payment_id)).provider_ref
    assert ref is not None
    await till.core.adapters.payment_provider.confirm(
        ref, method="pm_card_visa", idempotency_key="by the buyer"
    )
    await till.commands.transactions.pay(ann, wallet, placed.order_id, 1999, "USD")
    await till.notice(placed.payment_id, "payment_intent.succeeded")
    await till.settle()
    events = [each.env.name for each in await till.core.log.read_stream(placed.payment_id)]
    assert events.count("payment.surplus_returned.v1") == 1
    assert (await till.payment(placed.payment_id)).status == "CAPTURED"
    assert await till.balance(wallet) == 3001
    with pytest.raises(ProviderRefused, match="already"):
        await till.core.adapters.payment_provider.refund(
            ref,
            amount_cents=1,
            payment_id=placed.payment_id,
            refund_id=uuid7(),
            idempotency_key="what is left",
        )


async def test_a_paid_order_is_not_cancelled_before_its_settlement(till: Till) -> None:
    ann = await till.person()
    await till.wallet(ann, 5000)
    placed = (await till.commands.orders.place(ann, await till.game(), BY_WALLET)).value
    with pytest.raises(Conflict, match="order_not_cancellable"):
        await till.commands.orders.cancel(ann, placed.order_id)


async def test_nobody_but_its_owner_spends_a_wallets_money(till: Till) -> None:
    ann = await till.person()
    wallet = await till.wallet(ann, 5000)
    placed = (await till.commands.orders.place(ann, await till.game(), None)).value
    with pytest.raises(Forbidden, match="not_yours"):
        await till.commands.payments.attach(ADMIN, placed.order_id, BY_WALLET)
    assert await till.balance(wallet) == 5000


async def test_refunds_go_back_to_the_wallet_in_parts_with_the_fee_pro_rata(till: Till) -> None:
    ann, seller = await till.person(), await till.person("SELLER")
    wallet, game = await till.wallet(ann, 2000), await till.game(2000, seller)
    placed = (await till.commands.orders.place(ann, game, BY_WALLET)).value
    await till.settle()
    before = await till.accounts()
    await till.commands.orders.refund(ADMIN, placed.order_id, 500, "scratched")
    await till.settle()
    accounts = await till.accounts()
    assert await till.balance(wallet) == accounts[wallet_account(wallet)] == 500
    assert accounts[seller_account(seller.person())] == 1350
    assert accounts[REVENUE] - before[REVENUE] == -50
    with pytest.raises(Conflict, match="refund_exceeds_capture"):
        await till.commands.orders.refund(ADMIN, placed.order_id, 1501, "more")
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "all of it")
    await till.settle()
    assert (await till.order(placed.order_id)).status == "REFUNDED"
    assert await till.balance(wallet) == 2000
    assert (await till.accounts())[seller_account(seller.person())] == 0


async def test_a_refund_waits_for_a_wallet_that_is_deactivated(till: Till) -> None:
    ann = await till.person()
    wallet, game = await till.wallet(ann, 1999), await till.game()
    placed = (await till.commands.orders.place(ann, game, BY_WALLET)).value
    await till.settle()
    await till.commands.wallets.deactivate(ADMIN, wallet, "lost phone")
    head = await till.core.log.head()
    with pytest.raises(Conflict, match="wallet_inactive"):
        await till.commands.orders.refund(ADMIN, placed.order_id, None, "sorry")
    assert await till.core.log.head() == head


async def test_a_card_refund_mirrors_the_capture(till: Till) -> None:
    ann, seller = await till.person(), await till.person("SELLER")
    game, before = await till.game(1999, seller), await till.accounts()
    placed = (await till.commands.orders.place(ann, game, VISA)).value
    await till.settle()
    assert (await till.accounts())[seller_account(seller.person())] == 1799
    await till.commands.orders.refund(ADMIN, placed.order_id, None, "sorry")
    await till.settle()
    accounts = await till.accounts()
    assert accounts[seller_account(seller.person())] == 0
    for account in (BUYER_EXTERNAL, CLEARING, REVENUE):
        assert accounts[account] == before.get(account, 0)


# -- adjustments and refusals ----------------------------------------------------------------------


async def test_operators_adjust_and_the_ledger_says_so(till: Till) -> None:
    wallet, before = (
        await till.wallet(await till.person()),
        (await till.accounts()).get(ADJUSTMENTS, 0),
    )
    await till.commands.wallets.add_funds(ADMIN, wallet, 700, "a gift")
    await till.commands.wallets.deduct_funds(ADMIN, wallet, 200, "too much")
    await till.settle()
    accounts = await till.accounts()
    assert accounts[wallet_account(wallet)] == 500
    assert accounts[ADJUSTMENTS] <= before - 500


async def test_what_is_not_allowed_leaves_no_trace(till: Till) -> None:
    ann, bob = await till.person(), await till.person()
    mine, theirs = await till.wallet(ann, 1000), await till.wallet(bob, 1000)
    euros = await till.wallet(ann, currency="EUR")
    head, transfer = await till.core.log.head(), till.commands.transactions.transfer
    for refusal, code, attempt in (
        (Conflict, "wallet_exists", till.commands.wallets.create(ann, "USD")),
        (Invalid, "same_wallet", transfer(ann, mine, mine, 1, "USD")),
        (NotFound, "wallet_not_found", transfer(ann, mine, uuid7(), 1, "USD")),
        (Forbidden, "not_yours", transfer(ann, theirs, mine, 1, "USD")),
        (Forbidden, "not_yours", transfer(ADMIN, theirs, mine, 1, "USD")),
        (Conflict, "currency_mismatch", transfer(ann, mine, theirs, 1, "EUR")),
        (Conflict, "currency_mismatch", transfer(ann, mine, euros, 1, "USD")),
        (Conflict, "insufficient_funds", transfer(ann, mine, theirs, 1001, "USD")),
        (Invalid, "invalid_amount", transfer(ann, mine, theirs, 0, "USD")),
        (Forbidden, "not_yours", till.commands.transactions.deposit(ann, theirs, 5, "USD", VISA)),
        (
            Conflict,
            "currency_mismatch",
            till.commands.transactions.deposit(ann, mine, 5, "EUR", VISA),
        ),
        (Forbidden, "role_required", till.commands.wallets.add_funds(ann, mine, 5, "please")),
        (Invalid, "reason_required", till.commands.wallets.add_funds(ADMIN, mine, 5, " ")),
        (
            Conflict,
            "insufficient_funds",
            till.commands.wallets.deduct_funds(ADMIN, mine, 1001, "all"),
        ),
    ):
        with pytest.raises(refusal, match=code):
            await attempt
    assert await till.core.log.head() == head
