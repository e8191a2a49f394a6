"""What depends on an account, as read models know it. They say where to look; the streams
decide."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec


class NotSeenYet(Exception):
    """The read models have not reached the requested position: try again a little later."""


class Owed(msgspec.Struct, frozen=True):
    """Ids of what may keep an account from being forgotten: undelivered shipments; orders and
    deposits that are unpaid or have a pending refund; wallets; unfinished transfers."""

    shipments: Sequence[UUID] = ()
    orders: Sequence[UUID] = ()
    deposits: Sequence[UUID] = ()
    wallets: Sequence[UUID] = ()
    transfers: Sequence[UUID] = ()


class Belongings(Protocol):
    """Finds what depends on an account. Every answer reflects the log at least up to `position`;
    all methods raise NotSeenYet."""

    async def games(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        """A seller's games that are on sale, or were suspended with the account."""
        ...

    async def unpaid_orders(self, user_id: UUID, position: int) -> Sequence[UUID]:
        """Unpaid orders: the person's own, and those with a line that the person sells."""
        ...

    async def open_deposits(self, user_id: UUID, position: int) -> Sequence[UUID]:
        """The payments of unfinished deposits."""
        ...

    async def unsent_shipments(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        """Shipments that a seller has to send, or may have to once they are paid."""
        ...

    async def owed(self, user_id: UUID, position: int) -> Owed:
        """What may keep the account from being forgotten."""
        ...

    async def admins(self, position: int) -> Sequence[UUID]:
        """The accounts of type ADMIN that are open."""
        ...
