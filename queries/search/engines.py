"""Search by the first engine that can answer: Elasticsearch while it is up and up to date, else
PostgreSQL.

An answer's position is that of the documents in PostgreSQL. Elasticsearch is used only while its
index has every change of a game that they have, so that no engine shows an old price after the
other has shown the new one; the past is searched in PostgreSQL. Both take titles apart and rank
matches in the same way: PostgreSQL can continue most lists that Elasticsearch began (for others the
cursor is refused), and continues its own to the end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from psycopg_pool import AsyncConnectionPool

from eventstore.database.postgres import AWAY
from projections.search.projection import GamesText
from queries.catalog.game_changes import ANY_CHANGE, MAX_SCANNED_POSITIONS
from queries.engine.positions import ActiveSubscription
from queries.engine.read_models import QueryResult, ReadModels
from queries.search.popular import NONE, Popularity
from queries.search.port import SearchUnavailable
from queries.search.postgres import ActiveGameIndex, PostgresGameIndex
from queries.search.searching import GameSearch, SearchQuery, SearchResult, Title, begun_by

logger = logging.getLogger(__name__)

T = TypeVar("T")

SEARCH_TIMEOUT_SECONDS = 2.0
"""How long searches wait for an index that has fallen behind, before PostgreSQL answers at once
until it is there."""

CHECK_SECONDS, CHECK_TIMEOUT_SECONDS = 0.5, 0.25
"""How long a check waits for PostgreSQL to look up the index, and for an index that has fallen
behind."""

_CHANGED = f"SELECT {ANY_CHANGE}"

_UNSEEN: tuple[type[Exception], ...] = (TimeoutError, *AWAY)

_PROBE = SearchQuery(q="game", sort="title", limit=1)


SearchIn = Callable[[ActiveSubscription], GameSearch]
"""Makes the search over a subscription's storage."""


async def _already(value: T) -> T:
    return value


class Engine(msgspec.Struct, frozen=True):
    """An engine that may be down or behind, and the projection that fills it. `check` raises
    SearchUnavailable."""

    model: str
    search: SearchIn
    check: Callable[[], Awaitable[None]]


class SearchEngines:
    """Searches by the first engine that can answer."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        first: Engine | None = None,
        popularity: Popularity | None = None,
    ) -> None:
        """`first` is the preferred engine, if there is one. Connections of the pool
        (autocommit) look up what it lacks. `popularity` weighs suggestions."""
        self._pool = pool
        self._first = first
        self._popularity = popularity
        self._behind_since: float | None = None
        self._answers = True

    @property
    def prefers_another_engine(self) -> bool:
        """Whether PostgreSQL only answers when another engine cannot."""
        return self._first is not None

    async def search(
        self, reads: ReadModels, query: SearchQuery, now: datetime | None = None
    ) -> QueryResult[SearchResult]:
        """See `GameSearch`. With `now`, the offers that PostgreSQL found along with the games are
        in the result. Raises what `ReadModels.rows` does, too."""
        # the engine that began a list continues it
        goes_on = begun_by(query) == PostgresGameIndex.name
        return await self._ask(
            reads, lambda engine: engine.search(query), None if goes_on else self._first, now
        )

    async def suggest(
        self, reads: ReadModels, prefix: str, limit: int = 10
    ) -> QueryResult[list[Title]]:
        """See `GameSearch`. Raises what `ReadModels.rows` does, too.

        Those of the past are not weighed: the list is of now.
        """
        popular = NONE
        if self._popularity is not None and reads.as_of is None:
            popular = await self._popularity.games()
        return await self._ask(
            reads, lambda engine: engine.suggest(prefix, limit, popular), self._first
        )

    async def _ask(
        self,
        reads: ReadModels,
        ask: Callable[[GameSearch], Awaitable[T]],
        first: Engine | None,
        now: datetime | None = None,
    ) -> QueryResult[T]:
        if first is not None and reads.as_of is None:
            found = await self._ask_first(reads, ask, first)
            if found is not None:
                return found
        active = ActiveGameIndex(reads, now)
        value = await ask(GameSearch(active))
        position = active.position if reads.as_of is None else reads.as_of
        if position is None:  # nothing had to be looked up
            return await reads.on_active(GamesText.name, lambda _: _already(value))
        return QueryResult(value, position)

    async def _ask_first(
        self, reads: ReadModels, ask: Callable[[GameSearch], Awaitable[T]], first: Engine
    ) -> QueryResult[T] | None:
        """The first engine's answer, None when it cannot."""

        async def answer(documents: ActiveSubscription) -> T | None:
            index = await self._index(first, reads, documents.position)
            return None if index is None else await ask(first.search(index))

        try:
            found = await reads.on_active(GamesText.name, answer)
        except SearchUnavailable as error:
            self._note(error)
            return None
        if found.value is None:
            return None
        self._note(None)
        return QueryResult(found.value, found.position)

    async def check(self, reads: ReadModels) -> None:
        """Check as a search would. Raises SearchUnavailable when PostgreSQL would answer instead of
        the first engine."""
        if self._first is None:
            return
        await self._first.check()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                documents = (await reads.waiter.active()).get(GamesText.name)
                if documents is None:
                    return
                index = await self._index(
                    self._first, reads, documents.position, CHECK_TIMEOUT_SECONDS
                )
        except _UNSEEN as error:
            # which is not the engine's fault
            logger.info("whether the index is up to date cannot be seen: %r", error)
            return
        if index is None:
            raise SearchUnavailable("its index lacks changes of games")
        await self._first.search(index).search(_PROBE)

    def _note(self, error: SearchUnavailable | None) -> None:
        """Log when PostgreSQL begins to answer instead, and when that ends, but not each search in
        between."""
        if error is not None:
            logger.log(
                logging.WARNING if self._answers else logging.DEBUG,
                "PostgreSQL answers instead: %s",
                error,
            )
        elif not self._answers:
            logger.warning("the first engine answers again")
        self._answers = error is None

    async def _index(
        self, first: Engine, reads: ReadModels, position: int, patience: float = float("inf")
    ) -> ActiveSubscription | None:
        """The first engine's index, once it has every change of games up to a position; None when
        that takes too long.

        Raises SearchUnavailable.
        """
        clock = asyncio.get_running_loop().time
        index = await self._if_current(first.model, reads, position)
        if index is None:
            self._behind_since = self._behind_since or clock()
            patience = min(patience, self._behind_since + SEARCH_TIMEOUT_SECONDS - clock())
            if patience <= 0:
                return None
            await first.check()  # an engine that is down will not catch up
            await reads.waiter.wait([first.model], position, patience)
            index = await self._if_current(first.model, reads, position)
        if index is not None:
            self._behind_since = None
        return index

    async def _if_current(
        self, model: str, reads: ReadModels, position: int
    ) -> ActiveSubscription | None:
        subscription = (await reads.waiter.active()).get(model)
        # it may have documents from a lost history of the log
        if subscription is None or not subscription.examined:
            return None
        if subscription.position >= position:
            return subscription
        if position - subscription.position > MAX_SCANNED_POSITIONS:
            return None
        async with self._pool.connection() as conn:
            changed = await (
                await conn.execute(_CHANGED, {"after": subscription.position, "upto": position})
            ).fetchone()
        return None if changed is None or changed[0] else subscription
