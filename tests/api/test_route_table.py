"""The table of routes finds the same route as FastAPI's router, which tries each in turn."""

from typing import Any

import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Match, Route

from api.route_table import RouteTable
from tests.support.shops.small_gateway import client_of, every_route, tiny

ROUTES = every_route().routes
TABLE = RouteTable(ROUTES)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def paths() -> list[str]:
    return sorted({route.path for route in ROUTES if isinstance(route, Route)})


def segments() -> list[str]:
    return sorted({part for path in paths() for part in path.split("/") if "{" not in part})


def scope_of(method: str, path: str, root_path: str = "") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": root_path + path, "root_path": root_path}


def by_trying(routes: list[BaseRoute], scope: dict[str, Any]) -> tuple[BaseRoute, Any] | None:
    """The result of FastAPI's router."""
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            return route, child.get("path_params")
    return None


values = st.one_of(
    st.sampled_from(["", "me", "search", "{game_id}", "a b", "\n", "x\n", "é", "..", "%2F"]),
    st.uuids().map(str),
    st.sampled_from(segments()),
    st.text(max_size=5).filter(lambda text: "/" not in text),
)


@st.composite
def asked(draw: st.DrawFn) -> str:
    """A path that some route matches, or almost matches."""
    parts = draw(st.sampled_from(paths())).split("/")
    path = "/".join(draw(values) if part.startswith("{") else part for part in parts)
    if draw(st.integers(0, 4)) == 0:
        place = draw(st.integers(0, len(path)))
        path = path[:place] + draw(st.sampled_from(["/", "x", "\n", "//"])) + path[place:]
    return path


@given(st.sampled_from(METHODS), asked(), st.sampled_from(["", "/below"]))
def test_it_finds_the_route_that_the_router_finds(method: str, path: str, root: str) -> None:
    scope = scope_of(method, path, root)
    wanted = by_trying(ROUTES, scope)
    found = TABLE.find(scope)

    if wanted is None or not isinstance(wanted[0], Route):
        assert found is None
    elif not path.endswith("\n"):
        assert found == wanted
    else:
        assert found in (None, wanted)


@pytest.mark.parametrize("path", paths())
def test_it_knows_every_route(path: str) -> None:
    route = next(each for each in ROUTES if isinstance(each, Route) and each.path == path)
    asked = "/".join("7" if part.startswith("{") else part for part in path.split("/"))

    assert route.methods
    method = min(route.methods)
    found = TABLE.find(scope_of(method, asked))

    assert found is not None
    assert found[0].path == path
    assert set(found[1].values()) <= {"7"}


@pytest.mark.parametrize("odd_first", [True, False])
def test_a_pattern_that_is_no_list_of_segments_keeps_its_place(odd_first: bool) -> None:
    async def look() -> None: ...

    router = APIRouter()
    patterns = ["/files/{path:path}", "/files/{name}", "/{number:int}/a", "/files/v{version}"]
    for pattern in patterns if odd_first else reversed(patterns):
        router.add_api_route(pattern, look)
    table = RouteTable(router.routes)

    for path in ("/files/a", "/files/a/b", "/7/a", "/files/v2", "/x/a"):
        found, wanted = (
            table.find(scope_of("GET", path)),
            by_trying(router.routes, scope_of("GET", path)),
        )
        assert found is None or found == wanted, path
    assert (table.find(scope_of("GET", "/files/a")) is None) == odd_first


async def test_what_it_does_not_know_is_answered_by_the_router() -> None:
    client = client_of(every_route())

    nowhere = await client.get("/api/v1/nowhere")
    wrong_method = await client.delete("/api/v1/cart/summary")
    documentation = await client.get("/docs/static/swagger-ui.css")

    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "GET, HEAD")
    assert documentation.status_code == 200


async def test_a_slash_too_many_is_another_path() -> None:
    router = APIRouter()

    @router.get("/things/{thing_id}")
    async def look(thing_id: str) -> str:
        return thing_id

    client = tiny(router)

    assert (await client.get("/things/7")).json() == "7"
    assert [
        (await client.get(path)).status_code for path in ("/things/7/", "/things/", "//things/7")
    ] == [404] * 3
