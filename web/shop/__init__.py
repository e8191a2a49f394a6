"""The shop, as buyers see it. Each module has a `router`."""

from collections.abc import Sequence

from web.routing import Router
from web.shop import accounts, carts, games, libraries, notifications, orders, profiles, wallets

ROUTERS: Sequence[Router] = (
    games.router,
    accounts.router,
    carts.router,
    orders.router,
    libraries.router,
    wallets.router,
    profiles.router,
    notifications.router,
)
