"""Pictures and availability of games that a list only names: a cart, orders, shipments."""

from collections.abc import Iterable

from web.api_client import Listed, Problem
from web.shop.answers import Offer
from web.visit import Visit

NO_OFFER = Offer()


class Offers(dict[str, Offer]):
    """Offers by the games' ids; an empty one for a game that the visitor may not see."""

    def __missing__(self, game_id: str) -> Offer:
        return NO_OFFER


async def offers_of(visit: Visit, game_ids: Iterable[str]) -> Offers:
    """The offers of these games; none while their read model is made anew: the rest of the page
    does not wait for it."""
    wanted = sorted(set(game_ids))
    if not wanted:
        return Offers()
    try:
        found = await visit.api.get("/api/v1/games/offers", Listed[Offer], game_id=wanted)
    except Problem as problem:
        if problem.status != 503:
            raise
        return Offers()
    return Offers({each.game_id: each for each in found.items})
