"""A game's document: what the search index stores, and all that a search result shows."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, Protocol, TypeVar
from uuid import UUID

import msgspec

from domain.regions import ANY_REGION
from projections.search.text import SearchText, bounded, folded, take_apart

EVERYWHERE = ANY_REGION
"""The region whose price holds wherever a game has none of its own."""

ANYWHERE = "anywhere"
"""The key of the prices for searchers without a region: see `region_prices`."""

NO_PRICE = 2**62
"""Sorts games without a price behind all others."""

RegionPrices = dict[str, dict[str, int]]
"""Cents by currency by `region_key`."""

DocumentStatus = Literal["DRAFT", "ACTIVE", "SUSPENDED", "RETIRED"]


class DocumentPrice(msgspec.Struct, frozen=True):
    """What a game costs in a region (`*`: everywhere else)."""

    region: str
    amount_cents: int
    currency: str


class GameDocument(msgspec.Struct, kw_only=True):
    """A game as the search index knows it.

    `created_at` is RFC 3339, `release_date` a date (YYYY-MM-DD) or None. `position` is the log
    position of the last event applied: an index never replaces a document by one of a lower
    position.
    """

    game_id: UUID
    seller_id: UUID
    sku: str = ""
    title: str
    description: str = ""
    publisher: str = ""
    category: str = ""
    genres: list[str] = []
    tags: list[str] = []
    platforms: list[str] = []
    release_date: str | None = None
    kind: str = "DIGITAL"
    status: DocumentStatus = "DRAFT"
    prices: list[DocumentPrice] = []
    created_at: str = ""
    position: int = 0


class Derived(msgspec.Struct, frozen=True):
    """What the engines index beside the document's own fields.

    `filters` are the values that a query can filter by, as `field:folded value`; `prices` are as in
    `region_prices`; `released` sorts like the release date, with '' for none. Of genres, tags and
    platforms that are spelt alike, only the first is kept.
    """

    text: SearchText
    filters: list[str]
    prices: RegionPrices
    released: str
    genres: list[str]
    tags: list[str]
    platforms: list[str]


@lru_cache(10_000)
def filter_key(field: str, value: str) -> str:
    """A field's value as an entry of `Derived.filters`: spellings that fold alike are one."""
    return bounded(f"{field}:{folded(value)}")


@lru_cache(1_000)
def region_key(region: str) -> str:
    """A region as a field name that every engine accepts."""
    return (
        "everywhere"
        if region == EVERYWHERE
        else "in_" + re.sub(r"[^a-z0-9]", "_", region.casefold())[:32]
    )


class _Price(Protocol):
    @property
    def region(self) -> str: ...
    @property
    def amount_cents(self) -> int: ...
    @property
    def currency(self) -> str: ...


P = TypeVar("P", bound=_Price)


def region_prices(prices: Iterable[_Price]) -> RegionPrices:
    """A game's price in each region that has its own, and under `everywhere` for the others.

    Searchers without a region see ANYWHERE: the price of everywhere and, in other currencies, the
    lowest price.
    """
    found: RegionPrices = {}
    lowest: dict[str, int] = {}
    for price in prices:
        found[region_key(price.region)] = {price.currency: price.amount_cents}
        lowest[price.currency] = min(
            price.amount_cents, lowest.get(price.currency, price.amount_cents)
        )
    if found:
        found[ANYWHERE] = lowest | found.get(region_key(EVERYWHERE), {})
    return found


def price_key(region: str) -> str:
    """The entry of `region_prices` for a region; without one, that of everywhere counts."""
    return ANYWHERE if region == EVERYWHERE else region_key(region)


def price_in(prices: Iterable[P], region: str) -> P | None:
    """The price in a region, else the one that holds everywhere, else None."""
    by_region = {region_key(price.region): price for price in prices}
    return by_region.get(region_key(region)) or by_region.get(region_key(EVERYWHERE))


def derive(document: GameDocument) -> Derived:
    """What the engines index of a document."""
    pairs = [
        ("category", document.category),
        ("kind", document.kind),
        *(("genre", genre) for genre in document.genres),
        *(("tag", tag) for tag in document.tags),
        *(("platform", platform) for platform in document.platforms),
    ]
    return Derived(
        text=take_apart(document.title),
        filters=sorted({filter_key(field, value) for field, value in pairs if value}),
        prices=region_prices(document.prices),
        released=document.release_date or "",
        genres=distinct("genre", document.genres),
        tags=distinct("tag", document.tags),
        platforms=distinct("platform", document.platforms),
    )


def distinct(field: str, values: Sequence[str]) -> list[str]:
    """The values of a field, of those that are spelt alike only the first."""
    return list({filter_key(field, value): value for value in reversed(values)}.values())[::-1]
