"""Every kind of stream, and how it folds. Snapshots where streams may grow long; sealed where they tell of somebody.

Without are those that come to an end by themselves: an order, whose address is the buyer's and no stream's own; a
notice, a transaction, a receipt, a posting.
"""

from domain import (
    cart,
    catalog,
    claims,
    fulfilment,
    identity,
    inventory,
    ledger,
    library,
    notices,
    orders,
    payments,
    receipts,
    transactions,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
)
from eventstore.repository import Aggregate

USER = Aggregate(
    "user",
    identity.User,
    identity.evolve,
    snapshot_every=100,
    sealed=True,
    ignores=(identity.LoggedIn, identity.LoggedOut, identity.RefreshReused),
)
CLAIM = Aggregate("claim", claims.Claim, claims.evolve, snapshot_every=100)
GAME = Aggregate("game", catalog.Game, catalog.evolve, snapshot_every=100)
ORDER = Aggregate("order", orders.Order, orders.evolve)
PAYMENT = Aggregate("payment", payments.Payment, payments.evolve, snapshot_every=100)
LIBRARY = Aggregate("library", library.Library, library.evolve, snapshot_every=100)
NOTICE = Aggregate("notification", notices.Notice, notices.evolve)
WALLET = Aggregate("wallet", wallets.Wallet, wallets.evolve, snapshot_every=100, schema=2)
TRANSACTION = Aggregate("transaction", transactions.Transaction, transactions.evolve)
POSTING = Aggregate("ledger", ledger.Posted, ledger.evolve)
BOOK = Aggregate("fiscal_book", receipts.Book, receipts.evolve_book, snapshot_every=100, schema=2)
RECEIPT = Aggregate("receipt", receipts.Receipt, receipts.evolve)
WEBHOOK_ENDPOINT = Aggregate(
    "webhook_endpoint", webhook_endpoints.WebhookEndpoint, webhook_endpoints.evolve, snapshot_every=100
)
WEBHOOK_INDEX = Aggregate(
    "webhook_index", webhook_endpoints.EndpointIndex, webhook_endpoints.evolve_index, snapshot_every=100
)
WEBHOOK_DELIVERY = Aggregate(
    "webhook", webhook_deliveries.WebhookDelivery, webhook_deliveries.evolve, snapshot_every=100
)
STOCK = Aggregate("inventory", inventory.Stock, inventory.evolve, snapshot_every=200)
CART = Aggregate("cart", cart.Cart, cart.evolve, snapshot_every=100)
SHIPMENT = Aggregate("shipment", fulfilment.Shipment, fulfilment.evolve, snapshot_every=100)

ALL = (
    STOCK,
    CART,
    SHIPMENT,
    USER,
    CLAIM,
    GAME,
    ORDER,
    PAYMENT,
    LIBRARY,
    NOTICE,
    WALLET,
    TRANSACTION,
    POSTING,
    BOOK,
    RECEIPT,
    WEBHOOK_ENDPOINT,
    WEBHOOK_INDEX,
    WEBHOOK_DELIVERY,
)
