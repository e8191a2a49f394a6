"""The belongings of an account, read from the log: for tests that run no projector. Returns
everything that was ever begun for the account; the commands decide what is still open."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from commands.accounts.belongings import Owed
from domain.catalog import GameCreated
from domain.fulfilment import ShipmentCreated
from domain.identity import UserRegistered
from domain.orders import OrderCreated
from domain.transactions import TransactionCreated
from domain.wallets import WalletCreated
from eventstore.log import Log


class LogBelongings:
    """Reads the whole log, whatever the position."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def games(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        return await self._begun(GameCreated, lambda event: event.seller_id == seller_id)

    async def unpaid_orders(self, user_id: UUID, position: int) -> Sequence[UUID]:
        return await self._begun(
            OrderCreated,
            lambda event: user_id in {event.buyer_id, *(line.seller_id for line in event.lines)},
        )

    async def open_deposits(self, user_id: UUID, position: int) -> Sequence[UUID]:
        found = await self._events(
            TransactionCreated, lambda event: (event.type, event.user_id) == ("deposit", user_id)
        )
        return [event.payment_id for _, event in found]

    async def unsent_shipments(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        return await self._begun(ShipmentCreated, lambda event: event.seller_id == seller_id)

    async def owed(self, user_id: UUID, position: int) -> Owed:
        bought = await self._begun(OrderCreated, lambda event: event.buyer_id == user_id)
        return Owed(
            shipments=await self._begun(
                ShipmentCreated, lambda e: e.seller_id == user_id or e.order_id in bought
            ),
            orders=bought,
            deposits=await self._begun(
                TransactionCreated, lambda e: (e.type, e.user_id) == ("deposit", user_id)
            ),
            wallets=await self._begun(WalletCreated, lambda event: event.user_id == user_id),
            transfers=await self._begun(
                TransactionCreated, lambda e: (e.type, e.user_id) == ("transfer", user_id)
            ),
        )

    async def admins(self, position: int) -> Sequence[UUID]:
        return await self._begun(UserRegistered, lambda event: event.account_type == "ADMIN")

    async def _begun(self, kind: type[Any], wanted: Callable[[Any], bool]) -> list[UUID]:
        return [stream_id for stream_id, _ in await self._events(kind, wanted)]

    async def _events(
        self, kind: type[Any], wanted: Callable[[Any], bool]
    ) -> list[tuple[UUID, Any]]:
        head = await self._log.head()
        found = await self._log.read(0, upto=head, names=[kind.NAME], limit=1_000_000)
        return [(each.env.stream_id, each.event) for each in found if wanted(each.event)]
