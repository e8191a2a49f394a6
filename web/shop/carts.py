"""The cart and its checkout."""

from collections.abc import Mapping
from typing import TypedDict

from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.countries import COUNTRIES
from web.forms import number
from web.routing import Router
from web.shop.answers import Cart, CheckedOut, Order, Wallet
from web.shop.games import game_page
from web.shop.live import follow
from web.shop.offers import Offers, offers_of
from web.visit import Visit, id_of
from web.words import sentence

router = Router()

ADDRESS = tuple(
    f"shipping_address.{name}"
    for name in ("name", "line1", "line2", "city", "postal_code", "country")
)
LATEST_ORDERS = 10
"""Among how many orders an address is looked for."""
WALLET, ELSEWHERE = "wallet", "page"
"""Ways to pay, beside the tokens of cards: with the wallet, and on the provider's page."""


@router.get("/cart", signed_in=True)
async def show_cart(visit: Visit) -> Response:
    """The cart, with the time that is left to its reservations."""
    return await _cart_page(visit, await _cart(visit))


@router.get("/cart/live", signed_in=True)
async def follow_cart(visit: Visit) -> Response:
    """Send the cart again when it expires, or is checked out or emptied elsewhere."""

    async def shown() -> tuple[str, bool]:
        cart = await _cart(visit)
        block = visit.block("shop/cart.html", "cart", **await _shown(visit, cart))
        return block, not cart.is_open

    return follow(visit, "cart", shown, lambda change: change.type == "cart.status")


async def _cart(visit: Visit) -> Cart:
    """The cart. The API returns an expired cart once, so the caller has to show it."""
    return await visit.api.get("/api/v1/cart", Cart)


async def _cart_page(visit: Visit, cart: Cart, status: int = 200) -> Response:
    shown = await _shown(visit, cart)
    return visit.page("shop/cart.html", status=status, fragment="cart", **shown)


class _Shown(TypedDict):
    cart: Cart
    offers: Offers


async def _shown(visit: Visit, cart: Cart) -> _Shown:
    """A cart, with its games' pictures, and how many more there are of boxed ones."""
    offers = await offers_of(visit, (item.product_id for item in cart.items))
    return {"cart": cart, "offers": offers}


@router.post("/cart/items", signed_in=True)
async def add(visit: Visit) -> Response:
    """Put a game into the cart."""
    game_id = id_of(visit.form.text("product_id"))
    body = {"product_id": game_id, "quantity": _quantity(visit.form.text("quantity"))}
    try:
        once = visit.form.secret("once")
        await visit.api.post("/api/v1/cart/items", body, Nothing, once=once)
    except Problem as problem:
        visit.form.refuse(problem)
        return await game_page(visit, game_id, status=422)
    return visit.go("/cart", "It is in your cart.")


