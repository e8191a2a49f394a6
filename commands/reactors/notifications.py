"""Notifications of people, as reactors: request one where something happened to somebody, and queue
its sending.

user.registered, user.profile_changed (address)       ─► welcome, verification
order.confirmed, order.completed                      ─► purchase
payment.transaction.failed, payment.refunded          ─► payment_failed, refund
order.cancelled                                       ─► order_cancelled
shipment.status_updated                               ─► the buyer: processing, shipped, delivered
shipment.confirmed, inventory.low_stock               ─► the seller: to_process, low_stock
transaction.completed, .failed, .reversed             ─► both sides of a transfer, the depositor
payment.refund_reversed, payment.refund_failed        ─► the buyer, the ADMIN who asked for it
notification.requested ─► notification queue ─► worker ─► transport ─► notification.sent | failed
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from commands.accounts.mail_tokens import MailTokens
from commands.aggregates import (
    GAME,
    NOTIFICATION,
    ORDER,
    PAYMENT,
    SHIPMENT,
    STOCK,
    TRANSACTION,
    USER,
    WALLET,
)
from commands.handler import CommandHandler
from commands.ports.queue import WorkQueue
from commands.reactors.reactor import React, Reactor, caused, job_for, once_for
from domain import email_addresses, notification_texts, notifications, orders
from domain.fulfilment import Shipment, ShipmentConfirmed, ShipmentStatusUpdated
from domain.identity import ProfileChanged, User, UserRegistered
from domain.ids import derived
from domain.inventory import LowStock
from domain.money import format_amount
from domain.notification_texts import Channel
from domain.notifications import NotificationRequested
from domain.orders import EXPIRED, OrderCancelled, OrderCompleted, OrderConfirmed
from domain.payments import (
    Payment,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRefundReversed,
)
from domain.transactions import TransactionCompleted, TransactionFailed, TransactionReversed
from eventstore.aggregate import Aggregate
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork

S = TypeVar("S")

NAME = "people_told"
"""The name of the reactor in checkpoints and in events: it cannot change."""

JOB_KINDS: dict[Channel, str] = {"email": "mail", "push": "push"}


class NotificationRequest(msgspec.Struct, frozen=True):
    """A person to notify, the template of the text, and the parameters that fill it beside the
    person's name."""

    user_id: UUID
    template: str
    params: dict[str, str]


def notification_requests(handler: CommandHandler, tokens: MailTokens) -> Reactor:
    """Requests a notification of what a person should know: one per event, template, channel and
    person."""
    about = _RequestsOf(handler)
    requester = _Requester(handler, tokens)
    requests_of: dict[
        type[msgspec.Struct], Callable[[Any, Envelope], Awaitable[list[NotificationRequest]]]
    ] = {
        UserRegistered: about.registered,
        ProfileChanged: about.profile_changed,
        OrderConfirmed: about.order_confirmed,
        OrderCompleted: about.order_completed,
        OrderCancelled: about.order_cancelled,
        ShipmentConfirmed: about.shipment_confirmed,
        ShipmentStatusUpdated: about.shipment_moved,
        LowStock: about.low_stock,
        PaymentFailed: about.payment_failed,
        PaymentRefunded: about.refunded,
        PaymentRefundFailed: about.refund_failed,
        PaymentRefundReversed: about.refund_reversed,
        TransactionCompleted: about.transaction_completed,
        TransactionFailed: about.transaction_failed,
        TransactionReversed: about.deposit_reversed,
    }

    def reaction(event_type: type[msgspec.Struct]) -> React:
        async def react(event: msgspec.Struct, env: Envelope) -> None:
            await requester.request(await requests_of[event_type](event, env), env)

        return react

    return Reactor(
        NAME,
        {event_type: reaction(event_type) for event_type in requests_of},
        starts_from="now",
        writes=(NOTIFICATION,),
    )


def notification_jobs(queue: WorkQueue) -> Reactor:
    """Queues the sending of each requested notification."""

    async def requested(event: NotificationRequested, env: Envelope) -> None:
        await queue.publish([job_for(env, JOB_KINDS[event.channel], notice_id=env.stream_id)])

    return Reactor("mail_jobs", {NotificationRequested: requested})


