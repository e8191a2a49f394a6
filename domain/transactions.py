"""A transaction: one movement of a person's money, by deposit, transfer or payment, that ends
completed or undone.

deposit:  created ─► processing (asks the provider) ─► completed with the wallet's funds | failed
transfer: created ─► processing with the source's deduction ─► completed with the target's funds
                     └► failed, and the source has its money back
payment:  created, processing, completed with the wallet's deduction and the payment's capture, in
          one append

A transfer whose target takes the money is one append as well.

Each event here is appended together with the changes to wallets and payment that it reports. An
unfinished transaction is resumed from its status alone.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.money import check_amount

Type = Literal["deposit", "transfer", "payment"]
Status = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED"]
Step = Literal["charge", "deduct", "credit"]
"""Where it failed: asking the provider, debiting the source, crediting the target."""


@event("transaction.created.v1")
class TransactionCreated(Event, frozen=True):
    """The transaction was created. A deposit has `to_wallet_id` and `payment_id`, a transfer both
    wallets, a payment `from_wallet_id` and `order_id`."""

    type: Type
    amount_cents: int
    currency: str
    user_id: UUID
    from_wallet_id: UUID | None = None
    to_wallet_id: UUID | None = None
    order_id: UUID | None = None
    payment_id: UUID | None = None


@event("transaction.processing.v1")
class TransactionProcessing(Event, frozen=True):
    """The first step was taken: the source was debited, or the provider is being asked."""


@event("transaction.completed.v1")
class TransactionCompleted(Event, frozen=True):
    """The money arrived at its target."""

    amount_cents: int
    currency: str


@event("transaction.failed.v1")
class TransactionFailed(Event, frozen=True):
    """The transaction failed at `step`; `refunded_cents` were debited before and have been
    returned."""

    step: Step
    code: str
    refunded_cents: int


@event("transaction.reversed.v1")
class TransactionReversed(Event, frozen=True):
    """The provider took back all or part of a deposit: `recovered_cents` came from the wallet, and
    the owner owes `owed_cents`."""

    amount_cents: int
    recovered_cents: int
    owed_cents: int
    currency: str
    payment_id: UUID
    refund_id: UUID


@event("transaction.reinstated.v1")
class TransactionReinstated(Event, frozen=True):
    """All or part of a deposit that the provider had taken back returned to the wallet."""

    amount_cents: int
    currency: str
    payment_id: UUID
    refund_id: UUID


class Transaction(msgspec.Struct, frozen=True):
    """The state of a transaction. `step`, `code` and `refunded_cents` describe its failure;
    `reversed_cents` is what the provider took back of a completed deposit."""

    type: Type
    amount_cents: int
    currency: str
    user_id: UUID
    from_wallet_id: UUID | None = None
    to_wallet_id: UUID | None = None
    order_id: UUID | None = None
    payment_id: UUID | None = None
    status: Status = "PENDING"
    step: Step | None = None
    code: str | None = None
    refunded_cents: int = 0
    reversed_cents: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the transaction has ended."""
        return self.status in {"COMPLETED", "FAILED"}

    @property
    def is_immutable(self) -> bool:
        """Whether the transaction has ended, and cannot be taken back by the provider."""
        return self.is_final and self.type != "deposit"


def evolve(state: Transaction | None, event: Event) -> Transaction | None:  # noqa: PLR0911 - one line a fact
    replace = msgspec.structs.replace
    match state, event:
        case _, TransactionCreated():
            return Transaction(**msgspec.structs.asdict(event))
        case Transaction(), TransactionProcessing():
            return replace(state, status="PROCESSING")
        case Transaction(), TransactionCompleted():
            return replace(state, status="COMPLETED")
        case Transaction(), TransactionFailed():
            return replace(state, status="FAILED", **msgspec.structs.asdict(event))
        case Transaction(), TransactionReversed():
            return replace(state, reversed_cents=state.reversed_cents + event.amount_cents)
        case Transaction(), TransactionReinstated():
            return replace(state, reversed_cents=state.reversed_cents - event.amount_cents)
    return state


