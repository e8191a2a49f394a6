"""A shop as its users run it, and windows of a real browser on it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.windows import Windows
from tests.support.processes.instance import Instance, running
from tests.support.servers import shared


@pytest.fixture(scope="session")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """A shop that all of these tests share: each makes its own people and games."""
    shared.require_chromium()
    database = shared.create_database(postgres_url, template=postgres_template)
    carrier = {"LUDOTECA_CARRIER_PORT": str(shared.free_port())}
    with running(tmp_path_factory.mktemp("browser"), database, carrier) as shop:
        shop.start("carrier")
        yield shop
    shared.drop_database(database)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program = shared.require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def windows(chromium: Browser, shop: Instance) -> AsyncIterator[Windows]:
    """Windows of this test. Afterwards none of their pages may have broken the rules that hold of
    all."""
    opened = Windows(chromium, shop)
    yield opened
    await opened.close()
    assert not opened.faults
