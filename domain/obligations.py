"""Obligations: what an account still owes, is owed or waits for, so that it must not be forgotten
yet.

A parcel on its way needs its address; money needs an owner. What a closed account merely began (a
cart, an unpaid order) is no obligation: closing the account cancels it.
"""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict
from domain.fulfilment import Shipment
from domain.orders import Order
from domain.payments import Payment
from domain.transactions import Transaction
from domain.wallets import Wallet

Kind = Literal["shipment", "payment", "deposit", "refund", "wallet"]


class Obligation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing to be settled first. `id` is that of the shipment, payment, transaction (for a
    deposit), refund or wallet; amounts are in minor units."""

    kind: Kind
    id: UUID
    status: str = ""
    order_id: UUID | None = None
    payment_id: UUID | None = None
    transaction_id: UUID | None = None
    amount_cents: int | None = None
    currency: str = ""


def of_shipment(shipment_id: UUID, shipment: Shipment) -> list[Obligation]:
    """A parcel that has not arrived: an obligation of its sender and of its receiver."""
    if shipment.status in {"DELIVERED", "CANCELLED"}:
        return []
    return [
        Obligation(
            kind="shipment", id=shipment_id, status=shipment.status, order_id=shipment.order_id
        )
    ]


def of_order(order_id: UUID, order: Order, payment: Payment) -> list[Obligation]:
    """An order that may still be paid, or was paid and is not confirmed yet; and refunds that are
    due."""
    found = _refunds(
        order.payment_id, payment, came_for_nothing=order.status == "CANCELLED", order_id=order_id
    )
    if order.status == "PENDING_PAYMENT":
        found.append(
            Obligation(
                kind="payment",
                id=order.payment_id,
                status=payment.status,
                order_id=order_id,
                amount_cents=payment.amount_cents,
                currency=payment.currency,
            )
        )
    return found


def of_deposit(
    transaction_id: UUID, transaction: Transaction, payment: Payment
) -> list[Obligation]:
    """A deposit that may still be paid, or has not reached the wallet yet; and refunds that are
    due."""
    payment_id = transaction.payment_id
    assert payment_id is not None
    failed = transaction.status == "FAILED"
    found = _refunds(payment_id, payment, came_for_nothing=failed, transaction_id=transaction_id)
    if payment.is_open or (payment.is_captured and not transaction.is_final):
        found.append(
            Obligation(
                kind="deposit",
                id=transaction_id,
                status=payment.status,
                payment_id=payment_id,
                amount_cents=payment.amount_cents,
                currency=payment.currency,
            )
        )
    return found


def of_wallet(wallet_id: UUID, wallet: Wallet) -> list[Obligation]:
    """The wallet's balance, or its debt (status FROZEN)."""
    if wallet.owed_cents:
        amount, status = wallet.owed_cents, "FROZEN"
    else:
        amount, status = wallet.balance_cents, ""
    if not amount:
        return []
    return [
        Obligation(
            kind="wallet",
            id=wallet_id,
            status=status,
            amount_cents=amount,
            currency=wallet.currency,
        )
    ]


def of_transfer(transaction_id: UUID, transaction: Transaction) -> list[Obligation]:
    """Money that has left a wallet and may still come back to it."""
    if transaction.is_final or transaction.from_wallet_id is None:
        return []
    return [
        Obligation(
            kind="wallet",
            id=transaction.from_wallet_id,
            status=transaction.status,
            transaction_id=transaction_id,
            amount_cents=transaction.amount_cents,
            currency=transaction.currency,
        )
    ]


def refusal(found: list[Obligation]) -> Conflict:
    """The Conflict that lists these obligations."""
    named = [
        {name: value for name, value in _named(each).items() if value not in (None, "")}
        for each in found
    ]
    return Conflict(
        "account_has_obligations",
        "the account still has obligations: settle them first",
        obligations=named,
    )


def _named(obligation: Obligation) -> Mapping[str, object]:
    return msgspec.structs.asdict(obligation)


def _refunds(
    payment_id: UUID, payment: Payment, *, came_for_nothing: bool, **about: UUID
) -> list[Obligation]:
    """Pending refunds, and failed ones of money that is still held although its order or deposit
    failed."""
    is_kept = came_for_nothing and payment.refundable_cents > 0
    return [
        Obligation(
            kind="refund",
            id=refund_id,
            status=refund.state,
            payment_id=payment_id,
            amount_cents=refund.amount_cents,
            currency=payment.currency,
            **about,
        )
        for refund_id, refund in payment.refunds.items()
        if refund.state == "PENDING" or (refund.state == "FAILED" and is_kept)
    ]
