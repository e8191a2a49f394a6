"""Whether a game can be bought, here and now: asked when it is put into a cart, and again whenever
that counts."""

from commands.aggregates import USER
from domain import catalog, identity
from domain.catalog import Game, Price
from domain.errors import Conflict
from domain.ids import PLATFORM_ID
from eventstore.unit_of_work import UnitOfWork


async def offer(unit: UnitOfWork, game: Game, region: str) -> Price:
    """What a buyer from the region pays for it now.

    Raises Conflict("game_unavailable"): it is not on sale, not in that region, or its seller has
    left.
    """
    price = catalog.offer(game, region)
    if game.seller_id != PLATFORM_ID:
        seller = await unit.load(USER, game.seller_id)
        if seller is not None and not seller.may_act:
            raise Conflict("game_unavailable", "its seller does not sell any more")
        if seller is not None:
            unit.emit(game.seller_id, identity.interrupt_forgetting(seller))
    return price
