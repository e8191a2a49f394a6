"""Payments, or their outcomes, that the log has lost because a standby took over without them; jobs
about them; and payments that the provider has lost."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from commands.caller import SYSTEM
from commands.order_saga import OrderIds
from commands.ports.queue import Job
from domain.payments import Method
from tests.support.databases.going_back import Earlier
from tests.support.shops.gateway import open_shop
from tests.support.shops.manual import ADMIN, VISA, Till, open_till

KINDS = ["charge", "intent", "cancel", "refund", "refund_failed"]


async def test_no_job_about_a_lost_payment_charges_anybody(database: str, tmp_path: Path) -> None:
    async with open_shop(database, tmp_path) as shop:
        jobs = [
            Job(uuid4(), kind, {"payment_id": str(uuid4()), "refund_id": str(uuid4())})
            for kind in KINDS
        ]
        head = await shop.core.log.head()
        await shop.queues["ludoteca.payments"].publish(jobs)
        async with asyncio.timeout(30):
            while len(dropped(tmp_path)) < len(jobs):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
        assert all("unknown payment" in line for line in dropped(tmp_path))
        assert await shop.queues["ludoteca.payments"].dead() == 0
        assert await shop.core.log.head() == head


def dropped(home: Path) -> list[str]:
    """The worker's lines about jobs that it dropped."""
    log = home / "logs" / "payment-worker.txt"
    return (
        [line for line in log.read_text().splitlines() if "worker dropped" in line]
        if log.exists()
        else []
    )


@pytest.mark.parametrize(
    "first", ["pm_card_visa", "pm_card_chargeDeclined"], ids=["taken", "declined"]
)
@pytest.mark.parametrize("again", [True, False], ids=["paid again", "left to expire"])
async def test_an_order_whose_payment_went_on_in_lost_history_is_charged_once_or_not_at_all(
    database: str, tmp_path: Path, first: str, *, again: bool
) -> None:
    earlier = Earlier(database)
    async with open_till(database, tmp_path) as till:
        ann, game = await till.person(), await till.game()
        placed = (await till.commands.orders.place(ann, game, None)).value
        await till.settle()  # the provider has an intent
    earlier.keep()
    async with open_till(database, tmp_path) as till:
        await till.commands.payments.attach(ann, placed.order_id, Method("card", first))
        await till.react()
        await till.work()
    earlier.go_back()
    async with open_till(database, tmp_path) as till:
        if again:
            await till.commands.payments.attach(ann, placed.order_id, VISA)
            await till.settle()
        till.clock.advance(timedelta(minutes=31))
        await till.commands.orders.expire(SYSTEM, placed.order_id)
        await till.settle()
        order, intent = await till.order(placed.order_id), the_intent(till, placed)
        taken = intent["amount"] if intent["status"] == "succeeded" else 0
        if again:
            assert (order.status, taken, intent["amount_refunded"]) == ("COMPLETED", 1999, 0)
        else:
            assert (order.status, taken - intent["amount_refunded"]) == ("CANCELLED", 0)
        assert not till.dead


async def test_a_cancellation_that_the_log_has_lost_cancels_nothing(
    database: str, tmp_path: Path
) -> None:
    async with open_till(database, tmp_path) as till:
        ann, game = await till.person(), await till.game()
        placed = (await till.commands.orders.place(ann, game, None)).value
        await till.settle()
        await till.queue.publish([Job(uuid4(), "cancel", {"payment_id": str(placed.payment_id)})])
        await till.work()
        assert the_intent(till, placed)["status"] == "requires_payment_method"
        await till.commands.payments.attach(ann, placed.order_id, VISA)
        await till.settle()
        assert (await till.order(placed.order_id)).status == "COMPLETED"


@pytest.mark.parametrize(
    "card", ["pm_card_visa", "pm_card_pendingRefund"], ids=["to be asked for", "under way"]
)
async def test_a_provider_that_does_not_know_the_money_gives_none_back(
    database: str, tmp_path: Path, card: str
) -> None:
    async with open_till(database, tmp_path) as till:
        ann, game = await till.person(), await till.game()
        placed = (await till.commands.orders.place(ann, game, Method("card", card))).value
        await till.settle()
        refund_id = (await till.commands.orders.refund(ADMIN, placed.order_id, None, "sorry")).value
        if card == "pm_card_pendingRefund":
            await till.settle()
    # where the provider begins anew
    async with open_till(database, tmp_path / "another machine") as till:
        job = Job(
            uuid4(), "refund", {"payment_id": str(placed.payment_id), "refund_id": str(refund_id)}
        )
        await till.queue.publish([job])
        await till.work()
        payment, order = await till.payment(placed.payment_id), await till.order(placed.order_id)
        assert (payment.status, payment.refunds[refund_id].code) == ("CAPTURED", "resource_missing")
        assert (order.refunded_cents, payment.refund_status) == (0, "FAILED")
        await till.settle()
        assert not till.dead
        again = (await till.commands.orders.refund(ADMIN, placed.order_id, None, "sorry")).value
        assert again != refund_id


async def test_money_reported_by_a_notice_is_refunded_through_the_payments_own_intent(
    database: str, tmp_path: Path
) -> None:
    async with open_till(database, tmp_path) as till:
        ann, game = await till.person(), await till.game()
        placed = (await till.commands.orders.place(ann, game, None)).value
        await till.settle()
        await till.notice(placed.payment_id, "payment_intent.succeeded", id="pi_that_nobody_made")
        await till.settle()
        await till.commands.orders.refund(ADMIN, placed.order_id, None, "sorry")
        await till.settle()
        assert (await till.payment(placed.payment_id)).status == "REFUNDED"


def the_intent(till: Till, placed: OrderIds) -> dict[str, Any]:
    """The provider's only intent for an order's payment."""
    address = f"{till.core.settings.provider_address}/v1/payment_intents"
    (intent,) = httpx.get(
        address, params={"payment_id": str(placed.payment_id)}, timeout=30
    ).json()["data"]
    return dict(intent)
