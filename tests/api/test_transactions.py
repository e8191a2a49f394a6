"""Deposits, transfers and payments from wallets, over HTTP, with a worker and a card provider."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.shops.gateway import CARD, DECLINED, SECURE, Person, Shop
from tests.support.shops.money import (
    adjust,
    balance_of,
    filled_wallet,
    open_wallet,
    refused,
    transact,
    transfer,
)


def by_card(wallet: dict[str, Any], token: str = CARD) -> dict[str, Any]:
    return {"to_wallet_id": wallet["id"], "payment_method": {"type": "card", "token": token}}


async def unpaid_order(shop: Shop, buyer: Person, seller: Person) -> dict[str, Any]:
    """An order of 1999 cents without a payment method."""
    game = await shop.game(seller)
    return dict((await buyer.post("/api/v1/orders", json={"game_id": game["id"]})).json())


# -- deposits --------------------------------------------------------------------------------------


async def test_a_deposit_by_card_is_in_the_wallet(shop: Shop, buyer: Person) -> None:
    wallet = await open_wallet(buyer)

    answer = await transact(buyer, "deposit", 2500, **by_card(wallet))
    made = answer.json()

    assert answer.status_code == 201, answer.text
    assert (made["type"], made["status"], made["amount_cents"]) == ("deposit", "COMPLETED", 2500)
    assert answer.headers["location"] == f"/api/v1/transactions/{made['transaction_id']}"
    reached = {"Min-Position": answer.headers["event-position"]}
    seen = (await buyer.get(answer.headers["location"], headers=reached)).json()
    assert (seen["id"], seen["status"], seen["payment_id"]) == (
        made["id"],
        "COMPLETED",
        made["payment_id"],
    )
    assert (await buyer.get(f"/api/v1/wallets/{wallet['id']}", headers=reached)).json()[
        "balance_cents"
    ] == 2500
    (line,) = (await buyer.get(f"/api/v1/wallets/{wallet['id']}/statement")).json()["items"]
    assert (line["transaction_id"], line["payment_id"]) == (made["id"], made["payment_id"])
    payment = (await buyer.get(f"/api/v1/payments/{made['payment_id']}")).json()
    assert (payment["status"], payment["order_id"]) == ("CAPTURED", None)


async def test_a_declined_deposit_is_400_with_the_step_and_why(shop: Shop, buyer: Person) -> None:
    wallet = await open_wallet(buyer)

    answer = await transact(buyer, "deposit", 2500, **by_card(wallet, DECLINED))
    problem = answer.json()

    assert (answer.status_code, problem["code"]) == (400, "transaction_failed")
    assert (problem["step"], problem["failure_code"], problem["refunded_cents"]) == (
        "charge",
        "card_declined",
        0,
    )
    assert problem["try_next"] == ["another_card"]
    assert problem["detail"].endswith("card_declined. You can pay with another card.")
    seen = (
        await buyer.get(
            f"/api/v1/transactions/{problem['transaction_id']}", headers=await shop.reached()
        )
    ).json()
    assert (seen["status"], seen["step"], seen["code"]) == ("FAILED", "charge", "card_declined")
    assert await balance_of(shop, buyer, wallet) == 0


async def test_a_deposit_that_needs_its_payer_says_where_to_go(shop: Shop, buyer: Person) -> None:
    wallet = await open_wallet(buyer)

    secure = await transact(buyer, "deposit", 2500, **by_card(wallet, SECURE))
    later = await transact(buyer, "deposit", 2500, to_wallet_id=wallet["id"])

    assert (secure.status_code, later.status_code) == (201, 201)
    assert secure.json()["redirect_url"].startswith("http")
    assert later.json()["client_secret"]
    assert secure.json()["status"] != "COMPLETED" != later.json()["status"]


async def test_a_card_number_is_refused_and_not_kept(shop: Shop, buyer: Person) -> None:
    wallet = await open_wallet(buyer)
    body = {
        "type": "deposit",
        "amount_cents": 100,
        "currency": "USD",
        **by_card(wallet, "4242 4242 4242 4242"),
    }

    answer = await refused(shop, buyer, "/api/v1/transactions", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")
    assert "4242" not in answer.text


# -- transfers -------------------------------------------------------------------------------------


async def test_a_transfer_takes_here_and_gives_there(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    other = await shop.register()
    source, target = await filled_wallet(buyer, admin, 1000), await open_wallet(other)

    answer = await transfer(buyer, source, target, 300)

    assert (answer.status_code, answer.json()["status"]) == (201, "COMPLETED")
    assert [await balance_of(shop, *whose) for whose in ((buyer, source), (other, target))] == [
        700,
        300,
    ]
    lines = [
        (await person.get(f"/api/v1/wallets/{wallet['id']}/statement")).json()["items"][0]
        for person, wallet in ((buyer, source), (other, target))
    ]
    assert [(line["direction"], line["transaction_id"]) for line in lines] == [
        ("debit", answer.json()["id"]),
        ("credit", answer.json()["id"]),
    ]


async def test_a_transfer_that_the_target_refuses_is_400_and_given_back(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    source, target = (
        await filled_wallet(buyer, admin, 1000),
        await open_wallet(await shop.register()),
    )
    await admin.post(f"/api/v1/wallets/{target['id']}/deactivate", json={"reason": "a check"})

    answer = await transfer(buyer, source, target, 300)
    problem = answer.json()

    assert (answer.status_code, problem["code"]) == (400, "transaction_failed")
    assert (problem["step"], problem["failure_code"]) == ("credit", "wallet_inactive")
    assert (problem["refunded_cents"], problem["currency"]) == (300, "USD")
    assert problem["try_next"] == []
    assert await balance_of(shop, buyer, source) == 1000
    statement = await buyer.get(f"/api/v1/wallets/{source['id']}/statement")
    told = [(line["direction"], line["transaction_id"]) for line in statement.json()["items"][:2]]
    assert told == [("credit", problem["transaction_id"]), ("debit", problem["transaction_id"])]


async def test_a_transfer_under_a_key_is_made_once_and_a_failed_one_fails_again(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    source, target = (
        await filled_wallet(buyer, admin, 1000),
        await open_wallet(await shop.register()),
    )
    key = {"Idempotency-Key": uuid4().hex}

    first, again = [await transfer(buyer, source, target, 300, headers=key) for _ in range(2)]
    other = await transfer(buyer, source, target, 301, headers=key)
    await admin.post(f"/api/v1/wallets/{target['id']}/deactivate", json={"reason": "a check"})
    key = {"Idempotency-Key": uuid4().hex}
    failed, failed_again = [
        await transfer(buyer, source, target, 300, headers=key) for _ in range(2)
    ]

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (failed_again.status_code, failed_again.content) == (400, failed.content)
    assert await balance_of(shop, buyer, source) == 700


async def test_an_answer_that_waits_for_nothing_is_202(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    source, target = (
        await filled_wallet(buyer, admin, 1000),
        await open_wallet(await shop.register()),
    )

    answer = await transfer(buyer, source, target, 300, headers={"Prefer": "respond-async"})

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.json()["status"] in {"PENDING", "PROCESSING", "COMPLETED"}

    async def completed() -> bool:
        seen = await buyer.get(answer.headers["location"], headers=await shop.reached())
        return bool(seen.json()["status"] == "COMPLETED")

    await shop.eventually(completed)


async def test_many_transfers_at_once_never_take_more_than_is_there(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    source, target = (
        await filled_wallet(buyer, admin, 1000),
        await open_wallet(await shop.register()),
    )

    answers = await asyncio.gather(*(transfer(buyer, source, target, 300) for _ in range(6)))

    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), set(statuses) <= {201, 400, 409}) == (3, True)
    assert [await balance_of(shop, admin, wallet) for wallet in (source, target)] == [100, 900]


# -- payments --------------------------------------------------------------------------------------


async def test_an_order_is_paid_from_a_wallet(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    wallet, order = await filled_wallet(buyer, admin, 2500), await unpaid_order(shop, buyer, seller)
    paying = {"from_wallet_id": wallet["id"], "order_id": order["order_id"]}

    wrong = await transact(buyer, "payment", 1998, **paying)
    paid = await transact(buyer, "payment", 1999, **paying)
    again = await transact(buyer, "payment", 1999, **paying)

    assert (wrong.status_code, wrong.json()["code"]) == (409, "amount_mismatch")
    assert (paid.status_code, paid.json()["status"]) == (201, "COMPLETED")
    assert (paid.json()["order_id"], paid.json()["payment_id"]) == (
        order["order_id"],
        order["payment_id"],
    )
    assert again.status_code == 409
    assert await balance_of(shop, buyer, wallet) == 501

    async def completed() -> bool:
        seen = await buyer.get(f"/api/v1/orders/{order['order_id']}", headers=await shop.reached())
        return bool(seen.json()["status"] == "COMPLETED")

    await shop.eventually(completed)


async def test_an_order_that_the_wallet_does_not_cover_stays_unpaid(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    wallet, order = await filled_wallet(buyer, admin, 1998), await unpaid_order(shop, buyer, seller)
    body = {
        "type": "payment", "amount_cents": 1999, "currency": "USD", "from_wallet_id": wallet["id"],
        "order_id": order["order_id"],
    }  # fmt: skip

    answer = await refused(shop, buyer, "/transactions/create", body)

    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
    unknown = await refused(shop, buyer, "/api/v1/transactions", {**body, "order_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "order_not_found")


# -- ownership -------------------------------------------------------------------------------------


async def test_transactions_are_listed_to_whoever_made_them_and_to_admins(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    other = await shop.register()
    source, target = await filled_wallet(buyer, admin, 1000), await open_wallet(other)
    made = [(await transfer(buyer, source, target, amount)).json()["id"] for amount in (1, 2, 3)]
    path, reached = "/api/v1/transactions", await shop.reached()

    first = (await buyer.get(f"{path}?limit=2", headers=reached)).json()
    rest = (
        await buyer.get(f"{path}?limit=2&cursor={first['next_cursor']}", headers=reached)
    ).json()
    assert [each["id"] for each in [*first["items"], *rest["items"]]] == made[::-1]
    assert (await other.get(path, headers=reached)).json()["items"] == []
    everybodys = (await admin.get(f"{path}?limit=200", headers=reached)).json()["items"]
    assert set(made) <= {each["id"] for each in everybodys}
    assert (
        len((await admin.get(f"{path}?user_id={buyer.id}&status=COMPLETED")).json()["items"]) == 3
    )
    assert (await other.get(f"{path}?user_id={buyer.id}")).status_code == 403
    one = [
        (await person.get(f"{path}/{made[0]}")).status_code
        for person in (buyer, other, admin, await shop.register())
    ]
    assert one == [200, 200, 200, 403]
    assert (await buyer.get(f"{path}/{uuid4()}")).json()["code"] == "transaction_not_found"
    assert (await shop.client().get(path)).status_code == 401


# -- refusals without an event ---------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], int, str]] = [
    *(
        ({"amount_cents": amount}, 422, "invalid_amount")
        for amount in (-1, 0, 100_000_001, 10**40, 1.5, 300.0, 1e308, True, "300", None)
    ),
    *(
        ({"currency": currency}, 422, "invalid_currency")
        for currency in ("usd", "XXX", "DOLLARS", "", "BTC")
    ),
    ({"currency": None}, 422, "invalid_request"),
    ({"currency": "EUR"}, 409, "currency_mismatch"),
    ({"to_wallet_id": "in euro"}, 409, "currency_mismatch"),
    ({"amount_cents": 1001}, 409, "insufficient_funds"),
    ({"to_wallet_id": "source"}, 422, "same_wallet"),
    ({"to_wallet_id": "nobody's"}, 404, "wallet_not_found"),
    ({"from_wallet_id": "nobody's"}, 404, "wallet_not_found"),
    ({"from_wallet_id": "another's", "to_wallet_id": "source"}, 403, "not_yours"),
    (
        {"from_wallet_id": "closed", "to_wallet_id": "in yen", "currency": "JPY"},
        409,
        "wallet_inactive",
    ),
    ({"to_wallet_id": None}, 422, "invalid_request"),
    ({"from_wallet_id": None}, 422, "invalid_request"),
    ({"to_wallet_id": "0"}, 422, "invalid_request"),
    ({"order_id": "nobody's"}, 422, "invalid_request"),
    ({"payment_method": {"type": "card", "token": CARD}}, 422, "invalid_request"),
    ({"type": "gift"}, 422, "invalid_request"),
    ({"type": None}, 422, "invalid_request"),
    ({"type": "deposit"}, 422, "invalid_request"),
    ({"type": "payment"}, 422, "invalid_request"),
    ({"type": "deposit", "from_wallet_id": None, "to_wallet_id": "another's"}, 403, "not_yours"),
    (
        {"type": "deposit", "from_wallet_id": None, "to_wallet_id": "closed", "currency": "JPY"},
        409,
        "wallet_inactive",
    ),
    (
        {"type": "deposit", "from_wallet_id": None, "to_wallet_id": "in euro"},
        409,
        "currency_mismatch",
    ),
    ({"note": "for you"}, 422, "invalid_request"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def somebody(shop: Shop) -> tuple[Person, dict[str, str]]:
    """A person with 1000 cents, and the ids of wallets by what is wrong with them."""
    payer, admin, other = await shop.register(), await shop.register("ADMIN"), await shop.register()
    closed = await open_wallet(payer, "JPY")
    await adjust(admin, closed, 1000)
    await admin.post(f"/api/v1/wallets/{closed['id']}/deactivate", json={"reason": "a check"})
    wallets = {
        "source": await filled_wallet(payer, admin, 1000),
        "another's": await filled_wallet(other, admin),
        "in euro": await open_wallet(payer, "EUR"),
        "in yen": await open_wallet(other, "JPY"),
        "closed": closed,
        "nobody's": {"id": str(uuid4())},
    }
    return payer, {name: wallet["id"] for name, wallet in wallets.items()}


@pytest.mark.parametrize(("wrong", "status", "code"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_is_refused_with_its_own_code_and_leaves_no_trace(
    shop: Shop,
    somebody: tuple[Person, dict[str, str]],
    wrong: dict[str, Any],
    status: int,
    code: str,
) -> None:
    payer, wallets = somebody
    right = {"type": "transfer", "amount_cents": 300, "currency": "USD", "from_wallet_id": "source"}
    body = {**right, "to_wallet_id": "another's", **wrong}
    for name in ("from_wallet_id", "to_wallet_id", "order_id"):
        body[name] = wallets.get(str(body.get(name)), body.get(name))

    answer = await refused(shop, payer, "/api/v1/transactions", body)

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert ("errors" in answer.json()) == (code == "invalid_request")
