"""The gateway, and beside it the same shopping by row locks; used by `benchmarks.checking_out`.

`python -m benchmarks.shopfront URL HOME PORT` serves the whole API on a database, and under
`/plain` a cart and a checkout as one would write them in SQL: stock as a row that every buyer
locks, current state only. Both stand behind the same middlewares, the same check of the token and
the same models.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import psycopg
import uvicorn
import uvloop
from fastapi import APIRouter, Depends, Request
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from starlette.responses import Response

from api.answers import answer
from api.auth import Buyer
from api.problems import Problem
from api.routes.cart import Checkout, NewItem
from kit.uuid7 import uuid7
from runtime.gateway.app import open_app
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues

TABLES = """
CREATE SCHEMA plain;
CREATE TABLE plain.stock (
    product_id uuid PRIMARY KEY, seller_id uuid NOT NULL, title text
    NOT NULL, price_cents bigint NOT NULL,
    total bigint NOT NULL, reserved bigint NOT NULL DEFAULT 0, allocated bigint NOT NULL DEFAULT 0,
    CHECK (reserved >= 0 AND allocated >= 0 AND reserved + allocated <= total));
CREATE TABLE plain.carts (
    id uuid PRIMARY KEY, buyer_id uuid NOT NULL, status text NOT NULL, expires_at timestamptz
    NOT NULL);
CREATE UNIQUE INDEX ON plain.carts (buyer_id) WHERE status = 'ACTIVE';
CREATE TABLE plain.cart_items (
    id uuid PRIMARY KEY, cart_id uuid NOT NULL REFERENCES plain.carts, product_id uuid
    NOT NULL, quantity int NOT NULL,
    price_cents bigint NOT NULL);
