"""Every list walks an index in its own order: nothing is sorted, however long the table."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from queries.accounts import library, notifications, users
from queries.audit import acts
from queries.catalog import games, stock, storefront
from queries.catalog.games import Browse
from queries.engine.read_models import QueryResult
from queries.engine.tables import with_tables
from queries.live.status_changes import StatusChanges
from queries.money import ledger, transactions, wallets
from queries.operations import alerts
from queries.operations.deadlines import DueTimes
from queries.orders import carts, orders, seller_sales
from tests.support.events.history import BUYER, DUE, GAME, ORDER, SELLER, registered
from tests.support.shops.projected import Shop

_AS_IF_LARGE = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"


class Explaining:
    """Stands in for ReadModels: records how the database would find the rows, and returns none."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.log = shop.log
        self.plan = ""

    async def rows(self, row: type[Any], query: str, **values: object) -> QueryResult[list[Any]]:
        tables = {
            name: f"read.{subscription.storage}"
            for name, subscription in (await self._shop.models.waiter.active()).items()
        }
        async with self._shop.log.pool.connection() as conn, conn.transaction():
            await conn.execute(_AS_IF_LARGE)
            found = await conn.execute(("EXPLAIN " + with_tables(query, tables)).encode(), values)
            self.plan = "\n".join(line for (line,) in await found.fetchall())
        return QueryResult([], 0)

    async def first(self, row: type[Any], query: str, **values: object) -> QueryResult[None]:
        await self.rows(row, query, **values)
        return QueryResult(None, 0)


LISTS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "newest": lambda m: games.browse(m, Browse()),
    "price": lambda m: games.browse(m, Browse(sort="price")),
    "-price": lambda m: games.browse(m, Browse(sort="-price")),
    "release date": lambda m: games.browse(m, Browse(sort="release_date")),
    "title": lambda m: games.browse(m, Browse(sort="title")),
    "of any status": lambda m: games.browse(m, Browse(status="ANY")),
    "drafts": lambda m: games.browse(m, Browse(status="DRAFT")),
    "best-selling": storefront.best_selling,
    "reduced": lambda m: storefront.reduced(m, "DE", DUE),
    "all stock": stock.stocks,
    "a seller's stock": lambda m: stock.stocks(m, seller_id=SELLER, at_most=5),
    "a seller's": lambda m: games.by_seller(m, SELLER),
    "users": users.users,
    "my orders": lambda m: orders.orders(m, user_id=BUYER),
    "all orders": orders.orders,
    "orders by status": lambda m: orders.orders(m, status="CANCELLED"),
    "library": lambda m: library.library(m, BUYER),
    "library with offers": lambda m: library.offered_library(m, BUYER, viewer_id=BUYER, now=DUE),
    "a seller's sales": lambda m: seller_sales.seller_sales(m, SELLER),
    "notices": lambda m: notifications.notifications(m, BUYER),
    "due": lambda m: DueTimes(m).due(DUE, 10),
    "my wallets": lambda m: wallets.wallets_of(m, BUYER),
    "a statement": lambda m: wallets.statement(m, GAME),
    "my cart": lambda m: carts.open_cart(m, BUYER, DUE),
    "my transactions": lambda m: transactions.transactions(m, user_id=BUYER),
    "all transactions": transactions.transactions,
    "transactions by status": lambda m: transactions.transactions(m, status="FAILED"),
    "alerts": alerts.alerts,
    "alerts of a status": lambda m: alerts.alerts(m, status="RESOLVED"),
    "alerts of a name": lambda m: alerts.alerts(m, name="ConsumerLate"),
    "acts": acts.acts,
    "acts on a target": lambda m: acts.acts(m, target="orders"),
    "ledger accounts": ledger.accounts,
    "an account's entries": lambda m: ledger.entries(m, "PLATFORM_REVENUE"),
    "an account's entries in a currency": lambda m: ledger.entries(
        m, "PLATFORM_REVENUE", currency="USD"
    ),
    "ledger transactions": ledger.ledger_transactions,
    "a ledger transaction": lambda m: ledger.ledger_transaction(m, GAME),
}
LOOK_UPS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "a game": lambda m: games.game(m, GAME),
    "an order": lambda m: orders.order(m, ORDER),
    "a user by e-mail": lambda m: users.users(m, mailbox="ana@example.com"),
    "owned games": lambda m: library.owned_ids(m, BUYER),
    "a wallet": lambda m: wallets.wallet(m, GAME),
    "a wallet in a currency": lambda m: wallets.wallet_in(m, BUYER, "USD"),
    "a transaction": lambda m: transactions.transaction(m, GAME),
    "stock": lambda m: stock.stock(m, GAME),
    "offers": lambda m: stock.seen_offers(m, [GAME], DUE, viewer_id=BUYER, sees_all=False),
    "availability": lambda m: stock.availability(m, GAME, DUE),
    "a ledger account": lambda m: ledger.account(m, "PLATFORM_REVENUE"),
    "my streams": lambda m: StatusChanges(m.log, m).streams_of(BUYER, 0),
}


async def plan(shop: Shop, ask: Callable[[Any], Awaitable[object]]) -> str:
    explaining = Explaining(shop)
    await ask(explaining)
    return explaining.plan


@pytest.fixture
async def tables(shop: Shop) -> Shop:
    """A shop whose tables exist."""
    await shop.models.waiter.wait(
        ["users", "games", "deadlines"], await shop.happened(BUYER, registered()), 10
    )
    return shop


async def test_lists_walk_an_index_in_their_order(tables: Shop) -> None:
    for name, ask in LISTS.items():
        how = await plan(tables, ask)
        assert "Index Scan" in how, (name, how)
        assert "Sort" not in how, (name, how)


async def test_look_ups_use_an_index(tables: Shop) -> None:
    for name, ask in LOOK_UPS.items():
        how = await plan(tables, ask)
        assert "Seq Scan" not in how, (name, how)


async def test_filters_use_their_index(tables: Shop) -> None:
    how = await plan(
        tables, lambda m: games.browse(m, Browse(genre="Action", tag="Co-op", seller_id=None))
    )
    assert "Seq Scan" not in how, how
