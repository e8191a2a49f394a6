"""Loads of aggregates, and one page of each query, as the API asks for it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from commands.aggregates import ALL, GAME, ORDER, WALLET
from domain import ledger
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from queries.accounts import library, notifications, users
from queries.audit.log import Audit
from queries.catalog import games
from queries.catalog.games import Browse
from queries.engine.read_models import ReadModels
from queries.money import ledger as ledgers
from queries.money import payments, transactions, wallets
from queries.operations.deadlines import DueTimes
from queries.orders import cart_analytics, carts, orders, sales
from queries.search.engines import SearchEngines
from queries.search.searching import SearchQuery

NOW = datetime(2026, 8, 1, tzinfo=UTC)

Ask = Callable[[], Awaitable[Any]]


class Known(msgspec.Struct, frozen=True):
    """What the queries ask about: things of which every history has some, and as many of each."""

    game_id: UUID
    title: str
    seller_id: UUID
    order_id: UUID
    payment_id: UUID
    buyer_id: UUID
    wallet_id: UUID
    busiest_wallet_id: UUID
    transaction_id: UUID


def _stream(name: str, direction: str = "ASC") -> str:
    where = f"WHERE name = '{name}' ORDER BY position {direction}"
    return f"SELECT stream_id FROM log.events {where} LIMIT 1"


_KNOWN = {
    "game_id": _stream("game.created.v1"),
    "order_id": _stream("order.created.v1", "DESC"),
    "payment_id": _stream("payment.requested.v1", "DESC"),
    "busiest_wallet_id": _stream("wallet.created.v1"),
    "transaction_id": _stream("transaction.created.v1", "DESC"),
}

_TYPICAL = {
    "buyer_id": (
        "SELECT user_id AS id FROM @library GROUP BY 1 ORDER BY abs(count(*) - 10), 1 LIMIT 1"
    ),
    "wallet_id": (
        "SELECT wallet_id AS id FROM @wallet_movements"
        " GROUP BY 1 ORDER BY abs(count(*) - 10), 1 LIMIT 1"
    ),
}
"""Those of some ten rows."""


class _Id(msgspec.Struct):
    id: UUID


async def known(pool: AsyncConnectionPool) -> Known:
    """Look up what to ask about."""
    found: dict[str, Any] = {}
    models = ReadModels(pool)
    async with pool.connection() as conn:
        for name, query in _KNOWN.items():
            row = await (await conn.execute(query.encode())).fetchone()
            assert row is not None, name
            found[name] = row[0]
    for name, query in _TYPICAL.items():
        typical = (await models.first(_Id, query)).value
        assert typical is not None, name
        found[name] = typical.id
    game = (await games.game(models, found["game_id"])).value
    assert game is not None
    return Known(**found, title=game.title, seller_id=game.seller_id)


def loads(log: PostgresLog, it: Known) -> dict[str, Ask]:
    """Aggregates, as a process that does not know them yet loads them."""

    def loading() -> Repository:
        return Repository(log, Snapshots(log.pool))

    return {
        "load an order": lambda: loading().state(ORDER, it.order_id),
        "load a game": lambda: loading().state(GAME, it.game_id),
        "load the busiest wallet": lambda: loading().state(WALLET, it.busiest_wallet_id),
    }


def pages(log: PostgresLog, it: Known) -> dict[str, Ask]:
    """Each query, by what it asks for."""
    models, search = ReadModels(log.pool), SearchEngines(log.pool)
    audit, month = Audit(log, ALL), (NOW.date().replace(month=7), NOW.date())
    account = ledger.wallet_account(it.wallet_id)
    return {
        "a game": lambda: games.game(models, it.game_id),
        "newest games": lambda: games.browse(models, Browse()),
        "games by price": lambda: games.browse(models, Browse(sort="price")),
        "games by title": lambda: games.browse(models, Browse(sort="title")),
        "games of a seller": lambda: games.by_seller(models, it.seller_id),
        "search, a title": lambda: search.search(models, SearchQuery(q=it.title)),
        "search, a typo": lambda: search.search(models, SearchQuery(q=it.title[1:])),
        "search, a word": lambda: search.search(models, SearchQuery(q="dragon")),
        "suggestions": lambda: search.suggest(models, it.title[:3]),
        "an order": lambda: orders.order(models, it.order_id),
        "orders of a buyer": lambda: orders.orders(models, user_id=it.buyer_id),
        "all orders": lambda: orders.orders(models),
        "completed orders": lambda: orders.orders(models, status="COMPLETED"),
        "refunded orders": lambda: orders.orders(models, status="REFUNDED"),
        "a payment": lambda: payments.payment(models, it.payment_id),
        "all payments": lambda: payments.payments(models),
        "failed payments": lambda: payments.payments(models, status="FAILED"),
        "pending refunds": lambda: payments.payments(models, refund_status="PENDING"),
        "a library": lambda: library.library(models, it.buyer_id),
        "a library with offers": lambda: library.offered_library(
            models, it.buyer_id, viewer_id=it.buyer_id, now=NOW
        ),
        "owned games": lambda: library.owned_ids(models, it.buyer_id),
        "notifications": lambda: notifications.notifications(models, it.buyer_id),
        "failed notifications": lambda: notifications.notifications(
            models, it.buyer_id, status="FAILED"
        ),
        "a wallet": lambda: wallets.wallet(models, it.wallet_id),
        "wallets of a person": lambda: wallets.wallets_of(models, it.buyer_id),
        "all wallets": lambda: wallets.wallets(models),
        "frozen wallets": lambda: wallets.wallets(models, status="FROZEN"),
        "a statement": lambda: wallets.statement(models, it.wallet_id),
        "the busiest statement": lambda: wallets.statement(models, it.busiest_wallet_id),
        "a transaction": lambda: transactions.transaction(models, it.transaction_id),
        "all transactions": lambda: transactions.transactions(models),
        "failed transactions": lambda: transactions.transactions(models, status="FAILED"),
        "transactions of a person": lambda: transactions.transactions(models, user_id=it.buyer_id),
        "the cart": lambda: carts.newest_cart(models, it.buyer_id),
        "the open cart": lambda: carts.open_cart(models, it.buyer_id, NOW),
        "a user": lambda: users.user(models, it.buyer_id),
        "all users": lambda: users.users(models),
        "sellers": lambda: users.users(models, account_type="SELLER"),
        "ledger accounts": lambda: ledgers.accounts(models),
        "an account": lambda: ledgers.account(models, account),
        "entries of an account": lambda: ledgers.entries(models, account),
        "entries of the revenue": lambda: ledgers.entries(models, ledger.REVENUE),
        "trial balance": lambda: ledgers.trial_balance(models),
        "sales of a month, by day": lambda: sales.sales(
            models, group_by="day", first=month[0], last=month[1]
        ),
        "carts of a month, by day": lambda: cart_analytics.cart_analytics(
            models, group_by="day", first=month[0], last=month[1]
        ),
        "deadlines due": lambda: DueTimes(models).due(NOW, 100),
        "audit, latest of a stream": lambda: audit.stream(it.order_id),
        "audit, a frequent name": lambda: audit.events(name="order.created.v1"),
        "audit, a rare name": lambda: audit.events(name="payment.refunded.v1"),
        "audit, an actor": lambda: audit.events(actor=f"user:{it.buyer_id}"),
        "audit, a state": lambda: audit.state(it.order_id),
        "audit, a time": lambda: audit.position_at(datetime(2026, 1, 1, tzinfo=UTC)),
    }
