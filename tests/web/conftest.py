from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import admin, auditor, buyer, pytest_generate_tests, seller, shop
from tests.support.shops.gateway import PASSWORD, Shop
from tests.web.browser import Browser, Page
from web.app import FrontDoor, create_web
from web.sessions import Sealer, Session
from web.visit import WebSettings

__all__ = ["admin", "auditor", "buyer", "pytest_generate_tests", "seller", "shop"]

HERE = Path(__file__).parent
SECRET = b"s" * 32
CARDS = (
    ("pm_card_visa", "Visa"),
    ("pm_card_chargeDeclined", "Declined"),
    ("pm_card_authenticationRequired", "3-D Secure"),
)

SEALER = Sealer(SECRET)

Register = Callable[..., Awaitable[tuple[Browser, Page]]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests run in the event loop of the shop that their module shares."""
    for item in items:
        if HERE in item.path.parents and "shop" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def session_of(browser: Browser) -> Session:
    """What the browser's cookie says."""
    session = SEALER.open(browser.client.cookies["session"])
    assert session is not None
    return session


def web_of(
    shop: Shop, cards: tuple[tuple[str, str], ...] = CARDS, *, has_pay_page: bool = True
) -> FrontDoor:
    """The pages of a shop, as one of its processes serves them."""
    paths = [path for route in shop.app.routes if (path := getattr(route, "path", None))]
    return create_web(shop.app, paths, WebSettings(SECRET, cards, has_pay_page))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shop: Shop) -> AsyncIterator[FrontDoor]:
    yield web_of(shop)


@pytest.fixture
def browser(site: FrontDoor) -> Browser:
    return Browser(site)


@pytest.fixture
def register(site: FrontDoor) -> Register:
    """Opens an account in a browser of its own."""

    async def registered(**typed: str) -> tuple[Browser, Page]:
        browser = Browser(site)
        form = (await browser.get("/register")).form("/register")
        given = {
            "name": "Ann",
            "email": f"{uuid4().hex}@example.com",
            "password": PASSWORD,
            "region": "US",
            **typed,
        }
        return browser, await browser.send(form, **given)

    return registered
