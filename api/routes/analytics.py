"""Figures of what was sold."""

from datetime import date, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin
from api.fields import Answer
from api.reading import Reads
from api.services import ServicesOf
from domain.errors import Invalid
from domain.money import check_currency
from queries import sales as sales_query
from queries.sales import GroupBy

router = APIRouter(prefix="/api/v1/admin/analytics", tags=["analytics"])

USUAL_PERIOD = timedelta(days=29)
MOST_ITEMS = 1000

Day = Annotated[date | None, Query(ge=date(1970, 1, 1), description="A day (UTC), which is included.")]


class Totals(Answer):
    """All sales of the period in one currency. `refunded_cents` is what went back of these sales, whenever it did;
    `fee_cents` what the platform kept of the rest for selling others' games."""

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


class SalesReport(Answer):
    """Figures by day, seller or game, and of all; never of several currencies in one."""

    items: list[SalesOfDay | SalesOfSeller | SalesOfGame]
    totals: list[Totals]


_ITEM: dict[GroupBy, type[SalesOfDay] | type[SalesOfSeller] | type[SalesOfGame]] = {
    "day": SalesOfDay,
    "seller": SalesOfSeller,
    "game": SalesOfGame,
}


@router.get("/sales", response_model=SalesReport)
async def sales(
    services: ServicesOf,
    reads: Reads,
    _: Admin,
    first: Annotated[Day, Query(alias="from")] = None,
    last: Annotated[Day, Query(alias="to")] = None,
    group_by: GroupBy = "day",
    currency: Annotated[str | None, Query(pattern="^[A-Z]{3}$")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = MOST_ITEMS,
) -> Response:
    """What was sold (ADMIN): per day, or per seller or game, the most in each currency first; in the last 30 days
    unless told otherwise. `totals` are of all, however many items are listed."""
    if currency is not None:
        check_currency(currency)
    last = last or services.clock.now().date()
    first = first or last - USUAL_PERIOD
    if first > last:
        raise Invalid("invalid_period", "the first day comes after the last")
    found = await sales_query.sales(reads, group_by=group_by, first=first, last=last, currency=currency)
    report = SalesReport(
        items=[_ITEM[group_by].model_validate(each) for each in found.value.items[:limit]],
        totals=[Totals.model_validate(each) for each in found.value.totals],
    )
    return answer(report, position=found.position)
