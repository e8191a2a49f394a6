"""The table of aliases: paths of the source documents beside the canonical ones.

An alias runs the same endpoint and takes the same bodies. Besides those listed here, every path
under /api/v1/ is also available under /api/.
"""

from collections.abc import Iterable, Sequence

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

V1, UNVERSIONED = "/api/v1", "/api"
TAG = "aliases"

ALIASES: Sequence[tuple[str, str, str]] = (
    # identity
    ("POST", "/api/v1/users", "/users"),
    ("POST", "/api/v1/users", "/api/v1/auth/register"),
    ("POST", "/api/v1/users", "/users/register"),
    ("POST", "/api/v1/auth/login", "/login/auth"),
    ("POST", "/api/v1/auth/login", "/users/login"),
    ("GET", "/api/v1/users", "/users"),
    ("GET", "/api/v1/users/{user_id}", "/users/{user_id}"),
    ("PUT", "/api/v1/users/{user_id}", "/users/{user_id}"),
    ("DELETE", "/api/v1/users/{user_id}", "/users/{user_id}"),
    # catalog
    ("GET", "/api/v1/games", "/api/v1/catalog/products/browse"),
    ("GET", "/api/v1/games/search", "/jogos/busca"),
    ("POST", "/api/v1/catalog/images", "/api/v1/catalog/images/upload"),
    ("POST", "/api/v1/catalog/images/from-url", "/api/v1/catalog/images/upload-url"),
    # orders and library
    ("POST", "/api/v1/orders", "/jogos/compra"),
    ("GET", "/api/v1/library", "/jogos/biblioteca"),
    # payments
    ("POST", "/api/v1/payments", "/pagamento"),
    ("POST", "/api/v1/payments", "/api/v1/payments/intents"),
    ("GET", "/api/v1/payments/{payment_id}", "/pagamento/{payment_id}"),
    ("POST", "/api/v1/payments/{payment_id}", "/pagamento/{payment_id}"),
    ("POST", "/api/v1/payments/webhook", "/pagamento/webhook"),
    # wallets and transactions
    ("POST", "/api/v1/wallets", "/wallets/create"),
    ("POST", "/api/v1/wallets/{wallet_id}/deactivate", "/wallets/{wallet_id}/deactivate"),
    ("POST", "/api/v1/wallets/{wallet_id}/reactivate", "/wallets/{wallet_id}/reactivate"),
    ("POST", "/api/v1/wallets/{wallet_id}/add-funds", "/wallets/{wallet_id}/add-funds"),
    ("POST", "/api/v1/wallets/{wallet_id}/deduct-funds", "/wallets/{wallet_id}/deduct-funds"),
    ("POST", "/api/v1/transactions", "/transactions/create"),
)
"""(method, canonical path, alias). A POST alias of a path that has only a GET runs the GET."""

PREFIXES: Sequence[tuple[str, str]] = (
    ("/api/v1/games", "/jogos"),
    ("/api/v1/games", "/api/v1/products"),
    ("/api/v1/games", "/api/v1/catalog/products"),
    ("/api/v1/games", "/api/v1/admin/products"),
    ("/api/v1/ops", "/api/v1/operations"),
)
"""(canonical prefix, alias prefix): every path below the first is also available below the
second."""


def add_routes(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Add the canonical routes and their aliases. Of two paths that match, the one whose literal
    segments come first wins."""
    by_name = {(method, route.path): route for route in routes for method in route.methods or ()}
    canonical = [(route.path, {method}, route, False) for (method, _), route in by_name.items()]
    aliases = {
        (method, path): (path, {method}, route, True)
        for method, path, route in _aliases(by_name)
        if (method, path) not in by_name
    }
    for path, methods, route, is_alias in sorted(
        [*canonical, *aliases.values()], key=lambda row: _generality(row[0])
    ):
        _add(app, route, path, methods, is_alias=is_alias)


def add_sockets(app: FastAPI, routes: Iterable[APIWebSocketRoute]) -> None:
    """Add WebSockets under their canonical and their unversioned paths."""
    for route in routes:
        for path in (route.path, UNVERSIONED + route.path.removeprefix(V1)):
            app.add_api_websocket_route(path, route.endpoint)


def _aliases(by_name: dict[tuple[str, str], APIRoute]) -> Iterable[tuple[str, str, APIRoute]]:
    found = []
    for method, path, alias in ALIASES:
        route = by_name.get((method, path)) or by_name.get(("GET", path))
        if route is not None:
            found.append((method, alias, route))
    for (method, path), route in by_name.items():
        for prefix, alias in PREFIXES:
            if path == prefix or path.startswith(prefix + "/"):
                found.append((method, alias + path.removeprefix(prefix), route))
    versioned = [*((method, path, route) for (method, path), route in by_name.items()), *found]
    unversioned = [
        (method, UNVERSIONED + path.removeprefix(V1), route)
        for method, path, route in versioned
        if path.startswith(V1 + "/")
    ]
    return [*found, *unversioned]


def _generality(path: str) -> list[bool]:
    """Sort key that puts literal segments before parameters, which would match them too."""
    return [segment.startswith("{") for segment in path.split("/")]


def _add(app: FastAPI, route: APIRoute, path: str, methods: set[str], *, is_alias: bool) -> None:
    app.add_api_route(
        path,
        route.endpoint,
        methods=sorted(methods),
        status_code=route.status_code,
        response_model=route.response_model,
        response_class=route.response_class,
        responses=route.responses,
        summary=route.summary,
        description=route.description,
        dependencies=route.dependencies,
        tags=[TAG] if is_alias else route.tags,
        include_in_schema=route.include_in_schema,
        openapi_extra=route.openapi_extra,
    )