@router.post("/cart/items/{item_id}", signed_in=True)
async def change(visit: Visit) -> Response:
    """Change how many of a game are in the cart; 0 takes it out."""
    path = f"/api/v1/cart/items/{visit.id('item_id')}"
    quantity = visit.form.text("quantity")
    try:
        if quantity == "0":
            await visit.api.delete(path)
        else:
            await visit.api.put(path, {"quantity": _quantity(quantity)}, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _cart_page(visit, await _cart(visit), status=422)
    return visit.go("/cart")


def _quantity(typed: str) -> int:
    """The quantity that was typed: 1 if none was; 0, which the API refuses, if it is not a
    number."""
    return (number(typed) or 0) if typed else 1


@router.post("/cart/discard", signed_in=True)
async def discard(visit: Visit) -> Response:
    """Empty the cart."""
    await visit.api.delete("/api/v1/cart")
    return visit.go("/cart", "Your cart is empty.")


@router.post("/cart/again", signed_in=True)
async def fill_again(visit: Visit) -> Response:
    """Put what was in an expired cart into a new one."""
    lines = visit.form.within("again.").items()
    return await put_back(visit, {id_of(game_id): _quantity(typed) for game_id, typed in lines})


async def put_back(visit: Visit, wanted: Mapping[str, int]) -> Response:
    """Put these quantities of games into the cart, as far as they can be bought."""
    refused: list[Problem] = []
    for game_id, quantity in wanted.items():
        body = {"product_id": game_id, "quantity": quantity}
        once = f"{visit.form.secret('once')}-{game_id}"
        try:
            await visit.api.post("/api/v1/cart/items", body, Nothing, once=once)
        except Problem as problem:
            if problem.status not in {404, 409, 422}:
                raise
            refused.append(problem)
    if not refused:
        return visit.go("/cart", "It is in your cart again.")
    notice = f"{len(refused)} of {len(wanted)} could not be added. {sentence(refused[0])}"
    return visit.go("/cart", notice)


@router.get("/checkout", signed_in=True)
async def checkout(visit: Visit) -> Response:
    """Where to send what, and how to pay."""
    return await _checkout_page(visit, await _cart(visit))


async def _checkout_page(visit: Visit, cart: Cart, status: int = 200) -> Response:
    if not cart.items:
        return visit.go("/cart")
    if not cart.is_open:
        return await _cart_page(visit, cart, status)
    wallets = await visit.api.get("/api/v1/wallets/me", Listed[Wallet])
    address = await _latest_address(visit) if cart.is_shipped else {}
    return visit.page(
        "shop/checkout.html",
        status=status,
        cart=cart,
        address=address,
        countries=COUNTRIES,
        wallet=next((each for each in wallets.items if each.currency == cart.currency), None),
        cards=visit.site.settings.cards,
        has_pay_page=visit.site.settings.has_pay_page,
    )


async def _latest_address(visit: Visit) -> Mapping[str, str]:
    """The address that the form begins with: that of the latest order with one."""
    assert visit.user is not None
    orders = await visit.api.get(
        f"/api/v1/orders/user/{visit.user.id}", Listed[Order], limit=LATEST_ORDERS
    )
    for each in orders.items:
        if each.is_shipped:
            order = await visit.api.get(f"/api/v1/orders/{each.order_id}", Order)
            return order.shipping_address or {}
    return {}


@router.post("/checkout", signed_in=True)
async def check_out(visit: Visit) -> Response:
    """Order what is in the cart. Where the payer has to act elsewhere, the order's page leads on
    from there."""
    cart = await _cart(visit)
    if cart.is_expired:
        return await _cart_page(visit, cart, status=409)
    if cart.items and cart.shown != visit.form.text("shown"):  # another window has changed it
        visit.form.problem = "Your cart has changed since you saw it. Have a look, then order."
        return await _checkout_page(visit, cart, status=409)
    body = visit.form.body(*ADDRESS)
    method = visit.form.text("method")
    if method == WALLET:
        body["payment_method"] = {"type": "wallet"}
    elif method and method != ELSEWHERE:
        body["payment_method"] = {"type": "card", "token": method}
    try:
        placed = await visit.api.post(
            "/api/v1/cart/checkout", body, CheckedOut, once=visit.form.secret("once")
        )
    except Problem as problem:
        return await _not_ordered(visit, problem)
    return visit.go(f"/orders/{placed.order_id}", "Your order is placed.")


async def _not_ordered(visit: Visit, problem: Problem) -> Response:
    """The page after a refused checkout."""
    if problem.code == "payment_failed":
        order_id = problem.extra["order_id"]
        return visit.go(f"/orders/{order_id}", "The payment failed. See below what to do.")
    if problem.code == "cart_empty":  # most likely, another window was faster
        notice = "Your cart is empty: nothing more was ordered. Your orders are here."
        return visit.go("/orders", notice)
    visit.form.refuse(problem)
    if problem.code == "cart_changed":
        return await _cart_page(visit, await _cart(visit), status=409)
    return await _checkout_page(visit, await _cart(visit), status=422)
