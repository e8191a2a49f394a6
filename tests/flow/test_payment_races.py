"""The buyer pays, the provider reports, the deadline passes, the buyer cancels: in every order the
result is either paid, sold and kept, or cancelled with its stock free and the money refunded."""

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import permutations, product
from typing import Any

import httpx
import pytest
import pytest_asyncio

from commands.caller import SYSTEM, Caller
from commands.order_saga import OrderIds
from commands.ports.payments import ProviderRefused
from domain.errors import Refused
from tests.support.shops.manual import VISA, Till, open_till, ordered

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}
STEPS = ("pay", "webhook", "expire", "cancel")

SOLD, FREE = (3, 3, 0, 0), (5, 5, 0, 0)
PAID = ("CONFIRMED", "COMPLETED", SOLD, "succeeded", 0)
UNPAID = ("CANCELLED", "ABANDONED", FREE, "canceled", 0)
RETURNED = ("CANCELLED", "ABANDONED", FREE, "succeeded", 2 * 1999)

EACH_ONCE = [steps for length in range(1, 5) for steps in permutations(STEPS, length)]
REPEATED = [
    steps
    for length in (2, 3)
    for steps in product(STEPS, repeat=length)
    if len(set(steps)) < length
]
REPEATED += [steps for steps in product(STEPS, repeat=4) if len(set(steps)) < 4][::3]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with open_till(module_database, tmp_path_factory.mktemp("till")) as opened:
        yield opened


@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("prompt", [True, False], ids=["reactors keep up", "reactors come last"])
async def test_an_order_ends_paid_or_cancelled_in_whatever_order_things_happen(
    till: Till, first: str, *, prompt: bool
) -> None:
    await _race_all(till, (steps for steps in EACH_ONCE if steps[0] == first), prompt=prompt)


@pytest.mark.soak
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("prompt", [True, False], ids=["reactors keep up", "reactors come last"])
async def test_so_it_does_when_things_happen_again_and_again(
    till: Till, first: str, *, prompt: bool
) -> None:
    await _race_all(till, (steps for steps in REPEATED if steps[0] == first), prompt=prompt)


async def _race_all(till: Till, races: Iterable[tuple[str, ...]], *, prompt: bool) -> None:
    for steps in races:
        ended = await _race(till, steps, prompt=prompt)
        assert ended in {PAID, UNPAID, RETURNED}, (steps, ended)
        if prompt:  # who comes first is served
            assert (ended == PAID) == (steps[0] in {"pay", "webhook"}), (steps, ended)


async def _race(till: Till, steps: tuple[str, ...], *, prompt: bool) -> tuple[Any, ...]:
    """The outcome of an order with two of five units: order, cart, stock, and at the provider the
    intent and its refunds."""
    ann, game = await till.person(), await till.physical_game(5)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value
    placed = await ordered(till.commands.carts.check_out(ann, None, ADDRESS))
    await till.settle()  # the provider has an intent
    for step in steps:
        await _happen(till, step, ann, placed)
        if prompt:
            await till.settle()
    await _happen(till, "expire", ann, placed)
    await till.settle()
    order, cart = await till.order(placed.order_id), await till.cart(cart_id)
    (intent,) = _intents(till, placed)
    return (
        order.status,
        cart.status,
        await till.stock(game),
        intent["status"],
        intent["amount_refunded"],
    )


async def _happen(till: Till, step: str, buyer: Caller, placed: OrderIds) -> None:
    core = till.core
    with suppress(Refused):
        if step == "pay":
            await core.commands.payments.attach(buyer, placed.order_id, VISA)
        elif step == "cancel":
            await core.commands.orders.cancel(buyer, placed.order_id)
        elif step == "expire":
            till.clock.advance(timedelta(minutes=31))
            await core.commands.orders.expire(SYSTEM, placed.order_id)
        else:
            await _pay_at_the_provider(till, placed)


async def _pay_at_the_provider(till: Till, placed: OrderIds) -> None:
    """With the client's secret, as a shop's page does; if the provider captures it, or has captured
    it, its notice is sent."""
    (intent,) = _intents(till, placed)
    with suppress(ProviderRefused):
        await till.core.adapters.payment_provider.confirm(
            intent["id"], method="pm_card_visa", idempotency_key=f"page {intent['id']}"
        )
    (intent,) = _intents(till, placed)
    if intent["status"] == "succeeded":
        await till.notice(placed.payment_id, "payment_intent.succeeded", id=intent["id"])


def _intents(till: Till, placed: OrderIds) -> list[dict[str, Any]]:
    address = f"{till.core.settings.provider_address}/v1/payment_intents"
    return list(
        httpx.get(address, params={"payment_id": str(placed.payment_id)}, timeout=30).json()["data"]
    )
