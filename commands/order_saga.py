"""The saga of an order, from payment to delivery or refund: the steps that commands, reactors and
deadlines share.

payment.requested ─► payment queue ─► worker, webhook ─► payment.transaction.completed | failed
… completed ─► order.confirmed, order.completed ─► library.game.added
… failed    ─► order.cancelled (claims released) ─► the provider's intent is cancelled
… completed, but the order was cancelled meanwhile, or the buyer's account or a seller's closed
            ─► payment.refund_requested
payment.refund_requested ─► payment queue ─► worker, webhook ─► payment.refunded | refund_failed
payment.refunded ─► order.refunded ─► library.game.removed
"""

from datetime import datetime
from uuid import UUID

import msgspec

from commands.aggregates import CART, CLAIM, ORDER, PAYMENT, SHIPMENT, STOCK, TRANSACTION
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.wallets import pay_from_wallet, refund_to_wallet, wallet_of
from domain import cart as carts
from domain import catalog, claims, fulfilment, inventory, orders, payments
from domain.claims import ReleaseReason
from domain.errors import Conflict
from domain.events import Event
from domain.ids import claim_id, stock_id
from domain.orders import Order
from domain.payments import Method, refunds
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7

OWNED = "you own this game"


class OrderIds(msgspec.Struct, frozen=True):
    """The ids of a placed order and its payment."""

    order_id: UUID
    payment_id: UUID


async def emit_payment(
    unit: UnitOfWork,
    made: OrderIds,
    buyer_id: UUID,
    price: catalog.Price,
    method: Method | None,
    expires_at: datetime,
) -> None:
    """Request the payment of a placed order. A free order is captured at once, without a method; so
    is one paid by wallet: always from the buyer's own, whichever the client named.

    Raises NotFound("wallet_not_found"); Conflict: insufficient_funds, wallet_inactive,
    wallet_frozen.
    """
    wallet_id = None
    if price.amount_cents == 0:
        method = None
    elif method is not None and method.type == "wallet":
        wallet_id = await wallet_of(unit, buyer_id, price.currency)
        method = Method("wallet", str(wallet_id))
    order = await unit.get(ORDER, made.order_id)
    requested = payments.request(
        payment_id=made.payment_id,
        game_ids=list(dict.fromkeys(line.game_id for line in order.lines)),
        order_id=made.order_id,
        buyer_id=buyer_id,
        amount_cents=price.amount_cents,
        currency=price.currency,
        expires_at=expires_at,
        method=method,
    )
    unit.create(PAYMENT, made.payment_id, requested)
    if price.amount_cents == 0:
        payment = await unit.get(PAYMENT, made.payment_id)
        unit.emit(made.payment_id, payments.capture(payment, "free"))
    elif wallet_id is not None:
        await pay_from_wallet(unit, made.payment_id, wallet_id)


async def claim_ownership(
    unit: UnitOfWork, buyer_id: UUID, game_id: UUID, order_id: UUID, now: datetime
) -> None:
    """Claim a game for a buyer's order. Raises Conflict: already_owned, order_pending."""
    ownership = claim_id("ownership", buyer_id, game_id)
    await must_not_own(unit, buyer_id, game_id, now)
    await free_overdue_ownership(unit, ownership, now)
    refusal = Conflict("already_owned", OWNED)
    unit.emit(
        ownership, claims.take(await unit.load(CLAIM, ownership), "ownership", order_id, refusal)
    )


async def free_overdue_ownership(unit: UnitOfWork, ownership: UUID, now: datetime) -> None:
    """Cancel an overdue order that still holds the ownership claim because its deadline has not
    fired."""
    claim = await unit.load(CLAIM, ownership)
    if claim is not None and claim.held:
        await expire_unpaid(unit, claim.holder_id, now)


async def must_not_own(unit: UnitOfWork, buyer_id: UUID, game_id: UUID, now: datetime) -> None:
    """Raises Conflict: already_owned; order_pending (with `order_id`) when an order of the game
    awaits its payment and is not overdue."""
    claim = await unit.load(CLAIM, claim_id("ownership", buyer_id, game_id), likely_new=True)
    if claim is None or not claim.held:
        return
    order = await unit.load(ORDER, claim.holder_id)
    payment = None if order is None else await unit.load(PAYMENT, order.payment_id)
    paid = payment is not None and payment.is_captured
    if order is not None and not paid and order.is_overdue(now):
        return
    if order is not None and not paid and order.status == "PENDING_PAYMENT":
        details = {"order_id": str(claim.holder_id), "product_id": str(game_id)}
        raise Conflict("order_pending", "an order of this game is awaiting its payment", **details)
    raise Conflict("already_owned", OWNED, product_id=str(game_id))


async def expire_unpaid(unit: UnitOfWork, order_id: UUID, now: datetime) -> None:
    """Cancel an overdue order. No-op once money has arrived: then the reactor `settlement` decides
    whether it came in time."""
    order = await unit.load(ORDER, order_id)
    payment = None if order is None else await unit.load(PAYMENT, order.payment_id)
    if order is not None and (payment is None or not payment.is_captured):
        await cancel_order(unit, order_id, order, orders.expire(order, now), now)


