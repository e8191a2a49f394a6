"""Search results as JSON: the fields of `api.views.games.SearchPage`, written in one pass."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from projections.models.games import Reduction
from projections.search.document import DocumentPrice
from queries.catalog.stock import Offer
from queries.search.port import Facets
from queries.search.searching import SearchItem, SearchResult


class _Amount(msgspec.Struct, frozen=True):
    amount_cents: int
    currency: str


class _Image(msgspec.Struct, frozen=True):
    id: UUID
    url: str
    thumb_url: str


class _FoundGame(msgspec.Struct, frozen=True):
    game_id: UUID
    price: _Amount | None
    available: int | None
    image_urls: list[_Image]
    id: UUID
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
    prices: Sequence[DocumentPrice]
    status: str
    highlight: str
    reduced_from_cents: int | None
    image_ids: Sequence[UUID]


class _SearchPage(msgspec.Struct, frozen=True):
    items: list[_FoundGame]
    next_cursor: str | None
    total: int
    facets: Facets
    suggestion: str | None
    engine: str


def search_page(
    result: SearchResult, offers: Mapping[UUID, Offer], reduced: Mapping[UUID, Reduction]
) -> bytes:
    """A page of search results, with these games' offers, and the reductions of their prices."""
    return msgspec.json.encode(
        _SearchPage(
            [
                _found(
                    item,
                    item.offer or offers.get(item.document.game_id),
                    reduced.get(item.document.game_id),
                )
                for item in result.items
            ],
            result.next_cursor,
            result.total,
            result.facets,
            result.suggestion,
            result.engine,
        )
    )


def _found(item: SearchItem, offer: Offer | None, reduction: Reduction | None) -> _FoundGame:
    game, price = item.document, item.price
    image_ids = () if offer is None else offer.image_ids
    return _FoundGame(
        game_id=game.game_id,
        price=None if price is None else _Amount(price.amount_cents, price.currency),
        available=None if offer is None else offer.available,
        image_urls=[
            _Image(each, f"/api/v1/images/{each}", f"/api/v1/images/{each}?size=thumb")
            for each in image_ids
        ],
        id=game.game_id,
        seller_id=game.seller_id,
        sku=game.sku,
        title=game.title,
        description=game.description,
        publisher=game.publisher,
        category=game.category,
        genres=game.genres,
        tags=game.tags,
        platforms=game.platforms,
        release_date=game.release_date,
        kind=game.kind,
        prices=game.prices,
        status=game.status,
        highlight=item.highlight,
        reduced_from_cents=None if reduction is None else reduction.from_cents,
        image_ids=image_ids,
    )
