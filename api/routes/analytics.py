"""Figures of what was sold, and of what became of carts."""

from datetime import date, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import Admin
from api.fields import Answer, Page
from api.reading import MAX_LIMIT, Cursor, Limit, Reads
from api.services import ServicesOf
from domain.errors import Invalid
from domain.money import check_currency
from domain.times import LAST_DAY
from queries import cart_analytics as carts_query
from queries import sales as sales_query
from queries.reports import GroupBy

router = APIRouter(prefix="/api/v1/admin/analytics", tags=["analytics"])

USUAL_PERIOD = timedelta(days=29)

Day = Annotated[
    date | None,
    Query(ge=date(1970, 1, 1), le=LAST_DAY, description="A day (UTC), which is included."),
]


async def _period(
    services: ServicesOf,
    first: Annotated[Day, Query(alias="from")] = None,
    last: Annotated[Day, Query(alias="to")] = None,
) -> tuple[date, date]:
    last = last or services.clock.now().date()
    first = first or last - USUAL_PERIOD
    if first > last:
        raise Invalid("invalid_period", "the first day comes after the last")
    return first, last


async def _currency(
    currency: Annotated[str | None, Query(pattern="^[A-Z]{3}$")] = None,
) -> str | None:
    if currency is not None:
        check_currency(currency)
    return currency


Period = Annotated[tuple[date, date], Depends(_period)]
"""The first and the last day: the last 30 unless told otherwise."""

Currency = Annotated[str | None, Depends(_currency)]
"""Only amounts in this one."""


# -- sales -----------------------------------------------------------------------------------------


class Totals(Answer):
    """All sales of the period in one currency. `refunded_cents` is what went back of these sales,
    whenever it did; `fee_cents` what the platform kept of the rest for selling others' games."""

    currency: str
    orders: int
    units: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int


class SalesOfDay(Totals):
    """The sales of a day (UTC)."""

    day: date


class SalesOfSeller(Totals):
    """The sales of a seller."""

    seller_id: UUID


class SalesOfGame(Totals):
    """The sales of a game."""

    game_id: UUID


class SalesReport(Page[SalesOfDay | SalesOfSeller | SalesOfGame]):
    """Figures by day, seller or game, and of all; never of several currencies in one."""

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
    period: Period,
    currency: Currency,
    group_by: GroupBy = "day",
    limit: Limit = MAX_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """What was sold (ADMIN): per day, or per seller or game, the most in each currency first; in
    the last 30 days unless told otherwise. An order counts on the day (UTC) on which it was paid,
    and so does what goes back of it. `totals` are of all, however many items a page has."""
    first, last = period
    found = await sales_query.sales(
        reads,
        group_by=group_by,
        first=first,
        last=last,
        currency=currency,
        limit=limit,
        cursor=cursor,
    )
    report = SalesReport(
        items=[_SALES[group_by].model_validate(each) for each in found.value.items],
        next_cursor=found.value.next_cursor,
        totals=[Totals.model_validate(each) for each in found.value.totals],
    )
    return page_answer(request, report, found.position)


# -- carts -----------------------------------------------------------------------------------------


class CartCounts(Answer):
    """Carts that were begun in the period (`created`), whatever day they ended on: those still
    `open`, being filled or awaiting payment; `completed`, their order paid, refunded later or not;
    `abandoned` with something in them, since their time ran out (`expired`), their order was not
    paid (`payment_failed`), or their buyer threw them away or closed their account (`discarded`);
    the rest ended empty.

    `with_items` have something in them, or had at their end; `checked_out` became an order, paid or
    not. `conversion_rate` = completed / (completed + abandoned), `abandonment_rate` = abandoned /
    (completed + abandoned), null without any: carts that are open, or ended empty, count in
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
    """Carts in one currency, and what was in those that were completed, and in those that were
    abandoned."""

    currency: str
    completed_cents: int
    abandoned_cents: int


class CartsOfDay(CartTotals):
    """The carts begun on a day (UTC)."""

    day: date


class CartsOfSeller(CartTotals):
    """The carts with something of a seller; amounts are of their lines alone."""

    seller_id: UUID


class CartsOfGame(CartTotals):
    """The carts with a game in them; amounts are of its lines alone."""

    game_id: UUID


class CartReport(Page[CartsOfDay | CartsOfSeller | CartsOfGame]):
    """Figures by day, seller or game; of all, never of several currencies in one; and the counts of
    all (`overall`), which can be added up, for each cart has one currency."""

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
    period: Period,
    currency: Currency,
    group_by: GroupBy = "day",
    limit: Limit = MAX_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """What became of carts (ADMIN): per day (UTC) on which they were begun, or per seller or game,
    the most often abandoned in each currency first; those begun in the last 30 days unless told
    otherwise. A cart counts as converted once its order is paid, as abandoned once it ended unpaid
    with something in it. `totals` and `overall` are of all, however many items a page has."""
    first, last = period
    found = await carts_query.cart_analytics(
        reads,
        group_by=group_by,
        first=first,
        last=last,
        currency=currency,
        limit=limit,
        cursor=cursor,
    )
    report = CartReport(
        items=[_CARTS[group_by].model_validate(each) for each in found.value.items],
        next_cursor=found.value.next_cursor,
        totals=[CartTotals.model_validate(each) for each in found.value.totals],
        overall=CartCounts.model_validate(carts_query.overall(found.value.totals)),
    )
    return page_answer(request, report, found.position)
