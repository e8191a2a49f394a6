"""The PostgreSQL search index behind a rebuild: every look-up goes to the tables that are active at that moment."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from projections.game_document import GameDocument
from projections.game_documents import GamesText
from queries.postgres_search import PostgresGameIndex
from queries.ranking import Candidate
from queries.read_models import ReadModels
from queries.search_port import Found, Listed, Lookup, Order

T = TypeVar("T")


class ActiveGameIndex:
    """The port `GameIndex` over the read model `games_text`. The pool's connections have `read` in their search path.

    What it finds reflects at least the position that `ReadModels` has for `games_text` before the call.
    """

    name: Literal["elasticsearch", "postgres"] = "postgres"

    def __init__(self, models: ReadModels, pool: AsyncConnectionPool) -> None:
        self._models, self._pool = models, pool

    async def find(self, lookup: Lookup) -> Found:
        """See `GameIndex`."""
        return await self._ask(lambda index: index.find(lookup))

    async def suggest(self, lookup: Lookup) -> list[Candidate]:
        """See `GameIndex`."""
        return await self._ask(lambda index: index.suggest(lookup))

    async def listing(
        self, lookup: Lookup, order: Order, limit: int, *, after: Listed | None = None, without: Sequence[UUID] = ()
    ) -> list[Listed]:
        """See `GameIndex`."""
        return await self._ask(lambda index: index.listing(lookup, order, limit, after=after, without=without))

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """See `GameIndex`."""
        return await self._ask(lambda index: index.fetch(game_ids))

    async def _ask(self, question: Callable[[PostgresGameIndex], Awaitable[T]]) -> T:
        answer = await self._models.on_active(
            GamesText.name, lambda feed: question(PostgresGameIndex(self._pool, lambda: feed.storage))
        )
        return answer.value