async def cancel_order(
    unit: UnitOfWork, order_id: UUID, order: Order, cancelled: list[Event], now: datetime
) -> None:
    """Emit an order's cancellation with all that follows: the payment is closed, claims and stock
    are released, shipments are cancelled, and the cart that it came from is abandoned.
    """
    if not cancelled:
        return
    unit.emit(order_id, cancelled)
    payment = await unit.load(PAYMENT, order.payment_id)
    if payment is not None:
        unit.emit(order.payment_id, payments.cancel_intent(payment, "order_cancelled"))
    await release_ownership(unit, order_id, order, "order cancelled")
    for line in order.lines:
        if (
            line.reservation_id is not None
            and (stock := await unit.load(STOCK, stock_id(line.game_id))) is not None
        ):
            unit.emit(
                stock_id(line.game_id),
                inventory.release(stock, line.reservation_id, "order cancelled"),
            )
    await cancel_shipments(unit, order, now)
    if order.cart_id is not None and (cart := await unit.load(CART, order.cart_id)) is not None:
        unit.emit(order.cart_id, carts.abandon(cart))


async def cancel_shipments(unit: UnitOfWork, order: Order, now: datetime) -> set[UUID]:
    """Cancel the order's shipments. Returns those that had not been sent yet."""
    called_back = set()
    for shipment_id in order.shipment_ids:
        shipment = await unit.get(SHIPMENT, shipment_id)
        if cancelled := fulfilment.cancel(shipment, now):
            unit.emit(shipment_id, cancelled)
            called_back.add(shipment_id)
    return called_back


async def return_to_stock(unit: UnitOfWork, order: Order, now: datetime) -> None:
    """Put what was not sent back into stock, after a full refund."""
    called_back = await cancel_shipments(unit, order, now)
    for line in order.lines:
        if line.shipment_id in called_back:
            stock = await unit.get(STOCK, stock_id(line.game_id))
            unit.emit(stock_id(line.game_id), inventory.restock(stock, line.quantity))


async def fulfil(unit: UnitOfWork, order: Order) -> None:
    """Complete a confirmed order's effects: its holds are sold, its shipments confirmed, its cart
    completed."""
    for line in order.lines:
        if line.reservation_id is not None:
            stock = await unit.get(STOCK, stock_id(line.game_id))
            unit.emit(stock_id(line.game_id), inventory.confirm_sale(stock, line.reservation_id))
    for shipment_id in order.shipment_ids:
        shipment = await unit.get(SHIPMENT, shipment_id)
        unit.emit(shipment_id, fulfilment.confirm(shipment))
    if order.cart_id is not None and (cart := await unit.load(CART, order.cart_id)) is not None:
        unit.emit(order.cart_id, carts.complete(cart))


async def release_ownership(
    unit: UnitOfWork, order_id: UUID, order: Order, reason: ReleaseReason
) -> None:
    """Release the claims on digital games, so that the buyer can order them again."""
    for line in order.lines:
        if line.kind == "DIGITAL":
            claim = claim_id("ownership", order.buyer_id, line.game_id)
            unit.emit(claim, claims.release(await unit.load(CLAIM, claim), order_id, reason))


async def owned_order(unit: UnitOfWork, caller: Caller, order_id: UUID) -> Order:
    """The caller's order, or anybody's for an ADMIN. Raises NotFound, Forbidden("not_yours")."""
    order = await unit.get(ORDER, order_id)
    caller.must_act_for(order.buyer_id, "order")
    return order


async def emit_refund(
    unit: UnitOfWork,
    payment_id: UUID,
    refund_id: UUID,
    amount_cents: int,
    reason: str,
    *,
    owed: bool = False,
) -> None:
    """Request a refund. The payment worker sends a provider's; a wallet's, and that of a free
    payment, completes in the same append. An `owed` refund, of money that bought nothing, goes back
    even to a deactivated wallet.

    Raises as `domain.payments.refunds.request_refund`, and Conflict("wallet_inactive").
    """
    payment = await unit.get(PAYMENT, payment_id)
    requested = refunds.request_refund(payment, refund_id, amount_cents, reason)
    unit.emit(payment_id, requested)
    if requested and payment.wallet_id is not None:
        await refund_to_wallet(unit, payment_id, refund_id, owed=owed)
    elif requested and not payment.amount_cents:
        asked = await unit.get(PAYMENT, payment_id)
        unit.emit(payment_id, refunds.complete_refund(asked, refund_id))


async def request_refund(
    handler: CommandHandler,
    caller: Caller,
    payment_id: UUID,
    amount_cents: int | None,
    reason: str,
    once: IdempotencyKey | None,
) -> CommandResult[UUID]:
    """Request a refund (ADMIN). Without an amount, all that is left, but at least a cent unless the
    payment was free, so that an exhausted payment is refused. Returns the refund's id."""
    refund_id = uuid7() if once is None else once.key
    caller.must_be_admin()

    async def decision(unit: UnitOfWork) -> UUID:
        payment = await unit.get(PAYMENT, payment_id)
        if payment.transaction_id is not None:
            deposit = await unit.load(TRANSACTION, payment.transaction_id)
            if deposit is None or deposit.status != "FAILED":
                raise Conflict(
                    "deposit_not_refundable", "the deposit is in the wallet: deduct it from there"
                )
        left = max(payment.refundable_cents, min(1, payment.amount_cents))
        amount = left if amount_cents is None else amount_cents
        await emit_refund(unit, payment_id, refund_id, amount, reason)
        unit.record_ids(refund_id=refund_id, payment_id=payment_id)
        return refund_id

    return await handler.handle(decision, caller, once)
