"""Whether a game can be bought now, in a region. Asked when it is added to a cart, and again at
checkout."""

from commands.aggregates import USER
from domain import catalog, identity
from domain.catalog import Game, Price
from domain.errors import Conflict
from domain.ids import PLATFORM_ID
from eventstore.unit_of_work import UnitOfWork


async def offer(unit: UnitOfWork, game: Game, region: str) -> Price:
    """The price of the game for buyers in the region.

    Raises Conflict("game_unavailable") when it is not on sale, not in that region, or its seller's
    account is closed.
    """
    price = catalog.offer(game, region)
    if game.seller_id != PLATFORM_ID:
        seller = await unit.load(USER, game.seller_id)
        if seller is not None and not seller.may_act:
            raise Conflict("game_unavailable", "the seller's account is closed")
        if seller is not None:
            unit.emit(game.seller_id, identity.interrupt_forgetting(seller))
    return price
