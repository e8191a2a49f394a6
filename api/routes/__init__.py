"""The routes, one module per topic. Each module has a `router` with canonical paths; `api.aliases`
has the aliases."""

from collections.abc import Sequence

from fastapi import APIRouter

from api.routes import (
    accounts,
    analytics,
    audit,
    cart,
    catalog,
    export,
    games,
    health,
    identity,
    images,
    inventory,
    ledger,
    library,
    live,
    notifications,
    operations,
    orders,
    payments,
    receipts,
    sessions,
    shipments,
    transactions,
    wallets,
    webhook_endpoints,
    why,
)

ROUTERS: Sequence[APIRouter] = (
    identity.router,
    sessions.router,
    sessions.well_known,
    accounts.router,
    export.router,
    catalog.router,
    games.router,
    images.router,
    inventory.router,
    cart.router,
    orders.router,
    live.router,
    receipts.router,
    shipments.router,
    payments.router,
    wallets.router,
    transactions.router,
    ledger.router,
    webhook_endpoints.router,
    library.router,
    notifications.router,
    analytics.router,
    audit.router,
    why.router,
    operations.router,
    health.router,
)
