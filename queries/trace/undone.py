"""What would be left undone if dead letters were discarded: what waits for their jobs now."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from commands.ports.queue import DeadLetter
from projections.models.notifications import Notification
from projections.models.orders import OrderRow
from projections.models.payments import Payment
from projections.models.receipts import Receipt
from projections.models.webhook_endpoints import WebhookDelivery
from projections.projection import NIL, Row
from queries.engine.read_models import ReadModels

R = TypeVar("R", bound=Row)

_OPEN = frozenset({"REQUESTED", "PROCESSING", "REQUIRES_ACTION"})
"""The statuses of a payment that is not over."""


async def left_undone(models: ReadModels, letters: Collection[DeadLetter]) -> Mapping[UUID, str]:
    """For each job, in a sentence or two, what nobody would do any more. Raises ReadModelBehind."""
    known = await _known(models, letters)
    return {letter.job.id: _undone(letter, known) for letter in letters}


@dataclass(frozen=True)
class _Known:
    """What the jobs are about, by its ids."""

    payments: Mapping[UUID, Payment]
    orders: Mapping[UUID, OrderRow]
    notices: Mapping[UUID, Notification]
    receipts: Mapping[UUID, Receipt]
    deliveries: Mapping[UUID, WebhookDelivery]


async def _known(models: ReadModels, letters: Collection[DeadLetter]) -> _Known:
    async def rows(row: type[R], table: str, key: str, ids: Iterable[UUID | None]) -> list[R]:
        wanted = [each for each in ids if each not in {None, NIL}]
        if not wanted:
            return []
        query = f"SELECT * FROM @{table} WHERE {key} = ANY (%(ids)s)"
        return (await models.rows(row, query, ids=wanted)).value

    def named(field: str) -> list[UUID]:
        return [_id(letter, field) for letter in letters]

    payments = await rows(Payment, "payments", "payment_id", named("payment_id"))
    orders = await rows(OrderRow, "orders", "order_id", [each.order_id for each in payments])
    notices = await rows(Notification, "notifications", "notification_id", named("notice_id"))
    # a receipt's job has its id
    ids = [letter.job.id for letter in letters if letter.job.kind == "receipt"]
    receipts = await rows(Receipt, "receipts", "receipt_id", ids)
    deliveries = await rows(
        WebhookDelivery, "webhook_deliveries", "delivery_id", named("delivery_id")
    )
    return _Known(
        {each.payment_id: each for each in payments},
        {each.order_id: each for each in orders},
        {each.notification_id: each for each in notices},
        {each.receipt_id: each for each in receipts},
        {each.delivery_id: each for each in deliveries},
    )


def _undone(letter: DeadLetter, known: _Known) -> str:
    if (tell := _BY_KIND.get(letter.job.kind)) is not None:
        return tell(letter, known)
    if (tell_of_payment := _OF_PAYMENT.get(letter.job.kind)) is None:
        return "It is not known what waits for this job."
    payment = known.payments.get(_id(letter, "payment_id"))
    if payment is None:
        return "Nothing waits for it: its payment is not known."
    return f"{tell_of_payment(letter, payment)} {_waiting(payment, known)}"


def _waiting(payment: Payment, known: _Known) -> str:
    """What the payment is for."""
    order = None if payment.order_id is None else known.orders.get(payment.order_id)
    if order is None:
        return f"It is of the deposit {payment.transaction_id}."
    waits = ", and waits for it until its deadline" if order.status == "PENDING_PAYMENT" else ""
    return f"Its order {order.order_id} is {order.status}{waits}."


def _charge(_: DeadLetter, payment: Payment) -> str:
    what = f"The payment {payment.payment_id} is {payment.status}"
    if payment.status in _OPEN:
        return f"{what}: nobody would ask the provider for its money."
    return (
        f"{what}: nothing waits for it. Money that the provider took all the same is found only by"
        " `ludoteca payments reconcile`."
    )


def _intent(_: DeadLetter, payment: Payment) -> str:
    what = f"The payment {payment.payment_id} is {payment.status}"
    if payment.status in _OPEN:
        return f"{what}: its payer could not pay it at the provider."
    return f"{what}: nothing waits for it."


def _cancel(_: DeadLetter, payment: Payment) -> str:
    return (
        f"The payment {payment.payment_id} is {payment.status}: what the provider has of it stays"
        " open there, and may still be paid; money from it would not be returned by itself."
    )


def _refund(letter: DeadLetter, payment: Payment) -> str:
    refund_id = _id(letter, "refund_id")
    status = next((each.status for each in payment.refunds if each.refund_id == refund_id), None)
    what = f"The refund {refund_id} of the payment {payment.payment_id} is {status or 'not known'}"
    if status == "PENDING":
        return f"{what}: nobody would make it, and its payer waits for the money."
    if status == "FAILED":
        return f"{what}: its payer has no money back, and nothing would remind of that."
    return f"{what}: nothing waits for it."


_OF_PAYMENT: Mapping[str, Callable[[DeadLetter, Payment], str]] = {
    "charge": _charge,
    "intent": _intent,
    "cancel": _cancel,
    "refund": _refund,
    "refund_failed": _refund,
}


def _notice(letter: DeadLetter, known: _Known) -> str:
    notice = known.notices.get(_id(letter, "notice_id"))
    if notice is None:
        return "Nothing waits for it: its notification is not known."
    what = f"The notification {notice.notification_id} ({notice.template}) is {notice.status}"
    if notice.status == "SENT":
        return f"{what}: nothing waits for it."
    return f"{what}: it would not be sent."


def _receipt(letter: DeadLetter, known: _Known) -> str:
    receipt = known.receipts.get(letter.job.id)
    if receipt is None:
        return (
            f"The order {_id(letter, 'order_id')} has no receipt of the seller"
            f" {_id(letter, 'seller_id')}: `ludoteca receipts reconcile --since` asks for it anew."
        )
    what = f"The receipt {receipt.number}/{receipt.year} of the order {receipt.order_id}"
    if receipt.status == "CREATED":
        return f"{what} is CREATED: nothing waits for it."
    return f"{what} is {receipt.status}: the fiscal operator would never get it."


def _delivery(letter: DeadLetter, known: _Known) -> str:
    delivery = known.deliveries.get(_id(letter, "delivery_id"))
    if delivery is None:
        return "Nothing waits for it: its delivery is not known."
    what = f"The delivery {delivery.delivery_id} of {delivery.event_name} is {delivery.status}"
    if delivery.status == "DELIVERED":
        return f"{what}: nothing waits for it."
    return f"{what}: its merchant would not be told, unless they ask."


_BY_KIND: Mapping[str, Callable[[DeadLetter, _Known], str]] = {
    "mail": _notice,
    "push": _notice,
    "receipt": _receipt,
    "webhook": _delivery,
}


def _id(letter: DeadLetter, field: str) -> UUID:
    """An id of the job's body; NIL if it has none, as of a message that is not ours."""
    try:
        return UUID(letter.job.body.get(field, ""))
    except ValueError:
        return NIL
