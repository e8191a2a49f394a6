"""Transactions: deposits, transfers and payments from wallets, their status, and where they
failed."""

from uuid import UUID

from domain.transactions import (
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
    TransactionReinstated,
    TransactionReversed,
)
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on


class Transaction(StreamRow):
    """A transaction; `user_id` requested it. `step`, `code` and `refunded_cents` describe its
    failure; `reversed_cents` is what the provider took back of a completed deposit."""

    KEY = ("transaction_id",)
    INDEXES = ("user_id, created_position", "status, created_position", "created_position")

    transaction_id: UUID
    user_id: UUID
    type: str
    status: str
    amount_cents: int
    currency: str
    from_wallet_id: UUID | None
    to_wallet_id: UUID | None
    order_id: UUID | None
    payment_id: UUID | None
    step: str | None
    code: str | None
    refunded_cents: int
    reversed_cents: int


class Transactions(Projection[Transaction]):
    """Every transaction by its id."""

    name, version, row = "transactions", 2, Transaction

    @on(TransactionCreated)
    def created(self, rows: Rows[Transaction], event: TransactionCreated, env: Placed) -> None:
        rows.put(
            Transaction(
                transaction_id=env.stream_id,
                user_id=event.user_id,
                type=event.type,
                status="PENDING",
                amount_cents=event.amount_cents,
                currency=event.currency,
                from_wallet_id=event.from_wallet_id,
                to_wallet_id=event.to_wallet_id,
                order_id=event.order_id,
                payment_id=event.payment_id,
                step=None,
                code=None,
                refunded_cents=0,
                reversed_cents=0,
            )
        )

    @on(TransactionProcessing)
    def processing(self, rows: Rows[Transaction], _: TransactionProcessing, env: Placed) -> None:
        rows[env.stream_id].status = "PROCESSING"

    @on(TransactionCompleted)
    def completed(self, rows: Rows[Transaction], _: TransactionCompleted, env: Placed) -> None:
        rows[env.stream_id].status = "COMPLETED"

    @on(TransactionFailed)
    def failed(self, rows: Rows[Transaction], event: TransactionFailed, env: Placed) -> None:
        transaction = rows[env.stream_id]
        transaction.status = "FAILED"
        transaction.step = event.step
        transaction.code = event.code
        transaction.refunded_cents = event.refunded_cents

    @on(TransactionReversed)
    def reversed(self, rows: Rows[Transaction], event: TransactionReversed, env: Placed) -> None:
        rows[env.stream_id].reversed_cents += event.amount_cents

    @on(TransactionReinstated)
    def reinstated(
        self, rows: Rows[Transaction], event: TransactionReinstated, env: Placed
    ) -> None:
        rows[env.stream_id].reversed_cents -= event.amount_cents
