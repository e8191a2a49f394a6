"""Browsers let a front end of another origin call the API, if a setting names that origin."""

import httpx
import pytest
from fastapi import APIRouter, Query
from pydantic import ValidationError

from api.fields import Body
from api.services import GatewaySettings
from runtime.settings import Settings
from tests.support.shops.small_gateway import tiny

SHOP, OTHER = "https://shop.example.com", "https://elsewhere.example.com"


class Wish(Body):
    title: str


def wishing(*origins: str) -> httpx.AsyncClient:
    router = APIRouter()

    @router.put("/api/v1/wishes")
    async def wish(body: Wish, limit: int = Query(1, ge=1)) -> Wish:
        return body

    return tiny(router, settings=GatewaySettings(rate_limit=False, cors_origins=origins))


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    """What a browser asks before it sends a PUT with JSON and a token."""
    return await client.options(
        "/api/v1/wishes",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,content-type,if-match,idempotency-key",
        },
    )


@pytest.mark.parametrize("origins", [(SHOP,), (OTHER, SHOP)], ids=["the only", "one of two"])
async def test_a_preflight_from_a_named_origin_allows_method_and_headers(
    origins: tuple[str, ...],
) -> None:
    answer = await preflight(wishing(*origins), SHOP)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "PUT" in answer.headers["access-control-allow-methods"].split(", ")
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "if-match", "idempotency-key"} <= {
        name.strip() for name in allowed.split(",")
    }
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_preflight_from_another_origin_is_refused() -> None:
    answer = await preflight(wishing(SHOP), OTHER)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (400, "preflight_refused")
    assert problem["detail"] == "Disallowed CORS origin"
    assert problem["trace_id"] == answer.headers["traceparent"].split("-")[1]
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_without_the_setting_no_other_origin_is_let_in() -> None:
    client = wishing()

    assert (await preflight(client, SHOP)).status_code == 405
    answer = await client.put("/api/v1/wishes", json={"title": "x"}, headers={"Origin": SHOP})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("query", "status"), [("", 200), ("?limit=0", 422)], ids=["a success", "a problem"]
)
async def test_the_page_may_read_the_answer_and_its_headers(query: str, status: int) -> None:
    client = wishing(SHOP)

    answer = await client.put(
        f"/api/v1/wishes{query}", json={"title": "x"}, headers={"Origin": SHOP}
    )

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-expose-headers"] == "*"
    assert "Origin" in answer.headers["vary"]


async def test_with_an_asterisk_every_origin_may_call() -> None:
    answer = await preflight(wishing("*"), OTHER)

    assert answer.headers["access-control-allow-origin"] == "*"


def test_origins_are_read_from_a_list() -> None:
    found = Settings(cors_origins=f"{SHOP}/, http://localhost:5173")

    assert found.cors_origins == (SHOP, "http://localhost:5173")


@pytest.mark.parametrize(
    "value", ["shop.example.com", "ftp://shop.example.com", f"{SHOP}/cart", f"{SHOP}?a=1"]
)
def test_what_is_no_origin_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=value)
