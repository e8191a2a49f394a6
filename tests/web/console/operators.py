"""Operators with a browser."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.support.shops.gateway import PASSWORD, Person, Shop
from tests.web.browser import Browser
from web.app import FrontDoor


class Operator(NamedTuple):
    """A person who is signed in, by a browser and by a client of the API."""

    person: Person
    browser: Browser


async def signed_in(shop: Shop, site: FrontDoor, account_type: str) -> Operator:
    """An operator of this role, in a browser that signing in has led to the console."""
    person = await shop.register(account_type)
    browser = Browser(site)
    form = (await browser.get("/sign-in?next=/console")).form("/sign-in")
    page = await browser.send(form, email=person.email, password=PASSWORD)
    assert (page.status, page.path) == (200, "/console")
    return Operator(person, browser)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds of what other processes do."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.05)
