"""Commands on transactions: deposits, transfers, payments from a wallet; and waiting until one is
settled.

A transfer is one append. If its target refuses, or others keep changing its wallets, it is created
alone, and the same process carries it out step by step. Each step is one append and depends only on
the log, so any process can finish a transfer that was interrupted (`resume`, called by a deadline).
"""

import asyncio
import contextlib
import logging
from uuid import UUID

import msgspec

from commands.accounts.open_accounts import must_be_open, must_take_money
from commands.aggregates import PAYMENT, TRANSACTION, WALLET
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.order_saga import owned_order
from commands.orders import payment_awaits_buyer
from commands.shop_rules import ShopRules
from commands.wallets import owned_wallet, pay_from_wallet
from domain import orders, payments, transactions, wallets
from domain.errors import Conflict, Invalid, Refused
from domain.payments import Method, Payment
from domain.transactions import Transaction
from domain.wallets import Cause, Wallet
from eventstore.consumers.stream_watcher import StreamWatcher
from eventstore.log import IdempotencyKey, VersionConflict
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7

logger = logging.getLogger(__name__)


class TransactionAndPayment(msgspec.Struct, frozen=True):
    """A transaction, the payment of a deposit or an order, and the transaction's version, as the
    log has them."""

    transaction: Transaction
    payment: Payment | None
    version: int

    @property
    def ready_to_answer(self) -> bool:
        """Whether a response need not wait any longer: the transaction is settled, or the payer
        must act."""
        return self.transaction.is_final or self.needs_action

    @property
    def needs_action(self) -> bool:
        """Whether the payer must act: complete 3-D Secure, or give the provider a method."""
        return self.payment is not None and payment_awaits_buyer(self.payment)


