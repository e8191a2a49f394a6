"""Games, with the fields that browsing needs: filters, prices by region, and sort keys."""

from datetime import date, datetime
from uuid import UUID

import msgspec

from domain.catalog import (
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
    Price,
    changes,
)
from domain.reductions import PricesFrom, Reduction, priced, reductions
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on
from projections.search.document import (
    ANYWHERE,
    NO_PRICE,
    RegionPrices,
    filter_key,
    region_key,
    region_prices,
)
from projections.search.text import folded

__all__ = ["MAIN_CURRENCY", "Game", "Games", "PriceRow", "Reduction", "anywhere"]

MAIN_CURRENCY = "USD"
"""The platform's own currency: lists by prices in it use an index."""

_ACTIVE = "WHERE status = 'ACTIVE'"


def anywhere(currency: str) -> str:
    """SQL: the price in a currency (an ISO 4217 code) for callers without a region."""
    return f"((region_prices -> '{ANYWHERE}' ->> '{currency}')::bigint)"


class PriceRow(msgspec.Struct, frozen=True):
    """What a game costs in a region (`*`: wherever it has no price of its own)."""

    region: str
    amount_cents: int
    currency: str


class Game(StreamRow):
    """A game. The fields from `filters` on are for browsing.

    `reductions` are those of `domain.reductions`, by `region_key`. `filters` and `region_prices`
    are as in `projections.search.document`; `title_key` and `released` sort like title and release
    date ('' for none). `reduced_until` is when the last of the reductions ends.
    """

    KEY = ("game_id",)
    INDEXES = (
        "USING gin (filters jsonb_path_ops)",
        "USING hash (title)",
        "seller_id, created_position",
        f"USING btree (created_position) {_ACTIVE}",
        f"USING gin (region_prices) {_ACTIVE}",
        f"USING btree (coalesce({anywhere(MAIN_CURRENCY)}, {NO_PRICE}), game_id) {_ACTIVE}",
        f"USING btree (coalesce({anywhere(MAIN_CURRENCY)}, -{NO_PRICE}), game_id) {_ACTIVE}",
        f'USING btree (released COLLATE "C", game_id) {_ACTIVE}',
        f'USING btree (title_key COLLATE "C", game_id) {_ACTIVE}',
        "created_position",
        f"USING btree (reduced_until, game_id) {_ACTIVE}",
    )

    INTERNAL = (
        *StreamRow.INTERNAL,
        "filters",
        "region_prices",
        "title_key",
        "released",
        "price_history",
        "reduced_until",
    )

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
    prices: list[PriceRow]
    image_ids: list[UUID]
    status: str
    reductions: dict[str, Reduction | None] = msgspec.field(default_factory=dict)
    filters: list[str] = msgspec.field(default_factory=list)
    region_prices: RegionPrices = msgspec.field(default_factory=dict)
    title_key: str = ""
    released: str = ""
    price_history: list[PricesFrom] = msgspec.field(default_factory=list)
    reduced_until: datetime | None = None

    def derive(self) -> None:
        """Compute the fields for browsing from the others."""
        pairs = [
            ("category", self.category),
            ("kind", self.kind),
            *(("genre", genre) for genre in self.genres),
            *(("tag", tag) for tag in self.tags),
            *(("platform", platform) for platform in self.platforms),
        ]
        self.filters = sorted({filter_key(field, value) for field, value in pairs if value})
        self.region_prices = region_prices(self.prices)
        self.title_key = folded(self.title)[:200]
        self.released = self.release_date.isoformat() if self.release_date else ""

    def offer(self, at: datetime) -> None:
        """Note what the game costs from now on, unless it is a draft."""
        if self.status == "DRAFT":
            return
        prices = tuple(Price(each.region, each.amount_cents, each.currency) for each in self.prices)
        self.price_history = priced(self.price_history, at, prices)
        found = reductions(self.price_history)
        self.reductions = {region_key(region): each for region, each in found.items()}
        self.reduced_until = max((each.until for each in found.values() if each), default=None)


class Games(Projection[Game]):
    """Every game by its id, including drafts and retired games."""

    name, version, row = "games", 3, Game

    @on(GameCreated)
    def created(self, rows: Rows[Game], event: GameCreated, env: Placed) -> None:
        game = Game(
            game_id=env.stream_id,
            seller_id=event.seller_id,
            sku=event.sku,
            title=event.title,
            description=event.description,
            publisher=event.publisher,
            category=event.category,
            genres=list(event.genres),
            tags=list(event.tags),
            platforms=list(event.platforms),
            release_date=event.release_date,
            kind=event.kind,
            prices=_prices(event.prices),
            image_ids=list(event.image_ids),
            status=event.status,
        )
        game.derive()
        game.offer(env.occurred_at)
        rows.put(game)

    @on(GameUpdated)
    def updated(self, rows: Rows[Game], event: GameUpdated, env: Placed) -> None:
        game = rows[env.stream_id]
        for field, value in changes(event).items():
            setattr(game, field, _kept(value))
        game.derive()
        if event.prices is not None:
            game.offer(env.occurred_at)

    @on(GamePublished)
    def published(self, rows: Rows[Game], _: GamePublished, env: Placed) -> None:
        game = rows[env.stream_id]
        game.status = "ACTIVE"
        game.offer(env.occurred_at)

    @on(GameResumed)
    def resumed(self, rows: Rows[Game], _: GameResumed, env: Placed) -> None:
        rows[env.stream_id].status = "ACTIVE"

    @on(GameSuspended)
    def suspended(self, rows: Rows[Game], _: GameSuspended, env: Placed) -> None:
        rows[env.stream_id].status = "SUSPENDED"

    @on(GameRetired)
    def retired(self, rows: Rows[Game], _: GameRetired, env: Placed) -> None:
        rows[env.stream_id].status = "RETIRED"


def _prices(prices: tuple[Price, ...]) -> list[PriceRow]:
    return [PriceRow(price.region, price.amount_cents, price.currency) for price in prices]


def _kept(value: object) -> object:
    """A field of an event as the row stores it."""
    if isinstance(value, tuple):
        return [_kept(each) for each in value]
    return _prices((value,))[0] if isinstance(value, Price) else value
