"""What the ledger posts for an order's payment: pure, so that it can be decided again, to check
what was posted, or to see what other rules would have posted."""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from domain import ledger
from domain.ledger import BUYER_EXTERNAL, CLEARING, Entry, wallet_account
from domain.orders import OrderLine
from domain.payments import Payment, PaymentCaptured, PaymentRefunded, PaymentRefundReversed

MOVING = (PaymentCaptured, PaymentRefunded, PaymentRefundReversed)
"""The events of an order's payment that are posted."""


def of_capture(lines: Sequence[OrderLine], currency: str, wallet_id: UUID | None) -> list[Entry]:
    """An order's payment, by card or from a wallet, divided among its sellers and the platform."""
    if wallet_id is None:
        return ledger.capture(lines, currency)
    return ledger.split(wallet_account(wallet_id), ledger.shares_of(lines), currency)


def of_refund(
    lines: Sequence[OrderLine], currency: str, wallet_id: UUID | None, moved: Sequence[int]
) -> list[Entry]:
    """The last of an order's refunds, taken from each share, and given to the wallet or, through
    the provider, to the outside world.

    `moved` has the cents of all refunds up to this one, in order, a reversal as a negative amount.
    """
    shares = ledger.refunded_shares(ledger.shares_of(lines), moved)
    if wallet_id is not None:
        return ledger.gather(wallet_account(wallet_id), shares, currency)
    out = ledger.move(CLEARING, BUYER_EXTERNAL, moved[-1], currency)
    return [*ledger.gather(CLEARING, shares, currency), *out]


def of_reversal(lines: Sequence[OrderLine], currency: str, moved: Sequence[int]) -> list[Entry]:
    """A reversed refund, given back to the shares that it was taken from; `moved` as for
    `of_refund`, the reversal last. Refunds to wallets are never reversed."""
    taken = ledger.refunded_shares(ledger.shares_of(lines), moved)
    shares = {account: -cents for account, cents in taken.items()}
    back = ledger.move(BUYER_EXTERNAL, CLEARING, -moved[-1], currency)
    return [*back, *ledger.split(CLEARING, shares, currency)]


def refunds_in(events: Iterable[object]) -> list[int]:
    """The cents of the refunds among a payment's events, in order; negative for a reversal."""
    moved = []
    for event in events:
        if isinstance(event, PaymentRefunded):
            moved.append(event.amount_cents)
        elif isinstance(event, PaymentRefundReversed):
            moved.append(-event.amount_cents)
    return moved


def decided(
    events: Sequence[object], payment: Payment, lines: Sequence[OrderLine]
) -> Iterator[tuple[int, list[Entry]]]:
    """What is posted for the events of an order's payment: the index of each event that moves
    money, and its entries."""
    for number, event in enumerate(events):
        if isinstance(event, PaymentCaptured):
            wallet_id = payment.wallet_id if event.method_type == "wallet" else None
            entries = of_capture(lines, payment.currency, wallet_id)
        elif isinstance(event, PaymentRefunded):
            moved = refunds_in(events[: number + 1])
            entries = of_refund(lines, payment.currency, payment.wallet_id, moved)
        elif isinstance(event, PaymentRefundReversed):
            entries = of_reversal(lines, payment.currency, refunds_in(events[: number + 1]))
        else:
            continue
        if entries := [entry for entry in entries if entry.amount_cents]:
            yield number, entries
