"""401 comes before 403, and 403 before checks of the body: for every route, role and kind of body,
generated from the table of routes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.routing import Mount

from api.routing import CheckedRoute
from tests.support.http.every_route import canonical, operations
from tests.support.shops.gateway import Shop
from tests.support.shops.market import check_out, put_in, stocked
from tests.support.shops.small_gateway import every_route

ALL = list(operations(every_route()))
CANONICAL = canonical(every_route())
ROLES = (None, "BUYER", "SELLER", "ADMIN", "AUDITOR", "SERVICE")
REFUSED_ROLE = {"role_required", "not_a_seller"}
WITHOUT_RULE = {"/", "/docs", "/docs/static", "/openapi.json"}
JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shop: Shop) -> dict[str | None, Any]:
    """A person of each role, and one without an account."""
    roles = [role for role in ROLES if role is not None]
    return {None: shop.client(), **{role: await shop.register(role) for role in roles}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(shop: Shop) -> dict[str, Any]:
    """Ids of other people's things, by the path parameters that name them."""
    seller, buyer = await shop.register("SELLER"), await shop.register()
    game = await stocked(shop, seller, 3)
    await put_in(buyer, game)
    order = (await check_out(buyer)).json()
    seen = (
        await buyer.get(f"/api/v1/orders/{order['order_id']}", headers=await shop.reached())
    ).json()
    return {
        "game_id": game["id"],
        "user_id": buyer.id,
        "seller_id": seller.id,
        "shipment_id": seen["shipments"][0]["id"],
    }


async def unread() -> AsyncIterator[bytes]:
    """A body that must not be read."""
    raise AssertionError("the body was read")
    yield b""


def code(answer: httpx.Response) -> str:
    return str(answer.json()["code"]) if answer.content else ""


async def test_every_route_says_whom_it_admits() -> None:
    for route in every_route().routes:
        if isinstance(route, CheckedRoute):
            assert route.access, (
                f"{route.methods} {route.path} needs an Access among its dependencies"
            )
        elif not isinstance(route, Mount):
            path = getattr(route, "path", "")
            assert path in WITHOUT_RULE or "/ws/" in path, f"{path} is no CheckedRoute"


@pytest.mark.parametrize("role", ROLES)
async def test_who_is_not_admitted_is_refused_before_the_body_is_read(
    people: dict[str | None, Any], role: str
) -> None:
    refused = [each for each in ALL if not each.admits(role)]
    assert len(refused) > (20 if role == "ADMIN" else 50) or role == "ADMIN"
    for each in refused:
        for url in (each.url(), each.url() + "?no_such_parameter=1"):
            answer = await people[role].request(each.method, url, content=unread(), headers=JSON)
            status = 401 if role is None or each.has_secret else 403
            assert answer.status_code == status, (str(each), answer.text)


@pytest.mark.parametrize(
    "token", ["", "Bearer", "Bearer x.y.z", "Basic YTpi", "Bearer " + "e" * 50_000]
)
async def test_a_malformed_token_is_refused_before_the_body(shop: Shop, token: str) -> None:
    for each in (each for each in CANONICAL if not each.admits(None)):
        answer = await shop.client().request(
            each.method, each.url(), content=unread(), headers={**JSON, "authorization": token}
        )
        assert answer.status_code == 401, (str(each), answer.text)


@pytest.mark.parametrize("role", ROLES)
async def test_an_admitted_caller_learns_what_is_wrong_with_the_body(
    people: dict[str | None, Any], role: str
) -> None:
    for each in (each for each in ALL if each.admits(role) and each.body is not None):
        malformed = await people[role].request(each.method, each.url(), content=b"{", headers=JSON)
        shapeless = await people[role].request(each.method, each.url(), json={"no_such_field": {}})
        other = await people[role].request(
            each.method, each.url(), content=b"{}", headers={"content-type": "text/css"}
        )
        large = await people[role].request(
            each.method, each.url(), content=b" " * 2**20 + b"{}", headers=JSON
        )
        found = [answer.status_code for answer in (malformed, shapeless, other, large)]
        mine = (
            each.owner is not None and "user_id" in each.route.param_convertors and role != "ADMIN"
        )
        assert found == ([403] * 4 if mine else [400, 422, 415, 413]), (str(each), found)


@pytest.mark.parametrize("role", ROLES)
async def test_no_route_admits_a_role_that_its_command_refuses(shop: Shop, role: str) -> None:
    person = shop.client() if role is None else await shop.register(role)
    for each in (
        each for each in CANONICAL if each.admits(role) and not each.path.endswith("/logout")
    ):
        if each.is_signed:  # only the secret is required
            continue
        answer = await person.request(each.method, each.url(), json=each.valid())
        assert answer.status_code not in {400, 413, 415, 500}, (str(each), answer.text)
        assert answer.status_code != 403 or code(answer) not in REFUSED_ROLE, (
            str(each),
            answer.text,
        )


async def test_others_things_are_refused_before_the_body_is_read(
    people: dict[str | None, Any], foreign: dict[str, Any]
) -> None:
    owned = [each for each in ALL if each.owner is not None]
    assert len(owned) > 10
    for each in owned:
        assert each.owner is not None
        parameter, _ = each.owner
        role = "SELLER" if each.admits("SELLER") else "BUYER"
        url = each.url(**{parameter: foreign[parameter]})
        answer = await people[role].request(each.method, url, content=unread(), headers=JSON)
        assert answer.status_code == 403, (str(each), answer.text)
        if each.body is not None:
            admin = await people["ADMIN"].request(each.method, url, content=b"{", headers=JSON)
            assert admin.status_code == 400, str(each)


async def test_an_unknown_query_parameter_is_refused_everywhere(
    people: dict[str | None, Any],
) -> None:
    for each in (each for each in ALL if not each.has_secret):
        role = next(role for role in ("ADMIN", *ROLES) if each.admits(role))
        answer = await people[role].request(each.method, each.url() + "?no_such_parameter=1")
        assert (answer.status_code, code(answer)) == (422, "invalid_request"), (
            str(each),
            answer.text,
        )
        assert answer.json()["errors"][0]["field"] == "no_such_parameter"


async def test_an_unknown_method_is_answered_with_all_allowed_ones(
    people: dict[str | None, Any],
) -> None:
    methods: dict[str, set[str]] = {}
    for each in ALL:
        methods.setdefault(each.path, set()).add(each.method)
    answers = await asyncio.gather(
        *(people[None].request("PATCH", path.format_map(Any_())) for path in methods)
    )
    for (path, wanted), answer in zip(methods.items(), answers, strict=True):
        assert answer.status_code == 405, path
        allowed = wanted | ({"HEAD"} if "GET" in wanted else set())
        assert set(answer.headers["allow"].split(", ")) == allowed, path


class Any_(dict[str, str]):
    """A value for every path parameter."""

    def __missing__(self, name: str) -> str:
        return "0197f0a0-4242-4242-8242-424242424242"
