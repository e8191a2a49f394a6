"""Money in random interleavings, compared with a plain model: no money is created or lost, no
balance is below zero, a payment is captured once and refunded at most what was captured, and the
ledger agrees with all of it."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from commands.accounts.open_accounts import closing_of
from commands.aggregates import USER
from commands.caller import Caller
from domain.errors import Refused
from domain.identity import User
from domain.ledger import (
    ADJUSTMENTS,
    BUYER_EXTERNAL,
    CLEARING,
    REVENUE,
    TRANSFERS,
    receivable_account,
    seller_account,
    wallet_account,
)
from domain.payments import PaymentCaptured, PaymentProcessed
from domain.transactions import Transaction
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from projections.registry import read_models
from queries.engine.read_models import ReadModels
from queries.money.ledger import trial_balance_as_of
from runtime.self_audit.auditor import Auditor, Report
from runtime.self_audit.moment import REACTORS
from runtime.what_if.ledger import decide_again
from runtime.what_if.rules import Rules
from runtime.wiring.codec import codec
from tests.support.shops.manual import ADMIN, BY_WALLET, Till, open_till
from tests.support.shops.projected import model, projecting

T = TypeVar("T")

amounts = st.integers(1, 1500)
NOTICES = [
    "payment_intent.succeeded",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.requires_action",
    "customer.created",
]


GIVEN_BACK = [
    ("refund.updated", "succeeded"),
    ("refund.updated", "succeeded"),
    ("refund.created", "pending"),
    ("refund.failed", "failed"),
]


class Money(RuleBasedStateMachine):
    """Two people with a wallet each, a seller, and a provider whose notices come in any order, late
    and repeated."""

    till: ClassVar[Till]
    loop: ClassVar[asyncio.AbstractEventLoop]

    payments = Bundle("payments")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def open_shop(self) -> None:
        till = self.till
        self.people: list[Caller] = [self.run(till.person()) for _ in range(2)]
        self.seller = self.run(till.person("SELLER"))
        self.wallets = [self.run(till.wallet(person, 1000)) for person in self.people]
        self.adjusted = dict.fromkeys(self.wallets, 1000)
        self.transactions: list[UUID] = []
        self.order_payments: list[UUID] = []
        self.refunds: list[tuple[UUID, int]] = []
        self.start = self.run(self._settled_accounts())

    async def _settled_accounts(self) -> dict[str, int]:
        await self.till.settle()
        return await self.till.accounts()

    # -- actions -----------------------------------------------------------------------------------

    @rule(target=payments, person=st.sampled_from([0, 1]), cents=amounts)
    def deposit(self, person: int, cents: int) -> UUID | None:
        with suppress(Refused):
            asked = self.till.commands.transactions.deposit(
                self.people[person], self.wallets[person], cents, "USD", None
            )
            self.transactions.append(self.run(asked).value)
            return self.run(self.till.transaction(self.transactions[-1])).payment_id
        return None

    @rule(person=st.sampled_from([0, 1]), cents=amounts, waited=st.booleans())
    def transfer(self, person: int, cents: int, waited: bool) -> None:
        source, target = self.wallets[person], self.wallets[1 - person]
        with suppress(Refused):
            asked = self.till.commands.transactions.transfer(
                self.people[person], source, target, cents, "USD"
            )
            self.transactions.append(self.run(asked).value)
            if waited:
                self.run(self.till.commands.transactions.when_ready(self.transactions[-1], 10))

    @rule(target=payments, person=st.sampled_from([0, 1]), cents=amounts, by_wallet=st.booleans())
    def buy(self, person: int, cents: int, by_wallet: bool) -> UUID | None:
        with suppress(Refused):
            game = self.run(self.till.game(cents, self.seller))
            method = BY_WALLET if by_wallet else None
            placed = self.run(
                self.till.commands.orders.place(self.people[person], game, method)
            ).value
            self.order_payments.append(placed.payment_id)
            return placed.payment_id
        return None

    @rule(payment=payments, person=st.sampled_from([0, 1]))
    def pay_an_open_order(self, payment: UUID | None, person: int) -> None:
        if payment not in self.order_payments or payment is None:
            return
        state = self.run(self.till.payment(payment))
        assert state.order_id is not None
        with suppress(Refused):
            wallet, amount = self.wallets[person], state.amount_cents
            paid = self.till.commands.transactions.pay(
                self.people[person], wallet, state.order_id, amount, "USD"
            )
            self.transactions.append(self.run(paid).value)

    @rule(payment=payments)
    def cancel(self, payment: UUID | None) -> None:
        if payment in self.order_payments and payment is not None:
            state = self.run(self.till.payment(payment))
            assert state.order_id is not None
            with suppress(Refused):
                self.run(self.till.commands.orders.cancel(ADMIN, state.order_id))

    @rule(
        payment=payments,
        type=st.sampled_from(NOTICES),
        number=st.integers(0, 3),
        times=st.integers(1, 2),
    )
    def notice(self, payment: UUID | None, type: str, number: int, times: int) -> None:
        for _ in range(times if payment else 0):
            assert payment is not None
            self.run(self.till.notice(payment, type, event_id=f"evt_{payment.hex}_{type}_{number}"))

    @rule(
        payment=payments, told=st.sampled_from(GIVEN_BACK), cents=amounts, number=st.integers(0, 2)
    )
    def given_back_at_the_provider(
        self, payment: UUID | None, told: tuple[str, str], cents: int, number: int
    ) -> None:
        """A refund by hand, or a dispute; and a part that failed, or was returned."""
        if payment is None:
            return
        state, (type, status) = self.run(self.till.payment(payment)), told
        if state.wallet_id is None and state.is_captured:
            about: dict[str, Any] = {
                "id": f"re_{payment.hex}_{number}",
                "amount": cents,
                "status": status,
            }
            self.run(self.till.notice(payment, type, **about))

    @rule(payment=payments, cents=st.none() | amounts)
    def refund(self, payment: UUID | None, cents: int | None) -> None:
        if payment in self.order_payments and payment is not None:
            with suppress(Refused):
                self.run(self.till.commands.payments.refund(ADMIN, payment, cents, "asked for"))

    @rule(wallet=st.sampled_from([0, 1]), active=st.booleans())
    def switch(self, wallet: int, active: bool) -> None:
        change = (
            self.till.commands.wallets.reactivate
            if active
            else self.till.commands.wallets.deactivate
        )
        with suppress(Refused):
            self.run(change(ADMIN, self.wallets[wallet], "as asked"))

    @rule(wallet=st.sampled_from([0, 1]), cents=st.integers(-500, 500))
    def adjust(self, wallet: int, cents: int) -> None:
        change = (
            self.till.commands.wallets.add_funds
            if cents > 0
            else self.till.commands.wallets.deduct_funds
        )
        with suppress(Refused):
            self.run(change(ADMIN, self.wallets[wallet], abs(cents), "as asked"))
            self.adjusted[self.wallets[wallet]] += cents

    @rule(who=st.sampled_from([0, 1, 2]), at_once=st.booleans())
    def close(self, who: int, at_once: bool) -> None:
        """Close an account; unless everything is done `at_once`, the command crashes and the
        reactor continues."""
        person, ends = [*self.people, self.seller][who], self.till.commands.account_ends
        self.run(
            ends.close(person, person.person())
            if at_once
            else ends._close(person, person.person(), None)
        )

    @rule(who=st.sampled_from([0, 1, 2]))
    def reopen(self, who: int) -> None:
        with suppress(Refused):
            self.run(
                self.till.commands.account_ends.reopen(
                    ADMIN, [*self.people, self.seller][who].person()
                )
            )

    @rule()
    def react(self) -> None:
        self.run(self.till.react())

    @rule()
    def work(self) -> None:
        self.run(self.till.work())

    # -- invariants --------------------------------------------------------------------------------

    @invariant()
    def no_balance_is_below_zero(self) -> None:
        for wallet in self.wallets:
            state = self.run(self.till.wallet_state(wallet))
            assert state.balance_cents >= 0 <= state.owed_cents
            assert not (state.balance_cents and state.owed_cents)

    @invariant()
    def a_payment_gives_back_at_most_what_it_took(self) -> None:
        for payment_id in self.order_payments:
            payment = self.run(self.till.payment(payment_id))
            promised = sum(
                refund.amount_cents
                for refund in payment.refunds.values()
                if refund.state != "FAILED"
            )
            assert (
                0
                <= payment.refunded_cents
                <= promised
                <= (payment.amount_cents if payment.is_captured else 0)
            )

    def teardown(self) -> None:
        if hasattr(self, "start"):
            self.run(self._check_the_end())

    async def _check_the_end(self) -> None:
        till = self.till
        for transaction_id in self.transactions:
            await till.commands.transactions.resume(ADMIN, transaction_id)
        await till.settle()
        accounts, expected = await till.accounts(), dict(self.adjusted)
        unreturned = 0
        for transaction_id in self.transactions:
            transaction = await till.transaction(transaction_id)
            if transaction.type == "deposit" and transaction.status == "FAILED":
                unreturned += await self._unreturned(transaction)
            if transaction.status == "COMPLETED" and transaction.type != "payment":
                if transaction.from_wallet_id is not None:
                    expected[transaction.from_wallet_id] -= transaction.amount_cents
                if transaction.to_wallet_id is not None:
                    expected[transaction.to_wallet_id] += (
                        transaction.amount_cents - transaction.reversed_cents
                    )
            assert transaction.is_final or transaction.type == "deposit"
            if not transaction.is_final:
                assert (await self._user(transaction.user_id)).may_act
        earned = 0
        for payment_id in self.order_payments:
            payment = await till.payment(payment_id)
            if payment.is_captured:
                assert payment.order_id is not None
                if (await till.order(payment.order_id)).status == "CANCELLED":
                    assert payment.status == "REFUNDED" or payment.refund_status == "FAILED"
                kept = payment.amount_cents - payment.refunded_cents
                earned += kept
                if payment.wallet_id is not None:
                    expected[payment.wallet_id] -= kept
            await self._captured_once(payment_id)
            await self._nothing_is_held_for_nobody(payment_id)
        for wallet in self.wallets:
            state = await till.wallet_state(wallet)
            assert state.balance_cents == accounts.get(wallet_account(wallet), 0)
            assert -state.owed_cents == accounts.get(receivable_account(state.user_id), 0)
            assert state.balance_cents - state.owed_cents == expected[wallet]
        assert accounts.get(CLEARING, 0) == self.start.get(CLEARING, 0) + unreturned
        assert accounts.get(TRANSFERS, 0) == 0
        assert sum(accounts.values()) == 0
        revenue = accounts.get(REVENUE, 0) - self.start.get(REVENUE, 0)
        assert revenue + accounts.get(seller_account(self.seller.person()), 0) == earned
        held = sum(expected.values())
        outside = sum(
            accounts.get(each, 0) - self.start.get(each, 0)
            for each in (BUYER_EXTERNAL, ADJUSTMENTS)
        )
        assert held - 2000 + earned + unreturned == -outside
        await asyncio.to_thread(self._same_rules_change_nothing)

    def _same_rules_change_nothing(self) -> None:
        """Decided again under the rules that were in force, the ledger is as it is."""
        rules = Rules(datetime.min.replace(tzinfo=UTC), fee_bps=1000, tax_rates={"*": 0})
        with connect(self.till.core.url, "test") as conn:
            upto = checkpoints.head(conn)
            change = decide_again(conn, codec(), rules, upto, lambda _done, _all: None)
        assert (change.differences, change.changed) == ([], 0)

    async def _unreturned(self, failed_deposit: Transaction) -> int:
        """What stays in clearing of a failed deposit, because the provider refused its refund: it
        does not know the intent that a notice told of before the worker had made it."""
        assert failed_deposit.payment_id is not None
        payment = await self.till.payment(failed_deposit.payment_id)
        if not payment.is_captured:
            return 0
        assert payment.status == "REFUNDED" or payment.refund_status == "FAILED"
        return payment.amount_cents - payment.refunded_cents

    async def _nothing_is_held_for_nobody(self, payment_id: UUID) -> None:
        """Nothing waits for people who are gone, and money that came after they left was
        refunded."""
        payment = await self.till.payment(payment_id)
        assert payment.order_id is not None
        order = await self.till.order(payment.order_id)
        for user_id in (order.buyer_id, self.seller.person()):
            if (await self._user(user_id)).may_act:
                continue
            assert order.status != "PENDING_PAYMENT"
            closing = await closing_of(self.till.core.repository, user_id)
            assert closing is not None
            for each in await self.till.core.log.read_stream(payment_id):
                if isinstance(each.event, PaymentCaptured) and each.env.position > closing.position:
                    assert order.status == "CANCELLED"
                    assert payment.status == "REFUNDED" or payment.refund_status == "FAILED"

    async def _user(self, user_id: UUID) -> User:
        user = await self.till.core.repository.state(USER, user_id)
        assert user is not None
        return user

    async def _captured_once(self, payment_id: UUID) -> None:
        events = [each.event for each in await self.till.core.log.read_stream(payment_id)]
        assert sum(isinstance(event, PaymentCaptured | PaymentProcessed) for event in events) <= 1


@pytest.fixture
def money(database: str, tmp_path: Path) -> Iterator[type[Money]]:
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    Money.loop = loop
    Money.till = loop.run_until_complete(stack.enter_async_context(open_till(database, tmp_path)))
    yield Money
    loop.run_until_complete(stack.aclose())
    loop.close()


def test_no_money_is_made_or_lost_in_whatever_order_things_happen(money: type[Money]) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        money,
        settings=settings(max_examples=15, stateful_step_count=25, suppress_health_check=checks),
    )
    money.loop.run_until_complete(the_books_balance_at_every_position(money.till))
    money.loop.run_until_complete(the_audit_finds_nothing(money.till))


async def the_books_balance_at_every_position(till: Till) -> None:
    """An auditor's view, who asks for the trial balance as of every position."""
    head, models = await till.core.log.head(), [model("ledger_accounts"), model("ledger_entries")]
    async with projecting(till.core.url, models):
        reads = ReadModels(till.core.log.pool).reaching(head, timeout=60)
        positions = [*range(0, head, 7), head]
        for position in positions:
            found = (await trial_balance_as_of(reads, position)).value
            assert [line.balance_cents for line in found] == [0] * len(found)
        assert {line.currency for line in found} == {"USD"}


