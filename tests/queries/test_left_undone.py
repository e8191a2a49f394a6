"""What discarding a dead letter would leave undone, in words."""

from uuid import UUID, uuid4

from commands.ports.queue import DeadLetter, Job
from domain.notifications import NotificationSent
from domain.payments import (
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundRequested,
)
from queries.trace.undone import left_undone
from tests.support.events.history import (
    BUYER,
    ORDER,
    PAYMENT,
    notice_requested,
    order_created,
    payment_requested,
    some_id,
)
from tests.support.shops.projected import Shop

REFUND, NOTICE, USD = some_id("refund"), some_id("notice"), "USD"


def letter(kind: str, **body: UUID | str) -> DeadLetter:
    job = Job(uuid4(), kind, {name: str(value) for name, value in body.items()})
    return DeadLetter(job, "a queue", "no answer", 5, None)


async def told(shop: Shop, of: DeadLetter) -> str:
    return (await left_undone(await shop.projected(), [of]))[of.job.id]


async def test_an_order_that_waits_for_its_payment_is_named(shop: Shop) -> None:
    await shop.happened(ORDER, order_created())
    await shop.happened(PAYMENT, payment_requested())
    charge = letter("charge", payment_id=PAYMENT)
    assert await told(shop, charge) == (
        f"The payment {PAYMENT} is REQUESTED: nobody would ask the provider for its money."
        f" Its order {ORDER} is PENDING_PAYMENT, and waits for it until its deadline."
    )
    assert "could not pay it" in await told(shop, letter("intent", payment_id=PAYMENT))
    assert "may still be paid" in await told(shop, letter("cancel", payment_id=PAYMENT))

    await shop.happened(PAYMENT, PaymentFailed(ORDER, BUYER, 1, USD, "expired", "late"))
    over = await told(shop, charge)
    assert f"The payment {PAYMENT} is FAILED: nothing waits for it." in over
    assert "payments reconcile" in over


async def test_a_payer_who_waits_for_money_is_told_until_it_is_there(shop: Shop) -> None:
    await shop.happened(ORDER, order_created())
    await shop.happened(
        PAYMENT,
        payment_requested(),
        PaymentCaptured(ORDER, BUYER, 1999, USD, "card"),
        PaymentRefundRequested(REFUND, 1999, "broken"),
    )
    refund = letter("refund", payment_id=PAYMENT, refund_id=REFUND)
    assert "is PENDING: nobody would make it" in await told(shop, refund)
    await shop.happened(PAYMENT, PaymentRefunded(REFUND, 1999))
    assert "is SUCCEEDED: nothing waits for it." in await told(shop, refund)


async def test_a_mail_is_not_sent_unless_it_was(shop: Shop) -> None:
    mail = letter("mail", notice_id=NOTICE)
    await shop.happened(NOTICE, notice_requested())
    assert "is REQUESTED: it would not be sent." in await told(shop, mail)
    await shop.happened(NOTICE, NotificationSent())
    assert "is SENT: nothing waits for it." in await told(shop, mail)


async def test_what_is_not_known_is_said_to_be(shop: Shop) -> None:
    assert "It is not known what waits" in await told(shop, letter("unreadable"))
    for kind in ("charge", "refund"):
        assert "its payment is not known" in await told(shop, letter(kind, payment_id="no id"))
    assert "its delivery is not known" in await told(shop, letter("webhook"))
    assert "has no receipt" in await told(shop, letter("receipt", order_id=ORDER))
