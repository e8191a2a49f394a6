"""The cart that a buyer is filling."""

from datetime import datetime
from uuid import UUID

import msgspec

from projections.carts import CartItemRow
from queries.paging import columns_of
from queries.read_models import Answer, ReadModels


class Cart(msgspec.Struct, frozen=True):
    """A cart with its lines, in the order in which they were put in. `version` is the stream's."""

    cart_id: UUID
    buyer_id: UUID
    status: str
    currency: str
    items: list[CartItemRow]
    total_cents: int
    expires_at: datetime
    order_id: UUID | None
    version: int
    created_at: datetime
    updated_at: datetime


_COLUMNS = columns_of(Cart, "c")


async def open_cart(models: ReadModels, buyer_id: UUID, now: datetime) -> Answer[Cart | None]:
    """The buyer's cart; None when there is none, or it was checked out, or its time is over, fired or not."""
    query = f"SELECT {_COLUMNS} FROM {{carts}} c WHERE c.buyer_id = %(buyer)s ORDER BY c.created_position DESC LIMIT 1"
    found = await models.first(Cart, query, buyer=buyer_id)
    return found.map(lambda cart: cart if cart and cart.status == "ACTIVE" and now < cart.expires_at else None)
