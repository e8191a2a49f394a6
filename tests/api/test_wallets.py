"""Wallets over HTTP: opening, reading, statements, and what an ADMIN may do."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.support.shops.gateway import Person, Shop
from tests.support.shops.money import adjust, balance_of, filled_wallet, open_wallet, refused


async def test_a_new_wallet_is_empty(shop: Shop, buyer: Person) -> None:
    answer = await buyer.post("/api/v1/wallets", json={"currency": "USD"})
    wallet = answer.json()

    assert answer.status_code == 201
    assert (wallet["balance_cents"], wallet["currency"], wallet["status"]) == (0, "USD", "ACTIVE")
    assert wallet["user_id"] == str(buyer.id)
    assert answer.headers["location"] == f"/api/v1/wallets/{wallet['id']}"
    seen = await buyer.get(
        answer.headers["location"], headers={"Min-Position": answer.headers["event-position"]}
    )
    assert seen.status_code == 200
    assert {name: seen.json()[name] for name in wallet} == wallet
    assert seen.headers["etag"] == answer.headers["etag"] == '"1"'


async def test_a_person_has_one_wallet_in_each_currency(shop: Shop, buyer: Person) -> None:
    answers = await asyncio.gather(
        *(buyer.post("/wallets/create", json={"currency": "EUR"}) for _ in range(4))
    )
    await open_wallet(buyer, "BRL")

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {
        "wallet_exists"
    }
    mine = await buyer.get("/api/v1/wallets/me", headers=await shop.reached())
    assert [wallet["currency"] for wallet in mine.json()["items"]] == ["BRL", "EUR"]
    in_euro = await buyer.get("/api/v1/wallets/me?currency=EUR")
    assert in_euro.json() == mine.json()["items"][1]
    none = await buyer.get("/api/v1/wallets/me?currency=JPY")
    assert (none.status_code, none.json()["code"]) == (404, "wallet_not_found")


async def test_a_repeat_under_a_key_opens_nothing_and_tells_the_same(
    shop: Shop, buyer: Person
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first, again = [
        await buyer.post("/api/v1/wallets", json={"currency": "USD"}, headers=key) for _ in range(2)
    ]
    other = await buyer.post("/api/v1/wallets", json={"currency": "EUR"}, headers=key)

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_an_adjustment_under_a_key_is_made_once(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet, key = await open_wallet(buyer), {"Idempotency-Key": uuid4().hex}
    path, body = f"/wallets/{wallet['id']}/add-funds", {"amount_cents": 700, "reason": "goodwill"}

    answers = [await admin.post(path, json=body, headers=key) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert await balance_of(shop, buyer, wallet) == 700


async def test_a_client_that_knows_a_wallet_is_not_sent_it_again(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await open_wallet(buyer)
    path, known = f"/api/v1/wallets/{wallet['id']}", {"If-None-Match": '"1"'}

    same = await buyer.get(path, headers={**await shop.reached(), **known})
    await adjust(admin, wallet, 100)
    changed = await buyer.get(path, headers={**await shop.reached(), **known})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
    assert (changed.status_code, changed.json()["balance_cents"], changed.headers["etag"]) == (
        200,
        100,
        '"2"',
    )


async def test_a_statement_tells_every_movement_the_latest_first_page_by_page(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin, 500)
    assert (await adjust(admin, wallet, 200, "deduct-funds")).json()["balance_cents"] == 300
    await adjust(admin, wallet, 50)
    path = f"/api/v1/wallets/{wallet['id']}/statement"

    first = await buyer.get(f"{path}?limit=2", headers=await shop.reached())
    rest = await buyer.get(f"{path}?limit=2&cursor={first.json()['next_cursor']}")

    lines = [*first.json()["items"], *rest.json()["items"]]
    told = [
        (line["direction"], line["amount_cents"], line["balance_cents"], line["reason"])
        for line in lines
    ]
    assert told == [
        ("credit", 50, 350, "for a test"),
        ("debit", 200, 300, "for a test"),
        ("credit", 500, 500, "for a test"),
    ]
    assert first.headers["link"].startswith(f"<{path}?limit=2&cursor=")
    assert (rest.json()["next_cursor"], "link" in rest.headers) == (None, False)
    forged = await buyer.get(f"{path}?cursor=nonsense")
    assert (forged.status_code, forged.json()["code"]) == (400, "invalid_cursor")


async def test_a_deactivated_wallet_moves_nothing_until_it_is_reactivated(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin, 500)
    path = f"/api/v1/wallets/{wallet['id']}"

    async def told(what: str) -> tuple[int, str]:
        answer = await admin.post(f"{path}/{what}", json={"reason": "a check"})
        return answer.status_code, answer.json().get("code") or answer.json()["status"]

    assert await told("reactivate") == (409, "wallet_active")
    assert await told("deactivate") == (200, "INACTIVE")
    assert await told("deactivate") == (409, "wallet_inactive")
    for how in ("add-funds", "deduct-funds"):
        refused = await adjust(admin, wallet, 1, how)
        assert (refused.status_code, refused.json()["code"]) == (409, "wallet_inactive")
    assert await told("reactivate") == (200, "ACTIVE")
    assert (await adjust(admin, wallet, 1)).status_code == 200


async def test_no_more_is_taken_than_is_there(shop: Shop, buyer: Person, admin: Person) -> None:
    wallet = await filled_wallet(buyer, admin, 500)

    refused = await adjust(admin, wallet, 501, "deduct-funds")

    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_funds")
    assert refused.json()["balance_cents"] == 500


async def test_a_wallet_is_its_owners_and_the_admins(
    shop: Shop, buyer: Person, admin: Person, auditor: Person
) -> None:
    wallet, other = await open_wallet(buyer), await shop.register()
    path = f"/api/v1/wallets/{wallet['id']}"

    async def looks(person: Any, path: str) -> int:
        return int((await person.get(path, headers=await shop.reached())).status_code)

    for what in (path, path + "/statement"):
        assert [await looks(who, what) for who in (buyer, admin, other, auditor)] == [
            200,
            200,
            403,
            403,
        ]
        assert await looks(shop.client(), what) == 401
    assert (await other.get(path)).json()["code"] == "not_yours"
    for how in ("deactivate", "reactivate", "add-funds", "deduct-funds"):
        assert (
            await buyer.post(f"{path}/{how}", json={"amount_cents": 1, "reason": "x"})
        ).status_code == 403
    unknown = f"/api/v1/wallets/{uuid4()}"
    assert [(await admin.get(unknown + rest)).json()["code"] for rest in ("", "/statement")] == [
        "wallet_not_found"
    ] * 2
    assert (
        await admin.post(unknown + "/add-funds", json={"amount_cents": 1, "reason": "x"})
    ).status_code == 404


async def test_an_auditor_sees_a_wallet_as_it_was(
    shop: Shop, buyer: Person, admin: Person, auditor: Person
) -> None:
    wallet = await open_wallet(buyer)
    then = await adjust(admin, wallet, 500)
    await adjust(admin, wallet, 100)
    path = f"/api/v1/wallets/{wallet['id']}?as_of="

    past = await auditor.get(path + then.headers["event-position"])
    now = await auditor.get(path + "2100-01-01T00:00:00Z")

    assert (past.status_code, past.json()["balance_cents"]) == (200, 500)
    assert (now.json()["balance_cents"], now.json()["version"]) == (600, 3)
    assert (await auditor.get(path + "1")).json()["code"] == "wallet_not_found"
    assert (await buyer.get(path + "1")).status_code == 403


AMOUNTS: list[tuple[Any, str]] = [
    (-1, "invalid_amount"),
    (0, "invalid_amount"),
    (10**14, "invalid_amount"),
    (10**30, "invalid_amount"),
    (1.5, "invalid_amount"),
    (1.0, "invalid_amount"),
    (True, "invalid_amount"),
    ("5", "invalid_amount"),
    (None, "invalid_amount"),
]


@pytest.mark.parametrize("how", ["add-funds", "deduct-funds"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        *(({"amount_cents": amount, "reason": "x"}, code) for amount, code in AMOUNTS),
        ({"amount_cents": 1}, "invalid_request"),
        ({"amount_cents": 1, "reason": ""}, "invalid_request"),
        ({"amount_cents": 1, "reason": "  "}, "invalid_request"),
        ({"amount_cents": 1, "reason": "x", "currency": "USD"}, "invalid_request"),
    ],
)
async def test_an_adjustment_that_makes_no_sense_is_refused_and_leaves_no_trace(
    shop: Shop, admin: Person, body: dict[str, Any], code: str, how: str
) -> None:
    answer = await refused(shop, admin, f"/api/v1/wallets/{uuid4()}/{how}", body)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    "currency", ["usd", "Usd", "XXX", "US", "USDD", "", " USD", "$", "U" * 5000, "US\u0000", "€€€"]
)
async def test_a_currency_that_is_none_is_refused_and_leaves_no_trace(
    shop: Shop, admin: Person, currency: str
) -> None:
    opened = await refused(shop, admin, "/api/v1/wallets", {"currency": currency})
    asked = await admin.get("/api/v1/wallets/me", params={"currency": currency})

    # which every parameter refuses before its meaning is checked
    no_text = "\x00" in currency
    assert (opened.status_code, opened.json()["code"]) == (422, "invalid_currency")
    assert (asked.status_code, asked.json()["code"]) == (
        422,
        "invalid_request" if no_text else "invalid_currency",
    )
    assert len(opened.content) < 1000


@pytest.mark.parametrize(
    "body", [{}, {"currency": None}, {"currency": 5}, {"currency": "USD", "balance_cents": 5}]
)
async def test_a_wallet_is_asked_for_by_its_currency_alone(
    shop: Shop, admin: Person, body: dict[str, Any]
) -> None:
    answer = await admin.post("/api/v1/wallets", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"]
