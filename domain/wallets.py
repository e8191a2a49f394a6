"""A wallet: one person's money in one currency, kept with the shop.

Its balance is never negative. An inactive wallet takes and gives nothing, with one exception: what
a failed transfer or order had debited always comes back. A deposit that the provider takes back is
debited again; what was already spent of it becomes a debt, which all incoming money settles first.
While there is a debt, the balance is 0 and the wallet is frozen: nothing can be spent.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.money import check_amount, check_currency
from domain.text import is_visible

Status = Literal["ACTIVE", "INACTIVE", "FROZEN"]

MAX_BALANCE_CENTS = 10**18
"""The highest balance, in any currency: well within 64 bits."""

DEPOSIT_TAKEN_BACK = "deposit refunded"
"""The reason of a deduction that returns a deposit to the provider."""

# -- events ----------------------------------------------------------------------------------------


@event("wallet.created.v1")
class WalletCreated(Event, frozen=True):
    """An empty wallet was opened."""

    user_id: UUID
    currency: str


@event("wallet.deactivated.v1")
class WalletDeactivated(Event, frozen=True):
    """The wallet was deactivated: money can no longer enter or leave it."""

    reason: str


@event("wallet.reactivated.v1")
class WalletReactivated(Event, frozen=True):
    """The wallet was reactivated."""

    reason: str


@event("wallet.funds_added.v1")
class FundsAdded(Event, frozen=True):
    """Money was added to the wallet; `balance_cents` is the balance after it. The cause is a
    deposit (`transaction_id` and `payment_id`), a transfer (`transaction_id`), a refund
    (`payment_id`), or an adjustment by an ADMIN (neither)."""

    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None = None
    payment_id: UUID | None = None
    reason: str | None = None


@event("wallet.funds_deducted.v1")
class FundsDeducted(Event, frozen=True):
    """Money was deducted from the wallet; `balance_cents` is the balance after it. The cause is an
    order's payment (`payment_id`, or both ids when paid by a transaction), a transfer
    (`transaction_id` alone), a deposit that the provider took back (both), or an adjustment by an
    ADMIN (neither)."""

    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None = None
    payment_id: UUID | None = None
    reason: str | None = None


@event("wallet.debt_recorded.v1")
class DebtRecorded(Event, frozen=True):
    """A deposit was taken back after it was spent: the owner owes `amount_cents` of it, and
    `owed_cents` in all."""

    amount_cents: int
    currency: str
    owed_cents: int
    transaction_id: UUID
    payment_id: UUID


@event("wallet.debt_settled.v1")
class DebtSettled(Event, frozen=True):
    """The money just added settled `amount_cents` of the debt; `owed_cents` and `balance_cents` are
    what remains."""

    amount_cents: int
    currency: str
    owed_cents: int
    balance_cents: int


# -- state -----------------------------------------------------------------------------------------


class Wallet(msgspec.Struct, frozen=True):
    """The state of a wallet. While anything is owed, the balance is 0."""

    user_id: UUID
    currency: str
    balance_cents: int = 0
    active: bool = True
    owed_cents: int = 0

    @property
    def status(self) -> Status:
        """INACTIVE: nothing enters or leaves. FROZEN: nothing leaves."""
        return status_of(active=self.active, owed_cents=self.owed_cents)


def status_of(*, active: bool, owed_cents: int) -> Status:
    """The status that follows from activity and debt."""
    if not active:
        return "INACTIVE"
    return "FROZEN" if owed_cents else "ACTIVE"


def evolve(state: Wallet | None, event: Event) -> Wallet | None:  # noqa: PLR0911 - one line a fact
    match state, event:
        case _, WalletCreated():
            return Wallet(event.user_id, event.currency)
        case Wallet(), WalletDeactivated():
            return msgspec.structs.replace(state, active=False)
        case Wallet(), WalletReactivated():
            return msgspec.structs.replace(state, active=True)
        case Wallet(), FundsAdded() | FundsDeducted():
            return msgspec.structs.replace(state, balance_cents=event.balance_cents)
        case Wallet(), DebtRecorded():
            return msgspec.structs.replace(state, owed_cents=event.owed_cents)
        case Wallet(), DebtSettled():
            return msgspec.structs.replace(
                state, owed_cents=event.owed_cents, balance_cents=event.balance_cents
            )
    return state


# -- decisions -------------------------------------------------------------------------------------


class Cause(msgspec.Struct, frozen=True):
    """Why money moves: see FundsAdded and FundsDeducted."""

    transaction_id: UUID | None = None
    payment_id: UUID | None = None
    reason: str | None = None


def create(user_id: UUID, currency: str) -> list[Event]:
    """Open an empty wallet. Raises Invalid("invalid_currency")."""
    check_currency(currency)
    return [WalletCreated(user_id=user_id, currency=currency)]


def deactivate(wallet: Wallet, reason: str) -> list[Event]:
    """Stop all movements. Raises Conflict("wallet_inactive") when it is deactivated already,
    Invalid("reason_required")."""
    must_be_active(wallet)
    return [WalletDeactivated(reason=check_reason(reason))]


def reactivate(wallet: Wallet, reason: str) -> list[Event]:
    """Allow movements again. Raises Conflict("wallet_active") when it is active already,
    Invalid("reason_required")."""
    if wallet.active:
        raise Conflict("wallet_active", "the wallet is active")
    return [WalletReactivated(reason=check_reason(reason))]


def add_funds(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Add money; it settles the debt first.

    Raises Invalid("invalid_amount"); Conflict: wallet_inactive, balance_too_large.
    """
    must_be_active(wallet)
    if not takes(wallet, amount_cents):
        raise Conflict("balance_too_large", "the balance would exceed the maximum")
    return give_back(wallet, amount_cents, cause)


