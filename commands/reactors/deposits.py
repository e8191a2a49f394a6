"""The process of a deposit, as a reactor: the transaction follows its payment, and the wallet gets
the money.

payment.processed ─► wallet.funds_added, transaction.completed
                 └► if the wallet is deactivated, its owner's account closed, or the deposit
                    failed before ─► transaction.failed, and the money is refunded
payment.deposit_failed ─► transaction.failed, and the provider's intent is cancelled
payment.refunded, by hand at the provider or by a dispute
                 ─► transaction.reversed, wallet.funds_deducted
                 └► if part of it was spent ─► wallet.debt_recorded
payment.refund_reversed ─► transaction.reinstated, wallet.funds_added
"""

from collections.abc import Awaitable, Callable
from uuid import UUID

from commands.accounts.open_accounts import must_take_money
from commands.aggregates import PAYMENT, TRANSACTION, WALLET
from commands.handler import CommandHandler
from commands.order_saga import emit_refund
from commands.reactors.reactor import Reactor, caused, once_for
from domain import payments, transactions, wallets
from domain.errors import Refused
from domain.ids import derived
from domain.payments import (
    DepositFailed,
    PaymentIntentCancelled,
    PaymentProcessed,
    PaymentRefunded,
    PaymentRefundReversed,
    PaymentSubmitted,
)
from domain.transactions import Transaction
from domain.wallets import Cause, Wallet
from eventstore.decide import Decision, R
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork


class Deposits:
    """Makes deposits follow their payments."""

    NAME = "deposits"

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    @property
    def reactor(self) -> Reactor:
        """The reactor, which follows every deposit from the beginning of the log."""
        return Reactor(
            self.NAME,
            {
                PaymentSubmitted: self._submitted,
                PaymentProcessed: self._processed,
                DepositFailed: self._failed,
                PaymentIntentCancelled: self._cancelled,
                PaymentRefunded: self._refunded,
                PaymentRefundReversed: self._reversed,
            },
            writes=(TRANSACTION, WALLET, PAYMENT),
        )

    async def _submitted(self, event: PaymentSubmitted, env: Envelope) -> None:
        payment = await self._handler.cached(PAYMENT, env.stream_id)
        if payment is None or payment.transaction_id is None or event.attempt > 1:
            return
        transaction_id = payment.transaction_id

        async def decision(unit: UnitOfWork) -> None:
            transaction = await unit.get(TRANSACTION, transaction_id)
            if not transaction.is_final:
                unit.emit(transaction_id, transactions.process(transaction))

        await self._once(decision, env)

    async def _processed(self, event: PaymentProcessed, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            transaction = await unit.get(TRANSACTION, event.transaction_id)
            wallet_id, wallet = await _target(unit, transaction)
            cause = Cause(transaction_id=event.transaction_id, payment_id=env.stream_id)
            try:
                completed = transactions.complete(transaction)
                await must_take_money(unit, wallet)
                unit.emit(wallet_id, wallets.add_funds(wallet, event.amount_cents, cause))
                unit.emit(event.transaction_id, completed)
            except Refused as refusal:
                await _send_back(unit, event, env, transaction, refusal)

        await self._once(decision, env)

    async def _failed(self, event: DepositFailed, env: Envelope) -> None:
        await self._fail(env.stream_id, event.transaction_id, event.code, env)

    async def _cancelled(self, event: PaymentIntentCancelled, env: Envelope) -> None:
        payment = await self._handler.cached(PAYMENT, env.stream_id)
        if (
            payment is not None
            and payment.transaction_id is not None
            and event.reason == "provider"
        ):
            await self._fail(env.stream_id, payment.transaction_id, "payment_cancelled", env)

    async def _fail(self, payment_id: UUID, transaction_id: UUID, code: str, env: Envelope) -> None:
        """Fail a deposit for good: trying again takes another deposit."""

        async def decision(unit: UnitOfWork) -> None:
            transaction, payment = (
                await unit.get(TRANSACTION, transaction_id),
                await unit.get(PAYMENT, payment_id),
            )
            if not transaction.is_final:
                unit.emit(transaction_id, transactions.fail(transaction, "charge", code))
            unit.emit(payment_id, payments.cancel_intent(payment, "deposit_failed"))

        await self._once(decision, env)

    async def _refunded(self, event: PaymentRefunded, env: Envelope) -> None:
        """Take a deposit that the provider took back out of the wallet, as far as the balance goes;
        the owner owes the rest.
        """

        async def decision(unit: UnitOfWork, transaction_id: UUID) -> None:
            transaction = await unit.get(TRANSACTION, transaction_id)
            wallet_id, wallet = await _target(unit, transaction)
            recovered = min(event.amount_cents, wallet.balance_cents)
            reversal = transactions.reverse(
                transaction, event.refund_id, event.amount_cents, recovered_cents=recovered
            )
            if reversal:
                taken = wallets.reclaim_deposit(
                    wallet,
                    event.amount_cents,
                    transaction_id=transaction_id,
                    payment_id=env.stream_id,
                )
                unit.emit(transaction_id, reversal)
                unit.emit(wallet_id, taken)

        await self._of_deposit(decision, env)

    async def _reversed(self, event: PaymentRefundReversed, env: Envelope) -> None:
        """Put a deposit that returned to the shop back into the wallet, even a deactivated one."""

        async def decision(unit: UnitOfWork, transaction_id: UUID) -> None:
            transaction = await unit.get(TRANSACTION, transaction_id)
            wallet_id, wallet = await _target(unit, transaction)
            if reinstated := transactions.reinstate(
                transaction, event.refund_id, event.amount_cents
            ):
                cause = Cause(
                    transaction_id=transaction_id,
                    payment_id=env.stream_id,
                    reason="deposit reinstated",
                )
                unit.emit(transaction_id, reinstated)
                unit.emit(wallet_id, wallets.give_back(wallet, event.amount_cents, cause))

        await self._of_deposit(decision, env)

    async def _of_deposit(
        self, decision: Callable[[UnitOfWork, UUID], Awaitable[None]], env: Envelope
    ) -> None:
        """Decide on the deposit that an event's payment belongs to, if any."""
        payment = await self._handler.cached(PAYMENT, env.stream_id)
        if payment is not None and payment.transaction_id is not None:
            transaction_id = payment.transaction_id
            await self._once(lambda unit: decision(unit, transaction_id), env)

    async def _once(self, decision: Decision[R], env: Envelope) -> R:
        return (
            await self._handler.handle(decision, caused(self.NAME, env), once_for(self.NAME, env))
        ).value


async def _send_back(
    unit: UnitOfWork,
    event: PaymentProcessed,
    env: Envelope,
    transaction: Transaction,
    refusal: Refused,
) -> None:
    """Fail a deposit that the wallet cannot accept, if it has not failed yet, and refund the
    money."""
    if not transaction.is_final:
        failed = transactions.fail(transaction, "credit", refusal.code, event.amount_cents)
        unit.emit(event.transaction_id, failed)
    payment = await unit.get(PAYMENT, env.stream_id)
    refund_id = derived("refund.late", env.event_id)
    if payment.refundable_cents:
        await emit_refund(
            unit, env.stream_id, refund_id, payment.refundable_cents, "deposit_failed"
        )


async def _target(unit: UnitOfWork, transaction: Transaction) -> tuple[UUID, Wallet]:
    """The wallet that a deposit goes to, and its id."""
    wallet_id = transaction.to_wallet_id
    assert wallet_id is not None  # every deposit has one
    return wallet_id, await unit.get(WALLET, wallet_id)
