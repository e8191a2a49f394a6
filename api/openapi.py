"""Complete FastAPI's OpenAPI document with the security, headers and problems that all routes have
in common."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.problems import MEDIA_TYPE
from api.routing import CheckedRoute

Json = dict[str, Any]

BEARER = "HTTPBearer"

HEADERS: Mapping[str, tuple[str, Json]] = {
    "Event-Position": (
        "The log position that this response reflects. A signed-in caller's query has what that"
        " caller did, and what followed from it, if it comes within a second.",
        {"type": "integer", "minimum": 0},
    ),
    "ETag": (
        "The version of the resource, for `If-Match` and `If-None-Match`.",
        {"type": "string"},
    ),
    "Location": ("The URL of the new resource.", {"type": "string"}),
    "Link": ('The next page, `rel="next"` (RFC 8288).', {"type": "string"}),
    "Idempotent-Replayed": (
        "`true` if this repeats an earlier response to the same key.",
        {"type": "string"},
    ),
    "Preference-Applied": ("The preference of `Prefer` that was applied.", {"type": "string"}),
    "Retry-After": (
        "After how many seconds to try again.",
        {"type": "integer", "minimum": 0},
    ),
    "Allow": ("The methods that the path has.", {"type": "string"}),
    "WWW-Authenticate": ("How to authenticate.", {"type": "string"}),
}

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
_PROBLEM_HEADERS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def describe(app: FastAPI) -> None:
    """Make the application serve the completed document."""
    generate = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            _complete(app, generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(app: FastAPI, document: Json) -> None:
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        BEARER: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token, from logging in or registering.",
        }
    }
    components["headers"] = {
        name: {"description": description, "schema": schema}
        for name, (description, schema) in HEADERS.items()
    }
    for route in app.routes:
        if isinstance(route, CheckedRoute) and route.include_in_schema:
            for method in (route.methods or set()) - {"HEAD"}:
                _complete_operation(route, method, document["paths"][route.path][method.lower()])


def _complete_operation(route: CheckedRoute, method: str, operation: Json) -> None:
    if all(access.anybody for access in route.access):
        operation["security"] = [{}, {BEARER: []}]
    else:
        operation["security"] = [{BEARER: []}]
    responses = operation["responses"]
    for status in _refusals(route, method, operation):
        responses.setdefault(str(status), _refusal(status))
    headers = {name: _header(name) for name in _success_headers(route, method, operation)}
    done = str(route.status_code or 200)
    if route.status_code == 202 and route.response_model is None:
        responses[done] = {"description": "Accepted."}
    if "prefer" in _names(operation, "header"):
        responses["202"] = {
            **responses[done],
            "description": "Accepted without waiting for the outcome, as `Prefer` requested.",
        }
    if _has_tag(route, method):
        responses["304"] = {
            "description": "The client already has this version (`If-None-Match`).",
            "headers": headers,
        }
    for status in {done, "202"} & responses.keys():
        responses[status]["headers"] = headers


def _refusals(route: CheckedRoute, method: str, operation: Json) -> Iterator[int]:
    """The statuses of the problems that the route may respond with."""
    headers, query = _names(operation, "header"), _names(operation, "query")
    yield from (422, 429, 503)
    is_open = all(access.anybody for access in route.access)
    if not is_open or method != "GET" or query & {"status", "as_of"}:
        # a login may be refused too; the past, and some values of `status`, need a role
        yield from (401, 403)
    names_something = (
        "{" in route.path
        or ("/audit/" in route.path and query & {"id", "from"})
        or ("seller_id" in query and not is_open)
    )
    if names_something or method != "GET":
        yield 404
    if "requestBody" in operation or query & {"cursor", "as_of"} or "min-position" in headers:
        yield 400
    if any(name.endswith("signature") for name in headers):
        yield from (400, 413)
    if route.body_field is not None:
        yield from (400, 413, 415)
    if method != "GET":
        yield from (409, 413)
    if "if-match" in headers:
        yield 412
    if "prefer" in headers:
        yield 402


def _success_headers(route: APIRoute, method: str, operation: Json) -> Iterator[str]:
    """The header fields of a successful response."""
    yield "Event-Position"
    if _has_tag(route, method) or "if-match" in _names(operation, "header"):
        yield "ETag"
    if "cursor" in _names(operation, "query"):
        yield "Link"
    if route.status_code == 201:
        yield "Location"
    if "idempotency-key" in _names(operation, "header"):
        yield "Idempotent-Replayed"
    if "prefer" in _names(operation, "header"):
        yield "Preference-Applied"


def _has_tag(route: APIRoute, method: str) -> bool:
    """Whether the route's responses have an ETag: those that take the request compare
    If-None-Match."""
    return method == "GET" and route.dependant.request_param_name is not None


def _names(operation: Json, place: str) -> set[str]:
    return {each["name"].lower() for each in operation.get("parameters", []) if each["in"] == place}


def _refusal(status: int) -> Json:
    headers = {name: _header(name) for name in _PROBLEM_HEADERS.get(status, ())}
    return {
        "description": HTTPStatus(status).phrase,
        "content": _PROBLEM,
        **({"headers": headers} if headers else {}),
    }


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}
