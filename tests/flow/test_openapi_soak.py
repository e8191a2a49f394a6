"""The whole OpenAPI document, with aliases, tested by schemathesis: with each role's token, which
is valid before and after.

No answer is a 500, and none has a status, a media type or a shape that the document does not name.
The document used has no `default` answers, which would allow every status. Canonical paths are
requested with each role's token; each alias, which runs the same function behind the same guards,
with one.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.aliases import TAG
from tests.support.processes.instance import PASSWORD, Instance, running
from tests.support.servers import shared

MINUTES = 15
pytestmark = pytest.mark.soak(minutes=MINUTES)

ROLES = ("", "BUYER", "SELLER", "ADMIN", "AUDITOR", "SERVICE")
CHECKS = (
    "not_a_server_error,status_code_conformance,"
    "content_type_conformance,response_schema_conformance"
)
LEFT_OUT = r"/logout$|/users/me$|/users/\{user_id\}$|/rebuild$|/verify$"
"""Paths that would end the token's session, or occupy the whole machine, for all later requests."""

OPTIONS = [
    *("--checks", CHECKS),
    *("--phases", "coverage,fuzzing"),
    *("--max-examples", "6"),
    *("--exclude-path-regex", LEFT_OUT),
    *("--suppress-health-check", "all"),
    *("--generation-database", "none"),
    *("--warnings", "off"),
    "--continue-on-failure",
    "--no-color",
]


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, {}) as instance:
        yield instance
    shared.drop_database(database)


def document(shop: Instance, role: str) -> dict[str, Any]:
    """The operations requested with this role's token."""
    openapi = dict(shop.http().get("/openapi.json").json())
    aliases = 0
    for operations in openapi["paths"].values():
        for method, operation in list(operations.items()):
            del operation["responses"]["default"]
            aliases += (is_alias := TAG in operation["tags"])
            if is_alias and aliases % len(ROLES) != ROLES.index(role):
                del operations[method]
    openapi["paths"] = {
        path: operations for path, operations in openapi["paths"].items() if operations
    }
    return openapi


def somebody(shop: Instance, role: str) -> httpx.Client:
    if not role:
        return shop.http()
    if role in {"BUYER", "SELLER"}:
        return shop.register(account_type=role).http
    body = {
        "email": f"another-{role.lower()}@example.com",
        "password": PASSWORD,
        "name": "Ann",
        "account_type": role,
    }
    answer = shop.admin().post("/api/v1/users", json=body)
    assert answer.status_code == 201, answer.text
    return shop.http(answer.json()["access_token"])


@pytest.mark.parametrize("role", ROLES)
def test_every_answer_is_documented_and_none_is_a_failure(
    shop: Instance, role: str, tmp_path: Path
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document(shop, role)))
    client = somebody(shop, role)
    asked = "/api/v1/notifications"
    expected = 200 if role else 401
    assert client.get(asked).status_code == expected
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        "openapi.json",
        "--url",
        shop.base,
        *OPTIONS,
    ]
    if role:
        command += ["-H", f"Authorization: {client.headers['authorization']}"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=MINUTES * 60, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert client.get(asked).status_code == expected
    assert " failed" not in (shop.home / "api.log").read_text()
