"""The routes by context. Each module has a `router` of canonical paths; their aliases are in `api.aliases`."""

from collections.abc import Sequence

from fastapi import APIRouter

from api.routes import (
    audit,
    catalog,
    health,
    identity,
    ledger,
    library,
    notifications,
    operations,
    orders,
    payments,
    transactions,
    wallets,
)

ROUTERS: Sequence[APIRouter] = (
    identity.router,
    identity.well_known,
    catalog.router,
    orders.router,
    payments.router,
    wallets.router,
    transactions.router,
    ledger.router,
    library.router,
    notifications.router,
    audit.router,
    operations.router,
    health.router,
)
