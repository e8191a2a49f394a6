"""The twin's transfers: one transaction that locks both wallets."""

from typing import Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException

from benchmarks.http.twin.common import IdempotencyKey, Pool, SignedIn, every, first_result, one
from benchmarks.http.twin.models import NewTransaction, Transaction

router = APIRouter(prefix="/api/v1")

# in one order, so that two transfers cannot deadlock
_LOCK = """
SELECT id, user_id, currency, status, balance_cents FROM wallets WHERE id = ANY(%s)
ORDER BY id FOR NO KEY UPDATE"""
_MOVE = "UPDATE wallets SET balance_cents = balance_cents + %s WHERE id = %s"
_TRANSACTION = """
INSERT INTO transactions (id, user_id, type, status, amount_cents, currency, from_wallet_id,
    to_wallet_id)
VALUES (%s, %s, 'transfer', 'COMPLETED', %s, %s, %s, %s)"""
_ENTRIES = """
INSERT INTO wallet_entries (wallet_id, transaction_id, amount_cents)
VALUES (%s, %s, %s), (%s, %s, %s)"""
_DONE = """
SELECT id, id AS transaction_id, user_id, type, status, amount_cents, currency, from_wallet_id,
    to_wallet_id FROM transactions WHERE id = %s"""


@router.post("/transactions", status_code=201, response_model=Transaction)
async def transfer(
    body: NewTransaction, pool: Pool, user: SignedIn, idempotency_key: IdempotencyKey = None
) -> dict[str, Any] | None:
    """Move money from the caller's wallet to another."""
    source_id, target_id, cents = body.from_wallet_id, body.to_wallet_id, body.amount_cents
    if source_id == target_id:
        raise HTTPException(422, "that is one wallet")
    transaction_id = uuid4()
    async with pool.connection() as conn, conn.transaction():
        done = await first_result(conn, user, idempotency_key, body, transaction_id)
        if done is not None:
            return await one(conn, _DONE, done)
        found = await every(conn, _LOCK, [source_id, target_id])
        wallets = {wallet["id"]: wallet for wallet in found}
        if len(wallets) < 2:
            raise HTTPException(404, "there is no such wallet")
        source = wallets[source_id]
        if source["user_id"] != user.id:
            raise HTTPException(403, "that is another person's wallet")
        for wallet in wallets.values():
            if wallet["status"] != "ACTIVE" or wallet["currency"] != body.currency:
                raise HTTPException(409, "the wallet cannot be used for this")
        if source["balance_cents"] < cents:
            raise HTTPException(409, "there is not so much in it")
        await conn.execute(_MOVE, (-cents, source_id))
        await conn.execute(_MOVE, (cents, target_id))
        await conn.execute(
            _TRANSACTION, (transaction_id, user.id, cents, body.currency, source_id, target_id)
        )
        await conn.execute(
            _ENTRIES, (source_id, transaction_id, -cents, target_id, transaction_id, cents)
        )
    return {
        "id": transaction_id,
        "transaction_id": transaction_id,
        "user_id": user.id,
        "status": "COMPLETED",
        **body.model_dump(),
    }
