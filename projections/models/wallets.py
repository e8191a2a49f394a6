"""Wallets, and their statements: a row for each movement of money."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.wallets import (
    DEPOSIT_TAKEN_BACK,
    DebtRecorded,
    DebtSettled,
    FundsAdded,
    FundsDeducted,
    WalletCreated,
    WalletDeactivated,
    WalletReactivated,
    status_of,
)
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, StreamRow, on


class Wallet(StreamRow):
    """A person's money in one currency. `status` is ACTIVE, INACTIVE, or FROZEN while the person
    owes `owed_cents`."""

    KEY = ("wallet_id",)
    INDEXES = ("user_id, currency", "status, created_position", "created_position")

    wallet_id: UUID
    user_id: UUID
    currency: str
    balance_cents: int
    owed_cents: int
    status: str


class Wallets(Projection[Wallet]):
    """Every wallet by its id."""

    name, version, row = "wallets", 2, Wallet

    @on(WalletCreated)
    def created(self, rows: Rows[Wallet], event: WalletCreated, env: Placed) -> None:
        rows.put(
            Wallet(
                wallet_id=env.stream_id,
                user_id=event.user_id,
                currency=event.currency,
                balance_cents=0,
                owed_cents=0,
                status="ACTIVE",
            )
        )

    @on(WalletDeactivated)
    def deactivated(self, rows: Rows[Wallet], _: WalletDeactivated, env: Placed) -> None:
        rows[env.stream_id].status = "INACTIVE"

    @on(WalletReactivated)
    def reactivated(self, rows: Rows[Wallet], _: WalletReactivated, env: Placed) -> None:
        wallet = rows[env.stream_id]
        wallet.status = status_of(active=True, owed_cents=wallet.owed_cents)

    @on(FundsAdded)
    @on(FundsDeducted)
    def moved(self, rows: Rows[Wallet], event: FundsAdded | FundsDeducted, env: Placed) -> None:
        rows[env.stream_id].balance_cents = event.balance_cents

    @on(DebtRecorded)
    def owed(self, rows: Rows[Wallet], event: DebtRecorded, env: Placed) -> None:
        _owes(rows[env.stream_id], event.owed_cents)

    @on(DebtSettled)
    def settled(self, rows: Rows[Wallet], event: DebtSettled, env: Placed) -> None:
        wallet = rows[env.stream_id]
        wallet.balance_cents = event.balance_cents
        _owes(wallet, event.owed_cents)


def _owes(wallet: Wallet, owed_cents: int) -> None:
    wallet.owed_cents = owed_cents
    wallet.status = status_of(active=wallet.status != "INACTIVE", owed_cents=owed_cents)


DEBT_SETTLED = "debt settled"
"""The reason of a movement that pays off a debt."""


MovementType = Literal[
    "deposit", "deposit_refund", "transfer", "payment", "refund", "adjustment", "debt"
]


class WalletMovement(Row):
    """A line of a wallet's statement, at its place in the log. `direction` is credit (in) or debit
    (out); `balance_cents` is the balance after it."""

    KEY = ("wallet_id", "position")

    wallet_id: UUID
    position: int
    direction: str
    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None
    payment_id: UUID | None
    reason: str | None
    at: datetime

    @property
    def type(self) -> MovementType:
        """The type of movement, derived from its cause: see `domain.wallets.Cause`."""
        if (
            self.reason == DEBT_SETTLED
            and self.direction == "debit"
            and self.transaction_id is None
        ):
            return "debt"
        if self.payment_id is None:
            return "adjustment" if self.transaction_id is None else "transfer"
        if self.direction == "debit":
            return "deposit_refund" if self.reason == DEPOSIT_TAKEN_BACK else "payment"
        return "refund" if self.transaction_id is None else "deposit"


def _line_of(_: FundsAdded | FundsDeducted | DebtSettled, env: Placed) -> tuple[UUID, int]:
    return env.stream_id, env.position


class WalletMovements(Projection[WalletMovement]):
    """Every movement of money in every wallet."""

    name, version, row = "wallet_movements", 2, WalletMovement

    @on(FundsAdded, key=_line_of)
    def added(self, rows: Rows[WalletMovement], event: FundsAdded, env: Placed) -> None:
        rows.put(_line("credit", event, env))

    @on(FundsDeducted, key=_line_of)
    def deducted(self, rows: Rows[WalletMovement], event: FundsDeducted, env: Placed) -> None:
        rows.put(_line("debit", event, env))

    @on(DebtSettled, key=_line_of)
    def settled(self, rows: Rows[WalletMovement], event: DebtSettled, env: Placed) -> None:
        cause = FundsDeducted(
            event.amount_cents, event.currency, event.balance_cents, reason=DEBT_SETTLED
        )
        rows.put(_line("debit", cause, env))


def _line(
    direction: Literal["credit", "debit"], event: FundsAdded | FundsDeducted, env: Placed
) -> WalletMovement:
    return WalletMovement(
        wallet_id=env.stream_id,
        position=env.position,
        direction=direction,
        amount_cents=event.amount_cents,
        currency=event.currency,
        balance_cents=event.balance_cents,
        transaction_id=event.transaction_id,
        payment_id=event.payment_id,
        reason=event.reason,
        at=env.occurred_at,
    )
