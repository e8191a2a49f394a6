"""Reports on sales and carts."""

from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import Admin
from api.fields import Answer, Page
from api.reading import Reads
from api.views.reports import Period, ReportPeriod, SalesOfDay, SalesOfGame, Totals
from queries.orders import cart_analytics as carts_query
from queries.orders import sales as sales_query
from queries.orders.reports import GroupBy

router = APIRouter(prefix="/api/v1/admin/analytics", tags=["analytics"])


class ReportQuery(ReportPeriod):
    """What a report is about, and its grouping."""

    group_by: GroupBy


async def _report_query(period: Period, group_by: GroupBy = "day") -> ReportQuery:
    return ReportQuery(**period, group_by=group_by)


Report = Annotated[ReportQuery, Depends(_report_query)]
"""The requested report. Raises as `Period`."""


# -- sales -----------------------------------------------------------------------------------------


class SalesOfSeller(Totals):
    """The sales of a seller."""

    seller_id: UUID


class SalesReport(Page[SalesOfDay | SalesOfSeller | SalesOfGame]):
    """Sales by day, seller or game, and totals by currency."""

    totals: list[Totals]


_SALES: dict[GroupBy, type[SalesOfDay] | type[SalesOfSeller] | type[SalesOfGame]] = {
    "day": SalesOfDay,
    "seller": SalesOfSeller,
    "game": SalesOfGame,
}


@router.get("/sales", response_model=SalesReport)
async def sales(
    request: Request,
    reads: Reads,
    _: Admin,
    query: Report,
) -> Response:
    """Report sales by day, seller or game, by default of the last 30 days. Requires ADMIN.

    Sellers and games are sorted by sales, highest first in each currency. An order counts on the
    day (UTC) it was paid, and its refunds count on that day too. `totals` cover all items, not only
    those of the page.
    """
    found = await sales_query.sales(reads, **query)
    report = SalesReport(
        items=[_SALES[query["group_by"]].model_validate(each) for each in found.value.items],
        next_cursor=found.value.next_cursor,
        totals=[Totals.model_validate(each) for each in found.value.totals],
    )
    return page_answer(request, report, found.position)


# -- carts -----------------------------------------------------------------------------------------


class CartCounts(Answer):
    """The carts created in the period, by what became of them at any time since.

    `open` ones are being filled or await payment. `completed` ones had their order paid, even if it
    was refunded later. `abandoned` ones ended with items in them: their time ran out (`expired`),
    their order was not paid (`payment_failed`), or their buyer discarded them or closed the account
    (`discarded`). All others ended empty.

    `with_items` have items, or had some at their end. `checked_out` became an order, paid or not.
    `conversion_rate` is completed / (completed + abandoned) and `abandonment_rate` abandoned /
    (completed + abandoned), null if there are none: open carts and those that ended empty count in
    neither.
    """

    created: int
    with_items: int
    open: int
    checked_out: int
    completed: int
    abandoned: int
    expired: int
    payment_failed: int
    discarded: int
    conversion_rate: float | None
    abandonment_rate: float | None


class CartTotals(CartCounts):
    """Carts in one currency, and the value of the completed and of the abandoned ones."""

    currency: str
    completed_cents: int
    abandoned_cents: int


class CartsOfDay(CartTotals):
    """The carts created on a day (UTC)."""

    day: date


class CartsOfSeller(CartTotals):
    """The carts with games of a seller. Amounts cover only that seller's lines."""

    seller_id: UUID


class CartsOfGame(CartTotals):
    """The carts with a game. Amounts cover only that game's lines."""

    game_id: UUID


class CartReport(Page[CartsOfDay | CartsOfSeller | CartsOfGame]):
    """Carts by day, seller or game, totals by currency, and the counts of all carts (`overall`).
    Counts can be added up over currencies, as each cart has only one."""

    totals: list[CartTotals]
    overall: CartCounts


_CARTS: dict[GroupBy, type[CartsOfDay] | type[CartsOfSeller] | type[CartsOfGame]] = {
    "day": CartsOfDay,
    "seller": CartsOfSeller,
    "game": CartsOfGame,
}


@router.get("/carts", response_model=CartReport)
async def carts(
    request: Request,
    reads: Reads,
    _: Admin,
    query: Report,
) -> Response:
    """Report what became of carts, by day (UTC), seller or game, by default of those created in the
    last 30 days. Requires ADMIN.

    Sellers and games are sorted by abandoned carts, most first in each currency. A cart is
    converted once its order is paid, and abandoned once it ends unpaid with items in it. `totals`
    and `overall` cover all items, not only those of the page.
    """
    found = await carts_query.cart_analytics(reads, **query)
    report = CartReport(
        items=[_CARTS[query["group_by"]].model_validate(each) for each in found.value.items],
        next_cursor=found.value.next_cursor,
        totals=[CartTotals.model_validate(each) for each in found.value.totals],
        overall=CartCounts.model_validate(carts_query.overall(found.value.totals)),
    )
    return page_answer(request, report, found.position)
