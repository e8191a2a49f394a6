from collections.abc import Awaitable, Callable

import pytest
import pytest_asyncio

from tests.api.conftest import auditor, buyer
from tests.support.shops.gateway import Shop
from tests.web.browser import Browser
from tests.web.console import operators
from web.app import FrontDoor

__all__ = ["auditor", "buyer"]

Operator = Callable[[str], Awaitable[Browser]]


@pytest.fixture
def operator(shop: Shop, site: FrontDoor) -> Operator:
    """Signs an operator of a role in, in a browser of their own."""

    async def browser_of(account_type: str) -> Browser:
        return (await operators.signed_in(shop, site, account_type)).browser

    return browser_of


@pytest_asyncio.fixture(loop_scope="module")
async def admin_browser(shop: Shop, site: FrontDoor) -> operators.Operator:
    return await operators.signed_in(shop, site, "ADMIN")


@pytest_asyncio.fixture(loop_scope="module")
async def auditor_browser(shop: Shop, site: FrontDoor) -> operators.Operator:
    return await operators.signed_in(shop, site, "AUDITOR")
