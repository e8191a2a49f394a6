"""A wallet: one person's money in one currency, kept with the shop.

Its balance is never below zero, and while it is inactive nothing goes in or out, except what was taken for nothing, by
a transfer or an order that came to nothing: that always comes back. A deposit that the provider took back is taken out
again; what was spent of it by then is owed, and whatever comes in settles that first. While anything is owed the wallet
holds nothing, and is frozen: nothing can be spent.
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
"""What a wallet may come to hold, in any currency: well within 64 bits."""

DEPOSIT_TAKEN_BACK = "deposit refunded"
"""The reason of a deduction by which a deposit goes back to the provider."""

# -- events ------------------------------------------------------------------------------------------------------------


@event("wallet.created.v1")
class WalletCreated(Event, frozen=True):
    """It is open, and empty."""

    user_id: UUID
    currency: str


@event("wallet.deactivated.v1")
class WalletDeactivated(Event, frozen=True):
    """Nothing goes in or out from now on."""

    reason: str


@event("wallet.reactivated.v1")
class WalletReactivated(Event, frozen=True):
    """It may be used again."""

    reason: str


@event("wallet.funds_added.v1")
class FundsAdded(Event, frozen=True):
    """Money came in; `balance_cents` is the balance after it.

    Why: a deposit (transaction_id and payment_id), a transfer (transaction_id), a refund (payment_id), or an
    adjustment by an ADMIN (neither).
    """

    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None = None
    payment_id: UUID | None = None
    reason: str | None = None


@event("wallet.funds_deducted.v1")
class FundsDeducted(Event, frozen=True):
    """Money went out; `balance_cents` is the balance after it.

    Why: an order's payment (payment_id), a transfer (transaction_id alone), a deposit that the provider gave back
    (both, as of an order paid by a transaction), or an adjustment by an ADMIN (neither).
    """

    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None = None
    payment_id: UUID | None = None
    reason: str | None = None


@event("wallet.debt_recorded.v1")
class DebtRecorded(Event, frozen=True):
    """A deposit was taken back after it was spent: this much of it is owed; `owed_cents` is all that is owed now."""

    amount_cents: int
    currency: str
    owed_cents: int
    transaction_id: UUID
    payment_id: UUID


@event("wallet.debt_settled.v1")
class DebtSettled(Event, frozen=True):
    """Of what came in just before, so much went to what is owed; `owed_cents` and `balance_cents` are what is left."""

    amount_cents: int
    currency: str
    owed_cents: int
    balance_cents: int


# -- state -------------------------------------------------------------------------------------------------------------


class Wallet(msgspec.Struct, frozen=True):
    """A wallet as it stands. While something is owed, the balance is 0."""

    user_id: UUID
    currency: str
    balance_cents: int = 0
    active: bool = True
    owed_cents: int = 0

    @property
    def status(self) -> Status:
        """INACTIVE lets nothing in or out, FROZEN nothing out."""
        return status_of(active=self.active, owed_cents=self.owed_cents)


def status_of(*, active: bool, owed_cents: int) -> Status:
    """What it comes to that a wallet is (not) deactivated, and owes so much."""
    if not active:
        return "INACTIVE"
    return "FROZEN" if owed_cents else "ACTIVE"


def evolve(state: Wallet | None, event: Event) -> Wallet | None:  # noqa: PLR0911 - one line a fact
    """The wallet after one more event."""
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
            return msgspec.structs.replace(state, owed_cents=event.owed_cents, balance_cents=event.balance_cents)
    return state


# -- decisions ---------------------------------------------------------------------------------------------------------


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
    """Close it for all movements. Raises Conflict("wallet_inactive") when it is closed already."""
    must_be_active(wallet)
    return [WalletDeactivated(reason=check_reason(reason))]


def reactivate(wallet: Wallet, reason: str) -> list[Event]:
    """Let it be used again. Raises Conflict("wallet_active") when it can be used already."""
    if wallet.active:
        raise Conflict("wallet_active", "the wallet is active")
    return [WalletReactivated(reason=check_reason(reason))]


def add_funds(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Put money in: what is owed is settled by it first.

    Raises Invalid("invalid_amount"); Conflict: wallet_inactive, balance_too_large.
    """
    must_be_active(wallet)
    if wallet.balance_cents + amount_cents > MAX_BALANCE_CENTS:
        raise Conflict("balance_too_large", "a wallet does not hold that much")
    return give_back(wallet, amount_cents, cause)


def give_back(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Put back what was taken for nothing, though the wallet may have been deactivated since.

    Raises Invalid("invalid_amount").
    """
    check_amount(amount_cents, wallet.currency, at_least=1)
    balance_cents, settled_cents = wallet.balance_cents + amount_cents, min(amount_cents, wallet.owed_cents)
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
    """Take money out. Raises Invalid("invalid_amount"), Conflict as `must_cover`."""
    check_amount(amount_cents, wallet.currency, at_least=1)
    must_cover(wallet, amount_cents)
    return [_deducted(wallet, amount_cents, cause)]


def take_back(wallet: Wallet, amount_cents: int, *, transaction_id: UUID, payment_id: UUID) -> list[Event]:
    """The provider took a deposit back: the wallet gives what it still holds, be it deactivated, and owes the rest."""
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


# -- rules -------------------------------------------------------------------------------------------------------------


def must_be_active(wallet: Wallet) -> None:
    """Raises Conflict("wallet_inactive")."""
    if not wallet.active:
        raise Conflict("wallet_inactive", "the wallet is deactivated")


def must_cover(wallet: Wallet, amount_cents: int) -> None:
    """Raises Conflict: wallet_inactive, wallet_frozen with `owed_cents`, insufficient_funds with `balance_cents`."""
    must_be_active(wallet)
    if wallet.owed_cents:
        detail = "a deposit was taken back after it was spent: what comes in settles that first"
        raise Conflict("wallet_frozen", detail, owed_cents=wallet.owed_cents)
    if amount_cents > wallet.balance_cents:
        raise Conflict("insufficient_funds", "the wallet does not hold that much", balance_cents=wallet.balance_cents)


def must_be_in(wallet: Wallet, currency: str) -> None:
    """Raises Conflict("currency_mismatch") when the wallet holds another currency."""
    if wallet.currency != currency:
        raise Conflict(
            "currency_mismatch", f"the wallet holds {wallet.currency}, not {currency}", wallet_currency=wallet.currency
        )


def check_reason(reason: str) -> str:
    """Raises Invalid("reason_required"): what operators do to people's money is explained."""
    if not is_visible(reason):
        raise Invalid("reason_required", "say why")
    return reason
