"""Every route of the gateway, with aliases, and valid requests for it, derived from the routes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import FastAPI

from api.auth import Access, SecretAccess
from api.routing import CheckedRoute

Json = dict[str, Any]

BY_NAME: dict[str, Any] = {
    "account_type": "BUYER",
    "carrier": "Post",
    "city": "Lisboa",
    "country": "PT",
    "currency": "USD",
    "events": ["order.*"],
    "password": "correct horse battery",
    "region": "US",
    "title": "Celeste",
    "url": "https://127.0.0.1/cover.png",
}
"""Valid values by field name, where the schema does not say enough."""


@dataclass(frozen=True)
class Operation:
    """A method of a path."""

    method: str
    path: str
    route: CheckedRoute
    schema: Json
    schemas: Json

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def body(self) -> Json | None:
        """The schema of its JSON body, if FastAPI parses one; signed notices are read as raw
        bytes."""
        if self.route.body_field is None:
            return None
        content = self.schema.get("requestBody", {}).get("content", {})
        schema: Json | None = content.get("application/json", {}).get("schema")
        return schema

    @property
    def fields(self) -> list[str]:
        """The names of the body's fields."""
        named = [] if self.body is None else [self.body, *self.body.get("anyOf", [])]
        models = [self.schemas[each["$ref"].rsplit("/", 1)[1]] for each in named if "$ref" in each]
        return [name for model in models for name in model["properties"]]

    @property
    def is_signed(self) -> bool:
        """Whether it receives notices, which are authenticated by a signature and read as raw
        bytes."""
        return any(each["name"].endswith("signature") for each in self.schema.get("parameters", []))

    @property
    def takes_form(self) -> bool:
        return "multipart/form-data" in self.schema.get("requestBody", {}).get("content", {})

    @property
    def query(self) -> list[str]:
        """The names of its query parameters."""
        return [each["name"] for each in self.schema.get("parameters", []) if each["in"] == "query"]

    @property
    def owner(self) -> tuple[str, Access] | None:
        """The path parameter that names a resource which only its owner may change, and the rule
        for that."""
        return next(((each.owner[0], each) for each in self.route.access if each.owner), None)

    @property
    def has_secret(self) -> bool:
        """Whether it takes a token that no account has."""
        return any(isinstance(each, SecretAccess) for each in self.route.access)

    def admits(self, role: str | None) -> bool:
        """Whether a caller with this role may use it; None: a caller without an account."""
        if self.has_secret:
            return False
        if role is None:
            return all(each.anybody for each in self.route.access)
        return all(
            each.anybody or not each.roles or role in each.roles for each in self.route.access
        )

    def url(self, **ids: object) -> str:
        """Its path; ids that are not given are of things that do not exist."""
        return self.path.format(
            **{name: ids.get(name, uuid4()) for name in self.route.param_convertors}
        )

    def valid(self) -> Any:
        """A body of the right shape."""
        return None if self.body is None else self._valid(self.body)

    def _valid(self, schema: Json, name: str = "") -> Any:
        if "$ref" in schema:
            return self._valid(self.schemas[schema["$ref"].rsplit("/", 1)[1]], name)
        if name in BY_NAME:
            return BY_NAME[name]
        if name == "email":
            return f"{uuid4().hex}@example.com"
        if "anyOf" in schema:
            return self._valid(schema["anyOf"][0], name)
        if "enum" in schema or "const" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if schema.get("format") == "uuid":
            return str(uuid4())
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {
                    each: self._valid(fields[each], each) for each in schema.get("required", [])
                }
            case "array":
                return [self._valid(schema["items"], name)] * schema.get("minItems", 0)
            case "integer":
                return max(1, schema.get("minimum", 1))
            case "boolean":
                return True
        return "x" * max(1, schema.get("minLength", 1))


def operations(app: FastAPI) -> Iterator[Operation]:
    """All operations that OpenAPI shows."""
    openapi = app.openapi()
    for route in app.routes:
        if isinstance(route, CheckedRoute) and route.include_in_schema:
            (method,) = (route.methods or set()) - {"HEAD"}
            schema = openapi["paths"][route.path][method.lower()]
            yield Operation(method, route.path, route, schema, openapi["components"]["schemas"])


def canonical(app: FastAPI) -> list[Operation]:
    """All operations except aliases."""
    return [each for each in operations(app) if each.schema["tags"] != ["aliases"]]
