"""After the log went back, the program asks the payment provider for its state: acknowledged
notices do not come again."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx

from commands.payment_reconciliation import Reconciliation, UnresolvedMoney, reconcile
from domain.payments import Method
from tests.support.databases.going_back import Earlier
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till

SECURE = Method("card", "pm_card_authenticationRequired")
PRICE = 1999


async def reconciled(till: Till) -> Reconciliation:
    since = till.clock.now() - timedelta(hours=1)
    return await reconcile(
        till.core.handler, till.commands.payments, till.core.adapters.payment_provider, since
    )


async def paid(till: Till, method: Method | None = VISA) -> tuple[UUID, UUID]:
    """An order and its payment, as far as they proceed by themselves."""
    placed = (
        await till.commands.orders.place(await till.person(), await till.game(), method)
    ).value
    await till.settle()
    return placed.order_id, placed.payment_id


async def approve(till: Till, payment_id: UUID) -> None:
    """The payer approves at their bank; the shop gets no notice."""
    async with httpx.AsyncClient() as http:
        ref = (await till.payment(payment_id)).provider_ref
        url = f"{till.core.settings.provider_address}/3ds/{ref}"
        assert (await http.post(url, data={"decision": "approve"})).status_code == 200


async def test_what_the_provider_has_of_lost_history_is_applied_or_named(
    database: str, tmp_path: Path
) -> None:
    earlier = Earlier(database)
    async with open_till(database, tmp_path) as till:
        open_order, open_payment = await paid(till, SECURE)
        refunded_order, refunded_payment = await paid(till)
        await paid(till)
        assert await reconciled(till) == Reconciliation([], [])
    earlier.keep()
    async with open_till(database, tmp_path) as till:
        await approve(till, open_payment)
        await till.commands.orders.refund(ADMIN, refunded_order, 500, "sorry")
        await till.settle()
        _, lost_payment = await paid(till)
        lost_ref = (await till.payment(lost_payment)).provider_ref
    earlier.go_back()
    async with open_till(database, tmp_path) as till:
        assert lost_ref is not None
        lost = UnresolvedMoney(lost_ref, lost_payment, "succeeded", PRICE, 0, "USD", "lost")
        done = await reconciled(till)
        assert {(each.payment_id, each.type) for each in done.applied} == {
            (open_payment, "payment_intent.succeeded"),
            (refunded_payment, "refund.updated"),
        }
        assert done.left == [lost]
        await till.settle()
        assert (await till.order(open_order)).status == "COMPLETED"
        assert (await till.payment(refunded_payment)).refunded_cents == 500
        head = await till.core.log.head()
        assert await reconciled(till) == Reconciliation([], [lost])
        assert await till.core.log.head() == head
        await till.core.adapters.payment_provider.refund(
            lost_ref,
            amount_cents=PRICE,
            payment_id=lost_payment,
            refund_id=lost_payment,
            idempotency_key="by hand",
        )
        assert await reconciled(till) == Reconciliation([], [])


async def test_money_for_an_order_that_was_called_off_meanwhile_goes_back_by_itself(
    database: str, tmp_path: Path
) -> None:
    async with open_till(database, tmp_path) as till:
        order_id, payment_id = await paid(till, SECURE)
        await approve(till, payment_id)
        till.clock.advance(timedelta(minutes=31))
        await till.commands.orders.expire(ADMIN, order_id)
        done = await reconciled(till)
        assert ([each.type for each in done.applied], done.left) == (
            ["payment_intent.succeeded"],
            [],
        )
        await till.settle()
        assert (await till.order(order_id)).status == "CANCELLED"
        assert (await till.payment(payment_id)).status == "REFUNDED"
        assert await reconciled(till) == Reconciliation([], [])


async def test_a_refund_that_the_bank_sent_back_is_reversed(database: str, tmp_path: Path) -> None:
    async with open_till(database, tmp_path) as till:
        order_id, payment_id = await paid(till, Method("card", "pm_card_pendingRefund"))
        await till.commands.orders.refund(ADMIN, order_id, None, "sorry")
        await till.settle()
        await till.refund_notice(payment_id, "refund.updated", "succeeded")
        (refund,) = (await till.payment(payment_id)).refunds.values()
        provider = till.core.settings.provider_address
        url = f"{provider}/v1/test_helpers/refunds/{refund.provider_ref}/expire"
        async with httpx.AsyncClient() as http:
            assert (await http.post(url)).status_code == 200
        assert [each.type for each in (await reconciled(till)).applied] == ["refund.failed"]
        assert (await till.payment(payment_id)).refunded_cents == 0
        assert await reconciled(till) == Reconciliation([], [])


async def test_what_was_paid_beside_a_wallet_is_named_until_it_has_gone_back(
    database: str, tmp_path: Path
) -> None:
    async with open_till(database, tmp_path) as till:
        ann = await till.person()
        await till.wallet(ann, PRICE)
        placed = (await till.commands.orders.place(ann, await till.game(), None)).value
        await till.settle()
        ref = (await till.payment(placed.payment_id)).provider_ref
        assert ref is not None
        await till.core.adapters.payment_provider.confirm(
            ref, method="pm_card_visa", idempotency_key="in another tab"
        )
        await till.commands.payments.attach(ann, placed.order_id, BY_WALLET)
        assert [each.reason for each in (await reconciled(till)).left] == ["paid_by_wallet"]
        await till.settle()
        assert await reconciled(till) == Reconciliation([], [])


async def test_money_that_the_payment_cannot_take_is_named_each_time(
    database: str, tmp_path: Path
) -> None:
    async with open_till(database, tmp_path) as till:
        (_, paid_twice), (_, unpaid) = await paid(till), await paid(till, None)
        async with httpx.AsyncClient(base_url=till.core.settings.provider_address) as http:
            for payment_id, amount in ((paid_twice, PRICE), (unpaid, 1)):
                metadata = {"payment_id": str(payment_id)}
                body = {
                    "amount": amount,
                    "currency": "usd",
                    "metadata": metadata,
                    "payment_method": "pm_card_visa",
                }
                assert (await http.post("/v1/payment_intents", json=body)).status_code == 200
        reasons = [
            {each.payment_id: each.reason for each in (await reconciled(till)).left}
            for _ in range(2)
        ]
        assert reasons == [
            {paid_twice: "paid_by_another_intent", unpaid: "amount_mismatch"},
            {paid_twice: "paid_by_another_intent", unpaid: "not_captured"},
        ]
