"""What was sold: by day, by game, and each sale."""

from typing import Literal

from starlette.responses import Response

from web.api_client import Listed
from web.sell.access import desk_router
from web.sell.answers import Figures, Report, Sale
from web.sell.periods import Period, period_of, sales_chart
from web.shop.offers import offers_of
from web.visit import Visit

router = desk_router()

PER_PAGE = 20
TOP_GAMES = 20


@router.get("/sell/sales")
async def show_sales(visit: Visit) -> Response:
    """Sales of a period in one currency, as charts and tables, and the latest sales."""
    period = period_of(visit.query("from"), visit.query("to"))
    games = await report(visit, period, "game", limit=TOP_GAMES)
    wanted = visit.query("currency")
    total = next(
        (each for each in games.totals if each.currency == wanted),
        max(games.totals, key=lambda each: each.orders, default=None),
    )
    days: list[Figures] = []
    top = games.items
    if total is not None:
        days = await sales_by_day(visit, period, total.currency)
        if len(games.totals) > 1:
            found = await report(visit, period, "game", currency=total.currency, limit=TOP_GAMES)
            top = found.items
    latest = await visit.api.get(
        "/api/v1/seller/sales",
        Listed[Sale],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "sell/sales.html",
        fragment="latest",
        period=period,
        totals=games.totals,
        currencies=[(each.currency, each.currency) for each in games.totals],
        total=total,
        days=days,
        games=top,
        offers=await offers_of(visit, (each.game_id for each in top if each.game_id)),
        chart=sales_chart(period, days, total.currency) if total else None,
        latest=latest,
    )


async def report(
    visit: Visit,
    period: Period,
    group_by: Literal["day", "game"],
    *,
    currency: str | None = None,
    limit: int = 200,
    cursor: str | None = None,
) -> Report:
    """A page of the API's report of the seller's own sales."""
    return await visit.api.get(
        "/api/v1/seller/analytics",
        Report,
        **{"from": period.first.isoformat(), "to": period.last.isoformat()},
        group_by=group_by,
        currency=currency,
        limit=limit,
        cursor=cursor,
    )


async def sales_by_day(visit: Visit, period: Period, currency: str | None = None) -> list[Figures]:
    """The days with sales in a currency, or in each, in order."""
    page = await report(visit, period, "day", currency=currency)
    days = page.items
    while page.next_cursor is not None:
        page = await report(visit, period, "day", currency=currency, cursor=page.next_cursor)
        days = [*days, *page.items]
    return days
