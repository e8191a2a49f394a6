"""The double-entry ledger: every movement of money is a transaction whose debits equal its credits
in each currency.

Each causing event posts one transaction, which is never edited, only reversed by a later one. A
balance is credits minus debits. The accounts:

BUYER_EXTERNAL           the outside world: below zero by what buyers paid by card
STRIPE_CLEARING          money held by the provider, between the outside world and its owners
TRANSFER_CLEARING        money of transfers, between its deduction and its arrival
ADJUSTMENTS              what operators added to wallets (below zero) or took from them
PLATFORM_REVENUE         fees, and the sales of the platform's own games
SELLER_PAYABLE:<seller>  what the platform owes a seller
WALLET:<wallet>          what a wallet holds: always its balance
RECEIVABLE:<user>        what a person owes (below zero): a deposit taken back once spent
"""

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import PLATFORM_ID, derived
from domain.orders import OrderLine

BUYER_EXTERNAL = "BUYER_EXTERNAL"
CLEARING = "STRIPE_CLEARING"
TRANSFERS = "TRANSFER_CLEARING"
ADJUSTMENTS = "ADJUSTMENTS"
REVENUE = "PLATFORM_REVENUE"

Direction = Literal["debit", "credit"]


class Entry(msgspec.Struct, frozen=True):
    """One side of a movement; the amount is positive."""

    account_id: str
    direction: Direction
    amount_cents: int
    currency: str


@event("ledger.account_opened.v1")
class AccountOpened(Event, frozen=True):
    """A seller registered: their payable account was opened, without postings."""

    account_id: str
    user_id: UUID


@event("ledger.transaction_posted.v1")
class TransactionPosted(Event, frozen=True):
    """The ledger transaction caused by `cause_event_id` was posted to the accounts."""

    cause_event_id: UUID
    entries: tuple[Entry, ...]
    order_id: UUID | None = None
    payment_id: UUID | None = None
    transaction_id: UUID | None = None


class Posted(msgspec.Struct, frozen=True):
    """The state of a ledger transaction: posted, with these entries."""

    entries: tuple[Entry, ...]


def evolve(state: Posted | None, event: Event) -> Posted | None:
    return Posted(event.entries) if isinstance(event, TransactionPosted) else state


def transaction_id(cause_event_id: UUID) -> UUID:
    """The stream of the one ledger transaction that an event can cause."""
    return derived("ledger.transaction", cause_event_id)


def seller_account(seller_id: UUID) -> str:
    """The account of what the platform owes this seller."""
    return f"SELLER_PAYABLE:{seller_id}"


def receivable_account(user_id: UUID) -> str:
    """The account of what this person owes the shop."""
    return f"RECEIVABLE:{user_id}"


def wallet_account(wallet_id: UUID) -> str:
    """The account of what this wallet holds."""
    return f"WALLET:{wallet_id}"


def post(
    posted: Posted | None,
    cause_event_id: UUID,
    entries: Sequence[Entry],
    *,
    order_id: UUID | None = None,
    payment_id: UUID | None = None,
    transaction_id: UUID | None = None,
) -> list[Event]:
    """Post what an event did to the accounts. Idempotent; no-op without amounts.

    Raises ValueError when debits and credits differ, which is always a bug.
    """
    entries = [entry for entry in entries if entry.amount_cents]
    if posted is not None or not entries:
        return []
    if any(entry.amount_cents < 0 for entry in entries) or any(balances(entries).values()):
        raise ValueError(f"entries do not balance: {entries}")
    return [
        TransactionPosted(
            cause_event_id=cause_event_id,
            entries=tuple(entries),
            order_id=order_id,
            payment_id=payment_id,
            transaction_id=transaction_id,
        )
    ]


def balances(entries: Sequence[Entry]) -> dict[str, int]:
    """Credits minus debits by currency: all zero when the entries balance."""
    sums: dict[str, int] = {}
    for entry in entries:
        signed = entry.amount_cents if entry.direction == "credit" else -entry.amount_cents
        sums[entry.currency] = sums.get(entry.currency, 0) + signed
    return sums