# -- decisions -------------------------------------------------------------------------------------


def deposit(
    *, user_id: UUID, to_wallet_id: UUID, payment_id: UUID, amount_cents: int, currency: str
) -> list[Event]:
    """Add money through a provider's payment. Raises Invalid: invalid_amount, invalid_currency."""
    _check(amount_cents, currency)
    return [
        TransactionCreated(
            type="deposit",
            amount_cents=amount_cents,
            currency=currency,
            user_id=user_id,
            to_wallet_id=to_wallet_id,
            payment_id=payment_id,
        )
    ]


def transfer(
    *, user_id: UUID, from_wallet_id: UUID, to_wallet_id: UUID, amount_cents: int, currency: str
) -> list[Event]:
    """Move money from one wallet to another. Raises Invalid: invalid_amount, invalid_currency,
    same_wallet."""
    _check(amount_cents, currency)
    if from_wallet_id == to_wallet_id:
        raise Invalid("same_wallet", "the source and the target are the same wallet")
    return [
        TransactionCreated(
            type="transfer",
            amount_cents=amount_cents,
            currency=currency,
            user_id=user_id,
            from_wallet_id=from_wallet_id,
            to_wallet_id=to_wallet_id,
        )
    ]


def payment(
    *,
    user_id: UUID,
    from_wallet_id: UUID,
    order_id: UUID,
    payment_id: UUID,
    amount_cents: int,
    currency: str,
) -> list[Event]:
    """Pay an order from a wallet. Raises Invalid: invalid_amount, invalid_currency."""
    _check(amount_cents, currency)
    return [
        TransactionCreated(
            type="payment",
            amount_cents=amount_cents,
            currency=currency,
            user_id=user_id,
            from_wallet_id=from_wallet_id,
            order_id=order_id,
            payment_id=payment_id,
        )
    ]


def process(transaction: Transaction) -> list[Event]:
    """Record that the first step was taken. Idempotent. Raises Conflict("transaction_settled")."""
    if transaction.is_final:
        raise Conflict("transaction_settled", f"the transaction is {transaction.status}")
    return [TransactionProcessing()] if transaction.status == "PENDING" else []


def complete(transaction: Transaction) -> list[Event]:
    """Record that the money arrived. Raises Conflict("transaction_settled")."""
    if transaction.is_final:
        raise Conflict("transaction_settled", f"the transaction is {transaction.status}")
    return [
        TransactionCompleted(amount_cents=transaction.amount_cents, currency=transaction.currency)
    ]


def fail(transaction: Transaction, step: Step, code: str, refunded_cents: int = 0) -> list[Event]:
    """Fail the transaction; the caller returns what was debited, in the same append. Raises
    Conflict("transaction_settled")."""
    if transaction.is_final:
        raise Conflict("transaction_settled", f"the transaction is {transaction.status}")
    return [TransactionFailed(step=step, code=code, refunded_cents=refunded_cents)]


def reverse(
    transaction: Transaction, refund_id: UUID, amount_cents: int, *, recovered_cents: int
) -> list[Event]:
    """Record that the provider took back part of a deposit. No-op unless
    the deposit is completed."""
    if transaction.status != "COMPLETED" or transaction.payment_id is None:
        return []
    return [
        TransactionReversed(
            amount_cents=amount_cents,
            recovered_cents=recovered_cents,
            owed_cents=amount_cents - recovered_cents,
            currency=transaction.currency,
            payment_id=transaction.payment_id,
            refund_id=refund_id,
        )
    ]


def reinstate(transaction: Transaction, refund_id: UUID, amount_cents: int) -> list[Event]:
    """Record that money the provider had taken back returned. No-op
    beyond the amount taken back."""
    if transaction.payment_id is None or amount_cents > transaction.reversed_cents:
        return []
    return [
        TransactionReinstated(
            amount_cents=amount_cents,
            currency=transaction.currency,
            payment_id=transaction.payment_id,
            refund_id=refund_id,
        )
    ]


def _check(amount_cents: int, currency: str) -> None:
    check_amount(amount_cents, currency, at_least=1)
