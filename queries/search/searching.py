"""Search for games: from what somebody typed to a page of results, by any engine."""

import base64
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated
from uuid import UUID

import msgspec

from projections.search.document import (
    EVERYWHERE,
    DocumentPrice,
    GameDocument,
    derive,
    distinct,
    filter_key,
    price_in,
    price_key,
    region_key,
    region_prices,
)
from queries.catalog.stock import Offer
from queries.engine.paging import MAX_LIMIT
from queries.search.highlight import Highlighter, correction
from queries.search.popular import NONE, PopularGames
from queries.search.port import (
    EngineName,
    Facets,
    FacetValue,
    Found,
    GameIndex,
    Listed,
    Lookup,
    SearchOrder,
    Sort,
    facet_values,
    price_range,
    price_step,
    read_typed,
)
from queries.search.ranking import Ranked, ranked

MAX_CENTS = 2**62
"""The largest price bound; engines count in 64 bits."""

_ORDERS: dict[Sort, SearchOrder] = {
    "relevance": SearchOrder("text"),
    "price": SearchOrder("price"),
    "-price": SearchOrder("price", descending=True),
    "release_date": SearchOrder("released", descending=True),
    "title": SearchOrder("text"),
}


class InvalidCursor(ValueError):
    """The cursor is not from this search, or from another engine and this one cannot continue
    it."""


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to search for. All given filters must match; values are compared folded (case, accents).

    A blank `q` means everything. Price bounds are inclusive, in cents of the currency (without one
    they are ignored), and compare the region's price or else that of everywhere; a game that is
    priced in another currency there has none. `game_ids` limits the search to these games and then
    includes those that are no longer on sale (a library). `limit` is at most
    200. `sort`: `release_date` is newest first; the others ascend but for `-price`.
    """

    q: str = ""
    category: str | None = None
    genre: str | None = None
    tag: str | None = None
    platform: str | None = None
    kind: str | None = None
    seller_id: UUID | None = None
    game_ids: Sequence[UUID] | None = None
    price_min: int | None = None
    price_max: int | None = None
    region: str = EVERYWHERE
    currency: str = ""
    sort: Sort = "relevance"
    limit: int = 20
    cursor: str | None = None


class SearchItem(msgspec.Struct, frozen=True):
    """A found game: its document, its price in the searcher's region, its title as HTML with
    matches marked, and its offer, unless only another query can tell."""

    document: GameDocument
    price: DocumentPrice | None
    highlight: str
    offer: Offer | None = None


class SearchResult(msgspec.Struct, frozen=True):
    """A page of results. `total` and `facets` cover all results; `suggestion` is the right spelling
    when only a misspelling was found."""

    items: list[SearchItem]
    total: int
    facets: Facets
    suggestion: str | None
    engine: EngineName
    next_cursor: str | None


class Title(msgspec.Struct, frozen=True):
    """A game's title, suggested while somebody types."""

    game_id: UUID
    title: str


