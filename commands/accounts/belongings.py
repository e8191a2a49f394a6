"""What hangs on an account, as read models know it: where to look. Whether it does, the streams
themselves decide."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec


class NotSeenYet(Exception):
    """The read models have not come as far as they are asked for: ask again a little later."""


class Owed(msgspec.Struct, frozen=True):
    """Ids of what may keep an account from being forgotten: shipments that have not arrived, orders
    that are unpaid or have a refund on its way, transactions of deposits likewise, wallets,
    transfers that have not ended."""

    shipments: Sequence[UUID] = ()
    orders: Sequence[UUID] = ()
    deposits: Sequence[UUID] = ()
    wallets: Sequence[UUID] = ()
    transfers: Sequence[UUID] = ()


class Belongings(Protocol):
    """Finds by account. Each answer reflects the log up to `position` at least; all raise
    NotSeenYet."""

    async def games(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        """A seller's games that are on sale, or were taken off sale with the account."""
        ...

    async def unpaid_orders(self, user_id: UUID, position: int) -> Sequence[UUID]:
        """Orders that await their payment: the person's own, and those with a line that the person
        sells."""
        ...

    async def open_deposits(self, user_id: UUID, position: int) -> Sequence[UUID]:
        """The payments of deposits that have not ended."""
        ...

    async def unsent_shipments(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        """What a seller is to send, or may have to once it is paid."""
        ...

    async def owed(self, user_id: UUID, position: int) -> Owed:
        """What may keep the account from being forgotten."""
        ...

    async def admins(self, position: int) -> Sequence[UUID]:
        """The accounts of type ADMIN that are open."""
        ...
