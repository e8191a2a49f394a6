"""Views of games: single, in lists, and as search results."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from pydantic import AliasPath, Field

from api.fields import Answer, Page, Time
from projections.models.games import PriceRow
from queries.catalog.games import price_there


class PriceView(Answer):
    region: str
    amount_cents: int
    currency: str


class AmountView(Answer):
    amount_cents: int
    currency: str


class ImageLinks(Answer):
    """The URLs of an image and its thumbnail."""

    id: UUID
    url: str
    thumb_url: str


class Offered(Answer):
    """A game's offer, part of every view of a game. `price` is in the caller's region; null if the
    game is not sold there. `available` is how many units of a PHYSICAL game can be bought now; null
    if unlimited, or not on sale yet."""

    game_id: UUID
    price: AmountView | None = None
    available: int | None = None
    image_urls: list[ImageLinks] = Field(default_factory=list)


class GameView(Offered):
    """A game. `game_id` repeats `id` under the name that other resources use."""

    id: UUID = Field(validation_alias=AliasPath("game_id"))
    seller_id: UUID
    sku: str
    title: str
    description: str
    publisher: str
    category: str
    genres: list[str]
    tags: list[str]
    platforms: list[str]
    release_date: date | None
    kind: str
    prices: list[PriceView]
    image_ids: list[UUID]
    status: str
    version: int


class DatedGame(GameView):
    """A game, with its dates. `reduced_from_cents` is the lowest price of the 30 days before, if
    the price in the caller's region has been lowered within the last 30 days; else null."""

    reduced_from_cents: int | None = None
    created_at: Time
    updated_at: Time


class FoundGame(Offered):
    """A search result. `highlight` is the title as HTML, with the matches marked;
    `reduced_from_cents` is as in a game."""

    id: UUID = Field(validation_alias=AliasPath("game_id"))
    seller_id: UUID
    sku: str
    title: str
    description: str
    publisher: str
    category: str
    genres: list[str]
    tags: list[str]
    platforms: list[str]
    release_date: str | None
    kind: str
    prices: list[PriceView]
    status: str
    highlight: str = ""
    reduced_from_cents: int | None = None
    image_ids: list[UUID] = Field(default_factory=list)


class FacetCount(Answer):
    value: str
    count: int


class PriceCount(Answer):
    """The number of games with a price from `price_min` to `price_max` cents, both inclusive. A
    null `price_max` means no limit."""

    price_min: int
    price_max: int | None
    count: int


class FacetsView(Answer):
    genre: list[FacetCount]
    tag: list[FacetCount]
    platform: list[FacetCount]
    price: list[PriceCount]


class SearchPage(Page[FoundGame]):
    """A page of search results. If nothing matched as typed, `suggestion` is what the client may
    have meant."""

    total: int
    facets: FacetsView
    suggestion: str | None
    engine: str


class TitleView(Offered):
    id: UUID = Field(validation_alias=AliasPath("game_id"))
    title: str


def offer_of(
    game: Offered, prices: Sequence[PriceView | PriceRow], image_ids: Sequence[UUID], region: str
) -> None:
    """Add the price in a region, and the images."""
    price = price_there(prices, region)
    game.price = None if price is None else AmountView.model_validate(price)
    game.image_urls = [
        ImageLinks(
            id=each, url=f"/api/v1/images/{each}", thumb_url=f"/api/v1/images/{each}?size=thumb"
        )
        for each in image_ids
    ]