class _Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the next page begins: after the first `best` ranked results, or after an entry of the
    list.

    When many games match equally well, engines differ in which ones they rank: `ranking` identifies
    those of the first page.
    """

    sort: Sort
    engine: EngineName
    best: Annotated[int, msgspec.Meta(ge=0)] = 0
    ranking: int = 0
    after: Listed | None = None

    def check(self, engine: EngineName, ranked_ids: Sequence[UUID]) -> None:
        """Raises InvalidCursor when this engine ranks other results first."""
        if self.best and self.engine != engine and self.ranking != _fingerprint(ranked_ids):
            raise InvalidCursor("another engine began this list, and this one ranks otherwise")


class GameSearch:
    """Searches an index. The best matches come first, as ranked by `queries.search.ranking`; then
    the other games that match every word, by title. Other sorts list the games that match every
    word, or, when none does, the best matches."""

    def __init__(self, index: GameIndex) -> None:
        self._index = index

    async def search(self, query: SearchQuery) -> SearchResult:
        """A page of results, for any typed text. Raises InvalidCursor."""
        cursor, lookup = (
            _read_cursor(query) or _Cursor(query.sort, self._index.name),
            _lookup(query),
        )
        if query.q.strip() and lookup.typed is None:
            return SearchResult([], 0, Facets(), None, self._index.name, None)
        words = lookup.typed.words if lookup.typed else []
        found = await self._index.find(lookup)
        best = ranked(words, found.candidates, query.q)
        if not found.total:
            return self._inexact(query, cursor, words, best, found)
        first = [each.candidate.game_id for each in best] if query.sort == "relevance" else []
        cursor.check(self._index.name, first)
        near_misses = sum(not each.candidate.strict for each in best) if first else 0
        rest = found.total + near_misses - len(first)
        page, following = await self._page(query, lookup, first, rest, cursor)
        missing = [each for each in page if each not in found.documents]
        fetched = {each.game_id: each for each in await self._index.fetch(missing)}
        documents = [
            found.documents[each] if each in found.documents else fetched[each]
            for each in page
            if each in found.documents or each in fetched
        ]
        return SearchResult(
            items=_items(documents, found, query.region, words),
            total=found.total + near_misses,
            facets=found.facets,
            suggestion=None,
            engine=self._index.name,
            next_cursor=following,
        )

    async def suggest(
        self, prefix: str, limit: int = 10, popular: PopularGames = NONE
    ) -> list[Title]:
        """Distinct titles for what was typed so far, the best first."""
        typed = read_typed(prefix)
        if typed is None:
            return []
        begun = popular.begun_by(typed.canonical)
        candidates = await self._index.suggest(Lookup(typed=typed, popular=begun))
        best = ranked(typed.words, candidates, prefix, popular.sold)
        titles: dict[str, Title] = {}
        for each in best:
            found = each.candidate
            titles.setdefault(found.text, Title(found.game_id, found.title))
        return list(titles.values())[:limit]

    async def _page(
        self, query: SearchQuery, lookup: Lookup, first: list[UUID], rest: int, cursor: _Cursor
    ) -> tuple[list[UUID], str | None]:
        """The ids of a page, and the next page's cursor: what is left of the ranked games, then the
        list of the others."""
        limit, ranking = _limit(query), _fingerprint(first)
        page = first[cursor.best : cursor.best + limit]
        behind, room = cursor.best + len(page), limit - len(page)
        if not room or not rest:
            more = behind < len(first) or rest > 0
            return page, _write_cursor(
                _Cursor(query.sort, self._index.name, behind, ranking)
            ) if more else None
        listed = await self._index.listing(
            lookup, _ORDERS[query.sort], room + 1, after=cursor.after, without=first
        )
        page += [each.game_id for each in listed[:room]]
        if len(listed) <= room:
            return page, None
        return page, _write_cursor(
            _Cursor(query.sort, self._index.name, behind, ranking, listed[room - 1])
        )

    def _inexact(
        self,
        query: SearchQuery,
        cursor: _Cursor,
        words: list[str],
        best: list[Ranked],
        found: Found,
    ) -> SearchResult:
        """The results when no game has every typed word: near matches, and a suggestion."""
        ids = [each.candidate.game_id for each in best]
        cursor.check(self._index.name, ids)
        documents = [found.documents[each] for each in ids]
        if query.sort != "relevance":
            documents = _in_order(documents, query)
        end = cursor.best + _limit(query)
        following = _Cursor(query.sort, self._index.name, end, _fingerprint(ids))
        return SearchResult(
            items=_items(documents[cursor.best : end], found, query.region, words),
            total=len(documents),
            facets=_count(documents, query),
            suggestion=correction(best[0].candidate.title, words) if best else None,
            engine=self._index.name,
            next_cursor=_write_cursor(following) if end < len(documents) else None,
        )


def _limit(query: SearchQuery) -> int:
    return max(1, min(query.limit, MAX_LIMIT))


def _lookup(query: SearchQuery) -> Lookup:
    wanted = {
        "category": query.category,
        "genre": query.genre,
        "tag": query.tag,
        "platform": query.platform,
        "kind": query.kind,
    }
    return Lookup(
        typed=read_typed(query.q),
        filters=[filter_key(field, value) for field, value in wanted.items() if value is not None],
        seller_id=query.seller_id,
        game_ids=None if query.game_ids is None else list(query.game_ids),
        price_min=_cents(query.price_min),
        price_max=_cents(query.price_max),
        region=price_key(query.region),
        currency=query.currency,
    )


def _cents(amount: int | None) -> int | None:
    return None if amount is None else max(-MAX_CENTS, min(amount, MAX_CENTS))


def _items(
    documents: Iterable[GameDocument], found: Found, region: str, words: Sequence[str]
) -> list[SearchItem]:
    marked = Highlighter(words)
    return [
        SearchItem(
            each,
            price_in(each.prices, region),
            marked.highlight(each.title),
            found.offers.get(each.game_id),
        )
        for each in documents
    ]


def _in_order(documents: list[GameDocument], query: SearchQuery) -> list[GameDocument]:
    """The documents sorted as by an engine's `listing`."""
    descending = _ORDERS[query.sort].descending

    def key(document: GameDocument) -> tuple[bool, str | int]:
        derived = derive(document)
        if query.sort == "title":
            return True, derived.text.text
        if query.sort == "release_date":
            return True, derived.released
        cents = _cents_in(document, query)
        return (cents is not None) == descending, cents or 0

    return sorted(documents, key=key, reverse=descending)


def _cents_in(document: GameDocument, query: SearchQuery) -> int | None:
    """The price that counts for a query, as in the engines."""
    prices = region_prices(document.prices)
    there = prices.get(price_key(query.region)) or prices.get(region_key(EVERYWHERE), {})
    return there.get(query.currency)


def _count(documents: Sequence[GameDocument], query: SearchQuery) -> Facets:
    """The facets of some documents, counted as by the engines."""
    prices = (_cents_in(document, query) for document in documents)
    steps = Counter(price_step(cents) for cents in prices if cents is not None)
    return Facets(
        genre=_values("genre", (each.genres for each in documents)),
        tag=_values("tag", (each.tags for each in documents)),
        platform=_values("platform", (each.platforms for each in documents)),
        price=[price_range(step, count) for step, count in sorted(steps.items())],
    )


def _values(field: str, values: Iterable[Sequence[str]]) -> list[FacetValue]:
    counted = Counter(value for each in values for value in distinct(field, each))
    return facet_values(field, counted.items())


def _write_cursor(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def begun_by(query: SearchQuery) -> EngineName | None:
    """The engine that made the cursor; None without a cursor. Raises InvalidCursor."""
    cursor = _read_cursor(query)
    return None if cursor is None else cursor.engine


def _fingerprint(game_ids: Sequence[UUID]) -> int:
    return zlib.crc32(b"".join(each.bytes for each in game_ids))


def _read_cursor(query: SearchQuery) -> _Cursor | None:
    if not query.cursor:
        return None
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(query.cursor), type=_Cursor)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidCursor(query.cursor) from error
    if cursor.sort != query.sort or (cursor.after and not _is_key(cursor.after.key, query.sort)):
        raise InvalidCursor(query.cursor)
    return cursor


def _is_key(key: str | int, sort: Sort) -> bool:
    if _ORDERS[sort].field == "price":
        return isinstance(key, int) and abs(key) <= MAX_CENTS
    return isinstance(key, str) and "\0" not in key
