"""The gateway: one FastAPI application in front of the commands and the queries."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api.aliases import add_routes, add_sockets
from api.idempotency import StoredAnswers
from api.kept_answers import KeptAnswers
from api.middleware.context import RequestContext
from api.middleware.cross_origin import CrossOrigin
from api.middleware.dispatch import RouteDispatch
from api.middleware.guards import HeadRequests, ProblemResponses
from api.middleware.limits import Limiter, RateLimit
from api.middleware.metrics import Metrics, RequestMetrics
from api.middleware.replica_metrics import ReplicaMetrics
from api.middleware.security_headers import allow_inline_script
from api.openapi import describe
from api.overview import Overviews
from api.problems import MEDIA_TYPE, ProblemDocument
from api.routes import ROUTERS
from api.routing import CheckedRoute, explain
from api.services import Services
from api.socket_sessions import Seats
from queries.catalog.game_tail import GameTail
from queries.catalog.region_currencies import RegionCurrencies
from queries.live.subscriptions import LiveStatus

STATIC = "/docs/static"
UNGUARDED = (
    "/health/",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/.well-known/",
    "/api/v1/images/",
    "/api/images/",
)
"""Paths that are served while the database is down. Probes, metrics and documentation need no
database; images are only read from their own store."""


def create_app(services: Services) -> FastAPI:
    return gateway(services, ROUTERS)


def gateway(services: Services, routers: Sequence[APIRouter]) -> FastAPI:
    """Build the application from the given routers, with everything routes share: problem
    documents, rate limits, request context, metrics and documentation."""
    app = FastAPI(
        title="Ludoteca",
        summary="A game shop and marketplace on an event-sourced log.",
        version=version("ludoteca"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # a body without a content type is JSON
        responses={
            "default": {
                "model": ProblemDocument,
                "description": "A problem (RFC 9457)",
                "content": {MEDIA_TYPE: {}},
            }
        },
    )
    app.router.route_class = CheckedRoute
    app.state.services = services
    app.state.metrics = Metrics(services.siblings)
    if services.replica is not None:
        app.state.metrics.registry.register(ReplicaMetrics(services.replica))
    app.state.limiter = Limiter(
        services.settings.rates,
        on=services.settings.rate_limit,
        windows=services.siblings.windows if services.siblings else None,
    )
    app.state.answers = StoredAnswers(services.log, services.clock, services.secret)
    services.log.history.when_it_changes(services.game_pages.forget)
    tail = GameTail(services.log, services.reads)
    app.state.kept_answers = KeptAnswers(tail, services.clock)
    app.state.region_currencies = RegionCurrencies(tail, services.game_pages)
    app.state.seats = Seats()
    app.state.overviews = Overviews(services, app.state.metrics)
    app.state.live = LiveStatus(services.log, services.reads)
    app.add_exception_handler(HTTPException, explain)
    app.add_exception_handler(RequestValidationError, explain)
    _add_middlewares(app, services)
    routes = [route for router in routers for route in router.routes]
    add_routes(app, [route for route in routes if isinstance(route, APIRoute)])
    add_sockets(app, [route for route in routes if isinstance(route, APIWebSocketRoute)])
    _add_documentation(app)
    describe(app)
    return app


def _add_middlewares(app: FastAPI, services: Services) -> None:
    """Add the middlewares, from the innermost to the outermost."""
    settings = services.settings
    app.add_middleware(RouteDispatch, routes=app.routes)
    app.add_middleware(HeadRequests)
    app.add_middleware(
        RateLimit, limiter=app.state.limiter, tokens=services.tokens, routes=app.routes
    )
    app.add_middleware(
        ProblemResponses,
        unguarded=UNGUARDED,
        dependency_errors=services.dependency_errors,
        watch=services.database_watch,
    )
    if settings.cors_origins:
        app.add_middleware(
            CrossOrigin,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestMetrics, metrics=app.state.metrics, log=services.log_request)
    app.add_middleware(RequestContext)
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))


def _add_documentation(app: FastAPI) -> None:
    """Serve Swagger UI at /docs from local files, so that it works without the Internet."""
    files = Path(fastapi_offline.__file__).parent / "static"
    app.mount(STATIC, StaticFiles(directory=files))

    async def redirect_to_docs(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    async def documentation(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="Ludoteca API",
            swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{STATIC}/favicon.png",
        )
        return allow_inline_script(page)

    app.add_route("/", redirect_to_docs, include_in_schema=False)
    app.add_route("/docs", documentation, include_in_schema=False)
