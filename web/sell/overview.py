"""The seller's desk: what is to do, and how sales go."""

import asyncio

from starlette.responses import Response

from web.api_client import Listed
from web.sell.access import desk_router, seller_of
from web.sell.account import balances
from web.sell.answers import Parcel, Sale, SellersGame, StockItem
from web.sell.periods import period_of, sales_chart
from web.sell.sales import report, sales_by_day
from web.visit import Visit

router = desk_router()

FEW = 5


@router.get("/sell")
async def show_desk(visit: Visit) -> Response:
    """What waits for the seller, sales of the last 30 days, and what the shop owes."""
    api, period = visit.api, period_of("", "")
    games, month, owed = await asyncio.gather(
        api.get(
            f"/api/v1/catalog/products/by-seller/{seller_of(visit)}", Listed[SellersGame], limit=1
        ),
        report(visit, period, "day", limit=1),
        balances(visit),
    )
    to_pack, to_hand_over, low, sales = await asyncio.gather(
        api.get("/api/v1/shipments", Listed[Parcel], status="PENDING", limit=FEW),
        api.get("/api/v1/shipments", Listed[Parcel], status="PROCESSING", limit=FEW),
        api.get("/api/v1/inventory/stock", Listed[StockItem], low=True, limit=FEW),
        api.get("/api/v1/seller/sales", Listed[Sale], limit=FEW),
    )
    total = max(month.totals, key=lambda each: each.orders, default=None)
    chart = None
    if total is not None:
        days = await sales_by_day(visit, period, total.currency)
        chart = sales_chart(period, days, total.currency)
    return visit.page(
        "sell/overview.html",
        has_games=bool(games.items),
        to_pack=to_pack,
        to_hand_over=to_hand_over,
        low=low,
        sales=sales,
        totals=month.totals,
        chart=chart,
        balances=owed,
    )
