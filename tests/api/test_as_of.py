"""`as_of` over HTTP: every query of the past shows what it showed then, to auditors and admins
only."""

from typing import Any
from uuid import uuid4

import pytest

from api.app import create_app
from api.middleware.past_only import PastOnly
from kit.forgotten import ENCRYPTED
from projections.registry import read_models
from queries.engine.past import AsOfBeingBuilt, AsOfUnavailable
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import ADDRESS, check_out, put_in, stocked
from tests.support.shops.small_gateway import client_of, every_route

DAYS = "from=2020-01-01&to=2100-01-01"

WITHOUT = (
    "/ops/",
    "/operations/",
    "/audit/",
    "/health/",
    "/metrics",
    "/.well-known/",
    "/images/",
    "/export",
)
"""Parts of paths: what is not folded from the log, and the export of what is known of a person
now."""


def lists(of: dict[str, Any]) -> list[str]:
    """Paths of lists, reports and searches."""
    return [
        "/orders",
        f"/orders?user_id={of['buyer']}",
        f"/orders/user/{of['buyer']}",
        f"/orders/{of['order']}",
        f"/payments/{of['payment']}",
        "/payments",
        "/shipments",
        f"/shipments/{of['shipment']}",
        "/games?sort=title",
        "/games?status=ANY",
        "/games/search?q=catam",
        "/games/suggest?q=cat",
        f"/games/offers?game_id={of['game']}",
        f"/games/{of['game']}",
        f"/catalog/products/by-seller/{of['seller']}",
        "/inventory/stock",
        f"/inventory/stock/{of['game']}",
        f"/inventory/availability/{of['game']}",
        f"/library?user_id={of['buyer']}",
        f"/notifications?user_id={of['buyer']}",
        "/wallets",
        "/transactions",
        "/ledger/accounts",
        f"/ledger/accounts/SELLER_PAYABLE:{of['seller']}",
        "/ledger/trial-balance",
        "/users",
        f"/users/{of['buyer']}",
        "/webhook-endpoints",
        f"/admin/analytics/sales?{DAYS}",
        f"/admin/analytics/sales?{DAYS}&group_by=game",
        f"/admin/analytics/carts?{DAYS}",
    ]


def test_every_query_of_what_is_folded_takes_as_of() -> None:
    paths = every_route().openapi()["paths"]
    without = {
        path
        for path, operations in paths.items()
        if "get" in operations
        and not any(part in path for part in WITHOUT)
        and "as_of" not in {each["name"] for each in operations["get"].get("parameters", ())}
    }
    assert without == set()


async def test_lists_and_reports_show_what_they_showed_then(
    shop: Shop, buyer: Person, seller: Person, admin: Person, auditor: Person
) -> None:
    game = await stocked(shop, seller, 3, title="Catan")
    await put_in(buyer, game)
    order_id = (await check_out(buyer)).json()["order_id"]

    async def order() -> dict[str, Any]:
        found = await admin.get(f"/api/v1/orders/{order_id}", headers=await shop.reached())
        return dict(found.json())

    paid = await shop.eventually(order, lambda found: found["status"] == "CONFIRMED")
    of = {
        **{"buyer": buyer.id, "seller": seller.id, "order": order_id, "game": game["id"]},
        **{"payment": paid["payment_id"], "shipment": paid["shipments"][0]["id"]},
    }
    live, position = await _quiet(shop, admin, lists(of))
    await stocked(shop, seller, 1, title="Catamaran")
    await put_in(buyer, game)
    await buyer.put(f"/api/v1/users/{buyer.id}", json={"name": "Anna"})
    await admin.post(f"/api/v1/orders/{order_id}/refund", json={"reason": "broken"})
    await _built(shop, position)
    for path, then in live.items():
        past = await admin.get(_as_of(path, position))
        assert (past.status_code, past.json()) == (200, then), path
        assert past.headers["event-position"] == str(position)
        seen = await auditor.get(_as_of(path, position))
        assert seen.status_code == 200, (path, seen.text)
        assert buyer.email not in seen.text
        assert ADDRESS["line1"] not in seen.text
        assert (await buyer.get(_as_of(path, position))).status_code == 403, path
        assert (await shop.client().get(_as_of(path, position))).status_code == 401, path


