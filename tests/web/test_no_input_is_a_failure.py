"""Whatever is asked of a page, and whatever is typed into a form, the answer is no fault of the
shop's."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.test_buying import buy
from tests.support.shops.gateway import Shop
from tests.web.browser import Browser
from tests.web.conftest import session_of
from tests.web.sell.conftest import signed_in
from web.app import ROUTERS, FrontDoor
from web.forms import Form
from web.routing import Page
from web.visit import Visit

PAGES = [page for router in ROUTERS for page in router.pages]
LIVE = "/live"
"""How the paths of streams end, which are not over with their first answer."""

ODD = (
    "\x00",
    "\ud800",
    " ",
    "\u200b",
    "<b>'\"&{{7*7}}",
    "-1",
    "1e999",
    "\u00b2",
    "9" * 400,
    "2026-01-01T00:00:00+25:00",
    "9999-12-31T23:59:60Z",
    "x" * 3_000,
    "../../etc/passwd",
    "\u202e\u0130\ufb01",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browsers(shop: Shop, site: FrontDoor) -> dict[str, Browser]:
    return {
        role: await signed_in(site, await shop.register(role))
        for role in ("ADMIN", "BUYER", "SELLER")
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ids(shop: Shop) -> list[str]:
    """Ids of all kinds, in all spellings, and positions."""
    seller, buyer = await shop.register("SELLER"), await shop.register("BUYER")
    game = await shop.game(seller)
    order = (await buy(buyer, game)).json()
    wallet = (await buyer.post("/api/v1/wallets", json={"currency": "USD"})).json()
    known = [game["id"], order["order_id"], order["payment_id"], wallet["id"], str(buyer.id)]
    spelled = [known[1].upper(), UUID(known[1]).hex, f"urn:uuid:{known[1]}"]
    return [*known, *spelled, str(uuid4()), str(UUID(int=0)), "0", "1", "5", "9" * 30, "all", "me"]


@pytest.fixture
def words(shop: Shop) -> list[str]:
    """What the API may have in its paths in the place of an id."""
    paths = [getattr(route, "path", "") for route in shop.app.routes]
    parts = {part for path in paths for part in path.split("/")}
    return sorted(part for part in parts if part and "{" not in part)


def browser_for(browsers: dict[str, Browser], page: Page) -> Browser:
    first = page.path.split("/")[1]
    return browsers[{"sell": "SELLER", "console": "ADMIN"}.get(first, "BUYER")]


def paths_of(page: Page, ids: list[str]) -> Iterator[str]:
    """The page's path with each of the ids in the place of each of its parameters."""
    if "{" not in page.path:
        yield page.path
        return
    for each in ids:
        yield "/".join(each if part.startswith("{") else part for part in page.path.split("/"))


@pytest.mark.parametrize(
    "page",
    [each for each in PAGES if each.method == "GET" and not each.path.endswith(LIVE)],
    ids=lambda page: page.path,
)
async def test_odd_questions(
    browsers: dict[str, Browser],
    ids: list[str],
    words: list[str],
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: set[str] = set()

    def query(visit: Visit, name: str, of: Any = Visit.query) -> str:
        asked.add(name)
        return str(of(visit, name))

    monkeypatch.setattr(Visit, "query", query)
    browser = browser_for(browsers, page)
    for path in paths_of(page, ids):
        answer = await browser.client.get(path, follow_redirects=False)
        assert answer.status_code < 500, path
    for path in paths_of(page, words) if "{" in page.path else ():
        answer = await browser.client.get(path, follow_redirects=False)
        assert answer.status_code < 500, path
    path = next(paths_of(page, ids))
    for name in sorted(asked):
        for value in (*ODD, *ids):
            params = {name: value.encode("utf-8", "surrogatepass")}
            answer = await browser.client.get(path, params=params, follow_redirects=False)
            assert answer.status_code < 500, (path, name, value)


@pytest.mark.parametrize(
    "page",
    [each for each in PAGES if each.method == "POST" and each.path != "/sign-out"],
    ids=lambda page: page.path,
)
async def test_odd_forms(
    browsers: dict[str, Browser], ids: list[str], page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    for of in (Form.text, Form.secret):

        def typed(form: Form, name: str, of: Any = of) -> str:
            asked.add(name)
            return str(of(form, name))

        monkeypatch.setattr(Form, of.__name__, typed)
    browser = browser_for(browsers, page)
    csrf = session_of(browser).csrf
    for path in paths_of(page, ids):
        answer = await browser.client.post(path, data={"csrf": csrf}, follow_redirects=False)
        assert answer.status_code < 500, path
    path = next(paths_of(page, ids[-3:]))
    for value in (*ODD, *ids):
        form = dict.fromkeys(asked, value.encode("utf-8", "surrogatepass")) | {"csrf": csrf}
        for data in (form, {**form, "reason": "to see"}):
            answer = await browser.client.post(path, data=data, follow_redirects=False)
            assert answer.status_code < 500, (path, value)
