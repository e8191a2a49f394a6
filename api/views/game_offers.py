"""Adding offers (price, availability, images) to views of games."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from api.reading import now_of
from api.services import Services
from api.views.games import GameView, Offered, offer_of
from domain.ids import stock_id
from queries.read_models import QueryResult, ReadModels
from queries.stock import Offer, offers


async def offers_of(
    services: Services, reads: ReadModels, games: Sequence[Offered]
) -> QueryResult[dict[UUID, Offer]]:
    """The offers of some games, by game id."""
    return await offers(
        reads, [game.game_id for game in games], await now_of(services, reads.as_of)
    )


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
