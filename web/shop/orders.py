"""Orders, and one order as it moves."""

from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.routing import Router
from web.shop.answers import Order, Paid, Wallet
from web.shop.carts import put_back
from web.shop.live import follow
from web.shop.offers import offers_of
from web.visit import Visit, id_of
from web.words import failure

router = Router()

PER_PAGE = 20


@router.get("/orders", signed_in=True)
async def show_orders(visit: Visit) -> Response:
    """The buyer's orders, newest first."""
    user = visit.user
    assert user is not None
    found = await visit.api.get(
        f"/api/v1/orders/user/{user.id}",
        Listed[Order],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    offers = await offers_of(visit, (order.lines[0].game_id for order in found.items))
    return visit.page("shop/orders.html", found=found, offers=offers)


@router.get("/orders/{order_id}", signed_in=True)
async def show_order(visit: Visit) -> Response:
    """An order, which moves while it is looked at."""
    return await _order_page(visit, visit.id("order_id"))


async def _order_page(visit: Visit, order_id: str, status: int = 200) -> Response:
    order = await visit.api.get(f"/api/v1/orders/{order_id}", Order)
    shown = await _shown(visit, order)
    return visit.page("shop/order.html", status=status, fragment="order", **shown)


async def _shown(visit: Visit, order: Order) -> dict[str, object]:
    """What the order's block shows."""
    wallets: list[Wallet] = []
    if order.is_unpaid:
        wallets = (await visit.api.get("/api/v1/wallets/me", Listed[Wallet])).items
    return {
        "order": order,
        "offers": await offers_of(visit, (line.game_id for line in order.lines)),
        "cards": visit.site.settings.cards,
        "has_enough": any(
            each.currency == order.currency and each.balance_cents >= order.total_cents
            for each in wallets
        ),
    }


@router.get("/paid", signed_in=True)
async def come_back(visit: Visit) -> Response:
    """Where the payment provider sends a payer back to: redirect to what was paid."""
    path = f"/api/v1/payments/{id_of(visit.query('payment_id'))}"
    paid = await visit.api.get(path, Paid)
    if paid.order_id is not None:
        return visit.go(f"/orders/{paid.order_id}")
    if paid.code is not None:
        notice = f"The payment failed. {failure(paid.code, paid.detail)} Nothing was charged."
    elif paid.status == "CAPTURED":
        notice = "You have paid: the money is in your wallet."
    else:
        notice = "The payment is under way, and will show in the wallet's statement."
    return visit.go("/wallet", notice)


@router.post("/orders/{order_id}/pay", signed_in=True)
async def pay(visit: Visit) -> Response:
    """Pay with another card, after the first was declined."""
    order_id = visit.id("order_id")
    method = visit.form.text("method")
    method_body = {"type": "wallet"} if method == "wallet" else {"type": "card", "token": method}
    try:
        await visit.api.post(
            "/api/v1/payments",
            {"order_id": order_id, "payment_method": method_body},
            Nothing,
            once=visit.form.secret("once"),
        )
    except Problem as problem:
        if problem.code != "payment_failed":
            visit.form.refuse(problem)
            return await _order_page(visit, order_id, status=422)
        return visit.go(f"/orders/{order_id}", "The payment failed. See below what to do.")
    return visit.go(f"/orders/{order_id}")


@router.post("/orders/{order_id}/cancel", signed_in=True)
async def cancel(visit: Visit) -> Response:
    """Cancel an unpaid order."""
    order_id = visit.id("order_id")
    try:
        await visit.api.post(
            f"/api/v1/orders/{order_id}/cancel", None, Nothing, once=visit.form.secret("once")
        )
    except Problem as problem:
        visit.form.refuse(problem)
        return await _order_page(visit, order_id, status=409)
    return visit.go(f"/orders/{order_id}", "The order is cancelled. Nothing was charged.")


@router.post("/orders/{order_id}/again", signed_in=True)
async def order_again(visit: Visit) -> Response:
    """Put the order's games into the cart, as far as they can be bought."""
    order_id = visit.id("order_id")
    order = await visit.api.get(f"/api/v1/orders/{order_id}", Order)
    return await put_back(visit, {line.game_id: line.quantity for line in order.lines})


# -- live ------------------------------------------------------------------------------------------


@router.get("/orders/{order_id}/live", signed_in=True)
async def follow_order(visit: Visit) -> Response:
    """Send the order's block again after each change."""
    order_id = visit.id("order_id")
    await visit.api.get(f"/api/v1/orders/{order_id}", Nothing)  # may the caller see it?

    async def shown() -> tuple[str, bool]:
        order = await visit.api.get(f"/api/v1/orders/{order_id}", Order)
        return visit.block("shop/order.html", "order", **await _shown(visit, order)), order.is_final

    return follow(visit, "order", shown, lambda change: change.order_id == order_id)
