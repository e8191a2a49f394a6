"""What people are told, as reactors: ask for a notice where something happened to somebody, and
queue its sending.

user.registered, user.profile_changed (address)       ─► welcome, verification
order.confirmed, order.completed                      ─► purchase
payment.transaction.failed, payment.refunded          ─► payment_failed, refund
order.cancelled                                       ─► order_cancelled
shipment.status_updated                               ─► the buyer: processing, shipped, delivered
shipment.confirmed, inventory.low_stock               ─► the seller: to_process, low_stock
transaction.completed, .failed, .reversed             ─► both sides of a transfer, the depositor
payment.refund_reversed, payment.refund_failed        ─► the buyer, the ADMIN who asked for it
notification.requested ─► notice queue ─► worker ─► carrier ─► notification.sent | failed
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

JOB_KINDS: dict[Channel, str] = {"email": "mail", "push": "push"}


class Telling(msgspec.Struct, frozen=True):
    """Somebody is to be told something: which template, and what fills it beside their name."""

    user_id: UUID
    template: str
    params: dict[str, str]


def people_told(handler: CommandHandler, tokens: MailTokens) -> Reactor:
    """Asks for a notice of what a person should know: one per event, template, channel and
    person."""
    about = _Tellings(handler)
    desk = _Desk(handler, tokens)
    tellings: dict[type[msgspec.Struct], Callable[[Any, Envelope], Awaitable[list[Telling]]]] = {
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
            await desk.tell(await tellings[event_type](event, env), env)

        return react

    return Reactor(
        NAME, {event_type: reaction(event_type) for event_type in tellings}, starts_from="now"
    )


def notification_jobs(queue: WorkQueue) -> Reactor:
    """Puts notices on the queue from which they are sent."""

    async def requested(event: NotificationRequested, env: Envelope) -> None:
        await queue.publish([job_for(env, JOB_KINDS[event.channel], notice_id=env.stream_id)])

    return Reactor("mail_jobs", {NotificationRequested: requested})


class _Desk:
    """Asks for the notices."""

    def __init__(self, handler: CommandHandler, tokens: MailTokens) -> None:
        self._handler = handler
        self._tokens = tokens

    async def tell(self, tellings: Sequence[Telling], env: Envelope) -> None:
        """Ask for all notices of one event, in one append; of those to closed accounts and imported
        people, none."""

        async def decision(unit: UnitOfWork) -> None:
            for telling in tellings:
                user = await unit.load(USER, telling.user_id)
                if (
                    user is not None
                    and user.may_act
                    and not email_addresses.is_unreachable(user.email)
                ):
                    await self._request(unit, env, user, telling)

        if tellings:
            await self._handler.handle(decision, caused(NAME, env), once_for(NAME, env))

    async def _request(self, unit: UnitOfWork, env: Envelope, user: User, telling: Telling) -> None:
        template, params = telling.template, {"name": user.name, **telling.params}
        if template in {"welcome", "verification"}:
            now = self._handler.now()
            params["token"] = self._tokens.make("verify-email", user, now)
            # whose reader it is that the token proves something of
            params[notification_texts.ADDRESS] = user.email
        for channel in notification_texts.channels_of(template):
            notification_id = derived("notice", env.event_id, template, channel, user.user_id)
            wanted = notifications.request(
                await unit.load(NOTIFICATION, notification_id),
                user_id=user.user_id,
                channel=channel,
                template=template,
                cause_event_id=env.event_id,
                params=params,
            )
            unit.emit(notification_id, wanted)


class _Tellings:
    """Who is to be told what when something happened."""

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def _seen(self, aggregate: Aggregate[S], stream_id: UUID) -> S:
        """What the event is about: being older than the event, it is there."""
        return await self._handler.get(aggregate, stream_id, fresh=False)

    async def registered(self, event: UserRegistered, _env: Envelope) -> list[Telling]:
        return [Telling(event.user_id, "welcome", {})]

    async def profile_changed(self, event: ProfileChanged, env: Envelope) -> list[Telling]:
        return [] if event.email_digest is None else [Telling(env.stream_id, "verification", {})]

    async def order_completed(self, _event: OrderCompleted, env: Envelope) -> list[Telling]:
        order = await self._seen(ORDER, env.stream_id)
        return [_purchase(env.stream_id, order)] if order.is_digital else []

    async def order_confirmed(self, _event: OrderConfirmed, env: Envelope) -> list[Telling]:
        """What is shipped is complete only when delivered, of which is told then."""
        order = await self._seen(ORDER, env.stream_id)
        return [] if order.is_digital else [_purchase(env.stream_id, order)]

    async def order_cancelled(self, event: OrderCancelled, env: Envelope) -> list[Telling]:
        """Of a payment that failed its buyer is told already."""
        if event.reason == "payment_failed":
            return []
        order = await self._seen(ORDER, env.stream_id)
        why: dict[str, str] = {
            EXPIRED: "it was not paid in time",
            "payment_cancelled": "its payment was cancelled",
            "seller_closed": "its seller left the shop",
        }
        about = {**_about_order(env.stream_id, order), "detail": why.get(event.reason, "")}
        return [Telling(order.buyer_id, "order_cancelled", about)]

    async def shipment_confirmed(self, _event: ShipmentConfirmed, env: Envelope) -> list[Telling]:
        shipment = await self._seen(SHIPMENT, env.stream_id)
        return [
            Telling(
                shipment.seller_id, "shipment_to_process", _about_parcel(env.stream_id, shipment)
            )
        ]

    async def shipment_moved(self, event: ShipmentStatusUpdated, env: Envelope) -> list[Telling]:
        """The buyer is told how far it has come; a seller who may have begun, that it is not wanted
        any more."""
        shipment = await self._handler.get(SHIPMENT, env.stream_id)
        about = _about_parcel(env.stream_id, shipment)
        if event.status == "CANCELLED":
            return (
                []
                if shipment.provisional
                else [Telling(shipment.seller_id, "shipment_cancelled", about)]
            )
        if event.status == "SHIPPED":
            about |= {
                "carrier": event.carrier or "",
                "tracking_number": event.tracking_number or "",
            }
        order = await self._seen(ORDER, shipment.order_id)
        return [Telling(order.buyer_id, f"shipment_{event.status.lower()}", about)]

    async def low_stock(self, event: LowStock, env: Envelope) -> list[Telling]:
        if event.quiet:
            return []
        stock = await self._seen(STOCK, env.stream_id)
        game = await self._seen(GAME, stock.game_id)
        about = {"title": game.listing.title, "sku": stock.sku, "available": str(event.available)}
        return [Telling(stock.seller_id, "low_stock", about)]

    async def payment_failed(self, event: PaymentFailed, _env: Envelope) -> list[Telling]:
        order = await self._seen(ORDER, event.order_id)
        about = {**_about_order(event.order_id, order), "detail": event.detail or event.code}
        return [Telling(event.buyer_id, "payment_failed", about)]

    async def refunded(self, event: PaymentRefunded, env: Envelope) -> list[Telling]:
        """Of a deposit that was taken back its owner hears as of the transaction that it is; of one
        that never came into the wallet, as of a refund."""
        payment = await self._seen(PAYMENT, env.stream_id)
        if payment.transaction_id is not None:
            deposit = await self._handler.state(TRANSACTION, payment.transaction_id)
            if deposit is not None and deposit.status == "COMPLETED":
                return []
        about = _about_refund(payment, event.amount_cents)
        if payment.wallet_id is not None:
            about["to"] = "wallet"
        return [Telling(payment.buyer_id, "refund", about)]

    async def refund_failed(self, event: PaymentRefundFailed, env: Envelope) -> list[Telling]:
        """Whoever asked for it should ask again. What nobody asked for by hand is a dead letter
        alone."""
        events = await self._handler.log.read_stream(env.stream_id, upto=env.position)
        for each in events:
            asked, asker = each.event, _person_of(each.env.actor)
            is_it = isinstance(asked, PaymentRefundRequested) and asked.refund_id == event.refund_id
            if is_it and asker is not None:
                payment = await self._seen(PAYMENT, env.stream_id)
                about = _about_refund(payment, asked.amount_cents)
                ids = {"payment_id": str(env.stream_id), "refund_id": str(event.refund_id)}
                return [
                    Telling(asker, "refund_failed", {**about, **ids, "detail": _words(event.code)})
                ]
        return []

    async def refund_reversed(self, event: PaymentRefundReversed, env: Envelope) -> list[Telling]:
        """The buyer was told that it had gone back."""
        payment = await self._seen(PAYMENT, env.stream_id)
        if payment.order_id is None:
            return []
        about = _about_refund(payment, event.amount_cents) | {"detail": _words(event.code)}
        return [Telling(payment.buyer_id, "refund_reversed", about)]

    async def deposit_reversed(self, event: TransactionReversed, env: Envelope) -> list[Telling]:
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, event.amount_cents, event.currency)
        if event.owed_cents:
            about["owed"] = format_amount(event.owed_cents, event.currency)
        return [Telling(transaction.user_id, "deposit_reversed", about)]

    async def transaction_completed(
        self, event: TransactionCompleted, env: Envelope
    ) -> list[Telling]:
        """A payment from a wallet is told of as the purchase that it is."""
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, event.amount_cents, event.currency)
        if transaction.type == "deposit":
            return [Telling(transaction.user_id, "deposit_completed", about)]
        if transaction.from_wallet_id is None or transaction.to_wallet_id is None:
            return []
        source = await self._seen(WALLET, transaction.from_wallet_id)
        target = await self._seen(WALLET, transaction.to_wallet_id)
        return [
            Telling(source.user_id, "transfer_sent", about),
            Telling(target.user_id, "transfer_received", about),
        ]

    async def transaction_failed(self, event: TransactionFailed, env: Envelope) -> list[Telling]:
        transaction = await self._seen(TRANSACTION, env.stream_id)
        about = _about_movement(env.stream_id, transaction.amount_cents, transaction.currency)
        about["detail"] = _words(event.code)
        if transaction.type == "deposit":
            return [Telling(transaction.user_id, "deposit_failed", about)]
        if event.refunded_cents:
            about["refunded"] = format_amount(event.refunded_cents, transaction.currency)
        return [Telling(transaction.user_id, "transfer_failed", about)]


def _about_refund(payment: Payment, amount_cents: int) -> dict[str, str]:
    about = {"amount": format_amount(amount_cents, payment.currency) if amount_cents else ""}
    return about if payment.order_id is None else {**about, "order_id": str(payment.order_id)}


def _person_of(actor: str) -> UUID | None:
    """Who acted, where it was a person with an account."""
    kind, _, name = actor.partition(":")
    try:
        return UUID(name) if kind == "user" else None
    except ValueError:
        return None


def _words(code: str) -> str:
    return code.replace("_", " ")


def _about_order(order_id: UUID, order: orders.Order) -> dict[str, str]:
    return {"order_id": str(order_id), "titles": ", ".join(line.title for line in order.lines)}


def _purchase(order_id: UUID, order: orders.Order) -> Telling:
    total = format_amount(order.total_cents, order.currency)
    return Telling(order.buyer_id, "purchase", {**_about_order(order_id, order), "total": total})


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
