"""The twin's orders: placing an order, and reading it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from benchmarks.http.twin.common import (
    PAYMENT_LIFETIME,
    Connection,
    IdempotencyKey,
    Pool,
    SignedIn,
    User,
    first_result,
    one,
    price_in,
)
from benchmarks.http.twin.models import Method, NewOrder, Order, PlacedOrder

router = APIRouter(prefix="/api/v1")

# one statement, to save round trips; the server makes JSON, so that no rows are joined
_ORDER = """
SELECT o.id, o.id AS order_id, user_id, region, currency, total_cents, refunded_cents, status,
    provisional, cancel_reason, payment_id, shipping_address, expires_at, created_at, updated_at,
    (SELECT refund_status FROM payments p WHERE p.id = o.payment_id) AS refund_status,
    (SELECT jsonb_agg(to_jsonb(l) || jsonb_build_object('line_id', l.id))
     FROM order_lines l WHERE l.order_id = o.id) AS lines,
    (SELECT to_jsonb(p) || jsonb_build_object('payment_id', p.id, 'try_next', '[]'::jsonb,
        'refunds', coalesce((SELECT jsonb_agg(r) FROM refunds r WHERE r.payment_id = p.id), '[]'),
        'history', (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(h)) ORDER BY position)
                    FROM happenings h WHERE h.payment_id = p.id))
     FROM payments p WHERE p.id = o.payment_id) AS payment,
    coalesce((SELECT jsonb_agg(r ORDER BY r.number) FROM receipts r WHERE r.order_id = o.id), '[]')
        AS receipts,
    coalesce((SELECT jsonb_agg(to_jsonb(s) || jsonb_build_object('shipment_id', s.id,
        'lines', (SELECT jsonb_agg(to_jsonb(l) || jsonb_build_object('line_id', l.id))
                  FROM order_lines l WHERE l.shipment_id = s.id)))
     FROM shipments s WHERE s.order_id = o.id), '[]') AS shipments,
    (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(h)) ORDER BY position)
     FROM happenings h WHERE h.order_id = o.id) AS timeline
FROM orders o WHERE o.id = %s"""
_GAME = "SELECT seller_id, title, kind, status, prices FROM games WHERE id = %s"
# locked, so that of two concurrent orders of a game one sees the other
_LOCK = "SELECT FROM users WHERE id = %s FOR NO KEY UPDATE"
_BEFORE = """
SELECT EXISTS (SELECT FROM library WHERE user_id = %(user)s AND game_id = %(game)s) AS owned,
    (SELECT o.id FROM orders o JOIN order_lines l ON l.order_id = o.id
     WHERE o.user_id = %(user)s AND l.game_id = %(game)s AND o.status = 'PENDING_PAYMENT' LIMIT 1)
        AS pending"""
_NEW_ORDER = """
INSERT INTO orders (id, user_id, region, currency, total_cents, status, provisional, payment_id,
    shipping_address, expires_at, created_at, updated_at)
VALUES (%s, %s, %s, %s, %s, 'PENDING_PAYMENT', %s, %s, %s, %s, %s, %s)"""
NEW_LINE = "INSERT INTO order_lines VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_NEW_PAYMENT = """
INSERT INTO payments (id, order_id, amount_cents, currency, status, method, token, expires_at,
    created_at, updated_at)
VALUES (%s, %s, %s, %s, 'REQUESTED', %s, %s, %s, %s, %s)"""
_HAPPENED = """
INSERT INTO happenings (order_id, payment_id, name, at, status, amount_cents, method)
VALUES (%s, NULL, 'order.created', %s, 'PENDING_PAYMENT', %s, NULL),
    (%s, %s, 'payment.requested', %s, 'REQUESTED', %s, %s)"""
_JOB = "INSERT INTO jobs (queue, body) VALUES ('payments', %s)"
_STATUS = """
SELECT o.id AS order_id, o.payment_id, o.payment_id AS transaction_id, o.status,
    p.status AS payment_status, p.amount_cents, p.currency, p.redirect_url, p.client_secret
