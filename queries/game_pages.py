"""Pages of games, and what regions are priced in, as they were last read: as long as no game has
changed since.

A page is kept only when it was just seen that nothing is quarantined, and it reflects that position
or a later one. From then on it stays right until the next event of a game: the read model is a fold
of those, and of nothing else (what is quarantined may be folded later, without an event). So no
page is ever served that is older than what was projected.
"""

from collections import OrderedDict

import msgspec

from projections.models.games import Game
from queries.game_changes import ANY_CHANGE, MAX_SCANNED_POSITIONS
from queries.games import Browse, browse, currency_of
from queries.paging import Page
from queries.read_models import Answer, ReadModels

MAX_GAMES = 2000
"""How many games are kept on all pages together: a few megabytes, and 150 if all were as long as
they may be."""

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
    """The pages that one process keeps: those that were asked for last."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Browse, Page[Game]] = OrderedDict()
        self._currencies: dict[str, str] = {}
        self._seen = 0
        """No game has changed after the kept pages were read, up to this position."""

    async def browse(self, models: ReadModels, wanted: Browse) -> Answer[Page[Game]]:
        """As `queries.games.browse`."""
        after = self._seen
        look = await models.rows(_Look, _LOOK, after=after, upto=after + MAX_SCANNED_POSITIONS)
        clean = self._forget_changed(look, after)
        kept = self._pages.get(wanted)
        if kept is not None and clean:
            self._pages.move_to_end(wanted)
            return Answer(kept, look.position)
        page = await browse(models, wanted)
        if clean and page.position >= look.position == self._seen:
            self._keep(wanted, page.value)
        return page

    async def currency(self, models: ReadModels, region: str) -> Answer[str]:
        """As `queries.games.currency_of`, kept in the same way."""
        after = self._seen
        look = await models.rows(_Look, _LOOK, after=after, upto=after + MAX_SCANNED_POSITIONS)
        clean = self._forget_changed(look, after)
        if clean and region in self._currencies:
            return Answer(self._currencies[region], look.position)
        found = await currency_of(models, region)
        if clean and found.position >= look.position == self._seen:
            self._currencies[region] = found.value
        return found

    def forget(self) -> None:
        """The log went back: positions are of other events."""
        self._pages.clear()
        self._currencies.clear()
        self._seen = 0

    def _keep(self, wanted: Browse, page: Page[Game]) -> None:
        self._pages[wanted] = page
        self._pages.move_to_end(wanted)
        excess = sum(map(_weight, self._pages.values())) - MAX_GAMES
        while excess > 0:
            excess -= _weight(self._pages.popitem(last=False)[1])

    def _forget_changed(self, look: Answer[list[_Look]], after: int) -> bool:
        """Drop all pages when one may be out of date; returns whether pages may be kept and served
        now."""
        found, position = look.value[0], look.position
        if position < self._seen:  # others have looked since, and know better
            return False
        if found.changed or found.quarantined or position > after + MAX_SCANNED_POSITIONS:
            self._pages.clear()
            self._currencies.clear()
        self._seen = position
        return not found.quarantined


def _weight(page: Page[Game]) -> int:
    """Its games; and it costs something even without any."""
    return len(page.items) + 1
