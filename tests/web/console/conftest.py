from collections.abc import Awaitable, Callable

import pytest
import pytest_asyncio

from tests.api.conftest import auditor, buyer
from tests.support.shops.gateway import PASSWORD, Shop
from tests.web.browser import Browser
from tests.web.console import operators
from web.app import FrontDoor

__all__ = ["auditor", "buyer"]

Operator = Callable[[str], Awaitable[Browser]]


@pytest.fixture
def operator(shop: Shop, site: FrontDoor) -> Operator:
    """Signs an operator of a role in, in a browser of their own."""

    async def signed_in(account_type: str) -> Browser:
        person = await shop.register(account_type)
        browser = Browser(site)
        form = (await browser.get("/sign-in?next=/console")).form("/sign-in")
        page = await browser.send(form, email=person.email, password=PASSWORD)
        assert page.path == "/console"
        return browser

    return signed_in


@pytest_asyncio.fixture(loop_scope="module")
async def admin_browser(shop: Shop, site: FrontDoor) -> operators.Operator:
    return await operators.signed_in(shop, site, "ADMIN")


@pytest_asyncio.fixture(loop_scope="module")
async def auditor_browser(shop: Shop, site: FrontDoor) -> operators.Operator:
    return await operators.signed_in(shop, site, "AUDITOR")
