"""What follows when an account is closed or reopened: everything that depends on it is updated.

user.deactivated ─► game.suspended; cart.abandoned; payment.deposit_failed;
                    order.cancelled with all that follows: own orders, and those with a line of
                    this seller;
                    ADMINs are told of paid parcels that nobody sends now
user.reactivated ─► game.resumed

The closing command does this right away; the reactor makes sure of it. Each step decides on the
account's current state, so that repeats, or a reopening at the same time, do no harm. Games come
first: orders need games on sale, so all orders with a line of this seller are in the log before the
last suspension.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from uuid import UUID

import msgspec

from commands.accounts.belongings import Belongings, NotSeenYet
from commands.accounts.open_accounts import closing_of
from commands.aggregates import (
    CART,
    CLAIM,
    GAME,
    NOTIFICATION,
    ORDER,
    PAYMENT,
    SHIPMENT,
    STOCK,
    USER,
)
from commands.caller import Caller
from commands.handler import CommandHandler
from commands.order_saga import cancel_order
from commands.reactors.reactor import React, Reactor, caused
from domain import cart as carts
from domain import catalog, claims, inventory, notifications, orders, payments
from domain.fulfilment import ShipmentConfirmed
from domain.identity import UserDeactivated, UserForgotten, UserReactivated
from domain.ids import claim_id, derived, stock_id
from domain.orders import CancelReason
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork

SETTLE_TIMEOUT_SECONDS = 5.0
"""How long a command waits for all of this before it responds; the reactor does the rest."""

MAX_PARCELS_LISTED = 200
"""How many parcels of a closed seller a notification lists; it gives the number of the others."""

GAMES_PER_APPEND = 50
MAX_CONCURRENT = 8

Step = Callable[[UnitOfWork, UUID], Awaitable[None]]
"""Decides on one stream."""


class AccountSettling:
    """Updates what depends on an account that was closed or reopened."""

    NAME = "account_settling"

    def __init__(self, handler: CommandHandler, belongings: Belongings) -> None:
        self._handler = handler
        self._belongings = belongings

    @property
    def reactor(self) -> Reactor:
        """The reactor, which follows every account from the beginning of the log."""

        async def moved(
            _: UserDeactivated | UserForgotten | UserReactivated, env: Envelope
        ) -> None:
            await self.settle(caused(self.NAME, env), env.stream_id, env.position)

        async def parcel(_: ShipmentConfirmed, env: Envelope) -> None:
            """Tell ADMINs of a parcel whose order was paid just before its seller's account was
            closed."""
            shipment = await self._handler.state(SHIPMENT, env.stream_id)
            seller = (
                None if shipment is None else await self._handler.state(USER, shipment.seller_id)
            )
            if shipment is not None and seller is not None and not seller.may_act:
                closing = await closing_of(self._handler.repository, shipment.seller_id)
                if closing is not None and closing.position < env.position:
                    await self._notify_admins(
                        caused(self.NAME, env), shipment.seller_id, [env.stream_id], env
                    )

        reactions: dict[type[msgspec.Struct], React] = {
            **dict.fromkeys((UserDeactivated, UserForgotten, UserReactivated), moved),
            ShipmentConfirmed: parcel,
        }
        writes = (CART, CLAIM, GAME, NOTIFICATION, ORDER, PAYMENT, SHIPMENT, STOCK)
        return Reactor(self.NAME, reactions, writes=writes)

    async def settle_now(self, caller: Caller, user_id: UUID, position: int | None) -> int | None:
        """As `settle`, but for at most SETTLE_TIMEOUT_SECONDS. Returns the head of the log, which
        includes what the reactor did meanwhile."""
        if position is None:
            return None
        with contextlib.suppress(NotSeenYet, TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_SECONDS):
                await self.settle(caller, user_id, position)
        return await self._handler.log.head()

    async def settle(self, caller: Caller, user_id: UUID, position: int) -> None:
        """Update what depends on an account that was closed or reopened at this position. Raises
        NotSeenYet."""
        await self._settle_games(caller, user_id, position)
        user = await self._handler.state(USER, user_id)
        if user is None or user.may_act:
            return
        await self._handler.handle(lambda unit: self._abandon_cart(unit, user_id), caller)
        position = await self._handler.log.head()  # after the last suspension, whoever appended it
        unpaid = await self._belongings.unpaid_orders(user_id, position)
        await self._each(
            caller, unpaid, lambda unit, order_id: self._cancel_order(unit, order_id, user_id)
        )
        deposits = await self._belongings.open_deposits(user_id, position)
        await self._each(
            caller, deposits, lambda unit, payment_id: self._fail_deposit(unit, payment_id, user_id)
        )
        if user.account_type == "SELLER":
            await self._report_unsent_parcels(caller, user_id, position)

    # -- a seller's games and parcels --------------------------------------------------------------

    async def _settle_games(self, caller: Caller, user_id: UUID, position: int) -> None:
        games = await self._belongings.games(user_id, position)
        for start in range(0, len(games), GAMES_PER_APPEND):
            some = games[start : start + GAMES_PER_APPEND]
            await self._handler.handle(partial(self._follow_seller, user_id, some), caller)

    async def _follow_seller(
        self, user_id: UUID, game_ids: Sequence[UUID], unit: UnitOfWork
    ) -> None:
        seller = await unit.load(USER, user_id)
        for game_id in game_ids:
            game = await unit.load(GAME, game_id)
            if game is not None and seller is not None:
                unit.emit(game_id, catalog.follow_seller(game, seller_is_open=seller.may_act))

    async def _report_unsent_parcels(self, caller: Caller, user_id: UUID, position: int) -> None:
        """Tell ADMINs of the parcels that a closed seller has not sent: they can send them, or
        refund the orders."""
        closing = await closing_of(self._handler.repository, user_id)
        if closing is None:
            return
        waiting = []
        for shipment_id in await self._belongings.unsent_shipments(user_id, position):
            shipment = await self._handler.state(SHIPMENT, shipment_id)
            is_unsent = shipment is not None and shipment.status in {"PENDING", "PROCESSING"}
            if is_unsent and await self._was_confirmed(shipment_id, closing.position):
                waiting.append(shipment_id)
        if waiting:
            await self._notify_admins(caller, user_id, waiting, closing)

    async def _was_confirmed(self, shipment_id: UUID, position: int) -> bool:
        """Whether the shipment was confirmed by this position. A later confirmation is reported
        when it happens."""
        recorded = await self._handler.log.read_stream(shipment_id, upto=position)
        return any(isinstance(each.event, ShipmentConfirmed) for each in recorded)

    async def _notify_admins(
        self, caller: Caller, seller_id: UUID, shipment_ids: Sequence[UUID], cause: Envelope
    ) -> None:
        """Notify each ADMIN, once per cause: the closing, or a parcel that was paid just before."""
        admins = await self._belongings.admins(cause.position)
        named, more = shipment_ids[:MAX_PARCELS_LISTED], len(shipment_ids) - MAX_PARCELS_LISTED
        lines = [*map(str, named), *([f"and {more} more"] if more > 0 else [])]
        params = {"seller_id": str(seller_id), "shipments": "\n".join(lines)}

        async def step(unit: UnitOfWork) -> None:
            for admin_id in admins:
                admin, notification_id = (
                    await unit.load(USER, admin_id),
                    derived("notice", cause.event_id, "seller_closed", admin_id),
                )
                if admin is not None and admin.may_act:
                    asked = notifications.request(
                        await unit.load(NOTIFICATION, notification_id),
                        user_id=admin_id,
                        channel="email",
                        template="seller_closed",
                        cause_event_id=cause.event_id,
                        params={"name": admin.name, **params},
                    )
                    unit.emit(notification_id, asked)

        await self._handler.handle(step, caller)

    # -- a person's carts, orders and deposits -----------------------------------------------------

    async def _abandon_cart(self, unit: UnitOfWork, user_id: UUID) -> None:
        claim_stream = claim_id("cart", user_id)
        claim = await unit.load(CLAIM, claim_stream)
        cart = await unit.load(CART, claim.holder_id) if claim is not None and claim.held else None
        if claim is None or cart is None or not await self._is_closed(unit, user_id):
            return
        unit.emit(claim.holder_id, carts.close(cart))
        for item in cart.items.values():
            if item.reservation_id is not None and (
                stock := await unit.load(STOCK, stock_id(item.game_id))
            ):
                unit.emit(
                    stock_id(item.game_id),
                    inventory.release(stock, item.reservation_id, "account closed"),
                )
        unit.emit(claim_stream, claims.release(claim, claim.holder_id, "account closed"))

    async def _cancel_order(self, unit: UnitOfWork, order_id: UUID, user_id: UUID) -> None:
        """Cancel an unpaid order. Once money has arrived, the reactor `settlement` decides whether
        it came in time."""
        order = await unit.load(ORDER, order_id)
        payment = None if order is None else await unit.load(PAYMENT, order.payment_id)
        if (
            order is None
            or order.status != "PENDING_PAYMENT"
            or (payment is not None and payment.is_captured)
        ):
            return
        if await self._is_closed(unit, user_id):
            reason: CancelReason = (
                "account_closed" if order.buyer_id == user_id else "seller_closed"
            )
            await cancel_order(
                unit, order_id, order, orders.cancel(order, reason), self._handler.now()
            )

    async def _fail_deposit(self, unit: UnitOfWork, payment_id: UUID, user_id: UUID) -> None:
        payment = await unit.load(PAYMENT, payment_id)
        if payment is not None and await self._is_closed(unit, user_id):
            unit.emit(
                payment_id, payments.fail(payment, "account_closed", "the account was closed")
            )

    # -- shared ------------------------------------------------------------------------------------

    async def _is_closed(self, unit: UnitOfWork, user_id: UUID) -> bool:
        user = await unit.load(USER, user_id)
        return user is not None and not user.may_act

    async def _each(self, caller: Caller, ids: Iterable[UUID], step: Step) -> None:
        """Handle a step for each stream, some at the same time."""
        places = asyncio.Semaphore(MAX_CONCURRENT)

        async def one(stream_id: UUID) -> None:
            async with places:
                await self._handler.handle(lambda unit: step(unit, stream_id), caller)

        await asyncio.gather(*[one(stream_id) for stream_id in ids])