async def _quiet(shop: Shop, who: Person, paths: list[str]) -> tuple[dict[str, Any], int]:
    """What the paths show at a moment in which nothing happens, and its position."""
    while True:
        position = await shop.core.log.head()
        headers = {"Min-Position": str(position)}
        answers = {path: await who.get(f"/api/v1{path}", headers=headers) for path in paths}
        assert [path for path, each in answers.items() if each.status_code != 200] == []
        found = {path: each.json() for path, each in answers.items()}
        if await shop.core.log.head() == position:
            return found, position


async def _built(shop: Shop, position: int) -> None:
    """Have all tables built at once, which is quicker than by one query after another."""
    tables = shop.services.reads._past
    assert tables is not None
    await tables._build(position, [each.projection.name for each in read_models()])


def _as_of(path: str, position: int | str) -> str:
    return f"/api/v1{path}{'&' if '?' in path else '?'}as_of={position}"


async def test_asking_for_the_past_admits_nobody_where_there_is_none(
    buyer: Person, auditor: Person
) -> None:
    path = f"/api/v1/users/{buyer.id}/export"
    for asked in (path, f"{path}?as_of=1"):
        answer = await auditor.get(asked)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_yours")


async def test_a_cart_is_shown_as_it_was(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    game = await stocked(shop, seller, 3)
    added = await put_in(buyer, game, 2)
    position = int(added.headers["event-position"])
    await buyer.delete("/api/v1/cart")
    path = f"/api/v1/cart?user_id={buyer.id}"

    then = await auditor.get(f"{path}&as_of={position}")
    assert [item["quantity"] for item in then.json()["items"]] == [2]
    whole = await auditor.get(f"/api/v1/cart/summary?user_id={buyer.id}&as_of={position}")
    assert whole.json()["quantity"] == 2
    before = await auditor.get(f"{path}&as_of={position - 2}")
    assert before.json()["items"] == []
    assert (await buyer.get(path)).status_code == 422
    assert (await buyer.get(f"{path}&as_of={position}")).status_code == 403


async def test_the_log_itself_ends_at_the_moment_asked_for(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    game = await shop.game(seller)
    end = await shop.core.log.head()
    await seller.put(f"/api/v1/games/{game['id']}", json={"title": "Later"})
    events = await auditor.get(f"/api/v1/audit/events?after={end - 1}&as_of={end}")
    stream = await auditor.get(f"/api/v1/audit/streams/{game['id']}?as_of={end}")
    verified = await auditor.get(f"/api/v1/audit/verify?as_of={end}")
    assert [event["position"] for event in events.json()["items"]] == [end]
    assert {event["version"] for event in stream.json()["items"]} == {1}
    assert verified.json()["verified_upto"] == end


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("yesterday", (422, "invalid_as_of")),
        ("1e3", (422, "invalid_as_of")),
        ("-1", (422, "invalid_as_of")),
        ("2026-01-01T00:00:00", (422, "invalid_as_of")),
        (10**9, (400, "position_unknown")),
        ("2000-01-01T00:00:00Z", (200, None)),
        (0, (200, None)),
    ],
)
async def test_a_moment_is_one_of_the_log(
    auditor: Person, moment: Any, expected: tuple[int, str | None]
) -> None:
    answer = await auditor.get(f"/api/v1/orders?as_of={moment}")
    assert (answer.status_code, answer.json().get("code")) == expected


