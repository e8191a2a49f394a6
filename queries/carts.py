"""The cart that a buyer is filling."""

from datetime import datetime
from uuid import UUID

import msgspec

from projections.models.carts import CartItemRow
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

    def is_open(self, now: datetime) -> bool:
        """Whether it can be changed and checked out."""
        return self.status == "ACTIVE" and now < self.expires_at

    def is_over(self, now: datetime) -> bool:
        """Whether its time ran out, fired or not."""
        return self.status == "EXPIRED" or (self.status == "ACTIVE" and not self.is_open(now))


_COLUMNS = columns_of(Cart, "c")


async def newest_cart(models: ReadModels, buyer_id: UUID) -> Answer[Cart | None]:
    """The cart that the buyer began last, whatever became of it."""
    query = f"SELECT {_COLUMNS} FROM {{carts}} c WHERE c.buyer_id = %(buyer)s ORDER BY c.created_position DESC LIMIT 1"
    return await models.first(Cart, query, buyer=buyer_id)


async def open_cart(models: ReadModels, buyer_id: UUID, now: datetime) -> Answer[Cart | None]:
    """The buyer's cart; None when there is none, or it was checked out, or its time is over, fired or not."""
    found = await newest_cart(models, buyer_id)
    return found.map(lambda cart: cart if cart and cart.is_open(now) else None)
