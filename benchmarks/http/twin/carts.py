"""The twin's carts: stock is a row that every buyer locks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException, Request
from psycopg.rows import DictRow

from benchmarks.http.twin.common import (
    Connection,
    IdempotencyKey,
    Pool,
    SignedIn,
    User,
    every,
    first_result,
    one,
    price_in,
)
from benchmarks.http.twin.models import Cart, CheckedOut, Checkout, NewItem
from benchmarks.http.twin.orders import NEW_LINE, emit_order, order_status

router = APIRouter(prefix="/api/v1/cart")

CART_LIFETIME = timedelta(minutes=15)
ALLOCATION_LIFETIME = timedelta(minutes=30)

_LOCK = """
SELECT total - reserved - allocated AS available FROM stock WHERE product_id = %s FOR UPDATE"""
_GAME = "SELECT seller_id, sku, title, kind, status, prices FROM games WHERE id = %s"
_RESERVE = "UPDATE stock SET reserved = reserved + %s WHERE product_id = %s"
_CART = """
INSERT INTO carts VALUES (%s, %s, 'ACTIVE', %s, 1, %s)
ON CONFLICT (user_id) WHERE status = 'ACTIVE' DO UPDATE
SET expires_at = excluded.expires_at, version = carts.version + 1 RETURNING id, currency"""
_RESERVATION = """
INSERT INTO reservations (id, product_id, quantity, cart_id, expires_at)
VALUES (%s, %s, %s, %s, %s)"""
_ITEM = """
INSERT INTO cart_items (id, cart_id, product_id, seller_id, sku, title, quantity,
    unit_price_cents, reservation_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_LINES = """
SELECT c.id AS cart_id, c.status, c.currency, c.expires_at, i.id, i.product_id, i.sku, i.seller_id,
    i.title, i.quantity, i.unit_price_cents, i.reservation_id
FROM carts c JOIN cart_items i ON i.cart_id = c.id
WHERE c.user_id = %s AND c.status = 'ACTIVE' AND c.expires_at > now() ORDER BY i.position"""
_ALLOCATE = """
UPDATE stock SET reserved = reserved - %(n)s, allocated = allocated + %(n)s
WHERE product_id = %(product)s"""
_ALLOCATED = "UPDATE reservations SET order_id = %s, expires_at = %s WHERE cart_id = %s"
_SHIPMENT = """
INSERT INTO shipments (id, order_id, seller_id, provisional, status, version, created_at,
    updated_at) VALUES (%s, %s, %s, true, 'PENDING', 1, %s, %s)"""
_CLOSE = "UPDATE carts SET status = 'CHECKOUT', version = version + 1 WHERE id = %s"


@router.get("", response_model=Cart)
async def get_cart(pool: Pool, user: SignedIn) -> dict[str, Any]:
    """The caller's cart."""
    async with pool.connection() as conn:
        return _shown(await every(conn, _LINES, user.id))


@router.post("/items", status_code=201, response_model=Cart)
async def add_item(
    body: NewItem, pool: Pool, user: SignedIn, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Add units to the cart, and reserve them."""
    item_id = uuid4()
    async with pool.connection() as conn, conn.transaction():
        if await first_result(conn, user, idempotency_key, body, item_id) is None:
            await _add(conn, user, body, item_id)
        return _shown(await every(conn, _LINES, user.id))


async def _add(conn: Connection, user: User, body: NewItem, item_id: UUID) -> None:
    game = await one(conn, _GAME, body.product_id)
    if game is None:
        raise HTTPException(404, "there is no such product")
    price = price_in(game["prices"], user.region)
    if game["status"] != "ACTIVE" or price is None:
        raise HTTPException(409, "the game is not for sale")
    expires_at = datetime.now(UTC) + CART_LIFETIME
    cart = await one(conn, _CART, uuid4(), user.id, price["currency"], expires_at)
    assert cart is not None
    if cart["currency"] != price["currency"]:
        raise HTTPException(409, "the cart is in another currency")
    reservation_id = None
    if game["kind"] == "PHYSICAL":
        reservation_id = uuid4()
        stock = await one(conn, _LOCK, body.product_id)
        if stock is None or stock["available"] < body.quantity:
            raise HTTPException(409, "there are not so many")
        await conn.execute(_RESERVE, (body.quantity, body.product_id))
        await conn.execute(
            _RESERVATION, (reservation_id, body.product_id, body.quantity, cart["id"], expires_at)
        )
    await conn.execute(
        _ITEM,
        (item_id, cart["id"], body.product_id, game["seller_id"], game["sku"], game["title"],
         body.quantity, price["amount_cents"], reservation_id),
    )  # fmt: skip


@router.post("/checkout", status_code=201, response_model=CheckedOut)
async def check_out(
    body: Checkout,
    request: Request,
    pool: Pool,
    user: SignedIn,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Order the cart's items."""
    order_id, payment_id = uuid4(), uuid4()
    async with pool.connection() as conn, conn.transaction():
        done = await first_result(conn, user, idempotency_key, body, order_id)
        if done is None:
            await _order(conn, user, body, order_id, payment_id)
        status = await order_status(conn, done or order_id)
    return {**status, "checkout_url": f"{request.base_url}api/v1/orders/{status['order_id']}"}


async def _order(
    conn: Connection, user: User, body: Checkout, order_id: UUID, payment_id: UUID
) -> None:
    lines = await every(conn, _LINES + " FOR UPDATE OF c", user.id)
    if not lines:
        raise HTTPException(409, "the cart is empty")
    # checked again: they may no longer be for sale
    games = {line["product_id"]: await one(conn, _GAME, line["product_id"]) for line in lines}
    if any(game is None or game["status"] != "ACTIVE" for game in games.values()):
        raise HTTPException(409, "something is not for sale any more")
    address = body.shipping_address
    if address is None and any(line["reservation_id"] for line in lines):
        raise HTTPException(422, "what is shipped needs an address")
    total = sum(line["quantity"] * line["unit_price_cents"] for line in lines)
    await emit_order(
        conn, user, order_id, payment_id, total, lines[0]["currency"], body.payment_method,
        None if address is None else address.model_dump(exclude_none=True),
    )  # fmt: skip
    now = datetime.now(UTC)
    shipments: dict[UUID, UUID] = {}
    # in one order, so that two checkouts cannot deadlock
    for line in sorted(lines, key=lambda line: line["product_id"]):
        shipment_id = None
        if line["reservation_id"]:
            await conn.execute(_ALLOCATE, {"n": line["quantity"], "product": line["product_id"]})
            if line["seller_id"] not in shipments:
                shipments[line["seller_id"]] = uuid4()
                await conn.execute(
                    _SHIPMENT,
                    (shipments[line["seller_id"]], order_id, line["seller_id"], now, now),
                )
            shipment_id = shipments[line["seller_id"]]
        game = games[line["product_id"]]
        assert game is not None
        await conn.execute(
            NEW_LINE,
            (uuid4(), order_id, line["product_id"], line["seller_id"], game["kind"], line["title"],
             line["quantity"], line["unit_price_cents"], shipment_id),
        )  # fmt: skip
    await conn.execute(_ALLOCATED, (order_id, now + ALLOCATION_LIFETIME, lines[0]["cart_id"]))
    await conn.execute(_CLOSE, (lines[0]["cart_id"],))


def _shown(lines: list[DictRow]) -> dict[str, Any]:
    if not lines:
        return {}
    return {
        "id": lines[0]["cart_id"],
        "status": lines[0]["status"],
        "items": lines,
        "total_cents": sum(line["quantity"] * line["unit_price_cents"] for line in lines),
        "currency": lines[0]["currency"],
        "expires_at": lines[0]["expires_at"],
    }