class TransactionCommands:
    def __init__(self, handler: CommandHandler, watcher: StreamWatcher, rules: ShopRules) -> None:
        self._handler = handler
        self._watcher = watcher
        self._rules = rules
        self._running: dict[UUID, asyncio.Task[None]] = {}

    # -- beginning one -----------------------------------------------------------------------------

    async def deposit(
        self,
        caller: Caller,
        to_wallet_id: UUID,
        amount_cents: int,
        currency: str,
        method: Method | None,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Deposit money into the caller's wallet by card. Returns the transaction's id.

        Raises NotFound("wallet_not_found"); Forbidden("not_yours"); Conflict: wallet_inactive,
        currency_mismatch; Invalid: invalid_amount, invalid_currency, payment_method_unavailable.
        """
        if method is not None and method.type != "card":
            raise Invalid("payment_method_unavailable", "a deposit is paid by card")
        transaction_id, payment_id = uuid7(), uuid7()

        async def decision(unit: UnitOfWork) -> UUID:
            user_id = caller.person()
            created = transactions.deposit(
                user_id=user_id,
                to_wallet_id=to_wallet_id,
                payment_id=payment_id,
                amount_cents=amount_cents,
                currency=currency,
            )
            wallet = await owned_wallet(unit, caller, to_wallet_id)
            wallets.must_be_in(wallet, currency)
            wallets.must_be_active(wallet)
            unit.create(TRANSACTION, transaction_id, created)
            requested = payments.request(
                transaction_id=transaction_id,
                buyer_id=user_id,
                amount_cents=amount_cents,
                currency=currency,
                expires_at=self._handler.now() + self._rules.payment_ttl,
                method=method,
            )
            unit.create(PAYMENT, payment_id, requested)
            unit.record_ids(transaction_id=transaction_id, payment_id=payment_id)
            return transaction_id

        return await self._handler.handle(decision, caller, once)

    async def transfer(
        self,
        caller: Caller,
        from_wallet_id: UUID,
        to_wallet_id: UUID,
        amount_cents: int,
        currency: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Transfer money from the caller's wallet to another. Returns the transaction's id.

        The whole transfer is one append. If the target takes nothing, or others keep changing one
        of the wallets, it is created alone, and carried out step by step in the background.

        Raises NotFound("wallet_not_found"); Forbidden("not_yours"); Conflict: insufficient_funds,
        wallet_inactive, wallet_frozen, currency_mismatch, recipient_closed; Invalid:
        invalid_amount, invalid_currency, same_wallet. If the target is inactive, or its owner's
        account is closed meanwhile, the transfer fails later.
        """
        transaction_id = uuid7()

        async def begin(unit: UnitOfWork, *, check_target: bool = False) -> Wallet:
            created = transactions.transfer(
                user_id=caller.person(),
                from_wallet_id=from_wallet_id,
                to_wallet_id=to_wallet_id,
                amount_cents=amount_cents,
                currency=currency,
            )
            unit.create(TRANSACTION, transaction_id, created)
            source = await owned_wallet(unit, caller, from_wallet_id)
            wallets.must_be_in(source, currency)
            target = await unit.get(WALLET, to_wallet_id, check=check_target)
            wallets.must_be_in(target, currency)
            await must_take_money(unit, target)
            wallets.must_cover(source, amount_cents)
            unit.record_ids(transaction_id=transaction_id)
            return target

        async def carry_out(unit: UnitOfWork) -> bool:
            target = await begin(unit, check_target=True)
            if not wallets.takes(target, amount_cents):
                return False
            await self._deduct(unit, transaction_id)
            await self._credit(unit, transaction_id)
            return True

        try:
            result = await self._handler.handle(carry_out, caller, once)
        except VersionConflict:
            # creation changes no wallet, and each step only one
            created_alone = await self._handler.handle(begin, caller, once)
            result = CommandResult(value=False, position=created_alone.position)
        if not result.value:
            self._start(transaction_id, caller)
        return CommandResult(transaction_id, result.position)

    async def pay(
        self,
        caller: Caller,
        from_wallet_id: UUID,
        order_id: UUID,
        amount_cents: int,
        currency: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Pay the caller's order from their wallet, in one append. Returns the transaction's id.

        Raises NotFound: wallet_not_found, order_not_found; Forbidden("not_yours"); Conflict:
        insufficient_funds, wallet_inactive, wallet_frozen, currency_mismatch, amount_mismatch,
        order_cancelled, order_expired, order_paid, payment_started; Invalid.
        """
        transaction_id = uuid7()

        async def decision(unit: UnitOfWork) -> UUID:
            order = await owned_order(unit, caller, order_id)
            payment = await unit.get(PAYMENT, order.payment_id)
            created = transactions.payment(
                user_id=caller.person(),
                from_wallet_id=from_wallet_id,
                order_id=order_id,
                payment_id=order.payment_id,
                amount_cents=amount_cents,
                currency=currency,
            )
            wallet = await owned_wallet(unit, caller, from_wallet_id)
            wallets.must_be_in(wallet, currency)
            orders.must_be_payable(order, paid=payment.is_captured, now=self._handler.now())
            if (amount_cents, currency) != (payment.amount_cents, payment.currency):
                raise Conflict(
                    "amount_mismatch",
                    "the order costs another amount",
                    amount_cents=payment.amount_cents,
                )
            method = Method("wallet", str(from_wallet_id))
            unit.emit(
                order.payment_id, payments.attach_method(payment, method, self._handler.now())
            )
            await pay_from_wallet(unit, order.payment_id, from_wallet_id, transaction_id)
            unit.create(TRANSACTION, transaction_id, created)
            for step in (transactions.process, transactions.complete):
                unit.emit(transaction_id, step(await unit.get(TRANSACTION, transaction_id)))
            unit.record_ids(
                transaction_id=transaction_id, order_id=order_id, payment_id=order.payment_id
            )
            return transaction_id

        return await self._handler.handle(decision, caller, once)

    # -- the steps of a transfer -------------------------------------------------------------------

    def _start(self, transaction_id: UUID, caller: Caller) -> None:
        """Carry the transfer out as a background task, so that a client's disconnect does not stop
        it."""
        task = asyncio.create_task(
            self._run(transaction_id, caller), name=f"transfer-{transaction_id}"
        )
        self._running[transaction_id] = task
        task.add_done_callback(lambda _: self._running.pop(transaction_id, None))

    async def _run(self, transaction_id: UUID, caller: Caller) -> None:
        try:
            await self.resume(caller, transaction_id)
        except Exception as error:
            logger.warning(
                "transfer %s was interrupted, and will be resumed: %r", transaction_id, error
            )

    async def resume(self, caller: Caller, transaction_id: UUID) -> None:
        """Carry a transfer to its end from where it stopped. Idempotent."""
        await self._handler.handle(lambda unit: self._deduct(unit, transaction_id), caller)
        await self._handler.handle(lambda unit: self._credit(unit, transaction_id), caller)

    async def _deduct(self, unit: UnitOfWork, transaction_id: UUID) -> None:
        transaction = await unit.get(TRANSACTION, transaction_id)
        if transaction.status != "PENDING" or transaction.from_wallet_id is None:
            return
        source_id, source = (
            transaction.from_wallet_id,
            await unit.get(WALLET, transaction.from_wallet_id),
        )
        try:
            await must_be_open(unit, source.user_id)
            taken = wallets.deduct_funds(
                source, transaction.amount_cents, Cause(transaction_id=transaction_id)
            )
        except Refused as refusal:
            unit.emit(transaction_id, transactions.fail(transaction, "deduct", refusal.code))
        else:
            unit.emit(source_id, taken)
            unit.emit(transaction_id, transactions.process(transaction))

    async def _credit(self, unit: UnitOfWork, transaction_id: UUID) -> None:
        """Credit the target or, if that is refused or does not exist, return the money to the
        source: a transfer always ends."""
        transaction = await unit.get(TRANSACTION, transaction_id)
        source_id, target_id = transaction.from_wallet_id, transaction.to_wallet_id
        if transaction.status != "PROCESSING" or source_id is None or target_id is None:
            return
        amount, cause = transaction.amount_cents, Cause(transaction_id=transaction_id)
        try:
            target = await unit.get(WALLET, target_id)
            await must_take_money(unit, target)
            unit.emit(target_id, wallets.add_funds(target, amount, cause))
        except Refused as refusal:
            source = await unit.get(WALLET, source_id)
            returned = msgspec.structs.replace(cause, reason="transfer_failed")
            unit.emit(source_id, wallets.give_back(source, amount, returned))
            unit.emit(
                transaction_id, transactions.fail(transaction, "credit", refusal.code, amount)
            )
        else:
            unit.emit(transaction_id, transactions.complete(transaction))

    # -- deadlines ---------------------------------------------------------------------------------

    async def expire_deposit(
        self, caller: Caller, payment_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Fail an overdue deposit when its deadline fires. No-op once it is paid."""

        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.load(PAYMENT, payment_id)
            if payment is None or not payment.is_open or self._handler.now() < payment.expires_at:
                return
            unit.emit(payment_id, payments.fail(payment, "expired", "the time to pay is over"))

        return await self._handler.handle(decision, caller, once)

    # -- waiting -----------------------------------------------------------------------------------

    async def when_ready(
        self, transaction_id: UUID, timeout_seconds: float
    ) -> TransactionAndPayment:
        """The transaction, once it is settled or the payer must act, or when the time is over.

        Raises NotFound("transaction_not_found").
        """
        if timeout_seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with self._watcher.patience(timeout_seconds):
                    return await self._wait(transaction_id)
        return await self._fetch(transaction_id)

    async def _wait(self, transaction_id: UUID) -> TransactionAndPayment:
        """Wait until it is settled. A transfer that this process carries out is awaited first."""
        if (task := self._running.get(transaction_id)) is not None:
            await asyncio.wait({task})
        found = await self._fetch(transaction_id)
        if found.ready_to_answer:
            return found
        streams = [
            each for each in (transaction_id, found.transaction.payment_id) if each is not None
        ]
        async with self._watcher.watching(streams) as changed:
            while not (found := await self._fetch(transaction_id)).ready_to_answer:
                await changed.wait()
                changed.clear()
        return found

    async def _fetch(self, transaction_id: UUID) -> TransactionAndPayment:
        repository = self._handler.repository
        version, transaction = await repository.get_versioned(
            TRANSACTION, transaction_id, fresh=False
        )
        if not transaction.is_immutable:
            version, transaction = await repository.get_versioned(TRANSACTION, transaction_id)
        payment_id = transaction.payment_id
        payment = None if payment_id is None else await repository.state(PAYMENT, payment_id)
        return TransactionAndPayment(transaction, payment, version)

    async def close(self) -> None:
        """Wait for the transfers in progress."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
