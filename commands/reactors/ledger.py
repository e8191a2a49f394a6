"""The ledger, as a reactor: it posts every event that moves money once, under an id derived from
the event.

The money of orders is posted for the payments' events; deposits, transfers and adjustments for the
wallets' events. So a wallet's account equals its balance once its events are posted.
"""

from collections.abc import Sequence
from uuid import UUID

from commands.aggregates import ORDER, PAYMENT, POSTING, TRANSACTION, WALLET
from commands.handler import CommandHandler
from commands.reactors.reactor import Reactor, caused, once_for
from domain import ledger, postings
from domain.identity import UserRegistered
from domain.ids import derived
from domain.ledger import (
    ADJUSTMENTS,
    BUYER_EXTERNAL,
    CLEARING,
    TRANSFERS,
    AccountOpened,
    Entry,
    wallet_account,
)
from domain.payments import (
    Payment,
    PaymentCaptured,
    PaymentProcessed,
    PaymentRefunded,
    PaymentRefundReversed,
)
from domain.wallets import DebtRecorded, DebtSettled, FundsAdded, FundsDeducted
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork


class Ledger:
    """Posts events to the accounts."""

    NAME = "ledger"

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    @property
    def reactor(self) -> Reactor:
        """The reactor, which posts all of the log from its beginning."""
        return Reactor(
            self.NAME,
            {
                UserRegistered: self._registered,
                PaymentCaptured: self._captured,
                PaymentProcessed: self._processed,
                PaymentRefunded: self._refunded,
                PaymentRefundReversed: self._reversed,
                FundsAdded: self._added,
                FundsDeducted: self._deducted,
                DebtRecorded: self._owed,
                DebtSettled: self._settled,
            },
            writes=(POSTING,),
        )

    async def _registered(self, event: UserRegistered, env: Envelope) -> None:
        """Open a seller's account, empty."""
        if event.account_type != "SELLER":
            return
        account_id = ledger.seller_account(event.user_id)
        stream_id = derived("ledger.account", account_id)

        async def decision(unit: UnitOfWork) -> None:
            unit.create(
                POSTING, stream_id, [AccountOpened(account_id=account_id, user_id=event.user_id)]
            )

        await self._handler.handle(decision, caused(self.NAME, env), once_for(self.NAME, env))

    async def _captured(self, event: PaymentCaptured, env: Envelope) -> None:
        if event.amount_cents == 0:
            return
        order = await self._handler.get(ORDER, event.order_id, fresh=False)
        wallet_id = None
        if event.method_type == "wallet":
            wallet_id = (await self._payment(env.stream_id)).wallet_id
            assert wallet_id is not None
        entries = postings.of_capture(order.lines, event.currency, wallet_id)
        await self._post(env, entries, order_id=event.order_id, payment_id=env.stream_id)

    async def _processed(self, event: PaymentProcessed, env: Envelope) -> None:
        entries = ledger.move(BUYER_EXTERNAL, CLEARING, event.amount_cents, event.currency)
        await self._post(
            env, entries, payment_id=env.stream_id, transaction_id=event.transaction_id
        )

    async def _refunded(self, event: PaymentRefunded, env: Envelope) -> None:
        """Take an order's refund from each share; give a deposit's back to the outside world."""
        payment = await self._payment(env.stream_id)
        if payment.order_id is None:
            entries = ledger.move(CLEARING, BUYER_EXTERNAL, event.amount_cents, payment.currency)
        else:
            order = await self._handler.get(ORDER, payment.order_id, fresh=False)
            entries = postings.of_refund(
                order.lines, payment.currency, payment.wallet_id, await self._moved(env)
            )
        await self._post_of(payment, env, entries)

    async def _reversed(self, event: PaymentRefundReversed, env: Envelope) -> None:
        """Give a reversed refund back to the shares that it was taken from."""
        payment = await self._payment(env.stream_id)
        if payment.order_id is None:
            entries = ledger.move(BUYER_EXTERNAL, CLEARING, event.amount_cents, payment.currency)
        else:
            order = await self._handler.get(ORDER, payment.order_id, fresh=False)
            entries = postings.of_reversal(order.lines, payment.currency, await self._moved(env))
        await self._post_of(payment, env, entries)

    async def _moved(self, env: Envelope) -> list[int]:
        """The cents of a payment's refunds up to an event; negative for the reversal of one."""
        found = await self._handler.log.read_stream(env.stream_id, upto=env.position)
        return postings.refunds_in([each.event for each in found])

    async def _owed(self, event: DebtRecorded, env: Envelope) -> None:
        """Post the debt of a wallet's owner who had spent a deposit that was taken back."""
        account = await self._receivable(env.stream_id)
        entries = ledger.move(account, CLEARING, event.amount_cents, event.currency)
        await self._post(
            env, entries, payment_id=event.payment_id, transaction_id=event.transaction_id
        )

    async def _settled(self, event: DebtSettled, env: Envelope) -> None:
        account = await self._receivable(env.stream_id)
        await self._post(
            env,
            ledger.move(wallet_account(env.stream_id), account, event.amount_cents, event.currency),
        )

    async def _receivable(self, wallet_id: UUID) -> str:
        wallet = await self._handler.get(WALLET, wallet_id, fresh=False)
        return ledger.receivable_account(wallet.user_id)

    async def _added(self, event: FundsAdded, env: Envelope) -> None:
        if event.payment_id is not None and event.transaction_id is None:
            return  # a refund: posted for payment.refunded
        if event.payment_id is not None:
            source = CLEARING  # a deposit
        else:
            source = ADJUSTMENTS if event.transaction_id is None else TRANSFERS
        entries = ledger.move(
            source, wallet_account(env.stream_id), event.amount_cents, event.currency
        )
        await self._post(
            env, entries, payment_id=event.payment_id, transaction_id=event.transaction_id
        )

    async def _deducted(self, event: FundsDeducted, env: Envelope) -> None:
        if event.payment_id is None:
            target = ADJUSTMENTS if event.transaction_id is None else TRANSFERS
        elif await self._is_deposit(event.transaction_id):
            target = CLEARING  # given back by the provider
        else:
            return  # an order's payment: posted for payment.transaction.completed
        entries = ledger.move(
            wallet_account(env.stream_id), target, event.amount_cents, event.currency
        )
        await self._post(
            env, entries, payment_id=event.payment_id, transaction_id=event.transaction_id
        )

    async def _is_deposit(self, transaction_id: UUID | None) -> bool:
        if transaction_id is None:
            return False
        transaction = await self._handler.cached(TRANSACTION, transaction_id)
        return transaction is not None and transaction.type == "deposit"

    async def _payment(self, payment_id: UUID) -> Payment:
        return await self._handler.get(PAYMENT, payment_id)

    async def _post_of(self, payment: Payment, env: Envelope, entries: Sequence[Entry]) -> None:
        await self._post(
            env,
            entries,
            order_id=payment.order_id,
            payment_id=env.stream_id,
            transaction_id=payment.transaction_id,
        )

    async def _post(
        self,
        env: Envelope,
        entries: Sequence[Entry],
        *,
        order_id: UUID | None = None,
        payment_id: UUID | None = None,
        transaction_id: UUID | None = None,
    ) -> None:
        stream_id = ledger.transaction_id(env.event_id)
        posted = ledger.post(
            None,
            env.event_id,
            entries,
            order_id=order_id,
            payment_id=payment_id,
            transaction_id=transaction_id,
        )

        async def decision(unit: UnitOfWork) -> None:
            unit.create(POSTING, stream_id, posted)

        await self._handler.handle(decision, caused(self.NAME, env), once_for(self.NAME, env))
