"""What belongs to an account, according to the read models."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from commands.accounts.belongings import NotSeenYet, Owed
from queries.accounts import belongings
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels

Find = Callable[[ReadModels, UUID], Awaitable[list[UUID]]]


class ReadBelongings:
    """Queries read models that reflect the log up to the position that the caller knows."""

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def games(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        return await self._find(belongings.games, seller_id, position)

    async def unpaid_orders(self, user_id: UUID, position: int) -> Sequence[UUID]:
        return await self._find(belongings.unpaid_orders, user_id, position)

    async def open_deposits(self, user_id: UUID, position: int) -> Sequence[UUID]:
        return await self._find(belongings.open_deposits, user_id, position)

    async def unsent_shipments(self, seller_id: UUID, position: int) -> Sequence[UUID]:
        return await self._find(belongings.unsent_shipments, seller_id, position)

    async def owed(self, user_id: UUID, position: int) -> Owed:
        return Owed(
            shipments=await self._find(belongings.shipments_on_their_way, user_id, position),
            orders=await self._find(belongings.orders_in_suspense, user_id, position),
            deposits=await self._find(belongings.deposits_in_suspense, user_id, position),
            wallets=await self._find(belongings.wallets, user_id, position),
            transfers=await self._find(belongings.transfers_in_suspense, user_id, position),
        )

    async def admins(self, position: int) -> Sequence[UUID]:
        return await self._find(lambda models, _: belongings.admins(models), UUID(int=0), position)

    async def _find(self, find: Find, user_id: UUID, position: int) -> list[UUID]:
        try:
            return await find(self._models.reaching(position), user_id)
        except ReadModelBehind as behind:
            raise NotSeenYet(str(behind)) from behind
