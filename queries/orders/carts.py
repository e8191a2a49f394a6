"""The cart that a buyer is filling."""

from datetime import datetime
from uuid import UUID

from projections.models.carts import Cart
from queries.engine.read_models import QueryResult, ReadModels

_NEWEST = """
SELECT * FROM @carts WHERE buyer_id = %(buyer)s ORDER BY created_position DESC LIMIT 1
"""


async def newest_cart(models: ReadModels, buyer_id: UUID) -> QueryResult[Cart | None]:
    """The buyer's newest cart, whatever its status."""
    return await models.first(Cart, _NEWEST, buyer=buyer_id)


async def open_cart(models: ReadModels, buyer_id: UUID, now: datetime) -> QueryResult[Cart | None]:
    """The buyer's open cart; None when there is none, it was checked out, or its time is over, even
    if no event says so yet."""
    found = await newest_cart(models, buyer_id)
    return found.map(lambda cart: cart if cart and cart.is_open(now) else None)