async def test_a_query_that_waits_too_long_is_told_when_to_come_back(
    shop: Shop, auditor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = shop.services.reads._past
    raised: list[Exception] = [AsOfBeingBuilt("wait"), AsOfUnavailable("no right")]

    async def build(_position: int, _models: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(tables, "_build", build)
    path = f"/api/v1/orders?as_of={await shop.core.log.head()}"
    for code in ("as_of_being_built", "as_of_unavailable"):
        answer = await auditor.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert int(answer.headers["retry-after"]) > 0


async def test_a_server_of_the_past_answers_every_query_and_nothing_else(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    await shop.game(seller, title="Portal")
    position = await shop.core.log.head()
    await shop.game(seller, title="Witness")
    app = create_app(shop.services)
    app.add_middleware(PastOnly, position=position, routes=list(app.routes))
    client = client_of(app)

    async def asked(path: str, who: Person | None = auditor, method: str = "GET") -> Any:
        token = {"authorization": f"Bearer {who.tokens['access_token']}"} if who else {}
        answer = await client.request(method, path, headers=token)
        assert answer.headers["as-of-position"] == str(position)
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer

    of_seller = f"/as-of/api/v1/games?status=ANY&seller_id={seller.id}"
    titles = [game["title"] for game in (await asked(of_seller)).json()["items"]]
    assert titles == ["Portal"]
    assert (await asked(f"/as-of/api/v1/users/{seller.id}")).json()["name"] == ENCRYPTED
    assert (await asked(of_seller, method="HEAD")).status_code == 200
    page = await asked(f"/as-of/api/v1/audit/events?limit=1&after={position - 2}")
    following = page.headers["link"].split(">")[0][1:]
    assert following.startswith("/as-of/api/v1/audit/events?")
    assert [each["position"] for each in (await asked(following)).json()["items"]] == [position]

    refused: list[tuple[str, str, Person | None, int, str]] = [
        ("GET", "/as-of/api/v1/orders", None, 401, "unauthorized"),
        ("GET", "/as-of/api/v1/orders", buyer, 403, "role_required"),
        ("GET", "/as-of/api/v1/games", None, 401, "unauthorized"),
        ("POST", "/as-of/api/v1/orders", auditor, 405, "method_not_allowed"),
        ("DELETE", "/as-of/api/v1/cart", auditor, 405, "method_not_allowed"),
        ("GET", "/api/v1/orders", auditor, 404, "not_found"),
        ("GET", "/as-of/api/v1/nothing", auditor, 404, "not_found"),
        ("GET", "/as-of/docs", auditor, 404, "not_found"),
        ("GET", "/as-of/api/v1/ops/projections", auditor, 404, "present_only"),
        ("GET", "/as-of/health/live", None, 404, "present_only"),
        ("GET", f"/as-of/api/v1/orders?as_of={position + 1}", auditor, 422, "invalid_as_of"),
    ]
    for method, path, who, status, code in refused:
        answer = await asked(path, who, method)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path


async def test_what_changed_between_two_moments_is_told_with_its_events(
    shop: Shop, buyer: Person, seller: Person, auditor: Person
) -> None:
    game = await shop.game(seller, title="Portal")
    made = await shop.core.log.head()
    changed = await seller.put(f"/api/v1/games/{game['id']}", json={"title": "Portal 2"})
    last = changed.headers["event-position"]
    path = f"/api/v1/audit/diff?from={made}&to={last}"

    answer = await auditor.get(f"{path}&game={game['id']}")
    assert answer.headers["event-position"] == last
    (row,) = answer.json()["rows"]
    assert (row["model"], row["key"], row["what"]) == ("games", game["id"], "changed")
    titles = [each for each in row["fields"] if each["field"] == "title"]
    assert titles == [
        {"field": "title", "before": "Portal", "after": "Portal 2", "positions": [int(last)]}
    ]
    (event,) = answer.json()["events"]
    assert (event["name"], event["actor"]) == ("game.updated.v1", f"user:{seller.id}")
    assert (await buyer.get(path)).status_code == 403
    assert (await shop.client().get(path)).status_code == 401

    refused = {
        f"from={last}&to={made}": (422, "moments_reversed"),
        f"from={made}&to=yesterday": (422, "invalid_as_of"),
        f"from={made}&to={10**9}": (400, "position_unknown"),
        f"from={made}&to={last}&order={uuid4()}": (404, "row_not_found"),
        f"from={made}&to={last}&order={uuid4()}&game={uuid4()}": (422, "invalid_request"),
    }
    for query, expected in refused.items():
        answer = await auditor.get(f"/api/v1/audit/diff?{query}")
        assert (answer.status_code, answer.json().get("code")) == expected, query
        if expected[1] in {"invalid_as_of", "position_unknown"}:
            assert [each["field"] for each in answer.json()["errors"]] == ["to"]
