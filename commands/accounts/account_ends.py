"""Ending accounts, and reopening them: close, forget, reopen.

Closing is one event. From then on nothing new can begin for the account, so everything that began
before can be found; it is cancelled right after the closing (`commands.reactors.account_settling`).

Forgetting requires that nothing is owed, which read models know only a moment later. So a command
marks the account's stream, looks up everything that had begun by then, and forgets the person only
if the mark is still there: whatever begins removes it in its own append
(`commands.accounts.open_accounts`). Usually something owed is found before any append.
"""

from collections.abc import AsyncIterator
from uuid import UUID

from commands.accounts.belongings import Belongings
from commands.accounts.mailboxes import Mailboxes
from commands.accounts.open_accounts import must_manage
from commands.aggregates import ORDER, PAYMENT, SHIPMENT, TRANSACTION, USER, WALLET
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.ports.secrets import PersonKeys
from commands.reactors.account_settling import AccountSettling
from domain import identity, obligations
from domain.errors import Conflict
from domain.identity import User
from domain.obligations import Obligation
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork

MAX_OBLIGATIONS_LISTED = 100
"""How many obligations a refusal names. After settling them, the person tries again."""

MAX_TRIES = 5
"""How often forgetting is tried when something begins meanwhile."""


class _BegunMeanwhile(Exception):
    """Something began for the account after its obligations were looked up."""


