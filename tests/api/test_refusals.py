"""Each refusal over HTTP has its own code and leaves nothing in the log: bad input, and other
people's things."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from adapters.images.fetcher import HttpImageFetcher
from api.middleware.context import CORRELATION_HEADER
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import CART, check_out, code_of, count, put_in, stocked

STOCK, IMAGES, HOOKS = (
    "/api/v1/inventory/stock",
    "/api/v1/catalog/images",
    "/api/v1/webhook-endpoints",
)
ELSEWHERE = "https://pictures.example/cover.png"


class Redirecting(HttpImageFetcher):
    """A public server that redirects every request to this machine."""

    async def _get(self, url: str, max_bytes: int) -> bytes | str:
        return (
            "https://127.0.0.1/cover.png"
            if url == ELSEWHERE
            else await super()._get(url, max_bytes)
        )


@dataclass
class Scene:
    """People by their roles, and the ids of their things, by the names that the tables use."""

    shop: Shop
    people: dict[str, Person]
    ids: dict[str, str]

    async def ask(self, who: str, method: str, path: str, **request: Any) -> tuple[int, str]:
        """The refusal of a request. Checks that neither the request nor anything that it caused
        appended an event."""
        head, correlation = await self.shop.core.log.head(), uuid4()
        headers = {CORRELATION_HEADER: str(correlation), **request.pop("headers", {})}
        if body := request.pop("json", None):
            named = {
                key: value.format(**self.ids) if isinstance(value, str) else value
                for key, value in body.items()
            }
            request["json"] = named
        answer = await self.people[who].request(
            method, path.format(**self.ids), headers=headers, **request
        )
        since = await self.shop.core.log.read(head)
        assert [event.env.name for event in since if event.env.correlation_id == correlation] == []
        return code_of(answer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(shop: Shop) -> Scene:
    """A seller with one of everything, two buyers with carts, one of whom has an order, and another
    seller."""
    parts = {
        "seller": "SELLER",
        "other": "SELLER",
        "buyer": "BUYER",
        "real": "BUYER",
        "admin": "ADMIN",
    }
    people = {name: await shop.register(account_type) for name, account_type in parts.items()}
    seller, buyer, real = people["seller"], people["buyer"], people["real"]
    game = await stocked(shop, seller, 10)
    abroad = await shop.game(
        seller, prices=[{"region": "*", "amount_cents": 100, "currency": "EUR"}]
    )
    retired, draft = await shop.game(seller), await shop.game(seller, status="DRAFT")
    await seller.delete(f"/api/v1/games/{retired['id']}")
    await put_in(real, game)
    order = (await check_out(real)).json()
    assert order["status"] == "CONFIRMED", order
    (foreign,) = (await put_in(real, game)).json()["items"]
    (mine,) = (await put_in(buyer, game, 2)).json()["items"]
    seen = (
        await real.get(f"/api/v1/orders/{order['order_id']}", headers=await shop.reached())
    ).json()
    hook = await seller.post(
        HOOKS, json={"url": "https://shop.example/hook", "events": ["order.completed.v1"]}
    )
    assert hook.status_code == 201, hook.text
    ids = {
        "game": game["id"], "abroad": abroad["id"], "retired": retired["id"], "draft": draft["id"],
        "order": order["order_id"], "shipment": seen["shipments"][0]["id"],
        "hook": hook.json()["id"],
        "mine": mine["id"], "foreign": foreign["id"], "hold": mine["reservation_id"],
        "seller": str(seller.id), "unknown": str(uuid4()),
    }  # fmt: skip
    return Scene(shop, people, ids)


# -- bad input -------------------------------------------------------------------------------------


def item(quantity: object, game: str = "{game}") -> dict[str, Any]:
    return {"json": {"product_id": game, "quantity": quantity}}


def total(units: object, **more: object) -> dict[str, Any]:
    return {"json": {"product_id": "{game}", "total_quantity": units, **more}}


def picture(content: bytes, name: str = "cover.png") -> dict[str, Any]:
    return {"files": {"file": (name, content, "image/png")}}


ADD, LINE, FOREIGN = (
    ("buyer", "POST", f"{CART}/items"),
    f"{CART}/items/{{mine}}",
    f"{CART}/items/{{foreign}}",
)
SET, UPLOAD, FETCH = (
    ("seller", "PUT", STOCK),
    ("seller", "POST", IMAGES),
    ("seller", "POST", f"{IMAGES}/from-url"),
)
STALE = {"headers": {"If-Match": '"1"'}}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
BAD: dict[str, tuple[tuple[str, str, str], dict[str, Any], int, str]] = {
    "none of a product": (ADD, item(0), 422, "invalid_quantity"),
    "less than none": (ADD, item(-1), 422, "invalid_quantity"),
    "no number that a shop has": (ADD, item(10**30), 422, "invalid_quantity"),
    "more than there are": (ADD, item(1_000_000), 409, "insufficient_stock"),
    "a line of none": (("buyer", "PUT", LINE), {"json": {"quantity": 0}}, 422, "invalid_quantity"),
    "a line of too many": (("buyer", "PUT", LINE), {"json": {"quantity": 10**30}}, 422,
    "invalid_quantity"),
    "a line of more than there are": (("buyer", "PUT", LINE), {"json": {"quantity": 11}}, 409,
    "insufficient_stock"),
    "another's line": (("buyer", "PUT", FOREIGN), {"json": {"quantity": 1}}, 404, "item_not_found"),
    "to take another's line out": (("buyer", "DELETE", FOREIGN), {}, 404, "item_not_found"),
    "a cart that has changed": (("buyer", "DELETE", LINE), STALE, 412, "version_mismatch"),
    "a retired product": (ADD, item(1, "{retired}"), 409, "game_unavailable"),
    "to buy a retired product": (
        ("buyer", "POST", "/api/v1/orders"), {"json": {"game_id": "{retired}"}}, 409,
        "game_unavailable"
    ),
    "a draft": (ADD, item(1, "{draft}"), 404, "product_not_found"),
    "what is not there": (ADD, item(1, "{unknown}"), 404, "product_not_found"),
    "another currency": (ADD, item(1, "{abroad}"), 409, "currency_mismatch"),
    "less stock than is held": (SET, total(1), 409, "stock_below_commitments"),
    "less stock than none": (SET, total(-1), 422, "invalid_quantity"),
    "too much stock": (SET, total(10**30), 422, "invalid_quantity"),
    "stock that has changed": (SET, total(20, expected_version=1), 409, "version_conflict"),
    "stock that has changed, by its tag": (SET, {**total(20), **STALE}, 412, "version_mismatch"),
    "a product that has changed": (
        ("seller", "PUT", "/api/v1/games/{game}"), {"json": {"title": "X"},
        "headers": {"If-Match": '"9"'}},
        412, "version_mismatch",
    ),
    "a shipment that has changed": (
        ("seller", "PUT", "/api/v1/shipments/{shipment}/process"), STALE, 412, "version_mismatch"
    ),
    "to hold none": (
        ("admin", "POST", "/api/v1/inventory/reserve"),
        {"json": {"product_id": "{game}", "quantity": 0, "cart_id": "{unknown}"}}, 422,
        "invalid_quantity",
    ),
    "an SVG": (UPLOAD, picture(SVG, "cover.svg"), 422, "image_unsupported"),
    "an SVG by another name": (UPLOAD, picture(SVG), 422, "image_unsupported"),
    "an EXE by another name": (UPLOAD, picture(b"MZ\x90\x00" + bytes(500)), 422,
    "image_unsupported"),
    "an image of this machine": (FETCH, {"json": {"url": "https://127.0.0.1/cover.png"}}, 422,
    "image_url_refused"),
    "an image redirected to this machine": (FETCH, {"json": {"url": ELSEWHERE}}, 422,
    "image_url_refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_by_its_own_code_and_changes_nothing(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (who, method, path), request, status, code = BAD[name]
    fetcher = Redirecting()
    monkeypatch.setattr(scene.shop.commands.images, "_fetcher", fetcher)

    assert await scene.ask(who, method, path, **request) == (status, code)
    await fetcher.aclose()


# -- sellers apart ---------------------------------------------------------------------------------


GAME, PARCEL = "/api/v1/games/{game}", {"json": {"tracking_number": "1", "carrier": "X"}}
ORDER, SHIPMENT, HOOK = (
    "/api/v1/orders/{order}",
    "/api/v1/shipments/{shipment}",
    f"{HOOKS}/{{hook}}",
)
USER, HOLD = (
    "/api/v1/users/{seller}",
    {"json": {"product_id": "{game}", "reservation_id": "{hold}"}},
)
OTHERS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("PUT", GAME, {"json": {"title": "Mine"}}, 403, "not_owner"),
    ("DELETE", GAME, {}, 403, "not_owner"),
    ("GET", "/api/v1/games/{draft}", {}, 404, "game_not_found"),
    ("GET", "/api/v1/games?status=ANY&seller_id={seller}", {}, 403, "not_yours"),
    ("GET", "/api/v1/catalog/products/by-seller/{seller}", {}, 403, "not_yours"),
    ("PUT", STOCK, total(99), 403, "not_yours"),
    ("GET", f"{STOCK}/{{game}}", {}, 403, "not_yours"),
    ("GET", f"{STOCK}?seller_id={{seller}}", {}, 403, "not_yours"),
    ("POST", "/api/v1/inventory/release", HOLD, 403, "role_required"),
    ("GET", SHIPMENT, {}, 403, "not_yours"),
    ("PUT", f"{SHIPMENT}/process", {}, 403, "not_yours"),
    ("PUT", f"{SHIPMENT}/ship", PARCEL, 403, "not_yours"),
    ("POST", f"{SHIPMENT}/delivered", {"json": {}}, 403, "role_required"),
    ("GET", ORDER, {}, 403, "not_yours"),
    ("GET", f"{ORDER}/receipt", {}, 403, "not_yours"),
    ("POST", f"{ORDER}/cancel", {}, 403, "not_yours"),
    ("POST", f"{ORDER}/refund", {"json": {"reason": "x"}}, 403, "role_required"),
    ("GET", "/api/v1/ledger/accounts/SELLER_PAYABLE:{seller}", {}, 403, "not_yours"),
    ("GET", "/api/v1/notifications?user_id={seller}", {}, 403, "not_yours"),
    ("GET", USER, {}, 403, "not_yours"),
    ("PUT", USER, {"json": {"name": "Eve"}}, 403, "not_yours"),
    ("DELETE", USER, {}, 403, "not_yours"),
    ("GET", HOOK, {}, 404, "webhook_endpoint_not_found"),
    ("PUT", HOOK, {"json": {"description": "mine"}}, 404, "webhook_endpoint_not_found"),
    ("DELETE", HOOK, {}, 404, "webhook_endpoint_not_found"),
    ("POST", f"{HOOK}/disable", {}, 404, "webhook_endpoint_not_found"),
    ("POST", f"{HOOK}/test", {}, 404, "webhook_endpoint_not_found"),
    ("POST", f"{HOOK}/rotate-secret", {}, 404, "webhook_endpoint_not_found"),
    ("GET", f"{HOOK}/deliveries", {}, 404, "webhook_endpoint_not_found"),
    ("GET", "/api/v1/admin/analytics/sales?group_by=seller", {}, 403, "role_required"),
    ("GET", "/api/v1/admin/analytics/carts?group_by=seller", {}, 403, "role_required"),
]  # fmt: skip


async def test_a_seller_neither_sees_nor_touches_what_is_anothers(scene: Scene) -> None:
    position = await scene.shop.reached()
    for method, path, request, status, code in OTHERS:
        headers = position if method == "GET" else {}
        assert await scene.ask("other", method, path, headers=headers, **request) == (
            status,
            code,
        ), (method, path)


async def test_a_sellers_lists_have_nothing_of_anothers(scene: Scene) -> None:
    await count(
        scene.people["other"], await scene.shop.game(scene.people["other"], kind="PHYSICAL"), 1
    )
    position = await scene.shop.reached()
    for path in (
        STOCK,
        HOOKS,
        "/api/v1/shipments",
        "/api/v1/orders",
        "/api/v1/ledger/accounts",
        "/api/v1/notifications",
    ):
        own, others = [
            await scene.people[name].get(path, headers=position) for name in ("seller", "other")
        ]
        assert (own.status_code, others.status_code) == (200, 200), path
        named = [
            name
            for name in ("seller", "game", "order", "shipment", "hook")
            if scene.ids[name] in others.text
        ]
        assert named == [], path
