"""What a seller has sold: the own lines of everybody's orders, without the buyers, and reports."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.account_ids import check_account_exists
from api.answers import page_answer
from api.auth import Seller
from api.fields import Answer, Page, Time
from api.reading import Cursor, Limit, Reads
from api.services import ServicesOf
from api.views.reports import Period, SalesOfDay, SalesOfGame, Totals
from queries.catalog import games as games_query
from queries.orders import sales as sales_query
from queries.orders.seller_sales import seller_sales

router = APIRouter(prefix="/api/v1/seller", tags=["analytics"])

SellerGroupBy = Literal["day", "game"]


class SoldLineView(Answer):
    """A line of an order: what was paid for it (`gross_cents`), what was refunded of that, and the
    platform's fee for the rest."""

    line_id: UUID
    game_id: UUID
    kind: str
    title: str
    quantity: int
    unit_price_cents: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int
    shipment_id: UUID | None


class SaleView(Answer):
    """A paid order with the seller's own lines, and their sums. `day` is the day (UTC) of the
    payment, `status` the order's."""

    id: UUID = Field(validation_alias=AliasPath("order_id"))
    order_id: UUID
    status: str
    region: str
    currency: str
    day: date
    created_at: Time
    lines: list[SoldLineView]
    gross_cents: int = 0
    refunded_cents: int = 0
    fee_cents: int = 0


class SalesOfOwnGame(SalesOfGame):
    """The sales of a game of the seller, with its title."""

    title: str = ""


class SellerReport(Page[SalesOfDay | SalesOfOwnGame]):
    """A seller's sales by day or game, and totals by currency."""

    totals: list[Totals]


async def _seller(
    services: ServicesOf,
    caller: Seller,
    seller_id: Annotated[
        UUID | None, Query(description="Another seller's sales. Requires ADMIN.")
    ] = None,
) -> UUID:
    if seller_id is None:
        return caller.person()
    caller.must_act_for(seller_id, "sales")
    await check_account_exists(services, seller_id)
    return seller_id


SellerId = Annotated[UUID, Depends(_seller)]
"""The caller, or for an ADMIN the given seller. Raises Forbidden("not_yours"),
NotFound("user_not_found")."""


@router.get("/sales", response_model=Page[SaleView])
async def list_sales(
    request: Request, reads: Reads, seller_id: SellerId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the caller's sales, digital and physical: paid orders, latest placed first, each with
    the caller's own lines."""
    page = await seller_sales(reads, seller_id, limit=limit, cursor=cursor)
    items = [SaleView.model_validate(each) for each in page.value.items]
    for sale in items:
        sale.gross_cents = sum(line.gross_cents for line in sale.lines)
        sale.refunded_cents = sum(line.refunded_cents for line in sale.lines)
        sale.fee_cents = sum(line.fee_cents for line in sale.lines)
    view = Page[SaleView](items=items, next_cursor=page.value.next_cursor)
    return page_answer(request, view, page.position)


@router.get("/analytics", response_model=SellerReport)
async def analytics(
    request: Request,
    reads: Reads,
    seller_id: SellerId,
    period: Period,
    group_by: SellerGroupBy = "day",
) -> Response:
    """Report the caller's sales by day or game, by default of the last 30 days. As in
    `/admin/analytics/sales`, refunds count on the day of the sale."""
    found = await sales_query.sales(reads, **period, group_by=group_by, seller_id=seller_id)
    report = SellerReport(
        items=[],
        next_cursor=found.value.next_cursor,
        totals=[Totals.model_validate(each) for each in found.value.totals],
    )
    if group_by == "day":
        report.items = [SalesOfDay.model_validate(each) for each in found.value.items]
        return page_answer(request, report, found.position)
    games = [SalesOfOwnGame.model_validate(each) for each in found.value.items]
    titles = await games_query.titles(reads, [each.game_id for each in games])
    for each in games:
        each.title = titles.value.get(each.game_id, "")
    report.items = list(games)
    return page_answer(request, report, min(found.position, titles.position))
