"""The ledger over HTTP: accounts, entries, ledger transactions, the trial balance."""

from typing import Any
from uuid import UUID, uuid4

from domain.payments import PaymentCaptured
from tests.support.shops.gateway import CARD, Person, Shop
from tests.support.shops.money import (
    account,
    adjust,
    filled_wallet,
    open_wallet,
    transact,
    transfer,
)


async def sell(shop: Shop, buyer: Person, seller: Person) -> dict[str, Any]:
    """An order of 1999 cents, paid by card."""
    game = await shop.game(seller)
    body = {"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}}
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_sellers_account_gets_its_share_of_a_sale_and_the_platform_its_fee(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    order = await sell(shop, buyer, seller)
    payable = await account(shop, seller, f"SELLER_PAYABLE:{seller.id}", 1799)

    assert (payable["id"], payable["currency"]) == (f"SELLER_PAYABLE:{seller.id}", "USD")
    assert payable["balances"] == [
        {"currency": "USD", "debits_cents": 0, "credits_cents": 1799, "balance_cents": 1799}
    ]
    (entry,) = payable["items"]
    assert (entry["direction"], entry["amount_cents"], entry["order_id"]) == (
        "credit",
        1799,
        order["order_id"],
    )

    path = f"/api/v1/ledger/transactions/{entry['ledger_transaction_id']}"
    whole = (await admin.get(path)).json()
    assert {
        (each["account_id"], each["direction"], each["amount_cents"]) for each in whole["entries"]
    } == {
        ("BUYER_EXTERNAL", "debit", 1999),
        ("STRIPE_CLEARING", "credit", 1999),
        ("STRIPE_CLEARING", "debit", 1999),
        (f"SELLER_PAYABLE:{seller.id}", "credit", 1799),
        ("PLATFORM_REVENUE", "credit", 200),
    }
    assert (whole["order_id"], whole["payment_id"]) == (order["order_id"], order["payment_id"])
    events = await shop.core.log.read_stream(UUID(order["payment_id"]))
    (captured,) = [each for each in events if isinstance(each.event, PaymentCaptured)]
    assert whole["cause_event_id"] == entry["cause_event_id"] == str(captured.env.event_id)
    assert whole["position"] > captured.env.position


async def test_a_wallets_account_holds_its_balance(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    source, target = (
        await filled_wallet(buyer, admin, 1000),
        await open_wallet(await shop.register()),
    )
    await transact(
        buyer,
        "deposit",
        500,
        to_wallet_id=source["id"],
        payment_method={"type": "card", "token": CARD},
    )
    await transfer(buyer, source, target, 300)
    await adjust(admin, source, 100, "deduct-funds")

    kept = await account(shop, admin, f"WALLET:{source['id']}", 1100)
    given = await account(shop, admin, f"WALLET:{target['id']}", 300)

    assert kept["balances"][0]["credits_cents"] - kept["balances"][0]["debits_cents"] == 1100
    assert sorted((each["direction"], each["amount_cents"]) for each in kept["items"]) == [
        ("credit", 500),
        ("credit", 1000),
        ("debit", 100),
        ("debit", 300),
    ]
    assert [each["direction"] for each in given["items"]] == ["credit"]
    assert len({each["cause_event_id"] for each in kept["items"]}) == 4


async def test_entries_come_page_by_page_the_latest_first(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await open_wallet(buyer)
    for amount in (1, 2, 3):
        await adjust(admin, wallet, amount)
    await account(shop, admin, f"WALLET:{wallet['id']}", 6)
    path = f"/api/v1/ledger/accounts/WALLET:{wallet['id']}"

    first = await admin.get(f"{path}?limit=2")
    rest = (await admin.get(f"{path}?limit=2&cursor={first.json()['next_cursor']}")).json()

    assert [each["amount_cents"] for each in [*first.json()["items"], *rest["items"]]] == [3, 2, 1]
    assert (rest["next_cursor"], rest["balance_cents"]) == (None, 6)
    assert first.headers["link"].endswith('rel="next"')


async def test_an_account_is_shown_in_the_currency_asked_for(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    for currency, amount in (("CHF", 70), ("SEK", 50)):
        await adjust(admin, await open_wallet(buyer, currency), amount)

    async def look() -> list[Any]:
        answers = [
            await admin.get(
                f"/api/v1/ledger/accounts/ADJUSTMENTS?currency={each}", headers=await shop.reached()
            )
            for each in ("CHF", "SEK")
        ]
        return [answer.json() for answer in answers if answer.status_code == 200]

    found = await shop.eventually(look, lambda found: len(found) == 2)

    assert [(each["currency"], each["balance_cents"]) for each in found] == [
        ("CHF", -70),
        ("SEK", -50),
    ]
    assert [[entry["currency"] for entry in each["items"]] for each in found] == [["CHF"], ["SEK"]]
    assert {"CHF", "SEK"} <= {each["currency"] for each in found[1]["balances"]}
    none = await admin.get("/api/v1/ledger/accounts/ADJUSTMENTS?currency=XOF")
    assert (none.status_code, none.json()["code"]) == (404, "account_not_found")
    wrong = await admin.get("/api/v1/ledger/accounts/ADJUSTMENTS?currency=chf")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_currency")


async def test_a_new_sellers_account_is_there_and_empty(shop: Shop, seller: Person) -> None:
    async def look() -> list[Any]:
        return list(
            (await seller.get("/api/v1/ledger/accounts", headers=await shop.reached())).json()[
                "items"
            ]
        )

    (own,) = await shop.eventually(look)
    assert (own["id"], own["currency"], own["balance_cents"]) == (
        f"SELLER_PAYABLE:{seller.id}",
        None,
        0,
    )
    alone = (await seller.get(f"/api/v1/ledger/accounts/SELLER_PAYABLE:{seller.id}")).json()
    assert (alone["currency"], alone["balances"], alone["items"]) == (None, [], [])


async def test_a_seller_sees_the_own_account_only_and_buyers_none(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    await sell(shop, buyer, seller)
    await account(shop, admin, f"SELLER_PAYABLE:{seller.id}", 1799)
    other = await shop.register("SELLER")

    async def statuses(path: str) -> list[int]:
        return [
            (await person.get(path)).status_code
            for person in (admin, seller, other, buyer, shop.client())
        ]

    assert await statuses(f"/api/v1/ledger/accounts/SELLER_PAYABLE:{seller.id}") == [
        200,
        200,
        403,
        403,
        401,
    ]
    assert await statuses("/api/v1/ledger/accounts/PLATFORM_REVENUE") == [200, 403, 403, 403, 401]
    assert await statuses("/api/v1/ledger/accounts/NOTHING") == [404, 403, 403, 403, 401]
    assert await statuses("/api/v1/ledger/accounts") == [200, 200, 200, 403, 401]
    assert await statuses(f"/api/v1/ledger/transactions/{uuid4()}") == [404, 403, 403, 403, 401]
    assert await statuses("/api/v1/ledger/trial-balance") == [200, 403, 403, 403, 401]
    own = (await seller.get("/api/v1/ledger/accounts")).json()
    assert [(each["id"], each["balance_cents"]) for each in own["items"]] == [
        (f"SELLER_PAYABLE:{seller.id}", 1799)
    ]


async def test_an_admin_lists_every_account_once_for_each_currency(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    await sell(shop, buyer, seller)
    await account(shop, admin, f"SELLER_PAYABLE:{seller.id}", 1799)

    listed, cursor = [], ""
    while cursor is not None:
        page = (
            await admin.get(
                "/api/v1/ledger/accounts",
                params={"limit": 3, "cursor": cursor} if cursor else {"limit": 3},
            )
        ).json()
        listed += [(each["id"], each["currency"]) for each in page["items"]]
        cursor = page["next_cursor"]

    assert len(set(listed)) == len(listed)
    assert {
        ("BUYER_EXTERNAL", "USD"),
        ("STRIPE_CLEARING", "USD"),
        ("PLATFORM_REVENUE", "USD"),
    } <= set(listed)
    assert [each for each in listed if each[0] == f"SELLER_PAYABLE:{seller.id}"] == [
        (f"SELLER_PAYABLE:{seller.id}", "USD")
    ]


async def test_debits_equal_credits_now_and_at_every_position(
    shop: Shop, buyer: Person, seller: Person, admin: Person, auditor: Person
) -> None:
    before = await shop.core.log.head()
    await sell(shop, buyer, seller)
    wallet = await filled_wallet(buyer, admin, 1000)
    await account(shop, admin, f"WALLET:{wallet['id']}", 1000)
    head = await shop.core.log.head()

    now = await admin.get("/api/v1/ledger/trial-balance", headers={"Min-Position": str(head)})
    assert now.json()["balanced"] is True
    (usd,) = [each for each in now.json()["items"] if each["currency"] == "USD"]
    assert usd["debits_cents"] == usd["credits_cents"] >= 1000 + 2 * 1999
    assert usd["balance_cents"] == 0

    turnover = []
    for position in range(before, head + 1):
        then = await auditor.get(f"/api/v1/ledger/trial-balance?as_of={position}")
        assert then.headers["event-position"] == str(position)
        assert then.json()["balanced"], position
        turnover.append(
            sum(each["debits_cents"] for each in then.json()["items"] if each["currency"] == "USD")
        )
    assert turnover == sorted(turnover)
    assert turnover[-1] == usd["debits_cents"] > turnover[0]
    beyond = await admin.get(f"/api/v1/ledger/trial-balance?as_of={10**9}")
    assert (beyond.status_code, beyond.json()["code"]) == (400, "position_unknown")


async def test_all_ledger_transactions_come_page_by_page_the_latest_first(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    wallet = await open_wallet(buyer)
    for amount in (1, 2, 3):
        await adjust(admin, wallet, amount)
    await account(shop, admin, f"WALLET:{wallet['id']}", 6)
    path = "/api/v1/ledger/transactions"

    first = await admin.get(f"{path}?limit=2")
    rest = (await admin.get(f"{path}?limit=1&cursor={first.json()['next_cursor']}")).json()

    found = [*first.json()["items"], *rest["items"]]
    assert [each["entries"][0]["amount_cents"] for each in found] == [3, 2, 1]
    assert [each["position"] for each in found] == sorted(
        (each["position"] for each in found), reverse=True
    )
    for each in found:
        assert each == (await admin.get(f"{path}/{each['id']}")).json()
        assert {entry["direction"] for entry in each["entries"]} == {"debit", "credit"}
    assert first.headers["link"].endswith('rel="next"')
    assert (await seller.get(path)).json()["code"] == "role_required"
