"""Periods of reports, and their sales as bars of a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from markupsafe import Markup

from web import money
from web.charts import Bar, bar_chart
from web.rendering import day as shown_day
from web.sell.answers import Figures

LONGEST_DAYS, DEFAULT_DAYS = 366, 30
MAX_BARS = 62
"""More days than these are shown by week."""


AT_A_GLANCE = (("Today", 1), ("7 days", 7), ("30 days", 30))
"""The periods up to today whose sales the desk's first page shows, the longest last."""


@dataclass(frozen=True)
class Period:
    """From the first to the last day (UTC), both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


def period_of(first: str = "", last: str = "") -> Period:
    """The period that was asked for, by default the last 30 days; one longer than a year loses its
    beginning."""
    end = _date(last) or datetime.now(UTC).date()
    begin = _date(first) or end - timedelta(days=DEFAULT_DAYS - 1)
    begin, end = min(begin, end), max(begin, end)
    return Period(max(begin, end - timedelta(days=LONGEST_DAYS - 1)), end)


def _date(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if date(1971, 6, 1) <= found <= date(2999, 12, 31) else None


@dataclass(frozen=True)
class Sum:
    """Sales of a period in one currency."""

    label: str
    period: Period
    gross_cents: int
    units: int
    orders: int


def sums_up_to(last: date, days: Sequence[Figures]) -> list[Sum]:
    """Sales at a glance, of periods that end on a day. `days` are of one currency."""
    sums = []
    for label, length in AT_A_GLANCE:
        period = Period(last - timedelta(days=length - 1), last)
        within = [each for each in days if each.day and period.first <= each.day <= last]
        sums.append(
            Sum(
                label,
                period,
                sum(each.gross_cents for each in within),
                sum(each.units for each in within),
                sum(each.orders for each in within),
            )
        )
    return sums


def sales_chart(period: Period, days: Sequence[Figures], currency: str) -> Markup:
    """Sales by day, or over a long period by week. `days` are those with sales in this currency."""
    width = 1 if period.days <= MAX_BARS else 7
    sold = dict.fromkeys(range(-(-period.days // width)), 0)
    for each in days:
        if each.day is not None:
            sold[(each.day - period.first).days // width] += each.gross_cents
    bars = []
    for index, amount_cents in sold.items():
        begin = period.first + timedelta(days=index * width)
        end = min(begin + timedelta(days=width - 1), period.last)
        name = f"{begin.day} {begin:%b}"
        when = shown_day(begin) if width == 1 else f"{name} – {shown_day(end)}"
        bars.append(Bar(name, amount_cents, f"{when}: {money.shown(amount_cents, currency)}"))
    unit = "day" if width == 1 else "week"
    label = f"Sales in {currency} by {unit}, {shown_day(period.first)} to {shown_day(period.last)}"
    return bar_chart(label, bars, lambda cents: money.shown(cents, currency))
