"""How many units there are of each physical game."""

from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.forms import number
from web.sell.access import desk_router
from web.sell.answers import StockItem
from web.shop.offers import offers_of
from web.visit import Visit

router = desk_router()

PER_PAGE = 50


@router.get("/sell/stock")
async def show_stock(visit: Visit) -> Response:
    """The stock of the seller's games, or what is running low."""
    return await _stock_page(visit)


async def _stock_page(visit: Visit, status: int = 200) -> Response:
    low = visit.query("low") == "true"
    found = await visit.api.get(
        "/api/v1/inventory/stock",
        Listed[StockItem],
        limit=PER_PAGE,
        low=low,
        cursor=visit.query("cursor") or None,
    )
    offers = await offers_of(visit, (item.product_id for item in found.items))
    return visit.page("sell/stock.html", status=status, found=found, offers=offers, low=low)


@router.post("/sell/stock")
async def count(visit: Visit) -> Response:
    """Set the number of units of a game, unless it has changed since it was shown."""
    form, back = visit.form, "/sell/stock?low=true" if visit.query("low") else "/sell/stock"
    quantity = number(form.text("quantity"))
    if quantity is None:
        form.errors["quantity"] = "This is not a number of units."
        return await _stock_page(visit, status=422)
    body = {
        "product_id": form.text("product_id"),
        "total_quantity": quantity,
        "expected_version": number(form.text("version")),
    }
    try:
        await visit.api.put("/api/v1/inventory/stock", body, Nothing)
    except Problem as problem:
        form.refuse(problem, {"total_quantity": "quantity"})
        return await _stock_page(visit, status=422)
    return visit.go(back, "The stock is changed.")
