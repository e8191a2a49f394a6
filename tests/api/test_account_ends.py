"""Closing, forgetting and reopening accounts over HTTP, with everything that belongs to them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from commands.caller import Caller
from commands.handler import CommandHandler
from commands.reactors.account_settling import AccountSettling
from domain.obligations import Obligation
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.shops.gateway import CARD, PASSWORD, SECURE, Person, Shop, a_game
from tests.support.shops.market import (
    ADDRESS,
    CART,
    availability,
    cart_of,
    check_out,
    code_of,
    count,
    numbers,
    put_in,
    reserve,
    stocked,
)
from tests.support.shops.money import (
    adjust,
    balance_of,
    filled_wallet,
    open_wallet,
    refused,
    transact,
)

WAIT = {"Prefer": "wait=10"}


def path_of(person: Person) -> str:
    return f"/api/v1/users/{person.id}"


async def close(by: Person, person: Person | None = None, **query: str) -> httpx.Response:
    """Close an account, the caller's own or another's."""
    return await by.delete(path_of(person or by), params=query)


async def closed(by: Person, person: Person | None = None, **query: str) -> dict[str, str]:
    """As `close`, and wait until it is done: returns the header by which a query reflects it."""
    answer = await close(by, person, **query)
    assert answer.status_code == 204, answer.text
    return {"Min-Position": answer.headers["event-position"]}


async def buy(
    buyer: Person, game: dict[str, Any], token: str | None = CARD, **more: Any
) -> dict[str, Any]:
    method = {"payment_method": {"type": "card", "token": token}} if token else {}
    answer = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"], **method, **more}, headers=WAIT
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def order_of(shop: Shop, admin: Person, order_id: str) -> dict[str, Any]:
    return dict(
        (await admin.get(f"/api/v1/orders/{order_id}", headers=await shop.reached())).json()
    )


async def obligations_of(by: Person, person: Person | None = None) -> list[dict[str, Any]]:
    """The obligations that prevent the account from being forgotten."""
    refused = await close(by, person, forget="true")
    assert code_of(refused) == (409, "account_has_obligations"), refused.text
    return list(refused.json()["obligations"])


async def confirmed_parcel(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> tuple[str, str]:
    """A paid order that is not yet sent, and its shipment."""
    await put_in(buyer, await stocked(shop, seller, 3))
    order_id = (await check_out(buyer)).json()["order_id"]
    order = await shop.eventually(
        lambda: order_of(shop, admin, order_id), lambda found: found["status"] == "CONFIRMED"
    )
    return order_id, order["shipments"][0]["id"]


# -- a seller's games ------------------------------------------------------------------------------


async def test_a_closed_sellers_games_are_off_sale_at_once(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    title = f"Zugzwang {uuid4().hex[:8]}"
    game = await shop.game(seller, title=title)
    anybody = shop.client()

    now = await closed(seller)

    assert (await anybody.get(f"/api/v1/games/{game['id']}", headers=now)).status_code == 404
    listed = await anybody.get("/api/v1/games", params={"seller_id": str(seller.id)}, headers=now)
    assert listed.json()["items"] == []
    found = await anybody.get("/api/v1/games/search", params={"q": title}, headers=now)
    assert title not in [item["title"] for item in found.json()["items"]]
    suggested = await anybody.get("/api/v1/games/suggest", params={"q": title}, headers=now)
    assert suggested.json()["items"] == []
    assert (await availability(shop, game))["in_stock"] is False
    assert code_of(await buyer.post("/api/v1/orders", json={"game_id": game["id"]})) == (
        409,
        "game_unavailable",
    )
    assert code_of(await put_in(buyer, game)) == (409, "game_unavailable")


async def test_what_lies_in_carts_of_a_closed_seller_is_not_checked_out(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    await put_in(buyer, await stocked(shop, seller, 3), 2)
    await closed(seller)
    assert (await check_out(buyer)).status_code == 409


async def test_unpaid_orders_of_a_closed_seller_are_called_off(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 3)
    await put_in(buyer, game, 2)
    order_id = (await check_out(buyer, None)).json()["order_id"]
    digital = await buy(buyer, await shop.game(seller), None)

    await closed(seller)

    for each in (order_id, digital["order_id"]):
        order = await order_of(shop, admin, each)
        assert (order["status"], order["cancel_reason"]) == ("CANCELLED", "seller_closed")
    assert await numbers(shop, admin, game) == (3, 3, 0, 0)


async def test_a_closed_seller_lists_and_publishes_nothing(
    shop: Shop, seller: Person, admin: Person
) -> None:
    draft = await shop.game(seller, status="DRAFT")
    as_seller = Caller(f"user:{seller.id}", seller.id, "SELLER")
    await closed(seller)

    published = await admin.put(f"/api/v1/games/{draft['id']}", json={"status": "ACTIVE"})
    assert code_of(published) == (403, "user_inactive")
    with pytest.raises(Exception, match="user_inactive"):
        await shop.commands.webhook_endpoints.create(as_seller, "https://93.184.215.14/", ["*"])
    assert code_of(await seller.post("/api/v1/games", json=a_game())) == (401, "session_ended")


async def test_admins_see_a_closed_sellers_paid_parcels_and_can_send_them(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    _, shipment_id = await confirmed_parcel(shop, buyer, seller, admin)

    await closed(seller)

    async def told() -> list[str]:
        found = await admin.get("/api/v1/notifications", headers=await shop.reached())
        return [each["template"] for each in found.json()["items"]]

    assert await shop.eventually(told, lambda templates: templates.count("seller_closed") == 1)
    assert (await admin.put(f"/api/v1/shipments/{shipment_id}/process")).status_code == 200
    sent = await admin.put(
        f"/api/v1/shipments/{shipment_id}/ship", json={"carrier": "DHL", "tracking_number": "JD 1"}
    )
    assert sent.status_code == 200


async def test_a_game_of_a_closed_seller_stays_with_who_owns_it(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    order = await buy(buyer, await shop.game(seller))
    await shop.eventually(
        lambda: order_of(shop, admin, order["order_id"]), lambda o: o["status"] == "COMPLETED"
    )
    await closed(seller)
    library = await buyer.get("/api/v1/library", headers=await shop.reached())
    assert [item["order_id"] for item in library.json()["items"]] == [order["order_id"]]


# -- a buyer's cart, orders and money --------------------------------------------------------------


async def test_a_closed_buyers_cart_gives_back_what_it_held(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 3)
    await put_in(buyer, game, 2)
    cart = await cart_of(shop, buyer)

    await closed(buyer)

    assert await numbers(shop, seller, game) == (3, 3, 0, 0)
    (state,) = [
        recorded.event.reason
        for recorded in await shop.core.log.read_stream(UUID(cart["id"]))
        if recorded.env.name == "cart.abandoned.v1"
    ]
    assert state == "account_closed"


async def test_a_closed_buyers_unpaid_orders_are_called_off(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 3)
    await put_in(buyer, game, 2)
    order_id = (await check_out(buyer, SECURE)).json()["order_id"]
    without_method = await buy(buyer, await shop.game(seller), None)

    await closed(buyer)

    for each in (order_id, without_method["order_id"]):
        order = await order_of(shop, admin, each)
        assert (order["status"], order["cancel_reason"]) == ("CANCELLED", "account_closed")
        assert order["payment"]["status"] == "CANCELLED"
    assert await numbers(shop, seller, game) == (3, 3, 0, 0)


async def test_a_closed_persons_open_deposit_is_called_off(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await open_wallet(buyer)
    method = {"type": "card", "token": SECURE}
    asked = await transact(buyer, "deposit", 700, to_wallet_id=wallet["id"], payment_method=method)
    transaction_id = asked.json()["transaction_id"]

    await closed(buyer)

    async def now() -> dict[str, Any]:
        answer = await admin.get(
            f"/api/v1/transactions/{transaction_id}", headers=await shop.reached()
        )
        return dict(answer.json())

    failed = await shop.eventually(now, lambda found: found["status"] == "FAILED")
    assert (failed["step"], failed["code"]) == ("charge", "account_closed")
    assert await balance_of(shop, admin, wallet) == 0


async def test_nobody_puts_money_into_a_closed_persons_wallet(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet, other = await open_wallet(buyer), await shop.register()
    source = await filled_wallet(other, admin, 500)
    await closed(buyer)

    assert code_of(await adjust(admin, wallet, 100)) == (409, "recipient_closed")
    transfer_of = {"type": "transfer", "amount_cents": 300, "currency": "USD"}
    asked = {**transfer_of, "from_wallet_id": source["id"], "to_wallet_id": wallet["id"]}
    assert code_of(await refused(shop, other, "/api/v1/transactions", asked)) == (
        409,
        "recipient_closed",
    )
    assert await balance_of(shop, admin, source) == 500
    assert await balance_of(shop, admin, wallet) == 0


async def test_a_closed_persons_own_money_stays_theirs_and_can_be_paid_out(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin, 500)
    await closed(buyer)
    assert await balance_of(shop, admin, wallet) == 500
    assert (await adjust(admin, wallet, 500, "deduct-funds")).status_code == 200


async def test_a_closed_account_is_answered_nothing_under_its_old_keys(
    shop: Shop, buyer: Person
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    made = await buyer.post("/api/v1/wallets", json={"currency": "USD"}, headers=key)
    assert made.status_code == 201
    await closed(buyer)
    again = await buyer.post("/api/v1/wallets", json={"currency": "USD"}, headers=key)
    assert again.status_code == 401


# -- the last ADMIN --------------------------------------------------------------------------------


async def only_admins(shop: Shop, *kept: Person) -> None:
    """Close every other ADMIN."""
    page = await kept[0].get("/api/v1/users", params={"account_type": "ADMIN", "limit": "200"})
    for each in page.json()["items"]:
        if each["status"] in {"ACTIVE", "PENDING_VERIFICATION"} and UUID(each["id"]) not in {
            k.id for k in kept
        }:
            assert (await kept[0].delete(f"/api/v1/users/{each['id']}")).status_code == 204


@pytest.mark.parametrize("query", [{}, {"forget": "true"}])
async def test_the_last_admin_is_not_closed(shop: Shop, query: dict[str, str]) -> None:
    admin = await shop.register("ADMIN")
    await only_admins(shop, admin)
    assert code_of(await close(admin, None, **query)) == (409, "last_admin")
    assert (await admin.get(path_of(admin))).json()["status"] == "PENDING_VERIFICATION"
    second = await shop.register("ADMIN")
    await closed(admin)
    assert code_of(await close(second, None, **query)) == (409, "last_admin")


async def test_who_cannot_log_in_is_no_other_admin(shop: Shop) -> None:
    admin = await shop.register("ADMIN")
    await only_admins(shop, admin)
    await shop.commands.accounts.register(
        Caller("system"),
        email=f"{uuid4().hex}@example.com",
        password=None,
        name="Ann",
        account_type="ADMIN",
    )
    assert code_of(await close(admin)) == (409, "last_admin")


@pytest.mark.parametrize("themselves", [True, False])
async def test_of_two_admins_who_close_at_once_in_two_processes_one_stays(
    shop: Shop, themselves: bool
) -> None:
    """Each process decides on its own cached states, and the log accepts only one."""
    ann, bob = await shop.register("ADMIN"), await shop.register("ADMIN")
    await only_admins(shop, ann, bob)
    here, there = shop.commands.account_ends, another_process(shop)
    targets = (ann, bob) if themselves else (bob, ann)
    outcomes = await asyncio.gather(
        *(
            ends.close(Caller(f"user:{by.id}", by.id, "ADMIN"), target.id)
            for ends, by, target in zip((here, there), (ann, bob), targets, strict=True)
        ),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert [getattr(each, "code", each) for each in refused] == ["last_admin"]


def another_process(shop: Shop) -> Any:
    """The commands over the same log, with their own cache."""
    from commands.accounts.account_ends import AccountEnds

    core = shop.core
    handler = CommandHandler(Repository(core.log), core.clock)
    settling = AccountSettling(handler, core.adapters.belongings)
    return AccountEnds(
        handler, core.adapters.belongings, settling, core.commands.mailboxes, core.log.keys
    )


# -- forgetting ------------------------------------------------------------------------------------


async def unchanged(shop: Shop, person: Person) -> tuple[int, str]:
    """The number of events in the account's stream, and its status."""
    found = (await person.get(path_of(person), headers=await shop.reached())).json()
    return len(await shop.core.log.read_stream(person.id)), found["status"]


