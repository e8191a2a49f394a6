"""Middleware before FastAPI's router: runs the route that a request is for, if the table has it."""

from collections.abc import Iterable

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.route_table import RouteTable
from api.routing import CheckedRoute


class RouteDispatch:
    """The innermost middleware: what is left to `app` goes through FastAPI's own middlewares and
    its router, which tries each route in turn."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._table = RouteTable(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._table.find(scope) if scope["type"] == "http" else None
        route, parameters = found or (None, {})
        if not isinstance(route, CheckedRoute):
            if route is not None:
                scope["route"] = route  # Starlette's own routes do not say
            await self._app(scope, receive, send)
            return
        scope["router"] = scope["app"].router
        scope["route"] = route
        scope["endpoint"] = route.endpoint
        scope["path_params"] = parameters
        await route.run(scope, receive, send)
