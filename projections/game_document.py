"""The document of a game: what the search index holds of it, and all that a search result shows."""

import re
from typing import Literal
from uuid import UUID

import msgspec

from projections.search_text import SearchText, bounded, folded, take_apart

EVERYWHERE = "*"
"""The region whose price holds wherever a game has none of its own."""

DocumentStatus = Literal["DRAFT", "ACTIVE", "SUSPENDED", "RETIRED"]


class DocumentPrice(msgspec.Struct, frozen=True):
    """What a game costs in a region (`*`: everywhere else)."""

    region: str
    amount_cents: int
    currency: str


class GameDocument(msgspec.Struct, kw_only=True):
    """A game as the search index knows it.

    `created_at` is RFC 3339, `release_date` a date (YYYY-MM-DD) or None. `position` is the log position of the last
    event applied: an index never replaces a document by one of a lower position.
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
    """What the engines index of a document beside its own fields.

    `filters` are the values that a query can ask for, as `field:folded value`; `prices` are cents by `region_key`;
    `released` sorts like the release date, with '' for none.
    """

    text: SearchText
    filters: list[str]
    prices: dict[str, int]
    released: str


def filter_key(field: str, value: str) -> str:
    """How a field's value stands in `Derived.filters`: two spellings that fold alike are one."""
    return bounded(f"{field}:{folded(value)}")


def region_key(region: str) -> str:
    """A region as a field name that every engine accepts."""
    return "everywhere" if region == EVERYWHERE else "in_" + re.sub(r"[^a-z0-9]", "_", region.casefold())[:32]


def price_in(prices: list[DocumentPrice], region: str) -> DocumentPrice | None:
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
        prices={region_key(price.region): price.amount_cents for price in document.prices},
        released=document.release_date or "",
    )
