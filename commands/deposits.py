"""The process that follows a deposit, as a reactor: the transaction follows its payment, and the wallet gets the money.

payment.processed ─► wallet.funds_added, transaction.completed
                 └► the wallet is deactivated, or the deposit had failed ─► transaction.failed, the money goes back
payment.deposit_failed ─► transaction.failed, and the provider's intent is cancelled
"""

from uuid import UUID

from commands.aggregates import PAYMENT, TRANSACTION, WALLET
from commands.bus import CommandBus
from commands.orders import emit_refund
from commands.reactors import Reactor, caused, once_for
from domain import payments, transactions, wallets
from domain.errors import Refused
from domain.ids import derived
from domain.payments import DepositFailed, PaymentIntentCancelled, PaymentProcessed, PaymentSubmitted
from domain.transactions import Transaction
from domain.wallets import Cause
from eventstore.log import Envelope
from eventstore.repository import Unit


def deposits(bus: CommandBus) -> Reactor:
    """Lets deposits follow their payments."""
    name = "deposits"

    async def submitted(event: PaymentSubmitted, env: Envelope) -> None:
        payment = await bus.repository.seen(PAYMENT, env.stream_id)
        if payment is None or payment.transaction_id is None or event.attempt > 1:
            return
        transaction_id = payment.transaction_id

        async def decision(unit: Unit) -> None:
            transaction = await _transaction(unit, transaction_id)
            if not transaction.settled:
                unit.emit(transaction_id, transactions.process(transaction))

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def processed(event: PaymentProcessed, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            transaction = await _transaction(unit, event.transaction_id)
            wallet_id = transaction.to_wallet_id
            assert wallet_id is not None
            wallet = await unit.load(WALLET, wallet_id)
            assert wallet is not None
            cause = Cause(transaction_id=event.transaction_id, payment_id=env.stream_id)
            try:
                completed = transactions.complete(transaction)
                unit.emit(wallet_id, wallets.add_funds(wallet, event.amount_cents, cause))
                unit.emit(event.transaction_id, completed)
            except Refused as refusal:
                await _send_back(unit, event, env, transaction, refusal)

        await bus.run(decision, caused(name, env), once_for(name, env))

    async def failed(event: DepositFailed, env: Envelope) -> None:
        await fail(env.stream_id, event.transaction_id, event.code, env)

    async def cancelled(event: PaymentIntentCancelled, env: Envelope) -> None:
        payment = await bus.repository.seen(PAYMENT, env.stream_id)
        if payment is not None and payment.transaction_id is not None and event.reason == "provider":
            await fail(env.stream_id, payment.transaction_id, "payment_cancelled", env)

    async def fail(payment_id: UUID, transaction_id: UUID, code: str, env: Envelope) -> None:
        """A deposit is tried once: whoever wants to try again asks for another."""

        async def decision(unit: Unit) -> None:
            transaction, payment = await _transaction(unit, transaction_id), await unit.load(PAYMENT, payment_id)
            assert payment is not None
            if not transaction.settled:
                unit.emit(transaction_id, transactions.fail(transaction, "charge", code))
            unit.emit(payment_id, payments.cancel_intent(payment, "deposit_failed"))

        await bus.run(decision, caused(name, env), once_for(name, env))

    return Reactor(
        name,
        {
            PaymentSubmitted: submitted,
            PaymentProcessed: processed,
            DepositFailed: failed,
            PaymentIntentCancelled: cancelled,
        },
    )


async def _send_back(
    unit: Unit, event: PaymentProcessed, env: Envelope, transaction: Transaction, refusal: Refused
) -> None:
    """The wallet cannot have it: the deposit fails, if it had not before, and the money goes back to the card."""
    if not transaction.settled:
        failed = transactions.fail(transaction, "credit", refusal.code, event.amount_cents)
        unit.emit(event.transaction_id, failed)
    payment = await unit.load(PAYMENT, env.stream_id)
    assert payment is not None
    refund_id = derived("refund.late", env.event_id)
    if payment.refundable_cents:
        await emit_refund(unit, env.stream_id, refund_id, payment.refundable_cents, "deposit_failed")


async def _transaction(unit: Unit, transaction_id: UUID) -> Transaction:
    transaction = await unit.load(TRANSACTION, transaction_id)
    assert transaction is not None
    return transaction
