"""Transactions: deposits, transfers and payments from wallets, how far they have come, and where they failed."""

from datetime import datetime
from uuid import UUID

from domain.transactions import (
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
    TransactionReinstated,
    TransactionReversed,
)
from eventstore.log import Envelope
from projections.projection import Projection, Row, Rows, on


class TransactionRow(Row):
    """A transaction; `user_id` is who asked for it. `step`, `code` and `refunded_cents` tell of its failure,
    `reversed_cents` what the provider took back of a completed deposit."""

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
    version: int
    created_at: datetime
    updated_at: datetime
    created_position: int


class Transactions(Projection[TransactionRow]):
    """Every transaction by its id."""

    name, version, row = "transactions", 2, TransactionRow

    @on(TransactionCreated)
    def created(self, rows: Rows[TransactionRow], event: TransactionCreated, env: Envelope) -> None:
        at = env.occurred_at
        rows.put(
            TransactionRow(
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
                version=env.version,
                created_at=at,
                updated_at=at,
                created_position=env.position,
            )
        )

    @on(TransactionProcessing)
    def processing(self, rows: Rows[TransactionRow], _: TransactionProcessing, env: Envelope) -> None:
        _moved(rows, env, "PROCESSING")

    @on(TransactionCompleted)
    def completed(self, rows: Rows[TransactionRow], _: TransactionCompleted, env: Envelope) -> None:
        _moved(rows, env, "COMPLETED")

    @on(TransactionFailed)
    def failed(self, rows: Rows[TransactionRow], event: TransactionFailed, env: Envelope) -> None:
        transaction = _moved(rows, env, "FAILED")
        transaction.step, transaction.code = event.step, event.code
        transaction.refunded_cents = event.refunded_cents

    @on(TransactionReversed)
    def reversed(self, rows: Rows[TransactionRow], event: TransactionReversed, env: Envelope) -> None:
        _moved(rows, env).reversed_cents += event.amount_cents

    @on(TransactionReinstated)
    def reinstated(self, rows: Rows[TransactionRow], event: TransactionReinstated, env: Envelope) -> None:
        _moved(rows, env).reversed_cents -= event.amount_cents


def _moved(rows: Rows[TransactionRow], env: Envelope, status: str | None = None) -> TransactionRow:
    transaction = rows[env.stream_id]
    transaction.status = status or transaction.status
    transaction.version, transaction.updated_at = env.version, env.occurred_at
    return transaction