FROM orders o JOIN payments p ON p.id = o.payment_id WHERE o.id = %s"""


@router.post("/orders", status_code=201, response_model=PlacedOrder)
async def place(
    body: NewOrder, pool: Pool, user: SignedIn, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Buy a digital game."""
    order_id, payment_id = uuid4(), uuid4()
    async with pool.connection() as conn, conn.transaction():
        done = await first_result(conn, user, idempotency_key, body, order_id)
        if done is not None:
            return await order_status(conn, done)
        game = await one(conn, _GAME, body.game_id)
        if game is None or game["status"] == "DRAFT":
            raise HTTPException(404, "there is no such game")
        if game["kind"] == "PHYSICAL":
            raise HTTPException(422, "what is shipped is bought through the cart")
        price = price_in(game["prices"], user.region)
        if game["status"] != "ACTIVE" or price is None:
            raise HTTPException(409, "the game is not for sale")
        await _check_new(conn, user, body.game_id)
        await emit_order(
            conn, user, order_id, payment_id, price["amount_cents"], price["currency"],
            body.payment_method, None,
        )  # fmt: skip
        await conn.execute(
            NEW_LINE,
            (uuid4(), order_id, body.game_id, game["seller_id"], game["kind"], game["title"], 1,
             price["amount_cents"], None),
        )  # fmt: skip
    return {
        "order_id": order_id,
        "payment_id": payment_id,
        "transaction_id": payment_id,
        "status": "PENDING_PAYMENT",
        "payment_status": "REQUESTED",
        "amount_cents": price["amount_cents"],
        "currency": price["currency"],
    }


async def _check_new(conn: Connection, user: User, game_id: UUID) -> None:
    """Raises 409 when the user owns the game, or has ordered it."""
    await conn.execute(_LOCK, (user.id,))
    cursor = await conn.execute(_BEFORE, {"user": user.id, "game": game_id})
    before = await cursor.fetchone()
    assert before is not None
    if before["owned"]:
        raise HTTPException(409, "you own this game")
    if before["pending"] is not None:
        raise HTTPException(409, "an order of this game waits for its payment")


async def emit_order(
    conn: Connection,
    user: User,
    order_id: UUID,
    payment_id: UUID,
    total_cents: int,
    currency: str,
    method: Method | None,
    address: dict[str, str] | None,
) -> None:
    """Insert an order (without its lines), its payment, its history so far, and the payment's
    job."""
    now = datetime.now(UTC)
    expires_at = now + PAYMENT_LIFETIME
    kind, token = (method.type, method.token) if method else (None, None)
    await conn.execute(
        _NEW_ORDER,
        (order_id, user.id, user.region, currency, total_cents, address is not None, payment_id,
         None if address is None else Jsonb(address), expires_at, now, now),
    )  # fmt: skip
    await conn.execute(
        _NEW_PAYMENT,
        (payment_id, order_id, total_cents, currency, kind, token, expires_at, now, now),
    )
    await conn.execute(
        _HAPPENED,
        (order_id, now, total_cents, order_id, payment_id, now, total_cents, kind),
    )
    await conn.execute(_JOB, (Jsonb({"payment_id": str(payment_id)}),))


async def order_status(conn: Connection, order_id: UUID) -> DictRow:
    """An order's status."""
    row = await one(conn, _STATUS, order_id)
    assert row is not None
    return row


# entries of a timeline leave absent fields out
@router.get("/orders/{order_id}", response_model=Order, response_model_exclude_unset=True)
async def get_order(order_id: UUID, pool: Pool, user: SignedIn) -> dict[str, Any]:
    """An order, with its lines, payment and history."""
    async with pool.connection() as conn:
        order = await one(conn, _ORDER, order_id)
    if order is None:
        raise HTTPException(404, "there is no such order")
    if order["user_id"] != user.id:
        raise HTTPException(403, "that is another person's order")
    issued = (each for each in order["receipts"] if each["status"] == "CREATED")
    return {**order, "receipt": next(issued, None)}
