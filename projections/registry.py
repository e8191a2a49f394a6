"""Every read model that lives in PostgreSQL, with the store of its rows."""

from typing import Any

from projections.advancing import Registered
from projections.cart_outcomes import CartOutcomes
from projections.carts import Carts
from projections.deadlines import Deadlines
from projections.game_documents import GamesText
from projections.games import Games
from projections.ledger import LedgerAccounts, LedgerEntries
from projections.library import OwnedGames
from projections.notifications import Notifications
from projections.orders import Orders
from projections.payments import Payments
from projections.postgres_documents import PostgresDocuments
from projections.projection import Projection
from projections.receipts import Receipts
from projections.sales import Sales
from projections.shipments import Shipments
from projections.stock import Stock
from projections.store import PostgresTable
from projections.transactions import Transactions
from projections.users import Users
from projections.wallets import WalletMovements, Wallets
from projections.webhook_endpoints import WebhookDeliveries, WebhookEndpoints

TABLES: tuple[type[Projection[Any]], ...] = (
    Users,
    Games,
    Orders,
    Payments,
    OwnedGames,
    Notifications,
    Deadlines,
    Wallets,
    WalletMovements,
    Transactions,
    LedgerAccounts,
    LedgerEntries,
    Receipts,
    Sales,
    Shipments,
    WebhookEndpoints,
    WebhookDeliveries,
    Stock,
    Carts,
    CartOutcomes,
)
"""The projections whose rows are a table of their own."""


def read_models() -> list[Registered]:
    """What a projector runs. The search index in Elasticsearch is added by whoever configures one."""
    tables = [Registered(projection(), PostgresTable(projection.row)) for projection in TABLES]
    return [*tables, Registered(GamesText(), PostgresDocuments())]
