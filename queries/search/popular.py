"""The games that sell best, by what their titles begin with.

Suggestions for a few letters are weighed by it: many titles begin with them, and most people look
for one of a few. Each process keeps a list of its own, read from PostgreSQL once a minute, so that
neither a purchase nor a key stroke costs either engine more. A list that cannot be read goes on
being used: it only orders what is found.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from uuid import UUID

import msgspec

from eventstore.database.postgres import AWAY
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels

MAX_GAMES = 5_000
"""How many games are kept, and so how many can be preferred."""

MAX_PROPOSED = 20
"""How many games are proposed for what was typed."""

REFRESH_SECONDS = 60.0
"""How old a list may be before it is read again."""

_LETTERS, _WORDS = 24, 8
"""How much of a title can be found: from the start of each of its first words, that many
letters."""

_MOST_SOLD = f"""
SELECT s.game_id, s.sold, d.canonical FROM @game_sales s JOIN @games_text d ON d.id = s.game_id
WHERE s.sold > 0 AND d.active ORDER BY s.sold DESC, s.game_id DESC LIMIT {MAX_GAMES}
"""


_UNREADABLE: tuple[type[Exception], ...] = (ReadModelBehind, *AWAY)


class PopularGame(msgspec.Struct, frozen=True):
    """A game, how often it was sold, and its title as in `SearchText.canonical`."""

    game_id: UUID
    sold: int
    canonical: str


class PopularGames:
    """Some games, those sold most often first."""

    def __init__(self, games: Sequence[PopularGame] = ()) -> None:
        self.sold: Mapping[UUID, int] = {each.game_id: each.sold for each in games}
        self._ids = [each.game_id for each in games]
        self._begun = sorted(
            (begun, place) for place, each in enumerate(games) for begun in _begun(each.canonical)
        )

    def begun_by(self, canonical: str) -> list[UUID]:
        """The games sold most often of whose titles some word, with those behind it, begins with a
        text."""
        text = canonical[:_LETTERS]
        first = bisect_left(self._begun, (text, -1))
        end = bisect_left(self._begun, (text + chr(0x10FFFF), -1), lo=first)
        places = {place for _, place in self._begun[first:end]}
        return [self._ids[place] for place in heapq.nsmallest(MAX_PROPOSED, places)]


NONE = PopularGames()


def _begun(canonical: str) -> Iterator[str]:
    """The title from the start of each of its first words."""
    start = 0
    for _ in range(_WORDS):
        yield canonical[start : start + _LETTERS]
        start = canonical.find(" ", start) + 1
        if not start:
            return


class Popularity:
    """The list of a process."""

    def __init__(self, models: ReadModels) -> None:
        # not waited for: a list that is not there yet is none
        self._models = models.reaching(0, timeout=0)
        self._games = NONE
        self._refresh_at = float("-inf")

    async def games(self) -> PopularGames:
        """The list. When a new one is due, one caller reads it, while others use the last one."""
        if (now := monotonic()) >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            try:
                found = await self._models.rows(PopularGame, _MOST_SOLD)
            except _UNREADABLE:
                return self._games
            self._games = PopularGames(found.value)
        return self._games
