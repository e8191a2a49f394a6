"""Every error is a problem document, and none reveals internals."""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Annotated
from unittest.mock import patch
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import APIRouter, Query
from psycopg_pool import PoolTimeout
from starlette.types import Receive, Scope, Send

from api.fields import Body, Cents, Prose, SingleLine
from api.middleware.context import CORRELATION_HEADER
from api.middleware.guards import ProblemResponses
from api.services import GatewaySettings
from commands.ports.signatures import InvalidSignature
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Refused, Stale, Unauthorized
from eventstore.database.watch import DatabaseWatch
from eventstore.log import LogUnavailable
from kit.seldom import Seldom
from queries.engine.positions import PositionUnknown, ReadModelBehind
from tests.support.shops.small_gateway import tiny

TRACE = "0af7651916cd43dd8448eb211c80319c"


def raising(error: BaseException) -> httpx.AsyncClient:
    router = APIRouter()

    @router.get("/api/v1/things")
    async def fail() -> None:
        raise error

    return tiny(router)


class Offer(Body):
    title: SingleLine
    price_cents: Cents
    description: Prose = ""


def offering() -> httpx.AsyncClient:
    router = APIRouter()

    @router.post("/api/v1/offers")
    async def offer(body: Offer, limit: Annotated[int, Query(ge=1)] = 1) -> Offer:
        return body

    return tiny(router, settings=GatewaySettings(rate_limit=False, body_limit_bytes=200))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Invalid, 422),
        (NotFound, 404),
        (Forbidden, 403),
        (Unauthorized, 401),
        (Conflict, 409),
        (Stale, 412),
    ],
)
async def test_a_refusal_is_answered_by_its_kind(kind: type[Refused], status: int) -> None:
    answer = await raising(kind("insufficient_stock", "only 2 are left", available=2)).get(
        "/api/v1/things"
    )

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:ludoteca:problem:insufficient_stock",
        "title": "Insufficient stock",
        "status": status,
        "detail": "only 2 are left",
        "instance": "/api/v1/things",
        "code": "insufficient_stock",
        "trace_id": answer.headers["traceparent"].split("-")[1],
        "available": 2,
    }


async def test_an_unauthenticated_caller_gets_www_authenticate() -> None:
    answer = await raising(Unauthorized("invalid_token")).get("/api/v1/things")

    assert answer.headers["www-authenticate"] == 'Bearer realm="ludoteca", error="invalid_token"'


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LogUnavailable("the log's database cannot be reached"), 503, "dependency_unavailable"),
        (psycopg.OperationalError("connection to 10.0.0.7 refused"), 503, "dependency_unavailable"),
        (PoolTimeout("couldn't get a connection after 2.00 sec"), 503, "overloaded"),
        (
            psycopg.errors.ProgramLimitExceeded("index row size 9000 exceeds"),
            413,
            "request_too_large",
        ),
        (ReadModelBehind("users at 3, not yet at 5"), 503, "read_model_behind"),
        (PositionUnknown(9, 5), 400, "position_unknown"),
        (InvalidSignature(), 400, "invalid_signature"),
        (asyncio.CancelledError(), 503, "interrupted"),
        (
            ExceptionGroup("both", [LogUnavailable("away"), ReadModelBehind("behind")]),
            503,
            "dependency_unavailable",
        ),
        (
            ExceptionGroup("both", [LogUnavailable("away"), RuntimeError("odd")]),
            500,
            "internal_error",
        ),
        (type("PanicException", (BaseException,), {})("of native code"), 500, "internal_error"),
    ],
)
async def test_what_is_foreseen_has_a_code(error: BaseException, status: int, code: str) -> None:
    answer = await raising(error).get("/api/v1/things")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "10.0.0.7" not in answer.text