# -- postings of each movement ---------------------------------------------------------------------


def move(source: str, target: str, amount_cents: int, currency: str) -> list[Entry]:
    """Debit `source` and credit `target`."""
    return [
        Entry(source, "debit", amount_cents, currency),
        Entry(target, "credit", amount_cents, currency),
    ]


def shares_of(lines: Sequence[OrderLine]) -> dict[str, int]:
    """How an order's money is divided, by account. The fee is rounded half-even to the cent per
    seller, and the seller gets the rest. The platform's own sales are entirely its revenue."""
    sold: dict[UUID, int] = {}
    fees: dict[UUID, int] = {}
    for line in lines:
        total = line.quantity * line.unit_price_cents
        sold[line.seller_id] = sold.get(line.seller_id, 0) + total
        fees[line.seller_id] = fees.get(line.seller_id, 0) + total * line.fee_bps
    shares: dict[str, int] = {}
    revenue = 0
    for seller_id, total in sold.items():
        fee = total if seller_id == PLATFORM_ID else half_even(fees[seller_id], 10_000)
        if total > fee:
            shares[seller_account(seller_id)] = total - fee
        revenue += fee
    return {**shares, REVENUE: revenue} if revenue else shares


def capture(lines: Sequence[OrderLine], currency: str) -> list[Entry]:
    """A card payment of an order: into clearing, and from there to the owners' accounts."""
    total = sum(line.quantity * line.unit_price_cents for line in lines)
    return [
        *move(BUYER_EXTERNAL, CLEARING, total, currency),
        *split(CLEARING, shares_of(lines), currency),
    ]


def split(source: str, shares: Mapping[str, int], currency: str) -> list[Entry]:
    """Debit `source` by the sum of the shares, and credit each share."""
    credited = [
        Entry(account, "credit", amount, currency) for account, amount in shares.items() if amount
    ]
    return [Entry(source, "debit", sum(shares.values()), currency), *credited]


def gather(target: str, shares: Mapping[str, int], currency: str) -> list[Entry]:
    """Debit each share, and credit `target` by their sum: the mirror image of `split`."""
    debited = [
        Entry(account, "debit", amount, currency) for account, amount in shares.items() if amount
    ]
    return [*debited, Entry(target, "credit", sum(shares.values()), currency)]


def refunded_shares(shares: Mapping[str, int], refunds: Sequence[int]) -> dict[str, int]:
    """What the last of these refunds takes from each share: pro rata to what earlier refunds left
    of it, in whole cents by largest remainder.

    So no share gives more than it got, and all refunds together give back exactly what was split. A
    reversed refund follows as a negative amount, which gives each share back, pro rata, part of
    what it gave.
    """
    left, moved = dict(shares), dict.fromkeys(shares, 0)
    for refund in refunds:
        if refund < 0:
            given = {account: shares[account] - amount for account, amount in left.items()}
            moved = {account: -amount for account, amount in _allocate(-refund, given).items()}
        else:
            moved = _allocate(refund, left)
        left = {account: amount - moved[account] for account, amount in left.items()}
    return moved


def _allocate(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    total = sum(weights.values())
    if amount > total:
        raise ValueError(f"{amount} of {total} cannot be given back")
    if not total:
        return dict.fromkeys(weights, 0)
    parts = {account: divmod(amount * weight, total) for account, weight in weights.items()}
    short = amount - sum(whole for whole, _ in parts.values())
    by_rest = sorted(parts, key=lambda account: (-parts[account][1], account))
    return {account: parts[account][0] + (account in by_rest[:short]) for account in parts}


def half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator, exactly rounded half to even."""
    whole, rest = divmod(numerator, denominator)
    double = 2 * rest
    return whole + (double > denominator or (double == denominator and whole % 2 == 1))
