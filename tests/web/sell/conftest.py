import pytest_asyncio

from tests.support.shops.gateway import PASSWORD, Person, Shop
from tests.web.browser import Browser
from web.app import FrontDoor


async def signed_in(site: FrontDoor, person: Person) -> Browser:
    """A browser in which this person is signed in."""
    browser = Browser(site)
    form = (await browser.get("/sign-in")).form("/sign-in")
    page = await browser.send(form, email=person.email, password=PASSWORD)
    assert (page.path, page.status) == ("/", 200)
    return browser


@pytest_asyncio.fixture(loop_scope="module")
async def desk(site: FrontDoor, seller: Person) -> Browser:
    """The seller's browser."""
    return await signed_in(site, seller)


@pytest_asyncio.fixture(loop_scope="module")
async def other(shop: Shop) -> Person:
    """Another seller."""
    return await shop.register("SELLER")