async def test_what_is_away_is_logged_by_a_line_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = logging.getLogger("api.problems")
    with (
        patch("api.problems._away", Seldom(log, clock=lambda: now)),
        caplog.at_level(logging.WARNING, log.name),
    ):
        client = raising(psycopg.OperationalError("connection\nrefused"))
        for _ in range(3):
            await client.get("/api/v1/things")
        now = 60.0
        await client.get("/api/v1/things")
        await raising(ReadModelBehind("users at 3, not yet at 5")).get("/api/v1/things")
    line = "GET /api/v1/things failed: dependency_unavailable: connection refused"
    assert [record.getMessage() for record in caplog.records] == [
        line,
        f"{line} (2 more since the last such line)",
        "GET /api/v1/things failed: read_model_behind: users at 3, not yet at 5",
    ]
    assert not any(record.exc_info for record in caplog.records)


async def test_what_another_server_fails_in_is_logged_by_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no room in the bucket")

    app = ProblemResponses(fail, dependency_errors=(LookupError,))
    log = logging.getLogger("api.problems")
    with patch("api.problems._away", Seldom(log)), caplog.at_level(logging.WARNING, log.name):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop"
        ) as client:
            assert (await client.get("/things")).status_code == 503
    assert caplog.messages == ["GET /things failed: dependency_unavailable: no room in the bucket"]


async def test_what_is_not_foreseen_tells_nothing_but_the_trace() -> None:
    answer = await raising(RuntimeError("SELECT password FROM users")).get(
        "/api/v1/things", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    )

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["trace_id"] == TRACE
    assert "password" not in answer.text
    assert "Traceback" not in answer.text


async def test_while_the_database_is_away_nobody_waits_for_it_and_what_needs_none_is_served() -> (
    None
):
    router, watch, asked = APIRouter(), DatabaseWatch("postgresql://nowhere"), []

    @router.get("/api/v1/things")
    async def things() -> str:
        asked.append("things")
        return "things"

    @router.get("/api/v1/images/{image_id}")
    async def serve(image_id: str) -> str:
        return image_id

    client = tiny(router, database_watch=watch)
    assert (await client.get("/api/v1/things")).status_code == 200
    watch._dependents.away = True
    answer = await client.get("/api/v1/things")
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    assert "retry-after" in answer.headers
    paths = ("/api/v1/images/a", "/api/images/b", "/health/live", "/.well-known/nothing")
    assert [(await client.get(path)).status_code for path in paths] == [200, 200, 404, 404]
    assert asked == ["things"]


