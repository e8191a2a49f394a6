"""No input ends in 500: odd values in every path, query parameter, header and body of every
operation."""

import base64
import json
from typing import Any

import pytest
import pytest_asyncio

from tests.support.http.every_route import Operation, canonical
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.small_gateway import every_route

OPERATIONS = [each for each in canonical(every_route()) if not each.has_secret]

ODD = [
    "",
    "%00",
    "a%00b",
    "%0A%0d%1b[31m",
    "%ED%A0%80",  # a lone surrogate, as UTF-8 forbids it
    "%FF%FE",
    "%",
    "%zz",
    "+",
    "-1",
    "0",
    "1e400",
    "NaN",
    "9" * 19,
    "9" * 5000,
    "%D9%A3",
    "null",
    "0001-01-01",
    "9999-12-31",
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "{01234567-89ab-cdef-0123-456789abcdef}",
    "urn:uuid:00000000-0000-0000-0000-000000000000",
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
    "%F0%9F%92%A9" * 40,
    "e%CC%81%CC%A3" * 60,
    "eyJhIjpbXX0",
    "W10",
    "..%2F..%2Fetc%2Fpasswd",
    "'%20OR%201=1--",
]
"""Texts in URL encoding."""

NESTED = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 5000).decode().rstrip("=")

HEADERS: dict[str, list[str]] = {
    "Accept": ["", "text/plain;q=9", "\u00ff"],
    "Authorization": [
        "Bearer",
        "Bearer " + "[" * 9000,
        "Bearer e30.e30.",
        f"Bearer {NESTED}.e30.e30",
        "\u00ff \u00ff",
        "Bearer \u00e9.\u00e9.\u00e9",
    ],
    "Content-Encoding": ["gzip", "\u00ff"],
    "Content-Length": ["9" * 5000, "-1", "\u00b2", "1, 1"],
    "Content-Type": [
        "",
        ";",
        "application/json; charset=\u00ff",
        "multipart/form-data; boundary=",
        "text/plain",
    ],
    "Cookie": ["=;=;\u00ff"],
    "Idempotency-Key": ["", "\u00ff", "k" * 256],
    "If-Match": ['"' + "9" * 5000 + '"', "*", '"\u00b2"', 'W/"1"', '"', ",,,"],
    "If-None-Match": ['"' + "9" * 5000 + '"', "*", ",,,", '"\u00b2"'],
    "Min-Position": ["9" * 5000, "-1", "1.5", "\u00b2", str(2**63 - 1)],
    "Prefer": ["wait=" + "9" * 5000, "wait=-1", "respond-async, wait=\u00b2", "=,;"],
    "Range": ["bytes=" + "9" * 5000 + "-", "bytes=-0", "lines=1"],
    "traceparent": ["00-" + "f" * 32, "\u00ff", "00-" + "0" * 31 + "1-" + "0" * 15 + "1-zz"],
    "X-Correlation-ID": ["\u00b2", "{" * 400, "0" * 32],
    "X-Forwarded-For": ["\u00ff", ",,,", "[::1]:99999"],
    "X-Forwarded-Proto": ["\u00ff", "gopher"],
    "Host": ["", "\u00ff", "a b"],
}

BODIES: list[bytes] = [
    b"",
    b"null",
    b"[" * 946 + b"]" * 946,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"[" * 100_000,
    b'"\\ud800"',
    b'{"\\ud800": "\\udc00"}',
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b'{"a": 1, "a": 2}',
    "{}".encode("utf-16"),
]

FIELDS: list[Any] = [
    "\x00",
    "\ud800",
    "",
    " ",
    "\u200b",
    "x" * 70_000,
    -1,
    2**63,
    10**400,
    1e308,
    float("nan"),
    True,
    None,
    [],
    {},
]
"""Values for each field of a body."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shop: Shop) -> dict[str, Person]:
    return {role: await shop.register(role) for role in ("ADMIN", "BUYER", "SELLER")}


def somebody(people: dict[str, Person], operation: Operation) -> Person:
    return next(person for role, person in people.items() if operation.admits(role))


def one_of_each_kind() -> list[Operation]:
    """Operations that read different headers. (Without logout, which would end the session.)"""

    def kind(each: Operation) -> tuple[object, ...]:
        looked_at = {
            param["name"] for param in each.schema.get("parameters", []) if param["in"] == "header"
        }
        return (
            each.method,
            each.body is None,
            each.takes_form,
            each.admits(None),
            frozenset(looked_at),
        )

    return list(
        {kind(each): each for each in OPERATIONS if not each.path.endswith("/logout")}.values()
    )


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.query or "{" in each.path], ids=str
)
async def test_odd_texts_in_urls(people: dict[str, Person], operation: Operation) -> None:
    person = somebody(people, operation)
    for odd in ODD:
        for name in operation.query:
            answer = await person.request(operation.method, f"{operation.url()}?{name}={odd}")
            assert answer.status_code < 500, (name, odd, answer.text)
        for name in operation.route.param_convertors:
            body = operation.valid()
            answer = await person.request(operation.method, operation.url(**{name: odd}), json=body)
            assert answer.status_code < 500, (name, odd, answer.text)


@pytest.mark.parametrize("operation", one_of_each_kind(), ids=str)
async def test_odd_headers(people: dict[str, Person], operation: Operation) -> None:
    person = somebody(people, operation)
    for name, values in HEADERS.items():
        for value in values:
            sent = {name.encode(): value.encode("latin-1")}
            answer = await person.request(
                operation.method, operation.url(), json=operation.valid(), headers=sent
            )
            assert answer.status_code < 500, (name, value[:80], answer.text)
            doubled = [(name.encode(), value.encode("latin-1"))] * 2
            answer = await person.request(
                operation.method, operation.url(), json=operation.valid(), headers=doubled
            )
            assert answer.status_code < 500, (name, value[:80], answer.text)


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.method != "GET"], ids=str
)
async def test_odd_bodies(people: dict[str, Person], operation: Operation) -> None:
    person = somebody(people, operation)
    for n, content in enumerate(BODIES):
        for headers in ({}, {"Idempotency-Key": f"body {n}"}):
            sent = {"content-type": "application/json", **headers}
            answer = await person.request(
                operation.method, operation.url(), content=content, headers=sent
            )
            assert answer.status_code < 500, (content[:80], headers, answer.text)
            if operation.path.endswith("/logout"):
                return


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.body is not None], ids=str
)
async def test_odd_fields(people: dict[str, Person], operation: Operation) -> None:
    person = somebody(people, operation)
    valid = operation.valid()
    for name in operation.fields:
        for value in FIELDS:
            content = json.dumps({**valid, name: value}).encode()
            answer = await person.request(
                operation.method,
                operation.url(),
                content=content,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code < 500, (name, str(value)[:80], answer.text)
