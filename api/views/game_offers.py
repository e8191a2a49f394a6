"""Adding offers (price, reduction, availability, images) to views of games."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fastapi import Request

from api.answers import Content, page_content
from api.fields import Page
from api.reading import now_of
from api.services import Services
from api.views.games import DatedGame, GameView, Offered, offer_of
from domain.ids import stock_id
from projections.models.games import Game
from queries.catalog.stock import Offer, offers
from queries.catalog.storefront import reduction_in
from queries.engine import paging
from queries.engine.read_models import QueryResult, ReadModels


async def offers_of(
    services: Services, reads: ReadModels, games: Sequence[Offered]
) -> QueryResult[dict[UUID, Offer]]:
    """The offers of some games, by game id."""
    return await offers(
        reads, [game.game_id for game in games], await now_of(services, reads.as_of)
    )


def offered(offer: Offer, region: str) -> Offered:
    """The view of an offer in a region."""
    view = Offered(game_id=offer.product_id, available=offer.available)
    offer_of(view, offer.prices, offer.image_ids, region)
    return view


async def show_offers(
    services: Services, reads: ReadModels, games: Sequence[Offered], region: str
) -> int:
    """Add prices in a region, availability and images to the views. Returns the position
    reflected."""
    found = await offers_of(services, reads, games)
    for game in games:
        offer = found.value.get(game.game_id)
        if offer is not None:
            game.available = offer.available
            offer_of(game, offer.prices, offer.image_ids, region)
    return found.position


class ShownStock(NamedTuple):
    """The stock that an answer shows, when it changes without an event, and the position that the
    answer reflects."""

    streams: tuple[UUID, ...]
    until: datetime | None
    position: int


async def show_stock(
    services: Services, reads: ReadModels, games: Sequence[GameView], position: int
) -> ShownStock:
    """Add the availability of physical games, if there are any."""
    physical = [game for game in games if game.kind == "PHYSICAL"]
    if not physical:
        return ShownStock((), None, position)
    found = await offers_of(services, reads, physical)
    for game in physical:
        offer = found.value.get(game.game_id)
        game.available = (
            offer.available if offer is not None else 0 if game.status == "ACTIVE" else None
        )
    until = min((each.until for each in found.value.values() if each.until), default=None)
    streams = tuple(stock_id(game.game_id) for game in physical)
    return ShownStock(streams, until, min(position, found.position))


def show_reduction(view: DatedGame, game: Game, region: str, now: datetime) -> datetime | None:
    """Add what the price in a region is reduced from. Returns until when that is so; None if it is
    not reduced."""
    reduction = reduction_in(game.reductions, region, now)
    if reduction is None:
        return None
    view.reduced_from_cents = reduction.from_cents
    return reduction.until


async def games_content(
    request: Request,
    services: Services,
    reads: ReadModels,
    found: QueryResult[paging.Page[Game]],
    region: str,
) -> tuple[Content, int]:
    """A page of games with their prices in a region and, for physical ones, the available quantity;
    and the position that it reflects."""
    page = Page[DatedGame].model_validate(found.value)
    now = await now_of(services, reads.as_of)
    ends = []
    for view, game in zip(page.items, found.value.items, strict=True):
        offer_of(view, view.prices, view.image_ids, region)
        ends.append(show_reduction(view, game, region, now))
    stock = await show_stock(services, reads, page.items, found.position)
    until = earliest(stock.until, *ends)
    return page_content(request, page, stock.streams, until), stock.position


def earliest(*moments: datetime | None) -> datetime | None:
    """The first of the moments that are known."""
    return min((each for each in moments if each is not None), default=None)