async def test_wrong_fields_are_named_each() -> None:
    answer = await offering().post(
        "/api/v1/offers?limit=0", json={"price_cents": 1.5, "colour": "red"}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    found = {(error["field"], error["pointer"], error["code"]) for error in answer.json()["errors"]}
    assert found == {
        ("limit", None, "greater_than_equal"),
        ("title", "#/title", "missing"),
        ("price_cents", "#/price_cents", "int_type"),
        ("colour", "#/colour", "extra_forbidden"),
    }


@pytest.mark.parametrize(
    "title", ["a\x00b", "a\nb", "\ud800"], ids=["NUL", "line break", "lone surrogate"]
)
async def test_a_line_of_text_has_no_control_characters(title: str) -> None:
    body = b'{"price_cents": 1, "title": "%s"}' % title.encode("unicode_escape").replace(
        b"\\x", b"\\u00"
    ).replace(b"\\n", b"\\u000a")
    answer = await offering().post(
        "/api/v1/offers", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "title"


async def test_a_field_name_that_is_no_text_is_explained_all_the_same() -> None:
    answer = await offering().post(
        "/api/v1/offers", content=b'{"\\ud800": 1}', headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422


async def test_prose_may_have_several_lines() -> None:
    body = {"title": "Celeste", "price_cents": 1, "description": "one\ntwo"}
    answer = await offering().post("/api/v1/offers", json=body)

    assert answer.json()["description"] == "one\ntwo"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 150, b'{"a": 1' + b"0" * 100])
async def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    answer = await offering().post(
        "/api/v1/offers", content=body, headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def test_a_body_that_declares_itself_too_large_is_not_read() -> None:
    answer = await offering().post("/api/v1/offers", json={"title": "x" * 500})

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_body_that_grows_too_large_is_not_read_to_its_end() -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 50

    answer = await offering().post(
        "/api/v1/offers", content=chunks(), headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert read < 10


async def test_an_unknown_path_and_a_wrong_method_are_problems_too() -> None:
    client = offering()

    unknown, wrong = await client.get("/api/v1/nothing"), await client.delete("/api/v1/offers")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_a_trace_goes_on_and_its_id_correlates_what_follows() -> None:
    answer = await offering().get("/x", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    _, trace_id, span_id, flags = answer.headers["traceparent"].split("-")

    assert (trace_id, flags) == (TRACE, "01")
    assert span_id != "b7ad6b7169203331"
    assert answer.headers[CORRELATION_HEADER] == str(UUID(TRACE))


@pytest.mark.parametrize(
    "parent",
    ["", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff-" + TRACE + "-b7ad6b7169203331-01"],
)
async def test_a_trace_that_is_none_begins_anew(parent: str) -> None:
    answer = await offering().get("/x", headers={"traceparent": parent})

    trace_id = answer.headers["traceparent"].split("-")[1]
    assert trace_id not in {TRACE, "0" * 32}
    assert len(trace_id) == 32


# -- hints -----------------------------------------------------------------------------------------


class Leg(Body):
    wallet_id: SingleLine
    token: SingleLine = ""


class Journey(Body):
    game_id: SingleLine = ""
    payment_method: Leg | None = None
    legs: tuple[Leg, ...] = ()
    amount_cents: int = 0


def travelling() -> httpx.AsyncClient:
    router = APIRouter()

    @router.post("/api/v1/journeys")
    async def travel(body: Journey, price_min: int = 0) -> None: ...

    return tiny(router)


@pytest.mark.parametrize(
    ("query", "body", "field", "hint"),
    [
        ("", {"gameId": "x"}, "gameId", "game_id"),
        ("", {"GameID": "x"}, "GameID", "game_id"),
        ("", {"game-id": "x"}, "game-id", "game_id"),
        ("", {"product_id": "x"}, "product_id", "game_id"),
        ("", {"productId": "x"}, "productId", "game_id"),
        ("", {"payment_method_details": {}}, "payment_method_details", "payment_method"),
        ("", {"paymentMethodDetails": {}}, "paymentMethodDetails", "payment_method"),
        ("", {"grossAmountCents": 1}, "grossAmountCents", "amount_cents"),
        ("", {"legs": [{"wallet_id": "x", "walletId": "y"}]}, "legs.0.walletId", "wallet_id"),
        (
            "",
            {"payment_method": {"wallet_id": "x", "walletID": "y"}},
            "payment_method.walletID",
            "wallet_id",
        ),
        (
            "",
            {"payment_method": {"wallet_id": "x", "cardToken": "y"}},
            "payment_method.cardToken",
            "token",
        ),
        ("", {"colour": "red"}, "colour", None),
        ("?priceMin=1", {}, "priceMin", "price_min"),
        ("?minPrice=1", {}, "minPrice", "price_min"),
        ("?game_id=1", {}, "game_id", None),
    ],
)
async def test_a_misspelt_field_is_refused_with_the_right_spelling(
    query: str, body: object, field: str, hint: str | None
) -> None:
    answer = await travelling().post(f"/api/v1/journeys{query}", json=body)
    (error,) = answer.json()["errors"]

    assert (answer.status_code, error["field"], error["code"]) == (422, field, "extra_forbidden")
    assert error["hint"] == hint
    assert hint is None or hint in error["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=utf-8"}, 200),
        ({"content-type": "application/problem+json"}, 200),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "text/json"}, 415),
        ({"content-type": ""}, 415),
    ],
)
async def test_a_body_of_another_media_type_is_refused(
    headers: dict[str, str], status: int
) -> None:
    answer = await travelling().post("/api/v1/journeys", content=b"{}", headers=headers)

    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "path", ["/api/v1/journeys", "/nothing", "/docs", "/docs/static/swagger-ui.css"]
)
async def test_every_answer_tells_browsers_what_not_to_do_with_it(path: str) -> None:
    headers = (await travelling().get(path)).headers

    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


async def test_the_documentation_may_run_its_own_scripts_and_no_others() -> None:
    page = await travelling().get("/docs")
    (script,) = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert f"script-src 'self' 'sha256-{digest}';" in page.headers["content-security-policy"]
