"""Commands on orders: place, cancel, expire, refund; and waiting until one is settled."""

from uuid import UUID

import msgspec

from commands.accounts.open_accounts import must_be_open
from commands.aggregates import GAME, ORDER, PAYMENT
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.offers import offer
from commands.order_saga import (
    OrderIds,
    cancel_order,
    claim_ownership,
    emit_payment,
    expire_unpaid,
    owned_order,
    request_refund,
)
from commands.shop_rules import ShopRules
from domain import catalog, orders
from domain.errors import Conflict, Invalid
from domain.ids import PLATFORM_ID
from domain.orders import Order, OrderLine
from domain.payments import Method, Payment
from eventstore.consumers.stream_watcher import StreamWatcher
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class OrderAndPayment(msgspec.Struct, frozen=True):
    """An order and its payment as the log has them, and the order's version."""

    order: Order
    payment: Payment
    version: int

    @property
    def ready_to_answer(self) -> bool:
        """Whether a response need not wait any longer: the order is settled, or the buyer must
        act."""
        return self.order.status != "PENDING_PAYMENT" or self.needs_action

    @property
    def needs_action(self) -> bool:
        """Whether the buyer must act: complete 3-D Secure, or attach a method to the intent."""
        return payment_awaits_buyer(self.payment)


def payment_awaits_buyer(payment: Payment) -> bool:
    """Whether the payment waits for its buyer."""
    if payment.status == "REQUIRES_ACTION":
        return True
    return (
        payment.status == "REQUESTED"
        and payment.method is None
        and payment.client_secret_ref is not None
    )


class OrderCommands:
    def __init__(self, handler: CommandHandler, watcher: StreamWatcher, rules: ShopRules) -> None:
        self._handler = handler
        self._watcher = watcher
        self._rules = rules

    async def place(
        self,
        caller: Caller,
        game_id: UUID,
        method: Method | None,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[OrderIds]:
        """Order a digital game for the caller. A free order is captured in the same append. An
        order by wallet is paid in the same append, or not placed at all.

        Raises NotFound: game_not_found, wallet_not_found; Conflict: already_owned,
        order_pending, game_unavailable, insufficient_funds, wallet_inactive, wallet_frozen;
        Invalid; Forbidden.
        """
        buyer_id = caller.person()
        made = OrderIds(uuid7(), uuid7())

        async def decision(unit: UnitOfWork) -> OrderIds:
            buyer, game = await must_be_open(unit, buyer_id), await unit.get(GAME, game_id)
            if game.status == "DRAFT":
                raise GAME.missing()
            if game.listing.kind == "PHYSICAL":
                raise Invalid("cart_required", "physical games are bought through the cart")
            await claim_ownership(unit, buyer_id, game_id, made.order_id, self._handler.now())
            price = await offer(unit, game, buyer.region)
            self._emit_order(unit, made, buyer_id, buyer.region, game_id, game, price)
            await emit_payment(
                unit, made, buyer_id, price, method, self._handler.now() + self._rules.payment_ttl
            )
            unit.record_ids(order_id=made.order_id, payment_id=made.payment_id)
            return made

        return await self._handler.handle(decision, caller, once)

    def _emit_order(
        self,
        unit: UnitOfWork,
        made: OrderIds,
        buyer_id: UUID,
        region: str,
        game_id: UUID,
        game: catalog.Game,
        price: catalog.Price,
    ) -> None:
        line = OrderLine(
            line_id=uuid7(),
            game_id=game_id,
            seller_id=game.seller_id,
            kind=game.listing.kind,
            title=game.listing.title,
            quantity=1,
            unit_price_cents=price.amount_cents,
            fee_bps=0 if game.seller_id == PLATFORM_ID else self._rules.fee_bps,
        )
        placed = orders.place(
            buyer_id=buyer_id,
            region=region,
            currency=price.currency,
            lines=[line],
            payment_id=made.payment_id,
            expires_at=self._handler.now() + self._rules.payment_ttl,
        )
        unit.create(ORDER, made.order_id, placed)

    # -- cancelling and refunding ------------------------------------------------------------------

    async def cancel(
        self, caller: Caller, order_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Cancel an unpaid order (its buyer, ADMIN). Raises NotFound, Forbidden,
        Conflict("order_not_cancellable")."""

        async def decision(unit: UnitOfWork) -> None:
            order = await owned_order(unit, caller, order_id)
            payment = await unit.load(PAYMENT, order.payment_id)
            if payment is not None and payment.is_captured:
                raise Conflict(
                    "order_not_cancellable", "a paid order cannot be cancelled, only refunded"
                )
            await cancel_order(
                unit,
                order_id,
                order,
                orders.cancel(order, "cancelled_by_buyer"),
                self._handler.now(),
            )
            unit.record_ids(order_id=order_id)

        return await self._handler.handle(decision, caller, once)

    async def expire(
        self, caller: Caller, order_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Cancel an overdue order when its deadline fires. No-op otherwise."""

        async def decision(unit: UnitOfWork) -> None:
            await expire_unpaid(unit, order_id, self._handler.now())

        return await self._handler.handle(decision, caller, once)

    async def refund(
        self,
        caller: Caller,
        order_id: UUID,
        amount_cents: int | None,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Refund money (ADMIN); without an amount, all that is left. Returns the refund's id."""
        order = await self._handler.get(ORDER, order_id)
        return await request_refund(
            self._handler, caller, order.payment_id, amount_cents, reason, once
        )

    # -- waiting -----------------------------------------------------------------------------------

    async def when_ready(self, order_id: UUID, timeout_seconds: float) -> OrderAndPayment:
        """The order and its payment, once the order is settled or the buyer must act, or when the
        time is over. With no time, as this process last saw them.

        Raises NotFound("order_not_found").
        """
        if timeout_seconds <= 0:
            return await self._fetch(order_id, fresh=False)
        found = await self._fetch(order_id)
        if found.ready_to_answer:
            return found
        try:
            async with (
                self._watcher.patience(timeout_seconds),
                self._watcher.watching([order_id, found.order.payment_id]) as changed,
            ):
                while not (found := await self._fetch(order_id)).ready_to_answer:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            found = await self._fetch(order_id)
        return found

    async def _fetch(self, order_id: UUID, *, fresh: bool = True) -> OrderAndPayment:
        """As the log has them; without `fresh`, as this process last saw them."""
        repository = self._handler.repository
        version, order = await repository.get_versioned(ORDER, order_id, fresh=fresh)
        payment = await repository.get(PAYMENT, order.payment_id, fresh=fresh)
        return OrderAndPayment(order, payment, version)
