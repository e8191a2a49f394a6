"""Pages of games as they were last read, as long as the log says that no game has changed since.

A page is kept only when it reflects the position at which it was just seen that nothing is quarantined. From then on it
stays right until the next event of a game: the read model is a fold of those, and of nothing else (what is quarantined
may be folded later, without an event). So no page is ever served that is older than what was projected.
"""

import msgspec

from queries.game_changes import ANY_CHANGE, LOOKED_THROUGH
from queries.games import Browse, Game, browse
from queries.paging import Page
from queries.read_models import Answer, ReadModels

MAX_PAGES = 500

_LOOK = (
    f"SELECT {ANY_CHANGE} AS changed,"
    " EXISTS (SELECT 1 FROM read.quarantine q JOIN read.feeds f USING (feed) WHERE f.projection = 'games')"
    " AS quarantined FROM (SELECT count(*) FROM (SELECT 1 FROM {games} LIMIT 1) AS any_game) AS one"
)


class _Look(msgspec.Struct, frozen=True):
    changed: bool
    quarantined: bool


class GamePages:
    """The pages that one process keeps."""

    def __init__(self) -> None:
        self._pages: dict[Browse, Page[Game]] = {}
        self._seen = 0
        """No game has changed after the kept pages were read, up to this position."""

    async def browse(self, models: ReadModels, wanted: Browse) -> Answer[Page[Game]]:
        """As `queries.games.browse`."""
        look = await models.rows(_Look, _LOOK, after=self._seen, upto=self._seen + LOOKED_THROUGH)
        clean = self._forget_changed(look)
        kept = self._pages.get(wanted)
        if kept is not None and clean:
            return Answer(kept, look.position)
        page = await browse(models, wanted)
        if clean and page.position == look.position == self._seen and len(self._pages) < MAX_PAGES:
            self._pages[wanted] = page.value
        return page

    def _forget_changed(self, look: Answer[list[_Look]]) -> bool:
        """Drop all pages when one may be out of date; returns whether pages may be kept and served now."""
        found, position = look.value[0], look.position
        if position < self._seen:  # others have looked since, and know better
            return False
        if found.changed or found.quarantined or position > self._seen + LOOKED_THROUGH:
            self._pages.clear()
        self._seen = position
        return not found.quarantined