async def test_money_in_a_wallet_keeps_an_account_from_being_forgotten(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin, 500)
    before = await unchanged(shop, buyer)

    assert await obligations_of(buyer) == [
        {"kind": "wallet", "id": wallet["id"], "amount_cents": 500, "currency": "USD"}
    ]

    assert await unchanged(shop, buyer) == before
    await adjust(admin, wallet, 500, "deduct-funds")
    await closed(buyer, forget="true")


async def test_an_unsent_parcel_keeps_its_buyer_and_its_seller_from_being_forgotten(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    order_id, shipment_id = await confirmed_parcel(shop, buyer, seller, admin)
    expected = [{"kind": "shipment", "id": shipment_id, "status": "PENDING", "order_id": order_id}]
    for person in (buyer, seller):
        before = await unchanged(shop, person)
        assert await obligations_of(person) == expected
        assert await obligations_of(admin, person) == expected
        assert await unchanged(shop, person) == before
    assert (await admin.get(f"/api/v1/orders/{order_id}")).json()["shipping_address"][
        "city"
    ] == ADDRESS["city"]


async def test_an_open_payment_and_an_open_deposit_keep_an_account_from_being_forgotten(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    order = await buy(buyer, await shop.game(seller), SECURE)
    wallet = await open_wallet(buyer)
    method = {"type": "card", "token": SECURE}
    deposit = await transact(
        buyer, "deposit", 700, to_wallet_id=wallet["id"], payment_method=method
    )
    before = await unchanged(shop, buyer)

    found = {
        (each["kind"], each["id"], each["amount_cents"]) for each in await obligations_of(buyer)
    }

    assert found == {
        ("payment", order["payment_id"], 1999),
        ("deposit", deposit.json()["transaction_id"], 700),
    }
    assert await unchanged(shop, buyer) == before


async def test_once_closed_and_settled_an_account_is_forgotten(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    await buy(buyer, await shop.game(seller), SECURE)
    wallet = await open_wallet(buyer)
    method = {"type": "card", "token": SECURE}
    await transact(buyer, "deposit", 700, to_wallet_id=wallet["id"], payment_method=method)
    await closed(buyer)
    await closed(admin, buyer, forget="true")
    assert (await admin.get(path_of(buyer), headers=await shop.reached())).json()[
        "status"
    ] == "FORGOTTEN"


async def test_what_begins_while_an_account_is_being_forgotten_stops_it(
    shop: Shop, buyer: Person, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money arrives after the check for obligations, and before the account is closed."""
    wallet = await open_wallet(buyer)

    async def adjusted() -> None:
        assert (await adjust(admin, wallet, 300)).status_code == 200

    once_it_looked(shop, monkeypatch, adjusted)
    refused = await close(buyer, forget="true")
    assert code_of(refused) == (409, "account_has_obligations")
    assert [each["id"] for each in refused.json()["obligations"]] == [wallet["id"]]
    assert (await admin.get(path_of(buyer), headers=await shop.reached())).json()[
        "status"
    ] == "PENDING_VERIFICATION"
    assert (await buyer.get(path_of(buyer))).status_code == 200, "its sessions go on"


async def test_a_deposit_that_begins_meanwhile_is_carried_out_and_the_account_stays_as_it_was(
    shop: Shop, buyer: Person, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet, answers = await open_wallet(buyer), list[httpx.Response]()

    async def deposited() -> None:
        method = {"type": "card", "token": CARD}
        answers.append(
            await transact(buyer, "deposit", 100, to_wallet_id=wallet["id"], payment_method=method)
        )

    once_it_looked(shop, monkeypatch, deposited)
    assert code_of(await close(buyer, forget="true")) == (409, "account_has_obligations")
    assert answers[0].json()["status"] == "COMPLETED"
    account = (await admin.get(path_of(buyer), headers=await shop.reached())).json()
    assert (account["status"], account["email_verified"]) == ("PENDING_VERIFICATION", False)
    assert "user.deactivated.v1" not in [
        each.env.name for each in await shop.core.log.read_stream(buyer.id)
    ]


async def test_who_is_closed_while_a_forgetting_is_refused_stays_closed(
    shop: Shop, buyer: Person, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await open_wallet(buyer)

    async def closed() -> None:
        assert (await adjust(admin, wallet, 300)).status_code == 200
        assert (await close(admin, buyer)).status_code == 204

    once_it_looked(shop, monkeypatch, closed)
    assert code_of(await close(buyer, forget="true")) == (409, "account_has_obligations")
    account = (await admin.get(path_of(buyer), headers=await shop.reached())).json()
    assert account["status"] == "DEACTIVATED"


def once_it_looked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """Let something happen after the check for obligations, and before the account is forgotten."""
    ends, looks = shop.commands.account_ends, [2, 1]
    look = ends._obligations

    async def looked(unit: UnitOfWork, user_id: UUID) -> list[Obligation]:
        found = await look(unit, user_id)
        if looks and looks.pop() == 2:
            await meanwhile()
        return found

    monkeypatch.setattr(ends, "_obligations", looked)


async def test_a_stale_if_match_forgets_nothing(shop: Shop, buyer: Person) -> None:
    refused = await buyer.delete(
        path_of(buyer), params={"forget": "true"}, headers={"If-Match": '"99"'}
    )
    assert refused.status_code == 412
    assert (await buyer.get(path_of(buyer))).status_code == 200


# -- reopening -------------------------------------------------------------------------------------


async def reopen(by: Person, person: Person, **more: Any) -> httpx.Response:
    return await by.post(f"{path_of(person)}/reopen", **more)


async def test_an_admin_opens_a_closed_account_again_and_its_games_are_on_sale_again(
    shop: Shop, seller: Person, admin: Person
) -> None:
    game, retired, draft = [
        await shop.game(seller, status=status) for status in ("ACTIVE", "ACTIVE", "DRAFT")
    ]
    assert (await seller.delete(f"/api/v1/games/{retired['id']}")).status_code == 204
    await closed(seller)

    opened = await reopen(admin, seller, json={"reason": "a mistake"})

    assert (opened.status_code, opened.json()["status"]) == (200, "ACTIVE")
    now = {"Min-Position": opened.headers["event-position"]}
    found = [
        (await admin.get(f"/api/v1/games/{each['id']}", headers=now)).json()["status"]
        for each in (game, retired, draft)
    ]
    assert found == ["ACTIVE", "RETIRED", "DRAFT"]
    assert (await shop.client().get(f"/api/v1/games/{game['id']}", headers=now)).status_code == 200
    credentials = {"email": seller.email, "password": PASSWORD}
    assert (await shop.client().post("/api/v1/auth/login", json=credentials)).status_code == 200


async def test_reopening_needs_no_body_and_is_done_once_under_a_key(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    await closed(buyer)
    key = {"Idempotency-Key": uuid4().hex}
    first, again = await reopen(admin, buyer, headers=key), await reopen(admin, buyer, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()


async def test_only_an_admin_reopens_and_only_what_is_closed_and_known(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    assert code_of(await reopen(seller, buyer)) == (403, "role_required")
    assert code_of(await reopen(admin, buyer)) == (409, "account_active")
    assert (await admin.post(f"/api/v1/users/{uuid4()}/reopen")).status_code == 404
    await closed(buyer, forget="true")
    assert code_of(await reopen(admin, buyer)) == (409, "account_forgotten")


async def test_me_closes_the_callers_account(shop: Shop, buyer: Person, admin: Person) -> None:
    answer = await buyer.delete("/api/v1/users/me")
    assert answer.status_code == 204
    assert (await admin.get(path_of(buyer), headers=await shop.reached())).json()[
        "status"
    ] == "DEACTIVATED"


# -- effects on other aggregates -------------------------------------------------------------------


async def test_a_suspended_games_stock_is_held_by_nobody_anew(
    shop: Shop, seller: Person, admin: Person
) -> None:
    game = await stocked(shop, seller, 3)
    await closed(seller)
    assert (await count(admin, game, 5)).status_code == 200
    assert code_of(await reserve(admin, game, 1)) == (409, "game_unavailable")


async def test_an_empty_cart_or_none_is_no_matter(shop: Shop, buyer: Person) -> None:
    assert (await buyer.get(CART)).status_code in {200, 404}
    await closed(buyer)