class AccountEnds:
    """Commands that end and reopen accounts."""

    def __init__(
        self,
        handler: CommandHandler,
        belongings: Belongings,
        settling: AccountSettling,
        mailboxes: Mailboxes,
        keys: PersonKeys,
    ) -> None:
        self._handler = handler
        self._belongings = belongings
        self._settling = settling
        self._mailboxes = mailboxes
        self._keys = keys

    async def close(
        self,
        caller: Caller,
        user_id: UUID,
        *,
        forget: bool = False,
        reason: str | None = None,
        expected_version: int | None = None,
    ) -> CommandResult[None]:
        """Close an account and its sessions, and cancel what depends on it. With `forget`, its key
        is destroyed and its e-mail address is free again. Idempotent.

        Raises Forbidden("not_yours"); NotFound; Stale; Conflict: last_admin;
        account_has_obligations (with `obligations`, each `{kind, id, …}`), account_in_use;
        NotSeenYet, only with `forget`. After a refusal nothing has changed.
        """
        must_manage(caller, user_id)
        if caller.user_id == user_id:  # what people say of themselves would outlive their key
            reason = None
        if forget:
            await self._must_owe_nothing(caller, user_id, expected_version)
            result = await self._forget(caller, user_id, reason)
            # a reactor does it, too, in case this process dies here
            await self._keys.destroy(user_id)
        else:
            result = await self._close(caller, user_id, expected_version, reason)
        return CommandResult(
            None, await self._settling.settle_now(caller, user_id, result.position)
        )

    async def reopen(
        self,
        caller: Caller,
        user_id: UUID,
        reason: str | None = None,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[User]:
        """Reopen a closed account (ADMIN), and put its games on sale again.

        Raises Forbidden("role_required"); NotFound; Conflict: account_active, account_forgotten.
        """
        caller.must_be_admin()

        async def decision(unit: UnitOfWork) -> User:
            user = await unit.get(USER, user_id)
            unit.emit(user_id, identity.reopen(user, reason))
            unit.emit(user_id, identity.end_sessions(user))  # as the closing did
            unit.record_ids(user_id=user_id)
            return await unit.get(USER, user_id)

        result = await self._handler.handle(decision, caller, once)
        return CommandResult(
            result.value, await self._settling.settle_now(caller, user_id, result.position)
        )

    # -- closing -----------------------------------------------------------------------------------

    async def _close(
        self,
        caller: Caller,
        user_id: UUID,
        expected_version: int | None,
        reason: str | None = None,
    ) -> CommandResult[None]:
        async def decision(unit: UnitOfWork) -> None:
            user = await unit.get(USER, user_id)
            unit.expect(user_id, expected_version)
            await self._must_leave_an_admin(unit, user_id, user)
            unit.emit(user_id, identity.deactivate(user, reason))

        return await self._handler.handle(decision, caller)

    async def _must_leave_an_admin(self, unit: UnitOfWork, user_id: UUID, user: User) -> None:
        """Raises Conflict("last_admin") unless another ADMIN can log in. The append checks that
        they still can: of two who close each other at the same time, one is refused."""
        if user.account_type != "ADMIN" or not user.may_act:
            return
        for other_id in await self._belongings.admins(await self._handler.log.head()):
            other = await unit.load(USER, other_id) if other_id != user_id else None
            if other is not None and other.may_act and other.password_hash:
                return
        raise Conflict(
            "last_admin", "nobody else could administer the shop: create another ADMIN first"
        )

    # -- forgetting --------------------------------------------------------------------------------

    async def _must_owe_nothing(
        self, caller: Caller, user_id: UUID, expected_version: int | None
    ) -> None:
        async def decision(unit: UnitOfWork) -> None:
            user = await unit.get(USER, user_id)
            unit.expect(user_id, expected_version)
            await self._must_leave_an_admin(unit, user_id, user)
            if found := await self._obligations(unit, user_id):
                raise obligations.refusal(found)

        await self._handler.handle(decision, caller)

    async def _forget(
        self, caller: Caller, user_id: UUID, reason: str | None
    ) -> CommandResult[None]:
        for _ in range(MAX_TRIES):
            await self._handler.handle(lambda unit: self._mark(unit, user_id), caller)
            try:
                return await self._handler.handle(
                    lambda unit: self._forget_unless_owing(unit, user_id, reason), caller
                )
            except _BegunMeanwhile:
                continue
        raise Conflict(
            "account_in_use", "the account is in use: something new begins for it all the time"
        )

    async def _mark(self, unit: UnitOfWork, user_id: UUID) -> None:
        unit.emit(user_id, identity.begin_forgetting(await unit.get(USER, user_id)))

    async def _forget_unless_owing(
        self, unit: UnitOfWork, user_id: UUID, reason: str | None
    ) -> None:
        """Raises _BegunMeanwhile; Conflict: last_admin, account_has_obligations; NotSeenYet."""
        user = await unit.get(USER, user_id)
        if user.status == "FORGOTTEN":
            return
        if user.may_act and not user.forgetting:
            raise _BegunMeanwhile
        await self._must_leave_an_admin(unit, user_id, user)
        if found := await self._obligations(unit, user_id):
            raise obligations.refusal(found)
        unit.emit(user_id, identity.forget(user, reason))
        await self._mailboxes.release(unit, user, "forgotten")

    async def _obligations(self, unit: UnitOfWork, user_id: UUID) -> list[Obligation]:
        """The account's obligations, as the streams have them; the append checks that none has
        moved on. Finds at most MAX_OBLIGATIONS_LISTED, which are enough for a refusal."""
        found: list[Obligation] = []
        async for some in self._owed(unit, user_id):
            found += some
            if len(found) >= MAX_OBLIGATIONS_LISTED:
                break
        return found[:MAX_OBLIGATIONS_LISTED]

    async def _owed(self, unit: UnitOfWork, user_id: UUID) -> AsyncIterator[list[Obligation]]:
        owed = await self._belongings.owed(user_id, await self._handler.log.head())
        for shipment_id in owed.shipments:
            if (shipment := await unit.load(SHIPMENT, shipment_id)) is not None:
                yield obligations.of_shipment(shipment_id, shipment)
        for order_id in owed.orders:
            order = await unit.load(ORDER, order_id)
            payment = None if order is None else await unit.load(PAYMENT, order.payment_id)
            if order is not None and payment is not None:
                yield obligations.of_order(order_id, order, payment)
        for deposit_id in owed.deposits:
            deposit = await unit.load(TRANSACTION, deposit_id)
            payment = (
                None
                if deposit is None or not deposit.payment_id
                else await unit.load(PAYMENT, deposit.payment_id)
            )
            if deposit is not None and payment is not None:
                yield obligations.of_deposit(deposit_id, deposit, payment)
        for wallet_id in owed.wallets:
            if (wallet := await unit.load(WALLET, wallet_id)) is not None:
                yield obligations.of_wallet(wallet_id, wallet)
        for transfer_id in owed.transfers:
            if (transfer := await unit.load(TRANSACTION, transfer_id)) is not None:
                yield obligations.of_transfer(transfer_id, transfer)
