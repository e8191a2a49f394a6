"""Endpoints get the same arguments as FastAPI would give them, and refuse the same requests."""

import asyncio
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Header, Query, Request
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from api.answers import Prefer
from api.app import gateway
from api.arguments import Plan, Unplanned
from api.fields import Body
from api.reading import Cursor, Limit, MinPosition
from api.routing import CheckedRoute
from tests.support.shops.small_gateway import client_of, every_route, services

CALLS: list[str] = []


class Thing(Body):
    name: str
    size: int = 1


class Colour(BaseModel):
    colour: str = "red"


async def level(min_position: MinPosition = 0, limit: Limit = 20) -> dict[str, object]:
    CALLS.append("level")
    return {"position": min_position, "limit": limit}


Level = Annotated[dict[str, object], Depends(level)]


async def twice(level: Level, request: Request, flag: bool = False) -> list[object]:
    return [level, flag, request.method]


def answered(**values: object) -> Response:
    return Response(str(sorted(values.items())), media_type="text/plain")


def routes(router: APIRouter) -> APIRouter:
    """Endpoints of the usual kinds."""

    @router.get("/things/{thing_id}")
    async def look(
        thing_id: UUID,
        level: Level,
        twice: Annotated[list[object], Depends(twice)],
        prefer: Prefer,
        cursor: Cursor = None,
        sort: Literal["up", "down"] = "up",
        q: Annotated[str, Query(max_length=5)] = "",
        note: Annotated[str | None, Header(min_length=1)] = None,
    ) -> Response:
        return answered(
            thing=thing_id,
            asked=[level, twice, prefer],
            cursor=cursor,
            sort=sort,
            q=q,
            note=note,
        )

    @router.get("/needed")
    async def needed(number: int, x_name: Annotated[str, Header()]) -> Response:
        return answered(number=number, name=x_name)

    @router.post("/things/{kind}")
    async def make(kind: Literal["a", "b"], body: Thing, level: Level) -> Response:
        return answered(kind=kind, body=body, level=level)

    return router


@cache
def both() -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
    """Clients of the gateway, and of plain FastAPI."""
    plain = FastAPI(strict_content_type=False)
    plain.include_router(routes(APIRouter()))
    return client_of(gateway(services(), [routes(APIRouter())])), client_of(plain)


texts = st.one_of(
    st.sampled_from(
        ["", "0", "1", "7", "201", "-1", "x", "up", "down", "true", "on", "1.5", " 3 "]
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=7),
)
names = st.sampled_from(["limit", "flag", "cursor", "sort", "q", "number"])
queries = st.lists(st.tuples(names, texts), max_size=4)
headers = st.lists(
    st.tuples(
        st.sampled_from(["Min-Position", "Note", "X-Name", "Prefer"]),
        st.one_of(
            st.sampled_from(["", "0", "17", "9" * 30, "-3", "wait=3", "respond-async"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5),
        ),
    ),
    max_size=3,
)
bodies = st.sampled_from(
    [
        *(b"", b"null", b"[]", b"7", b"{}", b"{", b"\xff", b"[" * 100_000),
        *(b'{"name": "n"}', b'{"name": "n", "size": 3}', b'{"name": 1}'),
        *(b'{"name": "n", "more": 1}', b'{"name": "n", "size": "x"}'),
    ]
)
JSON = ("Content-Type", "application/json")


async def asked(method: str, path: str, **options: Any) -> None:
    ours, plain = [await client.request(method, path, **options) for client in both()]

    is_json = "json_invalid" not in plain.text  # the gateway answers 400 for that
    assert ours.status_code == (plain.status_code if is_json else 400), (ours.text, plain.text)
    if ours.status_code == 200:
        assert ours.text == plain.text


@given(st.one_of(st.uuids().map(str), st.sampled_from(["x", "7"])), queries, headers)
def test_parameters_are_read_as_fastapi_reads_them(
    thing: str, query: list[tuple[str, str]], sent: list[tuple[str, str]]
) -> None:
    known = [pair for pair in query if pair[0] != "number"]
    asyncio.run(asked("GET", f"/things/{thing}", params=known, headers=sent))
    numbers = [pair for pair in query if pair[0] == "number"]
    asyncio.run(asked("GET", "/needed", params=numbers, headers=sent))


@given(st.sampled_from(["a", "b", "c"]), bodies, headers)
def test_bodies_are_read_as_fastapi_reads_them(
    kind: str, body: bytes, sent: list[tuple[str, str]]
) -> None:
    asyncio.run(asked("POST", f"/things/{kind}", content=body, headers=[*sent, JSON]))


async def test_a_dependency_of_several_is_called_once() -> None:
    CALLS.clear()

    assert (await both()[0].get(f"/things/{UUID(int=1)}")).status_code == 200

    assert CALLS == ["level"]


@pytest.mark.parametrize("kind", ["list", "model", "form", "thread", "no response"])
async def test_what_a_plan_does_not_know_is_left_to_fastapi(kind: str) -> None:
    router = APIRouter()

    async def of_list(q: Annotated[list[str], Query()]) -> Response:
        return JSONResponse(q)

    async def of_model(q: Annotated[Colour, Query()]) -> Response:
        return JSONResponse(q.colour)

    async def of_form(q: Annotated[str, Form()]) -> Response:
        return JSONResponse(q)

    def of_thread(q: str = "red") -> Response:
        return JSONResponse(q)

    async def of_no_response(q: str = "red") -> str:
        return q

    endpoints: dict[str, tuple[Any, dict[str, Any], object]] = {
        "list": (of_list, {"params": {"q": "red"}}, ["red"]),
        "model": (of_model, {}, "red"),
        "form": (of_form, {"files": {"q": (None, "red")}}, "red"),
        "thread": (of_thread, {}, "red"),
        "no response": (of_no_response, {}, "red"),
    }
    endpoint, request, wanted = endpoints[kind]
    router.add_api_route("/it", endpoint, methods=["POST"])
    (route,) = router.routes
    assert isinstance(route, APIRoute)

    with pytest.raises(Unplanned):
        Plan(route.dependant)
    answer = await client_of(gateway(services(), [router])).post("/it", **request)

    assert (answer.status_code, answer.json()) == (200, wanted)


def test_all_routes_have_a_plan_but_for_forms_lists_and_optional_bodies() -> None:
    unplanned = set()
    for route in every_route().routes:
        if isinstance(route, CheckedRoute):
            try:
                Plan(route.dependant)
            except Unplanned:
                unplanned.add(route.endpoint.__name__)

    assert unplanned == {
        "offers_of_games",
        "pause_projection",
        "rebuild_projection",
        "redrive",
        "reopen_account",
        "resume_projection",
        "retry",
        "roll_back",
        "upload_image",
        "verify_email_again",
    }
