"""Commands on wallets: open, deactivate, reactivate, adjust; and paying an order from one."""

from collections.abc import Callable
from uuid import UUID

from commands.accounts.open_accounts import must_be_open, must_not_be_forgotten, must_take_money
from commands.aggregates import CLAIM, PAYMENT, WALLET
from commands.caller import Caller, not_yours
from commands.handler import CommandHandler, CommandResult
from domain import claims, payments, wallets
from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event
from domain.ids import claim_id
from domain.payments import refunds
from domain.wallets import Cause, Wallet
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class WalletCommands:
    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def create(
        self, caller: Caller, currency: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Open the caller's wallet in a currency. Returns its id.

        Raises Conflict("wallet_exists"), Invalid("invalid_currency"), Forbidden.
        """
        user_id, wallet_id = caller.person(), uuid7()

        async def decision(unit: UnitOfWork) -> UUID:
            await must_be_open(unit, user_id)
            created = wallets.create(user_id, currency)
            claim = claim_id("wallet", user_id, currency)
            exists = Conflict("wallet_exists", f"you already have a wallet in {currency}")
            unit.emit(
                claim, claims.take(await unit.load(CLAIM, claim), "wallet", wallet_id, exists)
            )
            unit.create(WALLET, wallet_id, created)
            unit.record_ids(wallet_id=wallet_id)
            return wallet_id

        return await self._handler.handle(decision, caller, once)

    async def deactivate(
        self, caller: Caller, wallet_id: UUID, reason: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Deactivate a wallet: no money comes in or goes out (ADMIN). Raises
        NotFound("wallet_not_found"), Conflict("wallet_inactive"), Invalid."""
        return await self._change(
            caller, wallet_id, lambda wallet: wallets.deactivate(wallet, reason), once
        )

    async def reactivate(
        self, caller: Caller, wallet_id: UUID, reason: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Reactivate a wallet (ADMIN). Raises NotFound("wallet_not_found"),
        Conflict("wallet_active"), Invalid."""
        return await self._change(
            caller, wallet_id, lambda wallet: wallets.reactivate(wallet, reason), once
        )

    async def add_funds(
        self,
        caller: Caller,
        wallet_id: UUID,
        amount_cents: int,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Adjust the balance upwards (ADMIN).

        Raises NotFound; Conflict: wallet_inactive, recipient_closed (the owner's account is
        closed); Invalid.
        """
        cause = Cause(reason=wallets.check_reason(reason))
        return await self._change(
            caller,
            wallet_id,
            lambda w: wallets.add_funds(w, amount_cents, cause),
            once,
            comes_in=True,
        )

    async def deduct_funds(
        self,
        caller: Caller,
        wallet_id: UUID,
        amount_cents: int,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Adjust the balance downwards (ADMIN). Raises NotFound, Conflict: wallet_inactive,
        insufficient_funds."""
        cause = Cause(reason=wallets.check_reason(reason))
        return await self._change(
            caller, wallet_id, lambda w: wallets.deduct_funds(w, amount_cents, cause), once
        )

    async def _change(
        self,
        caller: Caller,
        wallet_id: UUID,
        decide: Callable[[Wallet], list[Event]],
        once: IdempotencyKey | None,
        *,
        comes_in: bool = False,
    ) -> CommandResult[None]:
        caller.must_be_admin()

        async def decision(unit: UnitOfWork) -> None:
            wallet = await unit.get(WALLET, wallet_id)
            if comes_in:
                await must_take_money(unit, wallet)
            unit.emit(wallet_id, decide(wallet))
            unit.record_ids(wallet_id=wallet_id)

        return await self._handler.handle(decision, caller, once)


# -- shared with orders, payments and transactions -------------------------------------------------


async def owned_wallet(unit: UnitOfWork, caller: Caller, wallet_id: UUID) -> Wallet:
    """The caller's own wallet, whose account must be open. Not even an ADMIN may spend another
    person's money.

    Raises NotFound("wallet_not_found"); Forbidden: not_yours, user_inactive.
    """
    wallet = await unit.get(WALLET, wallet_id)
    if wallet.user_id != caller.user_id:
        raise not_yours("wallet")
    await must_be_open(unit, wallet.user_id)
    return wallet


async def wallet_of(unit: UnitOfWork, user_id: UUID, currency: str) -> UUID:
    """The id of a person's wallet in a currency. Raises NotFound("wallet_not_found")."""
    claim = await unit.load(CLAIM, claim_id("wallet", user_id, currency))
    if claim is None:
        raise NotFound("wallet_not_found", f"you have no wallet in {currency}")
    return claim.holder_id


async def refund_to_wallet(
    unit: UnitOfWork, payment_id: UUID, refund_id: UUID, *, owed: bool
) -> None:
    """Put a requested refund back into the wallet that paid; with `owed`, even into a deactivated
    one.

    Raises Conflict: wallet_inactive, recipient_forgotten.
    """
    payment = await unit.get(PAYMENT, payment_id)
    assert payment.wallet_id is not None
    wallet = await unit.get(WALLET, payment.wallet_id)
    await must_not_be_forgotten(unit, wallet)
    cause = Cause(payment_id=payment_id, reason="refund")
    put_back = wallets.give_back if owed else wallets.add_funds
    unit.emit(payment.wallet_id, put_back(wallet, payment.refunds[refund_id].amount_cents, cause))
    unit.emit(payment_id, refunds.complete_refund(payment, refund_id))


async def pay_from_wallet(
    unit: UnitOfWork, payment_id: UUID, wallet_id: UUID, transaction_id: UUID | None = None
) -> None:
    """Deduct an order's amount from the wallet that is its payment's method, and capture the
    payment, in one append.

    Raises Conflict: insufficient_funds, wallet_inactive, currency_mismatch;
    Invalid("invalid_amount") for a free order.
    """
    wallet, payment = await unit.get(WALLET, wallet_id), await unit.get(PAYMENT, payment_id)
    wallets.must_be_in(wallet, payment.currency)
    if payment.amount_cents == 0:
        raise Invalid("invalid_amount", "a free order needs no wallet")
    cause = Cause(transaction_id=transaction_id, payment_id=payment_id)
    unit.emit(wallet_id, wallets.deduct_funds(wallet, payment.amount_cents, cause))
    unit.emit(payment_id, payments.capture(payment, "wallet"))