CREATE INDEX ON plain.cart_items (cart_id);
CREATE TABLE plain.orders (
    id uuid PRIMARY KEY, buyer_id uuid NOT NULL, cart_id uuid NOT NULL, status text NOT NULL,
    total_cents bigint NOT NULL, placed_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON plain.orders (buyer_id);
CREATE TABLE plain.order_lines (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES plain.orders, product_id uuid NOT NULL,
    quantity int NOT NULL, price_cents bigint NOT NULL);
CREATE INDEX ON plain.order_lines (order_id);
CREATE TABLE plain.payments (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES plain.orders, status text NOT NULL,
    amount_cents bigint NOT NULL, method text);
CREATE INDEX ON plain.payments (order_id);
CREATE TABLE plain.shipments (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES plain.orders, seller_id uuid
    NOT NULL, status text NOT NULL,
    address text);
CREATE INDEX ON plain.shipments (order_id);
GRANT USAGE ON SCHEMA plain TO ludoteca_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA plain TO ludoteca_app;
"""

_LOCK = """
SELECT total - reserved - allocated, price_cents, seller_id FROM plain.stock
WHERE product_id = %s FOR UPDATE"""
_CART = """
INSERT INTO plain.carts VALUES (%s, %s, 'ACTIVE', now() + interval '15 minutes')
ON CONFLICT (buyer_id) WHERE status = 'ACTIVE' DO UPDATE
SET expires_at = excluded.expires_at RETURNING id"""
_ITEM = "INSERT INTO plain.cart_items VALUES (%s, %s, %s, %s, %s)"
_RESERVE = "UPDATE plain.stock SET reserved = reserved + %s WHERE product_id = %s"

_ITEMS = """
SELECT c.id, i.product_id, i.quantity, i.price_cents FROM plain.carts c
JOIN plain.cart_items i ON i.cart_id = c.id
WHERE c.buyer_id = %s AND c.status = 'ACTIVE' ORDER BY i.product_id"""
_ALLOCATE = """
UPDATE plain.stock SET reserved = reserved - %s, allocated = allocated + %s WHERE product_id = %s"""
_CLOSE = "UPDATE plain.carts SET status = 'CHECKOUT' WHERE id = %s"
_ORDER = (
    "INSERT INTO plain.orders (id, buyer_id, cart_id, status, total_cents) VALUES (%s, %s, %s,"
    " 'PENDING', %s)"
)
_LINE = "INSERT INTO plain.order_lines VALUES (%s, %s, %s, %s, %s)"
_PAYMENT = "INSERT INTO plain.payments VALUES (%s, %s, 'CREATED', %s, %s)"
_SHIPMENT = "INSERT INTO plain.shipments VALUES (%s, %s, %s, 'PROVISIONAL', %s)"

router = APIRouter(prefix="/plain")


def _pool_of(request: Request) -> AsyncConnectionPool:
    pool: AsyncConnectionPool = request.app.state.plain_pool
    return pool


PoolOf = Annotated[AsyncConnectionPool, Depends(_pool_of)]


class PlainCart(BaseModel):
    """The cart after an item was added."""

    id: UUID
    product_id: UUID
    quantity: int
    unit_price_cents: int


class PlainOrder(BaseModel):
    """The order that a cart became."""

    order_id: UUID
    payment_id: UUID
    status: str
    amount_cents: int


@router.post("/cart/items")
async def add_item(body: NewItem, pool: PoolOf, caller: Buyer) -> Response:
    """Add units to the cart, and reserve them: the stock's row is locked until the commit."""
    cart_id = uuid7()
    async with (
        pool.connection() as conn,
        conn.transaction(),
        conn.cursor(binary=True) as cursor,
    ):
        row = await (await cursor.execute(_LOCK, (body.product_id,), prepare=True)).fetchone()
        if row is None:
            raise Problem(404, "product_not_found", "there is no such product")
        available, price, _ = row
        if available < body.quantity:
            raise Problem(409, "insufficient_stock", f"only {available} are available")
        made = await (
            await cursor.execute(_CART, (cart_id, caller.person()), prepare=True)
        ).fetchone()
        assert made is not None
        await cursor.execute(
            _ITEM, (uuid7(), made[0], body.product_id, body.quantity, price), prepare=True
        )
        await cursor.execute(_RESERVE, (body.quantity, body.product_id), prepare=True)
    return answer(
        PlainCart(
            id=made[0], product_id=body.product_id, quantity=body.quantity, unit_price_cents=price
        ),
        status=201,
    )


@router.post("/cart/checkout")
async def check_out(body: Checkout, pool: PoolOf, caller: Buyer) -> Response:
    """Order the cart's items."""
    order_id, payment_id, method = uuid7(), uuid7(), body.payment_method
    address = body.shipping_address.model_dump_json() if body.shipping_address else None
    async with (
        pool.connection() as conn,
        conn.transaction(),
        conn.cursor(binary=True) as cursor,
    ):
        items = await (await cursor.execute(_ITEMS, (caller.person(),), prepare=True)).fetchall()
        if not items:
            raise Problem(409, "cart_empty", "there is nothing in the cart")
        cart_id, total = items[0][0], sum(quantity * price for _, _, quantity, price in items)
        await cursor.execute(_ORDER, (order_id, caller.person(), cart_id, total), prepare=True)
        for _, product_id, quantity, price in items:
            row = await (await cursor.execute(_LOCK, (product_id,), prepare=True)).fetchone()
            assert row is not None
            await cursor.execute(_ALLOCATE, (quantity, quantity, product_id), prepare=True)
            await cursor.execute(
                _LINE, (uuid7(), order_id, product_id, quantity, price), prepare=True
            )
            await cursor.execute(_SHIPMENT, (uuid7(), order_id, row[2], address), prepare=True)
        await cursor.execute(
            _PAYMENT, (payment_id, order_id, total, method.token if method else None), prepare=True
        )
        await cursor.execute(_CLOSE, (cart_id,), prepare=True)
    return answer(
        PlainOrder(order_id=order_id, payment_id=payment_id, status="PENDING", amount_cents=total),
        status=201,
    )


def create_tables(url: str) -> None:
    """Create the plain shop's tables."""
    with psycopg.connect(url) as conn:
        conn.execute(TABLES)


def _pool(url: str, size: int) -> AsyncConnectionPool:
    return AsyncConnectionPool(
        url, min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
    )


async def serve(settings: Settings) -> None:
    """Serve both shops on one port, until the process is ended."""
    async with (
        open_core(settings) as core,
        open_queues(core) as queues,
        open_app(core, queues) as app,
        # Of its own: those who wait for the item's lock keep no connection from the token's check.
        # With psycopg's own patience: in ours, most of very many would give up their turn.
        _pool(core.url, settings.pool_size) as app.state.plain_pool,
    ):
        # matched first: our many routes shall not slow the peer down
        app.router.routes[:0] = router.routes
        await uvicorn.Server(
            uvicorn.Config(app, port=settings.port, access_log=False, log_config=None)
        ).serve()


def main() -> None:
    """Serve both shops."""
    url, home, port = sys.argv[1:]
    settings = Settings(home=Path(home), database_url=url, port=int(port), rate_limit="off")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


if __name__ == "__main__":
    main()
