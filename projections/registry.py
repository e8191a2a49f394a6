"""Every read model that lives in PostgreSQL, with the store of its rows."""

from typing import Any

from projections.engine.advancing import Registered
from projections.engine.tables import PostgresTable
from projections.models.acts import Acts
from projections.models.alerts import Alerts
from projections.models.cart_outcomes import CartOutcomes
from projections.models.carts import Carts
from projections.models.deadlines import Deadlines
from projections.models.findings import Findings
from projections.models.game_sales import SoldGames
from projections.models.games import Games
from projections.models.ledger import LedgerAccounts, LedgerEntries
from projections.models.library import OwnedGames
from projections.models.notifications import Notifications
from projections.models.orders import Orders
from projections.models.payments import Payments
from projections.models.receipts import Receipts
from projections.models.sales import Sales
from projections.models.seller_orders import SellerOrders
from projections.models.shipments import Shipments
from projections.models.stock import StockItems
from projections.models.transactions import Transactions
from projections.models.users import Users
from projections.models.wallets import WalletMovements, Wallets
from projections.models.webhook_endpoints import WebhookDeliveries, WebhookEndpoints
from projections.projection import Projection
from projections.search.postgres_store import PostgresDocuments
from projections.search.projection import GamesText

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
    SellerOrders,
    SoldGames,
    Shipments,
    WebhookEndpoints,
    WebhookDeliveries,
    StockItems,
    Carts,
    CartOutcomes,
    Findings,
    Acts,
    Alerts,
)
"""The projections whose rows are a table of their own."""


def read_models() -> list[Registered]:
    """The read models that a projector runs. The wiring adds the Elasticsearch index if one is
    configured."""
    tables = [Registered(projection(), PostgresTable(projection.row)) for projection in TABLES]
    return [*tables, Registered(GamesText(), PostgresDocuments())]