class _Requester:
    """Requests the notifications of an event."""

    def __init__(self, handler: CommandHandler, tokens: MailTokens) -> None:
        self._handler = handler
        self._tokens = tokens

    async def request(self, requests: Sequence[NotificationRequest], env: Envelope) -> None:
        """Request all notifications of one event in one append, except those to closed accounts and
        to imported people."""

        async def decision(unit: UnitOfWork) -> None:
            for request in requests:
                user = await unit.load(USER, request.user_id)
                if (
                    user is not None
                    and user.may_act
                    and not email_addresses.is_unreachable(user.email)
                ):
                    await self._emit(unit, env, user, request)

        if requests:
            await self._handler.handle(decision, caused(NAME, env), once_for(NAME, env))

    async def _emit(
        self, unit: UnitOfWork, env: Envelope, user: User, request: NotificationRequest
    ) -> None:
        template, params = request.template, {"name": user.name, **request.params}
        if template in {"welcome", "verification"}:
            now = self._handler.now()
            params["token"] = self._tokens.make("verify-email", user, now)
            # the token is about this address, so the mail goes to it even if it changes
            params[notification_texts.ADDRESS] = user.email
        for channel in notification_texts.channels_of(template):
            notification_id = derived("notice", env.event_id, template, channel, user.user_id)
            wanted = notifications.request(
                await unit.load(NOTIFICATION, notification_id, likely_new=True),
                user_id=user.user_id,
                channel=channel,
                template=template,
                cause_event_id=env.event_id,
                params=params,
            )
            unit.emit(notification_id, wanted)


class _RequestsOf:
    """The notifications that follow from each kind of event."""

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def _seen(self, aggregate: Aggregate[S], stream_id: UUID) -> S:
        """What the event is about. It is older than the event, so it exists."""
        return await self._handler.get(aggregate, stream_id, fresh=False)

    async def registered(self, event: UserRegistered, _env: Envelope) -> list[NotificationRequest]:
        return [NotificationRequest(event.user_id, "welcome", {})]

    async def profile_changed(
        self, event: ProfileChanged, env: Envelope
    ) -> list[NotificationRequest]:
        return (
            []
            if event.email_digest is None
            else [NotificationRequest(env.stream_id, "verification", {})]
        )

    async def order_completed(
        self, _event: OrderCompleted, env: Envelope
    ) -> list[NotificationRequest]:
        order = await self._seen(ORDER, env.stream_id)
        return [_purchase(env.stream_id, order)] if order.is_digital else []

    async def order_confirmed(
        self, _event: OrderConfirmed, env: Envelope
    ) -> list[NotificationRequest]:
        """A physical order completes on delivery, which has its own notification."""
        order = await self._seen(ORDER, env.stream_id)
        return [] if order.is_digital else [_purchase(env.stream_id, order)]

    async def order_cancelled(
        self, event: OrderCancelled, env: Envelope
    ) -> list[NotificationRequest]:
        """A failed payment has its own notification."""
        if event.reason == "payment_failed":
            return []
        order = await self._seen(ORDER, env.stream_id)
        why: dict[str, str] = {
            EXPIRED: "it was not paid in time",
            "payment_cancelled": "its payment was cancelled",
            "seller_closed": "its seller left the shop",
        }
        about = {**_about_order(env.stream_id, order), "detail": why.get(event.reason, "")}
        return [NotificationRequest(order.buyer_id, "order_cancelled", about)]

    async def shipment_confirmed(
        self, _event: ShipmentConfirmed, env: Envelope
    ) -> list[NotificationRequest]:
        shipment = await self._seen(SHIPMENT, env.stream_id)
        return [
            NotificationRequest(
                shipment.seller_id, "shipment_to_process", _about_parcel(env.stream_id, shipment)
            )
        ]

    async def shipment_moved(
        self, event: ShipmentStatusUpdated, env: Envelope
    ) -> list[NotificationRequest]:
        """The buyer learns of the progress, and a seller who may have begun learns of a
        cancellation."""
        shipment = await self._handler.get(SHIPMENT, env.stream_id)
        about = _about_parcel(env.stream_id, shipment)
        if event.status == "CANCELLED":
            return (
                []
                if shipment.provisional
                else [NotificationRequest(shipment.seller_id, "shipment_cancelled", about)]
            )
        if event.status == "SHIPPED":
            about |= {
                "carrier": event.carrier or "",
                "tracking_number": event.tracking_number or "",
            }
        order = await self._seen(ORDER, shipment.order_id)
        return [NotificationRequest(order.buyer_id, f"shipment_{event.status.lower()}", about)]

    async def low_stock(self, event: LowStock, env: Envelope) -> list[NotificationRequest]:
        if event.quiet:
            return []
        stock = await self._seen(STOCK, env.stream_id)
        game = await self._seen(GAME, stock.game_id)
        about = {"title": game.listing.title, "sku": stock.sku, "available": str(event.available)}
        return [NotificationRequest(stock.seller_id, "low_stock", about)]

    async def payment_failed(
        self, event: PaymentFailed, _env: Envelope
    ) -> list[NotificationRequest]:
        order = await self._seen(ORDER, event.order_id)
        about = {**_about_order(event.order_id, order), "detail": event.detail or event.code}
        return [NotificationRequest(event.buyer_id, "payment_failed", about)]

    async def refunded(self, event: PaymentRefunded, env: Envelope) -> list[NotificationRequest]:
        """A completed deposit that was taken back has its own notification (`deposit_reversed`); a
        deposit that never reached the wallet counts as a refund."""
        payment = await self._seen(PAYMENT, env.stream_id)
        if payment.transaction_id is not None:
            deposit = await self._handler.state(TRANSACTION, payment.transaction_id)
            if deposit is not None and deposit.status == "COMPLETED":
                return []
        about = _about_refund(payment, event.amount_cents)
        if payment.wallet_id is not None:
            about["to"] = "wallet"
        return [NotificationRequest(payment.buyer_id, "refund", about)]

    async def refund_failed(
        self, event: PaymentRefundFailed, env: Envelope
    ) -> list[NotificationRequest]:
        """The person who requested the refund should request it again. Automatic refunds have
        nobody to notify, only a dead letter."""
        events = await self._handler.log.read_stream(env.stream_id, upto=env.position)
        for each in events:
            asked, asker = each.event, _person_of(each.env.actor)
            is_it = isinstance(asked, PaymentRefundRequested) and asked.refund_id == event.refund_id
            if is_it and asker is not None:
                payment = await self._seen(PAYMENT, env.stream_id)
                about = _about_refund(payment, asked.amount_cents)
                ids = {"payment_id": str(env.stream_id), "refund_id": str(event.refund_id)}
                return [
                    NotificationRequest(
                        asker, "refund_failed", {**about, **ids, "detail": _words(event.code)}
                    )
                ]
        return []

    async def refund_reversed(
        self, event: PaymentRefundReversed, env: Envelope
    ) -> list[NotificationRequest]:
        """The buyer was told that the money had been returned."""
        payment = await self._seen(PAYMENT, env.stream_id)
        if payment.order_id is None:
            return []
        about = _about_refund(payment, event.amount_cents) | {"detail": _words(event.code)}
        return [NotificationRequest(payment.buyer_id, "refund_reversed", about)]

    async def deposit_reversed(
        self, event: TransactionReversed, env: Envelope
    ) -> list[NotificationRequest]:
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, event.amount_cents, event.currency)
        if event.owed_cents:
            about["owed"] = format_amount(event.owed_cents, event.currency)
        return [NotificationRequest(transaction.user_id, "deposit_reversed", about)]

    async def transaction_completed(
        self, event: TransactionCompleted, env: Envelope
    ) -> list[NotificationRequest]:
        """A payment from a wallet is no transfer: its buyer gets the purchase notification."""
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, event.amount_cents, event.currency)
        if transaction.type == "deposit":
            return [NotificationRequest(transaction.user_id, "deposit_completed", about)]
        if transaction.from_wallet_id is None or transaction.to_wallet_id is None:
            return []
        source = await self._seen(WALLET, transaction.from_wallet_id)
        target = await self._seen(WALLET, transaction.to_wallet_id)
        return [
            NotificationRequest(source.user_id, "transfer_sent", about),
            NotificationRequest(target.user_id, "transfer_received", about),
        ]

    async def transaction_failed(
        self, event: TransactionFailed, env: Envelope
    ) -> list[NotificationRequest]:
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, transaction.amount_cents, transaction.currency)
        about["detail"] = _words(event.code)
        if transaction.type == "deposit":
            return [NotificationRequest(transaction.user_id, "deposit_failed", about)]
        if event.refunded_cents:
            about["refunded"] = format_amount(event.refunded_cents, transaction.currency)
        return [NotificationRequest(transaction.user_id, "transfer_failed", about)]


