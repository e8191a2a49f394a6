"""Wallets as clients use them."""

from typing import Any
from uuid import uuid4

import httpx

from api.middleware.context import CORRELATION_HEADER
from tests.support.shops.gateway import Person, Shop

WAIT = {"Prefer": "wait=10"}


async def open_wallet(person: Person, currency: str = "USD") -> dict[str, Any]:
    """A new wallet."""
    answer = await person.post("/api/v1/wallets", json={"currency": currency})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def adjust(
    admin: Person, wallet: dict[str, Any], amount_cents: int, how: str = "add-funds"
) -> httpx.Response:
    """An ADMIN adds funds to a wallet, or deducts them."""
    body = {"amount_cents": amount_cents, "reason": "for a test"}
    return await admin.post(f"/api/v1/wallets/{wallet['id']}/{how}", json=body)


async def filled_wallet(person: Person, admin: Person, amount_cents: int = 5000) -> dict[str, Any]:
    """A new wallet with this balance."""
    wallet = await open_wallet(person)
    answer = await adjust(admin, wallet, amount_cents)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def transact(
    person: Person, type: str, amount_cents: Any, currency: Any = "USD", **rest: Any
) -> httpx.Response:
    """Request a transaction; `headers` are header fields."""
    headers = {**WAIT, **rest.pop("headers", {})}
    body = {"type": type, "amount_cents": amount_cents, "currency": currency, **rest}
    return await person.post("/api/v1/transactions", json=body, headers=headers)


async def transfer(
    person: Person, source: dict[str, Any], target: dict[str, Any], amount_cents: int, **rest: Any
) -> httpx.Response:
    """A transfer from one wallet to another."""
    return await transact(
        person,
        "transfer",
        amount_cents,
        from_wallet_id=source["id"],
        to_wallet_id=target["id"],
        **rest,
    )


async def balance_of(shop: Shop, person: Person, wallet: dict[str, Any]) -> int:
    """A wallet's balance after everything so far."""
    answer = await person.get(f"/api/v1/wallets/{wallet['id']}", headers=await shop.reached())
    return int(answer.json()["balance_cents"])


async def account(shop: Shop, admin: Person, account_id: str, balance_cents: int) -> dict[str, Any]:
    """A ledger account once it holds this much."""

    async def look() -> dict[str, Any]:
        answer = await admin.get(
            f"/api/v1/ledger/accounts/{account_id}", headers=await shop.reached()
        )
        return dict(answer.json())

    return await shop.eventually(look, lambda found: found.get("balance_cents") == balance_cents)


async def refused(shop: Shop, person: Person, path: str, body: dict[str, Any]) -> httpx.Response:
    """The answer to a refused request. Checks that neither the request nor anything that it caused
    appended an event."""
    head, correlation = await shop.core.log.head(), uuid4()
    answer = await person.post(path, json=body, headers={CORRELATION_HEADER: str(correlation)})
    since = await shop.core.log.read(head)
    assert [event.env.name for event in since if event.env.correlation_id == correlation] == []
    return answer
