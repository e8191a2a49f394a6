"""Adding offers (price, availability, images) to views of games."""

from collections.abc import Sequence
from uuid import UUID

from api.services import Services
from api.views.games import Offered, offer_of
from queries.read_models import Answer, ReadModels
from queries.stock import Offer, offers


async def offers_of(
    services: Services, reads: ReadModels, games: Sequence[Offered]
) -> Answer[dict[UUID, Offer]]:
    """The offers of some games, by game id."""
    return await offers(reads, [game.game_id for game in games], services.clock.now())


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
