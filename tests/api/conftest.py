from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.shops.gateway import Person, Shop, open_shop

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests run in the event loop of the shop that their module shares. They are marked here,
    before pytest-asyncio gives them a loop: marked later, each test would have a shop of its
    own."""
    if "shop" in metafunc.fixturenames:
        metafunc.definition.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What was marked above is not the test itself."""
    for item in items:
        if HERE in item.path.parents and "shop" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A shop that a module's tests share: each test creates its own people and games."""
    home: Path = tmp_path_factory.mktemp("shop")
    async with open_shop(module_database, home) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="module")
async def buyer(shop: Shop) -> Person:
    return await shop.register()


@pytest_asyncio.fixture(loop_scope="module")
async def seller(shop: Shop) -> Person:
    return await shop.register("SELLER")


@pytest_asyncio.fixture(loop_scope="module")
async def admin(shop: Shop) -> Person:
    return await shop.register("ADMIN")


@pytest_asyncio.fixture(loop_scope="module")
async def auditor(shop: Shop) -> Person:
    return await shop.register("AUDITOR")
