"""What the gateway shows of games: as they are, in lists, and as search results."""

from datetime import date
from uuid import UUID

from pydantic import AliasPath, Field

from api.fields import Answer, Page, Time
from queries.search import SearchItem


class PriceView(Answer):
    region: str
    amount_cents: int
    currency: str


class GameView(Answer):
    """A game; `game_id` is its `id`, by the name that other resources refer to it."""

    id: UUID = Field(validation_alias=AliasPath("game_id"))
    game_id: UUID
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
    """A game, and since when."""

    created_at: Time
    updated_at: Time


class OfferedGame(DatedGame):
    """A game in a list: `available` tells how many of a PHYSICAL one can be had now; null for what has no end, or is
    not on offer yet."""

    available: int | None = None


class FoundGame(Answer):
    """A search result: `price` is that of the region asked for; `highlight` the title as HTML, matches marked;
    `image_ids` and `available` as in a list."""

    id: UUID = Field(validation_alias=AliasPath("game_id"))
    game_id: UUID
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
    price: PriceView | None = None
    highlight: str = ""
    image_ids: list[UUID] = Field(default_factory=list)
    available: int | None = None


class FacetCount(Answer):
    value: str
    count: int


class PriceCount(Answer):
    """How many cost from `price_min` to `price_max` cents, inclusive; null: no end."""

    price_min: int
    price_max: int | None
    count: int


class FacetsView(Answer):
    genre: list[FacetCount]
    tag: list[FacetCount]
    platform: list[FacetCount]
    price: list[PriceCount]


class SearchPage(Page[FoundGame]):
    """A page of results; `suggestion` is what may have been meant, when nothing was found as it was typed."""

    total: int
    facets: FacetsView
    suggestion: str | None
    engine: str


class TitleView(Answer):
    id: UUID = Field(validation_alias=AliasPath("game_id"))
    game_id: UUID
    title: str


def found_game(item: SearchItem) -> FoundGame:
    """A search result, but for its images and how many there are."""
    game = FoundGame.model_validate(item.document)
    price = None if item.price is None else PriceView.model_validate(item.price)
    return game.model_copy(update={"price": price, "highlight": item.highlight})
