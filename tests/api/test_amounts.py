"""The largest amount of each currency, for every request with an amount; and how amounts are
formatted."""

from typing import Any

import pytest

from kit.currencies import MAX_CENTS
from tests.support.shops.gateway import CARD, Person, Shop, a_game
from tests.support.shops.money import account, adjust, open_wallet, transact

CURRENCIES = ["USD", "JPY", "KWD", "IDR", "LBP", "VND"]


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_a_price_may_be_the_largest_amount_of_its_currency_and_no_more(
    shop: Shop, seller: Person, currency: str
) -> None:
    most = MAX_CENTS[currency]
    for amount, expected in [
        (most, 201),
        (most + 1, 422),
        (0, 201),
        (-1, 422),
        (2**63, 422),
        (10**40, 422),
    ]:
        prices = [{"region": "*", "amount_cents": amount, "currency": currency}]
        answer = await seller.post("/api/v1/games", json=a_game(prices=prices))
        assert answer.status_code == expected, (amount, answer.text)
    changed = await seller.put(
        f"/api/v1/games/{(await shop.game(seller))['id']}",
        json={"prices": [{"region": "*", "amount_cents": most + 1, "currency": currency}]},
    )
    assert changed.status_code == 422


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_a_wallet_is_filled_adjusted_and_emptied_by_amounts_of_its_currency(
    shop: Shop, buyer: Person, admin: Person, currency: str
) -> None:
    wallet, most = await open_wallet(buyer, currency), MAX_CENTS[currency]
    target = await open_wallet(await shop.register(), currency)
    for how in ("add-funds", "deduct-funds"):
        assert code_of(await adjust(admin, wallet, most + 1, how)) == (422, "invalid_amount")
    for _ in range(2):
        assert (await adjust(admin, wallet, most)).status_code == 200
    assert (await adjust(admin, wallet, most, "deduct-funds")).json()["balance_cents"] == most
    ids = {"from_wallet_id": wallet["id"], "to_wallet_id": target["id"]}
    assert code_of(await transact(buyer, "transfer", most + 1, currency, **ids)) == (
        422,
        "invalid_amount",
    )
    assert (await transact(buyer, "transfer", most, currency, **ids)).json()[
        "status"
    ] == "COMPLETED"
    deposit = {"to_wallet_id": wallet["id"], "payment_method": {"type": "card", "token": CARD}}
    assert code_of(await transact(buyer, "deposit", most + 1, currency, **deposit)) == (
        422,
        "invalid_amount",
    )
    assert (await transact(buyer, "deposit", most, currency, **deposit)).json()[
        "status"
    ] == "COMPLETED"
    await account(shop, admin, f"WALLET:{wallet['id']}", most)


@pytest.mark.parametrize(
    ("currency", "cents", "read"), [("JPY", 6500, "6500 JPY"), ("KWD", 12345, "12.345 KWD")]
)
async def test_a_purchase_reads_with_the_decimals_of_its_currency(
    shop: Shop, seller: Person, buyer: Person, currency: str, cents: int, read: str
) -> None:
    game = await shop.game(
        seller, prices=[{"region": "*", "amount_cents": cents, "currency": currency}]
    )
    body = {"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}}
    order = (await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})).json()
    assert (order["status"], order["amount_cents"], order["currency"]) == (
        "COMPLETED",
        cents,
        currency,
    )

    async def mailed() -> list[str]:
        return [path.read_text() for path in (shop.core.settings.home / "mail").glob("*.eml")]

    await shop.eventually(mailed, lambda mails: any(f"Total: {read}" in mail for mail in mails))


@pytest.mark.parametrize("code", ["XXX", "XAU", "XTS", "BTC", "usd", "DEM"])
async def test_a_code_that_is_no_currency_is_refused_everywhere(
    shop: Shop, seller: Person, code: str
) -> None:
    prices = [{"region": "*", "amount_cents": 1, "currency": code}]
    assert code_of(await seller.post("/api/v1/games", json=a_game(prices=prices))) == (
        422,
        "invalid_currency",
    )
    assert code_of(await seller.post("/api/v1/wallets", json={"currency": code})) == (
        422,
        "invalid_currency",
    )
    ids = {"to_wallet_id": str(seller.id)}
    assert code_of(await transact(seller, "deposit", 1, code, **ids)) == (422, "invalid_currency")
