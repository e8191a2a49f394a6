"""Rules that depend on whether an account is open, or on when it was closed."""

from uuid import UUID

from commands.aggregates import USER
from commands.caller import SYSTEM, Caller
from domain import identity
from domain.errors import Conflict, Forbidden
from domain.identity import User, UserDeactivated, UserForgotten
from domain.ids import PLATFORM_ID
from domain.orders import CancelReason, Order
from domain.wallets import Wallet
from eventstore.log import Envelope
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork


def must_manage(caller: Caller, user_id: UUID) -> None:
    """Raises Forbidden("not_yours") unless the caller is the account's owner, an ADMIN or the
    program itself."""
    if caller.actor != SYSTEM.actor:
        caller.must_act_for(user_id, "account")


async def must_be_open(unit: UnitOfWork, user_id: UUID) -> User:
    """The account, for beginning something. The append checks that the account is still open, and
    interrupts a command that is about to forget it.

    Raises Forbidden("user_inactive").
    """
    user = await unit.load(USER, user_id)
    if user is None or not user.may_act:
        raise Forbidden("user_inactive", "the account is closed")
    unit.emit(user_id, identity.interrupt_forgetting(user))
    return user


async def must_take_money(unit: UnitOfWork, wallet: Wallet) -> None:
    """Check that the wallet's owner can receive money. Raises Conflict("recipient_closed")."""
    owner = await unit.load(USER, wallet.user_id)
    if owner is None or not owner.may_act:
        raise Conflict("recipient_closed", "the account of the receiving wallet is closed")


async def must_not_be_forgotten(unit: UnitOfWork, wallet: Wallet) -> None:
    """Check that a refund has an owner: a closed account still gets its money back, a forgotten one
    cannot. Raises Conflict("recipient_forgotten")."""
    owner = await unit.load(USER, wallet.user_id)
    if owner is not None and owner.status == "FORGOTTEN":
        raise Conflict("recipient_forgotten", "the owner of that wallet was forgotten")


async def closed_party(
    repository: Repository, unit: UnitOfWork, order: Order, position: int
) -> CancelReason | None:
    """Why an order that was paid at this position must not be sold: its buyer's account, or a
    seller's, was closed before. None when all were open."""
    parties: dict[UUID, CancelReason] = {order.buyer_id: "account_closed"}
    for line in order.lines:
        if line.seller_id != PLATFORM_ID:
            parties[line.seller_id] = "seller_closed"
    for user_id, reason in parties.items():
        user = await unit.load(USER, user_id)
        if user is not None and not user.may_act:
            closing = await closing_of(repository, user_id)
            if closing is not None and closing.position < position:
                return reason
    return None


async def closing_of(repository: Repository, user_id: UUID) -> Envelope | None:
    """The event that closed an account last."""
    closings = [
        recorded.env
        for recorded in await repository.log.read_stream(user_id, but=USER.unread)
        if isinstance(recorded.event, UserDeactivated | UserForgotten)
    ]
    deactivated = [env for env in closings if env.name == UserDeactivated.NAME]
    return next(iter(reversed(deactivated or closings)), None)
