"""The port between search and its engines, PostgreSQL and Elasticsearch.

An engine only looks up. This module reads from the query what to look up, and
`queries.search.ranking` orders what is found, both in the same way for every engine.
"""

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from projections.search.document import ANYWHERE, GameDocument, filter_key
from projections.search.text import (
    MAX_TITLE,
    bounded,
    canonical,
    deletions,
    joins,
    lexeme,
    trigrams,
)
from projections.search.words import words
from queries.catalog.stock import Offer
from queries.search.ranking import Candidate

MAX_QUERY = MAX_TITLE
"""How many characters of a query are used: as many as of a title."""

MAX_WORDS = 24
"""How many words of a query are used."""

MAX_CANDIDATES = 40
"""How many candidates each way of looking up proposes."""

LOOSE_SHARE = 0.22
"""How much of the query's trigrams, by weight, a game must share to be proposed."""

FACET_VALUES = 20
"""How many values of a facet are counted, the most frequent first."""

FACET_SPELLINGS = 200
"""How many spellings of values an engine counts; spellings that fold alike are then merged."""

PRICE_STEPS = (0, 1, 500, 1000, 2000, 4000, 6000)
"""The starts of the price facet's ranges, in cents; each range ends before the next begins."""

EngineName = Literal["elasticsearch", "postgres"]
Sort = Literal["relevance", "price", "-price", "release_date", "title"]
OrderField = Literal["text", "released", "price"]


class Alternative(msgspec.Struct, frozen=True):
    """A lexeme of `SearchText`, or, when `unfinished`, any that starts with it."""

    lexeme: str
    unfinished: bool = False


class Typed(msgspec.Struct, frozen=True):
    """What somebody typed, taken apart to match `SearchText`.

    A game matches strictly when it has one alternative of every group of `strict`. It may be meant
    when it shares enough `trigrams`, or one of the rarer `other_keys`, or starts with `canonical`.
    A game whose `SearchText.text` is `text` has been typed whole, and one whose title is `query`
    exactly. `words` are the folded words of the query.
    """

    query: str
    text: str
    words: list[str]
    canonical: str
    trigrams: list[str]
    other_keys: list[str]
    strict: list[list[Alternative]]


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine looks up: what was typed (None: everything), and which games count.

    Only ACTIVE games count, unless `game_ids` names those that do, whatever their status. A game
    must have all `filters` (entries of `Derived.filters`). Price bounds are in cents, inclusive, in
    the currency, and compare the price that counts in the region (a `price_key`): a game that is
    priced in another currency there has none. The `popular` games are suggested, too, if they
    count.
    """

    typed: Typed | None = None
    popular: list[UUID] = []
    filters: list[str] = []
    seller_id: UUID | None = None
    game_ids: list[UUID] | None = None
    price_min: int | None = None
    price_max: int | None = None
    region: str = ANYWHERE
    currency: str = ""


class SearchOrder(msgspec.Struct, frozen=True):
    """An order by one field and, where equal, by game id in the same direction. Games without a
    value come last."""

    field: OrderField
    descending: bool = False


class Listed(msgspec.Struct, frozen=True):
    """A game in a sorted list, and its sort key, to continue after it."""

    key: str | int
    game_id: UUID


class FacetValue(msgspec.Struct, frozen=True):
    """How many games have a value."""

    value: str
    count: int


class PriceRange(msgspec.Struct, frozen=True):
    """How many games cost from `price_min` to `price_max` cents, inclusive; None: no end."""

    price_min: int
    price_max: int | None
    count: int


class Facets(msgspec.Struct, frozen=True):
    """Counts of values among the games found."""

    genre: list[FacetValue] = []
    tag: list[FacetValue] = []
    platform: list[FacetValue] = []
    price: list[PriceRange] = []


class Found(msgspec.Struct, frozen=True):
    """Candidates for ranking, with their documents; the number of games that match strictly, and
    their facets; and the candidates' offers, if the engine knows them."""

    candidates: list[Candidate]
    documents: Mapping[UUID, GameDocument]
    total: int
    facets: Facets
    offers: Mapping[UUID, Offer] = {}


class SearchUnavailable(Exception):
    """The engine does not answer."""


class GameIndex(Protocol):
    """An engine that holds the games' documents. Calls raise SearchUnavailable when it does not
    answer."""

    name: EngineName

    async def find(self, lookup: Lookup) -> Found:
        """Candidates (none for a lookup of everything), the number of strict matches, and their
        facets."""
        ...

    async def suggest(self, lookup: Lookup) -> list[Candidate]:
        """The candidates alone, which is quicker."""
        ...

    async def listing(
        self,
        lookup: Lookup,
        order: SearchOrder,
        limit: int,
        *,
        after: Listed | None = None,
        without: Sequence[UUID] = (),
    ) -> list[Listed]:
        """The games that match strictly, in order, after the game `after`, and without those of
        `without`."""
        ...

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """The documents of games, in the given order; games without one are left out."""
        ...


def read_typed(query: str) -> Typed | None:
    """Take a query apart. None when it has neither words nor signs."""
    whole = words(query[:MAX_QUERY], MAX_TITLE)
    found = whole[:MAX_WORDS]
    if not found:
        return None
    numbered = canonical(found)
    pieces = trigrams(numbered)
    word_end = numbered[-1][-2:] + "_"  # the last word may be unfinished
    together = joins(found) | joins(numbered)
    return Typed(
        query="".join(
            each for each in query[:MAX_QUERY] if each != "\0" and not "\ud800" <= each <= "\udfff"
        ).strip(),
        text=" ".join(whole),
        words=found,
        canonical=" ".join(numbered),
        trigrams=[piece for piece in pieces if piece != word_end] or pieces,
        other_keys=sorted(
            {bounded("=" + word) for word in {*found, *numbered, *together}}
            | {bounded("+" + word) for word in {*found, *together} if len(word) > 3}
            | {bounded("~" + word) for word in deletions(numbered)}
            | ({word_end} & set(pieces))
        ),
        strict=[
            _alternatives(word, number, last=place == len(found) - 1)
            for place, (word, number) in enumerate(zip(found, numbered, strict=True))
        ],
    )


def _alternatives(word: str, number: str, *, last: bool) -> list[Alternative]:
    joined = Alternative(bounded("+" + word), unfinished=last and len(word) > 3)
    found = [Alternative(lexeme(word), unfinished=last), joined]
    found += [Alternative(bounded("=" + word))] if len(word) > 1 else []
    return [*found, Alternative(number)] if number != word else found


def facet_values(field: str, spellings: Iterable[tuple[str, int]]) -> list[FacetValue]:
    """The most frequent values of a field, from the counts of their spellings, the most frequent
    first. A value is shown in its most frequent spelling."""
    shown: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for spelling, count in sorted(spellings, key=lambda pair: (-pair[1], pair[0])):
        key = filter_key(field, spelling)
        shown.setdefault(key, spelling)
        counts[key] += count
    values = [FacetValue(shown[key], count) for key, count in counts.items()]
    return sorted(values, key=lambda each: (-each.count, each.value))[:FACET_VALUES]


def price_range(step: int, count: int) -> PriceRange:
    """The price facet's range that begins at `PRICE_STEPS[step]`."""
    ends = [*(begin - 1 for begin in PRICE_STEPS[1:]), None]
    return PriceRange(PRICE_STEPS[step], ends[step], count)


def price_step(amount_cents: int) -> int:
    """The index of the price facet's range that contains a price."""
    return bisect.bisect_right(PRICE_STEPS, amount_cents) - 1