def give_back(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Return money that a failed transfer or order had debited, even to a deactivated wallet.

    Raises Invalid("invalid_amount").
    """
    check_amount(amount_cents, wallet.currency, at_least=1)
    balance_cents, settled_cents = (
        wallet.balance_cents + amount_cents,
        min(amount_cents, wallet.owed_cents),
    )
    added = FundsAdded(
        amount_cents=amount_cents,
        currency=wallet.currency,
        balance_cents=balance_cents,
        transaction_id=cause.transaction_id,
        payment_id=cause.payment_id,
        reason=cause.reason,
    )
    if not settled_cents:
        return [added]
    settled = DebtSettled(
        amount_cents=settled_cents,
        currency=wallet.currency,
        owed_cents=wallet.owed_cents - settled_cents,
        balance_cents=balance_cents - settled_cents,
    )
    return [added, settled]


def deduct_funds(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Deduct money. Raises Invalid("invalid_amount"), Conflict as `must_cover`."""
    check_amount(amount_cents, wallet.currency, at_least=1)
    must_cover(wallet, amount_cents)
    return [_deducted(wallet, amount_cents, cause)]


def reclaim_deposit(
    wallet: Wallet, amount_cents: int, *, transaction_id: UUID, payment_id: UUID
) -> list[Event]:
    """Return a deposit to the provider, even from a deactivated wallet: as far as the balance goes;
    the rest becomes a debt."""
    cause = Cause(transaction_id=transaction_id, payment_id=payment_id, reason=DEPOSIT_TAKEN_BACK)
    recovered_cents = min(amount_cents, wallet.balance_cents)
    taken: list[Event] = [_deducted(wallet, recovered_cents, cause)] if recovered_cents else []
    owed_cents = amount_cents - recovered_cents
    if not owed_cents:
        return taken
    owed = DebtRecorded(
        amount_cents=owed_cents,
        currency=wallet.currency,
        owed_cents=wallet.owed_cents + owed_cents,
        transaction_id=transaction_id,
        payment_id=payment_id,
    )
    return [*taken, owed]


def _deducted(wallet: Wallet, amount_cents: int, cause: Cause) -> Event:
    return FundsDeducted(
        amount_cents=amount_cents,
        currency=wallet.currency,
        balance_cents=wallet.balance_cents - amount_cents,
        transaction_id=cause.transaction_id,
        payment_id=cause.payment_id,
        reason=cause.reason,
    )


# -- rules -----------------------------------------------------------------------------------------


def takes(wallet: Wallet, amount_cents: int) -> bool:
    """Whether this amount can be added: the wallet is active, and its balance stays within the
    maximum."""
    return wallet.active and wallet.balance_cents + amount_cents <= MAX_BALANCE_CENTS


def must_be_active(wallet: Wallet) -> None:
    """Raises Conflict("wallet_inactive") when the wallet is deactivated."""
    if not wallet.active:
        raise Conflict("wallet_inactive", "the wallet is deactivated")


def must_cover(wallet: Wallet, amount_cents: int) -> None:
    """Raises Conflict: wallet_inactive, wallet_frozen with `owed_cents`, insufficient_funds with
    `balance_cents`."""
    must_be_active(wallet)
    if wallet.owed_cents:
        detail = (
            "the owner owes a spent deposit that was taken back: incoming money settles it first"
        )
        raise Conflict("wallet_frozen", detail, owed_cents=wallet.owed_cents)
    if amount_cents > wallet.balance_cents:
        raise Conflict(
            "insufficient_funds",
            "the balance is too low",
            balance_cents=wallet.balance_cents,
        )


def must_be_in(wallet: Wallet, currency: str) -> None:
    """Raises Conflict("currency_mismatch") when the wallet holds another currency."""
    if wallet.currency != currency:
        raise Conflict(
            "currency_mismatch",
            f"the wallet holds {wallet.currency}, not {currency}",
            wallet_currency=wallet.currency,
        )


def check_reason(reason: str) -> str:
    """The reason. Raises Invalid("reason_required") when it is blank: operators explain what they
    do to people's money."""
    if not is_visible(reason):
        raise Invalid("reason_required", "a reason is required")
    return reason
