"""The seller's desk: what is to do, and how sales go."""

import asyncio
from collections import defaultdict

from starlette.responses import Response

from web.api_client import Listed
from web.sell.access import desk_router, seller_of
from web.sell.account import balances
from web.sell.answers import Figures, Parcel, Sale, SellersGame, StockItem
from web.sell.periods import period_of, sales_chart, sums_up_to
from web.sell.sales import sales_by_day
from web.shop.offers import offers_of
from web.visit import Visit

router = desk_router()

FEW = 5


@router.get("/sell")
async def show_desk(visit: Visit) -> Response:
    """What waits for the seller, sales of the last 30 days, and what the shop owes."""
    api, period = visit.api, period_of()
    games, days, owed = await asyncio.gather(
        api.get(
            f"/api/v1/catalog/products/by-seller/{seller_of(visit)}", Listed[SellersGame], limit=1
        ),
        sales_by_day(visit, period),
        balances(visit),
    )
    to_pack, to_hand_over, low, sales = await asyncio.gather(
        api.get("/api/v1/shipments", Listed[Parcel], status="PENDING", limit=FEW),
        api.get("/api/v1/shipments", Listed[Parcel], status="PROCESSING", limit=FEW),
        api.get("/api/v1/inventory/stock", Listed[StockItem], low=True, limit=FEW),
        api.get("/api/v1/seller/sales", Listed[Sale], limit=FEW),
    )
    waiting = to_pack.items + to_hand_over.items
    named = [each.lines[0].game_id for each in waiting] + [
        each.lines[0].game_id for each in sales.items
    ]
    by_currency = _by_currency(days)
    return visit.page(
        "sell/overview.html",
        has_games=bool(games.items),
        to_pack=to_pack,
        to_hand_over=to_hand_over,
        waiting=waiting,
        low=low,
        sales=sales,
        offers=await offers_of(visit, named),
        sums=[(currency, sums_up_to(period.last, sold)) for currency, sold in by_currency.items()],
        chart=next(
            (sales_chart(period, sold, currency) for currency, sold in by_currency.items()), None
        ),
        balances=owed,
    )


def _by_currency(days: list[Figures]) -> dict[str, list[Figures]]:
    """The days by currency, the one with the most orders first."""
    found = defaultdict[str, list[Figures]](list)
    for each in days:
        found[each.currency].append(each)
    orders = {currency: sum(each.orders for each in sold) for currency, sold in found.items()}
    return {currency: found[currency] for currency in sorted(orders, key=lambda of: -orders[of])}
