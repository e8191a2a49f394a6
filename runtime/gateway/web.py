"""Puts the pages in front of the gateway."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from api.middleware.context import RequestContext
from api.middleware.metrics import RequestMetrics
from api.services import Services
from runtime.wiring.core import Core
from web.app import FrontDoor, create_web
from web.visit import WebSettings

CARDS = (
    ("pm_card_visa", "Visa (test card)"),
    ("pm_card_mastercard", "Mastercard (test card)"),
    ("pm_card_authenticationRequired", "Card with 3-D Secure (test card)"),
    ("pm_card_chargeDeclined", "Card that is declined (test card)"),
)
"""What can be chosen where the payment provider is simulated (docs/payments.md)."""


def with_web(app: FastAPI, core: Core) -> FrontDoor:
    """The gateway and the pages that are served with it."""
    settings = core.settings
    services: Services = app.state.services

    def observed(pages: ASGIApp) -> ASGIApp:
        return RequestContext(RequestMetrics(pages, app.state.metrics, services.log_request))

    is_simulated = settings.payment_provider == "simulated"
    return create_web(
        app,
        [path for route in app.routes if (path := getattr(route, "path", None))],
        WebSettings(
            secret=core.secrets.web,
            cards=CARDS if is_simulated else (),
            has_pay_page=is_simulated,
            trusted_proxies=tuple(settings.trusted_proxies),
            environment=settings.environment,
        ),
        observed=observed,
    )
