"""The table of aliases: paths of the source documents beside the canonical ones.

An alias runs the same endpoint and takes the same bodies. Besides those listed here, every path
under /api/v1/ is also available under /api/.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from enum import Enum

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.utils import generate_unique_id
from starlette.routing import compile_path

from api.routing import CheckedRoute

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
    added = app.router.routes
    before = len(added)
    canonical = {
        (method, route.path): _made(app, route, method, route.path, route.tags)
        for route in routes
        for method in route.methods or ()
    }
    aliases = {
        (method, path): _alias(app, route, method, path)
        for method, path, route in _aliases(canonical)
        if (method, path) not in canonical
    }
    own = sorted(
        [*canonical.values(), *aliases.values()], key=lambda route: _generality(route.path)
    )
    added[before:] = own


def add_sockets(app: FastAPI, routes: Iterable[APIWebSocketRoute]) -> None:
    """Add WebSockets under their canonical and their unversioned paths."""
    for route in routes:
        for path in (route.path, UNVERSIONED + route.path.removeprefix(V1)):
            app.add_api_websocket_route(path, route.endpoint)


def _aliases(
    by_name: Mapping[tuple[str, str], CheckedRoute],
) -> Iterable[tuple[str, str, CheckedRoute]]:
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


def _made(
    app: FastAPI, route: APIRoute, method: str, path: str, tags: list[str | Enum]
) -> CheckedRoute:
    """A route of the application to an endpoint."""
    app.add_api_route(
        path,
        route.endpoint,
        methods=[method],
        status_code=route.status_code,
        response_model=route.response_model,
        response_class=route.response_class,
        responses=route.responses,
        summary=route.summary,
        description=route.description,
        dependencies=route.dependencies,
        tags=tags,
        include_in_schema=route.include_in_schema,
        openapi_extra=route.openapi_extra,
    )
    made = app.routes[-1]
    assert isinstance(made, CheckedRoute)
    return made


def _alias(app: FastAPI, route: CheckedRoute, method: str, path: str) -> CheckedRoute:
    """The route under another path, whose parameters have the same names. It shares what was made
    of the endpoint, which takes milliseconds for each route; but for a form, whose schema is named
    after the path."""
    if route.reads_form:
        return _made(app, route, method, path, [TAG])
    alias = copy(route)
    alias.path, alias.methods, alias.tags = path, {method}, [TAG]
    alias.path_regex, alias.path_format, alias.param_convertors = compile_path(path)
    assert alias.param_convertors.keys() == route.param_convertors.keys(), path
    alias.unique_id = generate_unique_id(alias)
    if route.response_field is not None:
        alias.response_field = copy(route.response_field)
        alias.response_field.name = f"Response_{alias.unique_id}"
    return alias
