"""The buyer's cart and its checkout."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.answers import POSITION_HEADER, ExpectedVersion, Prefer, answer, position_of, versioned
from api.auth import Buyer
from api.fields import Body, Country, NonBlank, Quantity
from api.idempotency import Idempotency
from api.paying import refresh_order, wait_as_preferred
from api.problems import Problem, problem_response
from api.reading import AsOf, Reads, now_of
from api.services import Services, ServicesOf
from api.views.carts import (
    CartSummary,
    CartView,
    CheckedOut,
    ItemView,
    SellerSubtotal,
    SummaryLine,
)
from api.views.payments import PaymentMethod, declined, secret_of
from commands.aggregates import CART
from commands.caller import Caller
from commands.carts import CartChanged
from commands.handler import CommandResult
from commands.order_saga import OrderIds
from commands.orders import OrderAndPayment
from domain.cart import Cart, Item
from domain.cart_review import LineChange
from domain.errors import Invalid
from eventstore.log import IdempotencyRecord
from projections.models import carts as cart_rows
from queries.orders import carts as carts_query

router = APIRouter(prefix="/api/v1/cart", tags=["cart"])


# -- request bodies --------------------------------------------------------------------------------


class NewItem(Body):
    """A product to put into the cart, and how many units of it."""

    product_id: UUID
    quantity: Quantity


class ItemQuantity(Body):
    """The new quantity of a line."""

    quantity: Quantity


class ShippingAddress(Body):
    """Where to send physical games. `country` is an ISO 3166-1 alpha-2 code."""

    name: NonBlank
    line1: NonBlank
    line2: NonBlank | None = None
    city: NonBlank
    postal_code: Annotated[NonBlank, Field(max_length=20)]
    country: Country


class Checkout(Body):
    """How to pay and where to send the order. The address is required for physical games. Without a
    payment method, the payment waits for one (POST /payments)."""

    payment_method: PaymentMethod | None = None
    shipping_address: ShippingAddress | None = None


# -- commands --------------------------------------------------------------------------------------


@router.post("/items", status_code=201, response_model=CartView)
async def add_item(
    body: NewItem, services: ServicesOf, caller: Buyer, idempotency: Idempotency
) -> Response:
    """Add a product to the cart. The cart's other lines of the same game take over its current
    price. Errors: 409 `insufficient_stock` with `available` and `product_id`, `currency_mismatch`,
    `game_unavailable`, `already_owned`, `already_in_cart`, `quantity_limit` with `limit`."""

    async def again(done: IdempotencyRecord) -> UUID:
        cart_id = UUID(done.result_ids["cart_id"])
        # another process may have changed it since
        await services.repository.state(CART, cart_id)
        return cart_id

    async def reply(result: CommandResult[UUID]) -> Response:
        return await _cart_now(services, result, status=201)

    return await idempotency.answer(
        lambda once: services.commands.carts.add(caller, body.product_id, body.quantity, once=once),
        again,
        reply,
        one_append=True,
    )


@router.put("/items/{item_id}", response_model=CartView)
async def change_item(
    item_id: UUID,
    body: ItemQuantity,
    services: ServicesOf,
    caller: Buyer,
    expected_version: ExpectedVersion,
) -> Response:
    """Change the quantity of a line. If it grows, all lines of the game take over the current
    price. Errors: 409 `insufficient_stock` with `available` and `product_id`, `quantity_limit` with
    `limit`, `game_unavailable`."""
    return await _cart_now(
        services,
        await services.commands.carts.change(
            caller, item_id, body.quantity, expected_version=expected_version
        ),
    )


@router.delete("/items/{item_id}", response_model=CartView)
async def remove_item(
    item_id: UUID, services: ServicesOf, caller: Buyer, expected_version: ExpectedVersion
) -> Response:
    """Remove a line from the cart."""
    return await _cart_now(
        services,
        await services.commands.carts.remove(caller, item_id, expected_version=expected_version),
    )


@router.post("/checkout", status_code=201, response_model=CheckedOut)
async def check_out(
    body: Checkout,
    request: Request,
    services: ServicesOf,
    caller: Buyer,
    idempotency: Idempotency,
    prefer: Prefer,
) -> Response:
    """Turn the cart into an order and start its payment.

    409 `cart_changed` means that some lines cannot be bought as they were: `changes` lists them,
    the cart now shows what can be bought, and another checkout accepts that. 402 `payment_failed`
    means that the payment failed while the request waited; the order is then cancelled and its
    stock released. Other errors: 409 `cart_empty`.
    """
    method = body.payment_method.method() if body.payment_method else None
    address = body.shipping_address.model_dump(exclude_none=True) if body.shipping_address else None

    async def again(done: IdempotencyRecord) -> OrderIds | CartChanged:
        if "changes" in done.result_ids:
            changes = msgspec.json.decode(done.result_ids["changes"], type=list[LineChange])
            return CartChanged(UUID(done.result_ids["cart_id"]), changes)
        placed = OrderIds(UUID(done.result_ids["order_id"]), UUID(done.result_ids["payment_id"]))
        await refresh_order(services, placed.order_id)
        return placed

    async def reply(result: CommandResult[OrderIds | CartChanged]) -> Response:
        if isinstance(result.value, CartChanged):
            return _changed(request, result.value, await position_of(result, services))
        order_id = result.value.order_id
        now, position = await wait_as_preferred(services, order_id, result, prefer)
        if now.payment.status == "FAILED":
            return declined(request, order_id, now, position)
        headers = {"Location": f"/api/v1/orders/{order_id}", **prefer.headers}
        checked_out = _checked_out(request, services, caller, order_id, now)
        return answer(checked_out, status=prefer.status, position=position, headers=headers)

    return await idempotency.answer(
        lambda once: services.commands.carts.check_out(caller, method, address, once=once),
        again,
        reply,
        one_append=True,
    )


@router.delete("", status_code=204)
async def discard_cart(
    services: ServicesOf, caller: Buyer, expected_version: ExpectedVersion
) -> Response:
    """Discard the cart and release its reservations. Without a cart, nothing happens."""
    result = await services.commands.carts.discard(caller, expected_version=expected_version)
    return answer(None, status=204, position=await position_of(result, services))


def _changed(request: Request, changed: CartChanged, position: int) -> Response:
    """409: the lines have changed since the buyer saw them."""
    problem = Problem(
        409,
        "cart_changed",
        "some lines have changed since they were added: look at the cart and check out again",
        headers={POSITION_HEADER: str(position)},
        cart_id=changed.cart_id,
        changes=msgspec.to_builtins(changed.changes),
    )
    return problem_response(problem, request.scope)


def _checked_out(
    request: Request, services: Services, caller: Caller, order_id: UUID, now: OrderAndPayment
) -> CheckedOut:
    return CheckedOut(
        order_id=order_id,
        payment_id=now.order.payment_id,
        client_secret=secret_of(services, caller, now),
        checkout_url=_checkout_url(request, services, order_id, now),
        redirect_url=now.payment.redirect_url,
        status=now.order.status,
        payment_status=now.payment.status,
        amount_cents=now.order.total_cents,
        currency=now.order.currency,
    )


def _checkout_url(
    request: Request, services: Services, order_id: UUID, now: OrderAndPayment
) -> str:
    page = now.payment.redirect_url
    if page is None and now.order.status == "PENDING_PAYMENT" and now.payment.wallet_id is None:
        page = services.commands.payments.pay_page(now.order.payment_id)
    shop = services.settings.public_url or str(request.base_url).rstrip("/")
    return page or f"{shop}/orders/{order_id}"


async def _cart_now(services: Services, result: CommandResult[UUID], status: int = 200) -> Response:
    """The cart after a command of this process: the read model may not have reached it yet."""
    version, cart = await services.repository.get_versioned(CART, result.value, fresh=False)
    return answer(
        _of_state(result.value, cart),
        status=status,
        position=await position_of(result, services),
        version=version,
    )


def _of_state(cart_id: UUID, cart: Cart) -> CartView:
    return _view(
        cart_id, cart, [_item(item, item.game_id, cart.currency) for item in cart.items.values()]
    )


def _of_row(cart: cart_rows.Cart) -> CartView:
    return _view(
        cart.cart_id, cart, [_item(item, item.product_id, cart.currency) for item in cart.items]
    )


def _view(cart_id: UUID, cart: Cart | cart_rows.Cart, items: list[ItemView]) -> CartView:
    return CartView(
        id=cart_id,
        status=cart.status,
        items=items,
        total_cents=cart.total_cents,
        currency=cart.currency,
        expires_at=cart.expires_at,
    )


def _item(item: Item | cart_rows.CartItemRow, product_id: UUID, currency: str) -> ItemView:
    return ItemView(
        id=item.item_id,
        product_id=product_id,
        sku=item.sku,
        seller_id=item.seller_id,
        title=item.title,
        quantity=item.quantity,
        unit_price_cents=item.unit_price_cents,
        currency=currency,
        reservation_id=item.reservation_id,
    )


# -- queries ---------------------------------------------------------------------------------------

UserOfPast = Annotated[
    UUID | None, Query(description="Whose cart is shown as of a past moment (AUDITOR, ADMIN).")
]


async def _owner(caller: Buyer, as_of: AsOf, user_id: UserOfPast = None) -> UUID:
    if user_id is not None and as_of is None:
        raise Invalid("as_of_required", "another person's cart is only shown as of a past moment")
    return user_id or caller.person()


CartOwner = Annotated[UUID, Depends(_owner)]


@router.get("", response_model=CartView)
async def get_cart(
    request: Request, services: ServicesOf, reads: Reads, caller: Buyer, owner: CartOwner
) -> Response:
    """Return the caller's cart, or an empty one. An expired cart is returned once, as EXPIRED and
    with its items. With `as_of`, an AUDITOR or ADMIN sees anybody's (`user_id`) at a past
    moment."""
    cart, now = await carts_query.newest_cart(reads, owner), await now_of(services, reads.as_of)
    if cart.value is not None and cart.value.is_open(now):
        return versioned(
            request, _of_row(cart.value), position=cart.position, version=cart.value.version
        )
    is_present = reads.as_of is None
    if is_present and cart.value is not None and cart.value.is_over(now) and cart.value.items:
        expired = await services.commands.carts.show_expired(caller, cart.value.cart_id)
        if expired.value is not None:
            view = _of_state(cart.value.cart_id, expired.value)
            return answer(view, position=await position_of(expired, services))
    return answer(CartView(), position=cart.position)


@router.get("/summary", response_model=CartSummary)
async def get_summary(
    services: ServicesOf,
    reads: Reads,
    caller: Buyer,  # noqa: ARG001 - declares who may call
    owner: CartOwner,
) -> Response:
    """Return the caller's cart with its total, and subtotals by line and by seller; with `as_of`,
    anybody's (`user_id`) at a past moment."""
    cart = await carts_query.open_cart(reads, owner, await now_of(services, reads.as_of))
    view = CartView() if cart.value is None else _of_row(cart.value)
    lines = [
        SummaryLine(**item.model_dump(), subtotal_cents=item.quantity * item.unit_price_cents)
        for item in view.items
    ]
    summary = CartSummary(
        id=view.id,
        status=view.status,
        lines=lines,
        sellers=_by_seller(lines),
        quantity=sum(line.quantity for line in lines),
        total_cents=view.total_cents,
        currency=view.currency,
        expires_at=view.expires_at,
    )
    return answer(summary, position=cart.position)


def _by_seller(lines: Sequence[SummaryLine]) -> list[SellerSubtotal]:
    """The sellers' subtotals, in the order of their first lines."""
    sums: dict[UUID, SellerSubtotal] = {}
    for line in lines:
        seller = sums.setdefault(
            line.seller_id, SellerSubtotal(seller_id=line.seller_id, quantity=0, subtotal_cents=0)
        )
        seller.quantity += line.quantity
        seller.subtotal_cents += line.subtotal_cents
    return list(sums.values())