async def the_audit_finds_nothing(till: Till) -> None:
    """The shop's audit of itself, once the read models have everything. The test was the reactors,
    and there are no fiscal receipts."""
    head, url = await till.core.log.head(), till.core.url
    async with projecting(url):
        assert await ReadModels(till.core.log.pool).waiter.wait(
            [each.projection.name for each in read_models()], head, 60
        )
    report = await asyncio.to_thread(_audited, till, head)
    found = {each.invariant: each for each in report.outcomes}
    assert [each for each in report.outcomes if each.failure or each.unsettled] == []
    kept = found["capture_has_order_or_refund"].violations
    for each in kept:  # the provider refused to give the money back
        assert (await till.payment(UUID(each.subject))).refund_status == "FAILED"
    violated = {name for name, each in found.items() if each.violations}
    assert violated <= {"sale_has_receipt", "capture_has_order_or_refund"}
    assert found["payment_is_posted_once"].checked > 0


def _audited(till: Till, head: int) -> Report:
    with connect(till.core.url, "test") as conn:
        for name in REACTORS:
            checkpoints.register(conn, name, 1, "", head)
        grace = timedelta(days=1)
        auditor = Auditor(conn, codec(), read_models(), till.clock, grace)
        return auditor.whole(lambda _what, _done, _all: None)
