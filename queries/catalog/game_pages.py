"""Caches pages of games, and the currencies of regions, as long as no game has changed.

A page is cached only when a look has just shown that nothing is quarantined, and it reflects that
look's position or a later one. From then on it holds until the next event of a game, since the read
model is a fold of games' events alone (a quarantined stream might be folded later, without an
event). So no page is served that is older than the read model.
"""

from collections import OrderedDict

import msgspec

from projections.models.games import Game
from queries.catalog.game_changes import ANY_CHANGE, MAX_SCANNED_POSITIONS
from queries.catalog.games import Browse, browse, currency_of
from queries.engine.paging import Page
from queries.engine.read_models import QueryResult, ReadModels

MAX_GAMES = 2000
"""How many games all cached pages hold together: a few megabytes, or 150 MB if all games had their
maximal size."""

_LOOK = f"""
SELECT
    {ANY_CHANGE} AS changed,
    EXISTS (
        SELECT 1 FROM consumers.quarantine q JOIN consumers.feeds f USING (feed)
        WHERE f.projection = 'games'
    ) AS quarantined
FROM (SELECT count(*) FROM (SELECT 1 FROM @games LIMIT 1) AS any_game) AS one
"""


class _Look(msgspec.Struct, frozen=True):
    changed: bool
    quarantined: bool


class GamePages:
    """The page cache of one process; the least recently used pages are dropped."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Browse, Page[Game]] = OrderedDict()
        self._currencies: dict[str, str] = {}
        self._seen = 0
        """Up to this position no game has changed since the cached pages were read."""

    async def browse(self, models: ReadModels, wanted: Browse) -> QueryResult[Page[Game]]:
        """As `queries.catalog.games.browse`. What a standby may answer is neither
        cached nor taken from the cache, which follows the primary; nor is the past."""
        if models.may_be_replicas or models.as_of is not None:
            return await browse(models, wanted)
        models = models.from_primary()
        after = self._seen
        look = await models.rows(_Look, _LOOK, after=after, upto=after + MAX_SCANNED_POSITIONS)
        clean = self._forget_changed(look, after)
        kept = self._pages.get(wanted)
        if kept is not None and clean:
            self._pages.move_to_end(wanted)
            return QueryResult(kept, look.position)
        page = await browse(models, wanted)
        if clean and page.position >= look.position == self._seen:
            self._keep(wanted, page.value)
        return page

    async def currency(self, models: ReadModels, region: str) -> QueryResult[str]:
        """As `queries.catalog.games.currency_of`, cached in the same way."""
        if models.as_of is not None:
            return await currency_of(models, region)
        after = self._seen
        look = await models.rows(_Look, _LOOK, after=after, upto=after + MAX_SCANNED_POSITIONS)
        clean = self._forget_changed(look, after)
        if clean and region in self._currencies:
            return QueryResult(self._currencies[region], look.position)
        found = await currency_of(models, region)
        if clean and found.position >= look.position == self._seen:
            self._currencies[region] = found.value
        return found

    def forget(self) -> None:
        """Drop the cache when the log went back."""
        self._pages.clear()
        self._currencies.clear()
        self._seen = 0

    def _keep(self, wanted: Browse, page: Page[Game]) -> None:
        self._pages[wanted] = page
        self._pages.move_to_end(wanted)
        excess = sum(map(_weight, self._pages.values())) - MAX_GAMES
        while excess > 0:
            excess -= _weight(self._pages.popitem(last=False)[1])

    def _forget_changed(self, look: QueryResult[list[_Look]], after: int) -> bool:
        """Drop all pages when one may be out of date. Returns whether pages may be cached and
        served now."""
        found, position = look.value[0], look.position
        if position < self._seen:  # a later look has been taken since
            return False
        if found.changed or found.quarantined or position > after + MAX_SCANNED_POSITIONS:
            self._pages.clear()
            self._currencies.clear()
        self._seen = position
        return not found.quarantined


def _weight(page: Page[Game]) -> int:
    """What a page counts towards MAX_GAMES: its games, and one for itself."""
    return len(page.items) + 1
