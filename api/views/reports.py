"""What reports on sales share: the period that they cover, and the form of their figures."""

from datetime import date, timedelta
from typing import Annotated, TypedDict
from uuid import UUID

from fastapi import Depends, Query

from api.fields import Answer
from api.reading import AsOf, Cursor, Limit, now_of
from api.services import ServicesOf
from domain.errors import Invalid
from domain.money import check_currency
from domain.times import LAST_DAY
from queries.engine.paging import MAX_LIMIT

DEFAULT_PERIOD = timedelta(days=29)

Day = Annotated[
    date | None,
    Query(ge=date(1970, 1, 1), le=LAST_DAY, description="A day (UTC), inclusive."),
]


class ReportPeriod(TypedDict):
    """What a report covers: its first and last day, one currency or None for all, and the page."""

    first: date
    last: date
    currency: str | None
    limit: int
    cursor: str | None


async def _period(
    services: ServicesOf,
    as_of: AsOf,
    first: Annotated[Day, Query(alias="from")] = None,
    last: Annotated[Day, Query(alias="to")] = None,
    currency: Annotated[
        str | None, Query(pattern="^[A-Z]{3}$", description="Only amounts in this currency.")
    ] = None,
    limit: Limit = MAX_LIMIT,
    cursor: Cursor = None,
) -> ReportPeriod:
    last = last or (await now_of(services, as_of)).date()
    first = first or last - DEFAULT_PERIOD
    if first > last:
        raise Invalid("invalid_period", "the first day comes after the last")
    if currency is not None:
        check_currency(currency)
    return ReportPeriod(first=first, last=last, currency=currency, limit=limit, cursor=cursor)


Period = Annotated[ReportPeriod, Depends(_period)]
"""The requested period, by default the last 30 days; with `as_of`, those before. Raises
Invalid("invalid_period")."""


class Totals(Answer):
    """All sales of the period in one currency. `refunded_cents` is what was refunded of these sales
    at any time. `fee_cents` is what the platform kept of the rest as its fee for selling others'
    games."""

    currency: str
    orders: int
    units: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int


class SalesOfDay(Totals):
    """The sales of a day (UTC)."""

    day: date


class SalesOfGame(Totals):
    """The sales of a game."""

    game_id: UUID