def _about_refund(payment: Payment, amount_cents: int) -> dict[str, str]:
    about = {"amount": format_amount(amount_cents, payment.currency) if amount_cents else ""}
    return about if payment.order_id is None else {**about, "order_id": str(payment.order_id)}


def _person_of(actor: str) -> UUID | None:
    """The id of the person who acted; None for a program."""
    kind, _, name = actor.partition(":")
    try:
        return UUID(name) if kind == "user" else None
    except ValueError:
        return None


def _words(code: str) -> str:
    return code.replace("_", " ")


def _about_order(order_id: UUID, order: orders.Order) -> dict[str, str]:
    return {"order_id": str(order_id), "titles": ", ".join(line.title for line in order.lines)}


def _purchase(order_id: UUID, order: orders.Order) -> NotificationRequest:
    total = format_amount(order.total_cents, order.currency)
    return NotificationRequest(
        order.buyer_id, "purchase", {**_about_order(order_id, order), "total": total}
    )


def _about_parcel(shipment_id: UUID, shipment: Shipment) -> dict[str, str]:
    titles = [
        line.title if line.quantity == 1 else f"{line.quantity} × {line.title}"
        for line in shipment.lines
    ]
    return {
        "order_id": str(shipment.order_id),
        "shipment_id": str(shipment_id),
        "titles": ", ".join(titles),
    }


def _about_movement(transaction_id: UUID, amount_cents: int, currency: str) -> dict[str, str]:
    return {"transaction_id": str(transaction_id), "amount": format_amount(amount_cents, currency)}
