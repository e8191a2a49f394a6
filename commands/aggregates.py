"""Every kind of stream, and how it folds.

Streams that may grow long have snapshots; snapshots with personal data are sealed. Streams that end
by themselves have no snapshots: orders, notices, notifications, transactions, receipts,
postings. What a
client can name has its refusals here: the stream does not exist, or is at another version than the
client saw.
"""

from collections.abc import Callable
from functools import partial

from domain import (
    acts,
    alerts,
    amendments,
    cart,
    catalog,
    claims,
    disclosures,
    findings,
    fulfilment,
    identity,
    inventory,
    ledger,
    library,
    notices,
    notifications,
    orders,
    payments,
    receipts,
    transactions,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
)
from domain.errors import NotFound, Stale
from eventstore.aggregate import Aggregate


def _missing(code: str, noun: str) -> Callable[[], NotFound]:
    return partial(NotFound, code, f"there is no such {noun}")


def _stale(noun: str) -> Callable[[int], Stale]:
    def stale(version: int) -> Stale:
        return Stale("version_mismatch", f"the {noun} was changed meanwhile", version=version)

    return stale


no_such_product = _missing("product_not_found", "product")
"""The refusal of an unknown game, as carts and stock call it."""

USER = Aggregate(
    "user",
    identity.User,
    identity.evolve,
    snapshot_every=100,
    sealed=True,
    ignores=(identity.LoggedIn, identity.LoggedOut, identity.RefreshReused),
    missing=_missing("user_not_found", "account"),
    stale=_stale("account"),
)
CLAIM = Aggregate("claim", claims.Claim, claims.evolve, snapshot_every=100)
GAME = Aggregate(
    "game",
    catalog.Game,
    catalog.evolve,
    snapshot_every=100,
    missing=_missing("game_not_found", "game"),
    stale=_stale("game"),
)
ORDER = Aggregate(
    "order", orders.Order, orders.evolve, missing=_missing("order_not_found", "order")
)
PAYMENT = Aggregate(
    "payment",
    payments.Payment,
    payments.evolve,
    snapshot_every=100,
    missing=_missing("payment_not_found", "payment"),
)
LIBRARY = Aggregate("library", library.Library, library.evolve, snapshot_every=100)
NOTICE = Aggregate("notice", notices.Notice, notices.evolve)
NOTIFICATION = Aggregate("notification", notifications.Notification, notifications.evolve)
WALLET = Aggregate(
    "wallet",
    wallets.Wallet,
    wallets.evolve,
    snapshot_every=100,
    schema=2,
    missing=_missing("wallet_not_found", "wallet"),
)
TRANSACTION = Aggregate(
    "transaction",
    transactions.Transaction,
    transactions.evolve,
    missing=_missing("transaction_not_found", "transaction"),
)
POSTING = Aggregate("ledger", ledger.Posted, ledger.evolve)
BOOK = Aggregate("fiscal_book", receipts.Book, receipts.evolve_book, snapshot_every=100, schema=2)
RECEIPT = Aggregate("receipt", receipts.Receipt, receipts.evolve)
WEBHOOK_ENDPOINT = Aggregate(
    "webhook_endpoint",
    webhook_endpoints.WebhookEndpoint,
    webhook_endpoints.evolve,
    snapshot_every=100,
    missing=_missing("webhook_endpoint_not_found", "endpoint"),
    stale=_stale("endpoint"),
)
WEBHOOK_INDEX = Aggregate(
    "webhook_index",
    webhook_endpoints.EndpointIndex,
    webhook_endpoints.evolve_index,
    snapshot_every=100,
)
WEBHOOK_DELIVERY = Aggregate(
    "webhook",
    webhook_deliveries.WebhookDelivery,
    webhook_deliveries.evolve,
    snapshot_every=100,
    missing=_missing("webhook_delivery_not_found", "delivery to this endpoint"),
)
STOCK = Aggregate(
    "inventory",
    inventory.Stock,
    inventory.evolve,
    snapshot_every=200,
    missing=no_such_product,
    stale=_stale("stock"),
)
CART = Aggregate(
    "cart",
    cart.Cart,
    cart.evolve,
    snapshot_every=100,
    missing=_missing("cart_not_found", "cart"),
    stale=_stale("cart"),
)
SHIPMENT = Aggregate(
    "shipment",
    fulfilment.Shipment,
    fulfilment.evolve,
    snapshot_every=100,
    missing=_missing("shipment_not_found", "shipment"),
    stale=_stale("shipment"),
)
ALERT = Aggregate(
    "alert",
    alerts.Alert,
    alerts.evolve,
    snapshot_every=100,
    missing=_missing("alert_not_found", "alert"),
)
ACT = Aggregate("operator", acts.Act, acts.evolve)
DISCLOSURE = Aggregate("disclosure", disclosures.Disclosure, disclosures.evolve)
FINDING = Aggregate("audit", findings.Finding, findings.evolve, snapshot_every=100)

AMENDMENTS = Aggregate("amendment", amendments.Amendments, amendments.evolve)

ALL = tuple(each for each in list(vars().values()) if isinstance(each, Aggregate))
"""Every kind above."""
