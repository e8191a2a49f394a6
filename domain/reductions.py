"""Price reductions as a shop may announce them: a price that is lower than all of the 30 days
before it, beside the lowest of those (Directive 98/6/EC, Article 6a).

A price that was raised only to be lowered again is thereby no reduction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from domain.catalog import Price
from domain.regions import ANY_REGION

WINDOW = timedelta(days=30)
"""How far back earlier prices count, and for how long a lower price is called reduced."""

ON_SALE_BEFORE = timedelta(days=1)
"""For how long a game had a price before another one is called reduced. Until then a seller
corrects what they typed."""

MAX_STEPS = 30
"""A game whose prices change more often than that within twice the window has no reductions."""


class PricesFrom(msgspec.Struct, frozen=True):
    """The prices of a game on sale, from a moment on."""

    at: datetime
    prices: tuple[Price, ...]


class Reduction(msgspec.Struct, frozen=True):
    """What a price is reduced from, in the price's own currency, and until when that is said."""

    from_cents: int
    until: datetime


def priced(
    history: Sequence[PricesFrom], at: datetime, prices: tuple[Price, ...]
) -> list[PricesFrom]:
    """The history with the prices from now on, as far back as it matters."""
    kept = [each for each, after in pairwise(history) if after.at > at - 2 * WINDOW]
    return [*kept, *history[-1:], PricesFrom(at, prices)][-MAX_STEPS:]


def reductions(history: Sequence[PricesFrom]) -> Mapping[str, Reduction | None]:
    """By region what its current price is reduced from, None where it is not. Regions that are not
    named have the price, and the reduction, of ANY_REGION. Empty where nothing is reduced."""
    if not 1 < len(history) < MAX_STEPS:
        return {}
    named = {price.region for each in history for price in each.prices} | {ANY_REGION}
    found = {region: _reduction(history, region) for region in sorted(named)}
    return found if any(found.values()) else {}


def _reduction(history: Sequence[PricesFrom], region: str) -> Reduction | None:
    steps = [(each.at, _price(each.prices, region)) for each in history]
    now = steps[-1][1]
    if now is None:
        return None
    first = len(steps) - 1
    while first > 0 and steps[first - 1][1] == now:
        first -= 1
    since = steps[first][0]
    before = [
        (at, price[0])
        for (at, price), (until, _) in pairwise(steps[: first + 1])
        if price is not None and price[1] == now[1] and until > since - WINDOW
    ]
    if not before or since - before[0][0] < ON_SALE_BEFORE:
        return None
    lowest = min(cents for _, cents in before)
    return Reduction(lowest, since + WINDOW) if lowest > now[0] else None


def _price(prices: Sequence[Price], region: str) -> tuple[int, str] | None:
    """Amount and currency of the region's own price, else of the fallback's."""
    by_region = {price.region: (price.amount_cents, price.currency) for price in prices}
    return by_region.get(region) or by_region.get(ANY_REGION)
