"""A wallet: one person's money in one currency, kept with the shop.

Its balance is never below zero, and while it is inactive nothing goes in or out, except what was taken for nothing, by
a transfer or an order that came to nothing: that always comes back.
"""

from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.money import check_amount, check_currency
from domain.text import is_visible

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


# -- state -------------------------------------------------------------------------------------------------------------


class Wallet(msgspec.Struct, frozen=True):
    """A wallet as it stands."""

    user_id: UUID
    currency: str
    balance_cents: int = 0
    active: bool = True


def evolve(state: Wallet | None, event: Event) -> Wallet | None:
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
    """Put money in. Raises Invalid("invalid_amount"), Conflict("wallet_inactive")."""
    must_be_active(wallet)
    return give_back(wallet, amount_cents, cause)


def give_back(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Put back what was taken for nothing, though the wallet may have been deactivated since.

    Raises Invalid("invalid_amount").
    """
    check_amount(amount_cents, at_least=1)
    return [
        FundsAdded(
            amount_cents=amount_cents,
            currency=wallet.currency,
            balance_cents=wallet.balance_cents + amount_cents,
            transaction_id=cause.transaction_id,
            payment_id=cause.payment_id,
            reason=cause.reason,
        )
    ]


def deduct_funds(wallet: Wallet, amount_cents: int, cause: Cause) -> list[Event]:
    """Take money out. Raises Invalid("invalid_amount"); Conflict: wallet_inactive, insufficient_funds."""
    check_amount(amount_cents, at_least=1)
    must_cover(wallet, amount_cents)
    return [
        FundsDeducted(
            amount_cents=amount_cents,
            currency=wallet.currency,
            balance_cents=wallet.balance_cents - amount_cents,
            transaction_id=cause.transaction_id,
            payment_id=cause.payment_id,
            reason=cause.reason,
        )
    ]


# -- rules -------------------------------------------------------------------------------------------------------------


def must_be_active(wallet: Wallet) -> None:
    """Raises Conflict("wallet_inactive")."""
    if not wallet.active:
        raise Conflict("wallet_inactive", "the wallet is deactivated")


def must_cover(wallet: Wallet, amount_cents: int) -> None:
    """Raises Conflict: wallet_inactive, insufficient_funds (with `balance_cents`)."""
    must_be_active(wallet)
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
