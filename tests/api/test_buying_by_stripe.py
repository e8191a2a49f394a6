"""The shop with Stripe as its provider: the real gateway and workers over stripe-mock, and notices
signed by Stripe's package.

stripe-mock remembers nothing, so only notices report the outcome of a payment.
"""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import stripe

from deploy.services import STRIPE_TEST_KEY
from tests.support.servers.provider import SECRET
from tests.support.shops.gateway import CARD, Person, Shop, open_shop

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Stripe's package has not followed httpx there yet
    pytest.mark.filterwarnings("ignore:Use 'content="),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory, stripe_mock_url: str
) -> AsyncIterator[Shop]:
    """A shop with Stripe as its payment provider."""
    by_stripe = {
        "payment_provider": "stripe",
        "stripe_api_key": STRIPE_TEST_KEY,
        "stripe_api_base": stripe_mock_url,
    }
    async with open_shop(module_database, tmp_path_factory.mktemp("shop"), **by_stripe) as shop:
        yield shop


async def tell(shop: Shop, payment_id: str, type: str, **fields: Any) -> None:
    """Send a notice as Stripe would."""
    about = {
        "id": "pi_1",
        "amount": 1999,
        "currency": "usd",
        "metadata": {"payment_id": payment_id},
        **fields,
    }
    event = {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": type,
        "created": 1,
        "data": {"object": about},
    }
    body = json.dumps(event)
    headers = {"Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body, SECRET)}
    answer = await shop.client().post("/api/v1/payments/webhook", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def status(shop: Shop, buyer: Person, placed: dict[str, Any], wanted: str) -> None:
    """Wait until the order has this status."""

    async def look() -> str:
        seen = await buyer.get(f"/api/v1/orders/{placed['order_id']}", headers=await shop.reached())
        return str(seen.json()["status"])

    await shop.eventually(look, lambda found: found == wanted)


async def test_a_client_pays_with_its_secret_and_gets_its_money_back(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    game = await shop.game(seller)
    answer = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"]}, headers={"Prefer": "wait=10"}
    )
    placed = answer.json()
    assert (answer.status_code, placed["status"]) == (201, "PENDING_PAYMENT")
    assert placed["client_secret"].startswith("pi_")

    await tell(shop, placed["payment_id"], "payment_intent.succeeded")
    await status(shop, buyer, placed, "COMPLETED")
    refund = await admin.post(
        f"/api/v1/orders/{placed['order_id']}/refund", json={"reason": "sorry"}
    )
    assert refund.status_code == 201, refund.text
    await status(shop, buyer, placed, "REFUNDED")
    assert await shop.queues["ludoteca.payments"].dead() == 0


async def test_a_card_that_the_client_names_is_charged_by_the_worker(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    body = {
        "game_id": (await shop.game(seller))["id"],
        "payment_method": {"type": "card", "token": CARD},
    }
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "respond-async"})
    placed = answer.json()

    async def asked() -> bool:
        names = [
            recorded.env.name for recorded in await shop.core.log.read_stream(placed["payment_id"])
        ]
        return "payment.intent_created.v1" in names

    await shop.eventually(asked)
    await tell(shop, placed["payment_id"], "payment_intent.succeeded")
    await status(shop, buyer, placed, "COMPLETED")
