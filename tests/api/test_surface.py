"""Aliases, OpenAPI, documentation, probes and metrics of the gateway."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.aliases import ALIASES, PREFIXES
from api.app import create_app
from api.routing import CheckedRoute
from api.services import GatewaySettings
from queries.search.port import SearchUnavailable
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.manual import KeptJobs
from tests.support.shops.small_gateway import client_of, every_route, services

METHODS = {"get", "post", "put", "delete"}

CONTRACT = """
POST /api/v1/users  POST /users  POST /api/v1/auth/register  POST /users/register  POST /api/users
POST /api/v1/auth/verify-email  POST /api/v1/auth/login  POST /login/auth  POST /users/login
POST /api/v1/auth/admin/login  POST /api/v1/auth/refresh  POST /api/v1/auth/logout
GET /api/v1/users/{user_id}  PUT /api/v1/users/{user_id}  DELETE /api/v1/users/{user_id}
GET /api/v1/users
GET /users/{user_id}  PUT /users/{user_id}  DELETE /users/{user_id}  GET /users
POST /api/v1/auth/password/forgot  POST /api/v1/auth/password/reset  GET /.well-known/jwks.json
POST /api/v1/games  PUT /api/v1/games/{game_id}  DELETE /api/v1/games/{game_id}
GET /api/v1/games/{game_id}
GET /api/v1/games  GET /api/catalog/products/browse  GET /api/v1/games/search  GET /jogos/busca
GET /api/v1/catalog/products/browse
GET /api/v1/games/suggest  GET /api/v1/catalog/products/by-seller/{seller_id}
POST /api/v1/catalog/images  POST /api/v1/catalog/images/upload  GET /api/v1/images/{image_id}
POST /api/v1/catalog/images/from-url  POST /api/v1/catalog/images/upload-url
GET /jogos  POST /jogos  GET /jogos/{game_id}  POST /api/v1/products
GET /api/v1/catalog/products/{game_id}
POST /api/v1/admin/products  PUT /api/v1/admin/products/{game_id}
DELETE /api/admin/products/{game_id}
PUT /api/v1/inventory/stock  GET /api/v1/inventory/stock/{product_id}
GET /api/v1/inventory/availability/{product_id}
POST /api/v1/inventory/reserve  POST /api/v1/inventory/allocate  POST /api/v1/inventory/release
GET /api/v1/inventory/stock  GET /api/v1/admin/analytics/sales  GET /api/v1/admin/analytics/carts
GET /api/v1/admin/products  GET /api/catalog/products/by-seller/{seller_id}  GET /api/orders
GET /api/shipments
POST /api/v1/inventory/confirm-sale  GET /api/inventory/stock/{product_id}  PUT /api/inventory/stock
GET /api/v1/cart  GET /api/v1/cart/summary  POST /api/v1/cart/items
PUT /api/v1/cart/items/{item_id}
DELETE /api/v1/cart/items/{item_id}  POST /api/v1/cart/checkout  POST /api/cart/checkout
POST /api/v1/orders  POST /jogos/compra  POST /api/orders  GET /api/v1/orders/{order_id}
GET /api/v1/orders
GET /api/v1/orders/user/{user_id}  POST /api/v1/orders/{order_id}/cancel
POST /api/v1/orders/{order_id}/refund
GET /api/v1/library  GET /jogos/biblioteca
POST /api/v1/payments  POST /pagamento  POST /api/v1/payments/intents
GET /api/v1/payments/{payment_id}
GET /pagamento/{payment_id}  POST /pagamento/{payment_id}  POST /api/v1/payments/webhook
POST /pagamento/webhook
POST /api/v1/payments/{payment_id}/refund  POST /api/payments/webhook
POST /api/v1/wallets  POST /wallets/create  GET /api/v1/wallets/me  GET /api/v1/wallets/{wallet_id}
GET /api/v1/wallets/{wallet_id}/statement  POST /api/v1/wallets/{wallet_id}/deactivate
POST /api/v1/wallets/{wallet_id}/reactivate  POST /api/v1/wallets/{wallet_id}/add-funds
POST /api/v1/wallets/{wallet_id}/deduct-funds  POST /wallets/{wallet_id}/deactivate
POST /wallets/{wallet_id}/reactivate  POST /wallets/{wallet_id}/add-funds
POST /wallets/{wallet_id}/deduct-funds
POST /api/v1/transactions  POST /transactions/create  GET /api/v1/transactions
GET /api/v1/transactions/{transaction_id}
GET /api/v1/ledger/accounts  GET /api/v1/ledger/accounts/{account_id}
GET /api/v1/ledger/trial-balance
GET /api/v1/ledger/transactions/{ledger_transaction_id}  GET /api/v1/ledger/transactions
GET /api/v1/wallets  GET /api/v1/payments  GET /api/v1/categories  GET /api/v1/genres
GET /api/v1/seller/sales  GET /api/v1/seller/analytics  DELETE /api/v1/cart
GET /api/v1/notifications
GET /api/v1/audit/events  GET /api/v1/audit/streams/{stream_id}
GET /api/v1/audit/streams/{stream_id}/state
GET /api/v1/audit/verify
GET /api/v1/ops/projections  POST /api/v1/ops/projections/{name}/rebuild
POST /api/v1/ops/projections/{name}/pause  GET /api/v1/ops/alerts
POST /api/v1/ops/alerts/{alert_id}/acknowledge  POST /api/v1/ops/alerts/alertmanager
GET /api/v1/ops/acts  GET /api/v1/operations/acts
POST /api/v1/ops/projections/{name}/resume  GET /api/v1/ops/dead-letters  GET /api/v1/ops/quarantine
POST /api/v1/ops/dead-letters/{job_id}/redrive  POST /api/v1/ops/quarantine/{quarantine_id}/retry
GET /health/live  GET /health/ready
"""


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return dict(every_route().openapi())


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield method.upper(), path, operation


def test_every_operation_of_the_contract_is_served(openapi: dict[str, Any]) -> None:
    wanted = {" ".join(each) for each in re.findall(r"(\w+) (/\S+)", CONTRACT)}
    served = {f"{method} {path}" for method, path, _ in operations(openapi)}

    assert wanted - served == set()


def test_whatever_has_a_version_in_its_path_is_there_without(openapi: dict[str, Any]) -> None:
    served = {(method, path) for method, path, _ in operations(openapi)}
    versioned = {(method, path) for method, path in served if path.startswith("/api/v1/")}

    assert {(method, path.replace("/api/v1/", "/api/")) for method, path in versioned} <= served


def test_aliases_are_tagged_and_only_they(openapi: dict[str, Any]) -> None:
    known = {(method, path) for method, _, path in ALIASES}
    prefixes = tuple(alias for _, alias in PREFIXES)
    for method, path, operation in operations(openapi):
        canonical = path.startswith("/api/v1/") and (method, path) not in known
        canonical = canonical and not (path.startswith(prefixes) and "by-seller" not in path)
        canonical = canonical or path.startswith(("/health/", "/.well-known/"))
        assert (operation["tags"] == ["aliases"]) != canonical, (method, path)


def test_an_alias_shares_what_was_made_of_its_endpoint() -> None:
    """Made anew for each path, most of a start would be spent on them."""
    routes = {
        (method, each.path): each
        for each in create_app(services()).routes
        if isinstance(each, CheckedRoute)
        for method in each.methods or ()
    }
    for method, path, alias in ALIASES:
        one = routes.get((method, path)) or routes["GET", path]
        other = routes[method, alias]
        assert other.reads_form or other.dependant is one.dependant, alias


def test_operations_have_ids_of_their_own_and_problems_for_answers(openapi: dict[str, Any]) -> None:
    found = [operation for *_, operation in operations(openapi)]

    assert len({operation["operationId"] for operation in found}) == len(found)
    assert "ProblemDocument" in openapi["components"]["schemas"]
    for operation in found:
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert "HTTPValidationError" not in str(operation)


def test_a_literal_path_is_not_taken_for_an_id(openapi: dict[str, Any]) -> None:
    paths = list(openapi["paths"])

    for prefix in ("/api/catalog/products/", "/api/v1/catalog/products/"):
        assert paths.index(prefix + "browse") < paths.index(prefix + "{game_id}")
    assert paths.index("/jogos/biblioteca") < paths.index("/jogos/{game_id}")


async def test_the_documentation_needs_no_internet() -> None:
    client = client_of(create_app(services()))
    page = await client.get("/docs")
    script = await client.get("/docs/static/swagger-ui-bundle.js")

    assert page.status_code == script.status_code == 200
    assert "https://" not in page.text
    assert (await client.get("/openapi.json")).status_code == 200


async def test_readiness_names_what_is_down() -> None:
    async def up() -> None: ...

    async def down() -> None:
        raise ConnectionError("no route to 10.0.0.7")

    client = client_of(create_app(services(health={"database": up, "broker": down})))
    answer = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json() == {
        "status": "down",
        "dependencies": {"database": {"status": "ok"}, "broker": {"status": "down"}},
    }
    assert (await client.get("/health/live")).json() == {"status": "ok"}


async def test_the_shop_stays_ready_while_only_what_it_can_make_up_for_is_down() -> None:
    async def up() -> None: ...

    async def down() -> None:
        raise SearchUnavailable("no route to 10.0.0.7")

    health = {"database": up, "elasticsearch": down}
    client = client_of(
        create_app(services(health=health, optional_dependencies=frozenset({"elasticsearch"})))
    )
    answer = await client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "degraded",
        "dependencies": {"database": {"status": "ok"}, "elasticsearch": {"status": "down"}},
    }


async def test_metrics_tell_of_requests_the_log_projections_and_queues(
    shop: Shop, buyer: Person
) -> None:
    await shop.eventually(
        lambda: buyer.get(f"/api/v1/users/{buyer.id}"), lambda answer: answer.status_code == 200
    )
    await buyer.get("/api/v1/no/such/thing/at/all")

    before = await shop.core.log.head()
    text = (await shop.client().get("/metrics")).text
    after = await shop.core.log.head()  # a worker may still be sending the welcome

    assert (
        'ludoteca_http_requests_total{method="GET",route="/api/v1/users/{user_id}",'
        'status="200"} 1.0' in text
    )
    assert 'route="unmatched",status="404"' in text
    assert "such/thing" not in text
    shown = re.search(r"^ludoteca_log_head (\S+)$", text, re.MULTILINE)
    assert shown
    assert before <= float(shown[1]) <= after
    assert re.search(r'ludoteca_projection_lag{projection="users\W*\d"} \d', text)
    assert re.search(r'ludoteca_quarantined_streams{projection="users\W*\d"} 0\.0', text)
    assert 'ludoteca_queue_depth{queue="ludoteca.payments"}' in text
    assert 'ludoteca_dead_letters{queue="ludoteca.payments"} 0.0' in text


async def test_strangers_make_no_series_of_metrics_of_their_own(shop: Shop) -> None:
    client = shop.client()
    asked = [("HEAD", "/api/v1/games"), ("GET", "/docs"), ("PATCH", "/openapi.json")]
    asked += [(method, "/api/v1/genres") for method in ("PATCH", "PUT", "OPTIONS", "BREW")]
    for method, path in asked:
        await client.request(method, path)

    text = (await client.get("/metrics")).text
    counted = set(
        re.findall(r'_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"', text)
    )
    assert {("HEAD", "/api/v1/games", "200"), ("GET", "/docs", "200")} <= counted
    refused = {
        method for method, route, status in counted if (route, status) == ("unmatched", "405")
    }
    assert refused >= {"PATCH", "PUT", "OPTIONS", "other"}
    assert not {route for _, route, status in counted if status == "405"} - {"unmatched"}
    assert "_created{" not in text


class Away(KeptJobs):
    """A queue whose broker does not answer."""

    name = "ludoteca.away"

    async def depth(self) -> int:
        raise ConnectionError("no broker")

    async def dead(self) -> int:
        raise ConnectionError("no broker")


async def test_metrics_lack_only_the_queue_that_does_not_answer(shop: Shop) -> None:
    services = dataclasses.replace(shop.services, queues=(Away(), *shop.services.queues))

    before = await shop.core.log.head()
    text = (await client_of(create_app(services)).get("/metrics")).text
    after = await shop.core.log.head()

    shown = re.search(r"^ludoteca_log_head (\S+)$", text, re.MULTILINE)
    assert shown
    assert before <= float(shown[1]) <= after
    assert re.search(r'ludoteca_projection_lag{projection="users\W*\d"} \d', text)
    assert 'ludoteca_queue_depth{queue="ludoteca.payments"}' in text
    assert "ludoteca.away" not in text


async def test_guessing_passwords_is_slowed_down(shop: Shop) -> None:
    limited = dataclasses.replace(shop.services, settings=GatewaySettings())
    client = client_of(create_app(limited))
    body = {"email": "nobody@example.com", "password": "wrong password"}

    statuses = [(await client.post("/api/v1/auth/login", json=body)).status_code for _ in range(21)]

    assert statuses == [401] * 20 + [429]


# -- answers documented in OpenAPI -----------------------------------------------------------------


def answered(openapi: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    return dict(openapi["paths"][path][method]["responses"])


def test_openapi_says_where_a_token_is_needed_and_where_it_may_be_left_out(
    openapi: dict[str, Any],
) -> None:
    bearer: dict[str, list[str]] = {"HTTPBearer": []}
    without: dict[str, list[str]] = {}
    assert openapi["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, method, wanted in (
        ("/api/v1/orders", "post", [bearer]),
        ("/jogos/compra", "post", [bearer]),
        ("/api/v1/users", "get", [bearer]),
        ("/api/v1/users", "post", [without, bearer]),
        ("/api/v1/games/{game_id}", "get", [without, bearer]),
        ("/api/v1/payments/webhook", "post", [without, bearer]),
        ("/health/ready", "get", [without, bearer]),
    ):
        assert openapi["paths"][path][method]["security"] == wanted, (method, path)


def test_every_operation_names_the_refusals_that_all_may_get(openapi: dict[str, Any]) -> None:
    for method, path, operation in operations(openapi):
        wanted = {"422", "429", "503", "default"}
        if {} not in operation["security"]:
            wanted |= {"401", "403"}
        if "{" in path:
            wanted |= {"404"}
        assert wanted <= operation["responses"].keys(), (method, path)
        for status, response in operation["responses"].items():
            if status != "default" and int(status) >= 400 and path != "/health/ready":
                assert "application/problem+json" in response["content"], (method, path, status)


def test_openapi_names_empty_answers_and_those_that_depend_on_a_header(
    openapi: dict[str, Any],
) -> None:
    assert "content" not in answered(openapi, "post", "/api/v1/auth/password/forgot")["202"]
    assert (
        "content"
        not in answered(openapi, "post", "/api/v1/ops/quarantine/{quarantine_id}/retry")["202"]
    )
    assert "content" not in answered(openapi, "get", "/api/v1/games/{game_id}")["304"]
    assert "content" not in answered(openapi, "delete", "/api/v1/games/{game_id}")["204"]
    assert "412" in answered(openapi, "put", "/api/v1/games/{game_id}")
    placed = answered(openapi, "post", "/api/v1/orders")
    assert {"201", "202", "402", "409", "413", "415"} <= placed.keys()
    assert placed["201"]["content"] == placed["202"]["content"]
    assert {"Event-Position", "Location", "Idempotent-Replayed"} <= placed["201"]["headers"].keys()
    assert "Retry-After" in placed["429"]["headers"]
    assert {"Link", "ETag"} <= answered(openapi, "get", "/api/v1/games")["200"]["headers"].keys()
