"""The currencies of regions, kept as long as no game has changed."""

import msgspec

from queries.catalog.game_pages import GamePages
from queries.catalog.game_tail import GameTail, Since
from queries.engine.read_models import QueryResult, ReadModels


class _Kept(msgspec.Struct, frozen=True):
    currency: str
    position: int
    since: Since


class RegionCurrencies:
    """What a process knows without a query. Signed-in callers' own writes may be newer: for them,
    PostgreSQL is asked whether a game has changed."""

    def __init__(self, tail: GameTail, pages: GamePages) -> None:
        self._tail = tail
        self._pages = pages
        self._kept: dict[str, _Kept] = {}

    async def currency(self, models: ReadModels, region: str) -> QueryResult[str]:
        """As `queries.catalog.games.currency_of`."""
        models = models.from_primary()
        if models.is_of_caller or models.as_of is not None:
            return await self._pages.currency(models, region)
        known_upto, kept = self._tail.position(), self._kept.get(region)
        if (
            kept is not None
            and known_upto is not None
            and max(known_upto, kept.position) >= models.at_least
            and self._tail.is_unchanged(kept.since, None)
        ):
            return QueryResult(kept.currency, max(known_upto, kept.position))
        since = self._tail.settled()
        found = await self._pages.currency(models, region)
        if since is not None and found.position >= since.position:
            self._kept[region] = _Kept(found.value, found.position, since)
        return found
