"""The seller's desk. Each module has a `router`."""

from collections.abc import Sequence

from web.routing import Router
from web.sell import account, games, overview, pictures, sales, shipments, stock, webhooks

ROUTERS: Sequence[Router] = (
    overview.router,
    games.router,
    pictures.router,
    stock.router,
    shipments.router,
    sales.router,
    account.router,
    webhooks.router,
)
