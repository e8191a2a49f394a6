"""Game look-ups in Elasticsearch.

Every failure is SearchUnavailable: no answer, a refusal, or an unreadable answer. Nothing in an
answer is trusted: a proxy may answer, or another server may have the address.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from elasticsearch import ApiError, AsyncElasticsearch

from adapters.elasticsearch.failures import BAD_REQUEST, is_lost
from adapters.elasticsearch.store import read_fetched
from kit.circuit import Circuit
from kit.wording import described
from projections.engine.folding import StorageLost
from projections.search.document import EVERYWHERE, NO_PRICE, GameDocument, region_key
from queries.search.port import (
    FACET_SPELLINGS,
    LOOSE_SHARE,
    MAX_CANDIDATES,
    PRICE_STEPS,
    Alternative,
    EngineName,
    Facets,
    FacetValue,
    Found,
    Listed,
    Lookup,
    SearchOrder,
    SearchUnavailable,
    Typed,
    facet_values,
    price_range,
)
from queries.search.ranking import Candidate

Query = dict[str, Any]

_EVERYTHING: Query = {"match_all": {}}
_CANDIDATE = ["title", "text", "canonical", "rank"]


class _Source(msgspec.Struct, frozen=True):
    title: str
    text: str
    canonical: str
    rank: float
    document: GameDocument | None = None


class _Hit(msgspec.Struct, frozen=True):
    id: UUID = msgspec.field(name="_id")
    source: _Source = msgspec.field(name="_source")
    matched_queries: list[str] = []

    def candidate(self) -> Candidate:
        source = self.source
        strict = "strict" in self.matched_queries
        return Candidate(self.id, source.title, source.text, source.canonical, source.rank, strict)


class _Sorted(msgspec.Struct, frozen=True):
    id: UUID = msgspec.field(name="_id")
    sort: tuple[str | int, str]


class _Bucket(msgspec.Struct, frozen=True):
    doc_count: int
    key: str = ""


class _Buckets(msgspec.Struct, frozen=True):
    buckets: list[_Bucket]


class _Counts(msgspec.Struct, frozen=True):
    doc_count: int
    genre: _Buckets
    tag: _Buckets
    platform: _Buckets
    price: _Buckets


class ElasticsearchGameIndex:
    """Implements `GameIndex` over an index, or the one behind an alias. The caller owns the client
    and its circuit."""

    name: EngineName = "elasticsearch"

    def __init__(
        self, client: AsyncElasticsearch, index: str, circuit: Circuit | None = None
    ) -> None:
        self._client = client
        self._index = index
        self._circuit = circuit or elasticsearch_circuit()

    async def find(self, lookup: Lookup) -> Found:
        """See `GameIndex`."""
        request = _candidates(lookup) | {"source": [*_CANDIDATE, "document"]}
        async with _answering(self._circuit):
            answer = await self._search(**request, aggs={"strict": _strict_facets(lookup)})
            hits = msgspec.convert(answer["hits"]["hits"], list[_Hit])
            counts = msgspec.convert(answer["aggregations"]["strict"], _Counts)
            documents = {
                hit.id: hit.source.document for hit in hits if hit.source.document is not None
            }
            candidates = [hit.candidate() for hit in hits if hit.id in documents]
            return Found(candidates, documents, counts.doc_count, _facets(counts))

    async def suggest(self, lookup: Lookup) -> list[Candidate]:
        """See `GameIndex`."""
        if lookup.typed is None:
            return []
        async with _answering(self._circuit):
            answer = await self._search(**_candidates(lookup))
            return [hit.candidate() for hit in msgspec.convert(answer["hits"]["hits"], list[_Hit])]

    async def listing(
        self,
        lookup: Lookup,
        order: SearchOrder,
        limit: int,
        *,
        after: Listed | None = None,
        without: Sequence[UUID] = (),
    ) -> list[Listed]:
        """See `GameIndex`."""
        matches = [*_counts(lookup), _strict(lookup.typed) if lookup.typed else _EVERYTHING]
        excluded: list[Query] = (
            [{"ids": {"values": [str(id_) for id_ in without]}}] if without else []
        )
        listed = await asyncio.gather(
            *(
                self._list(
                    by,
                    {"bool": {"filter": [*matches, *also], "must_not": excluded}},
                    order,
                    limit,
                    after,
                )
                for by, also in _sorts(order, lookup)
            )
        )
        merged = sorted(
            (each for part in listed for each in part),
            key=lambda each: (each.key, str(each.game_id)),
            reverse=order.descending,
        )
        return merged[:limit]

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """See `GameIndex`."""
        if not game_ids:
            return []
        ids = [str(game_id) for game_id in game_ids]
        async with _answering(self._circuit):
            found = await self._client.mget(
                index=self._index, ids=ids, source_includes=["document"]
            )
            return read_fetched(found["docs"], ids)

    async def _list(
        self, by: Query, query: Query, order: SearchOrder, limit: int, after: Listed | None
    ) -> list[Listed]:
        direction = "desc" if order.descending else "asc"
        async with _answering(self._circuit):
            answer = await self._search(
                query=query,
                size=limit,
                sort=[by, {"id": {"order": direction}}],
                search_after=[after.key, str(after.game_id)] if after else None,
                source=False,
            )
            hits = msgspec.convert(answer["hits"]["hits"], list[_Sorted])
            return [Listed(hit.sort[0], hit.id) for hit in hits]

    async def _search(self, **body: Any) -> dict[str, Any]:
        answer = await self._client.search(
            index=self._index, track_total_hits=False, allow_partial_search_results=False, **body
        )
        return dict(answer.body)


def elasticsearch_circuit() -> Circuit:
    return Circuit("elasticsearch", _is_down)


async def check_elasticsearch(client: AsyncElasticsearch, circuit: Circuit) -> None:
    """Raises SearchUnavailable when the server does not answer: at once, when that is known."""
    async with _answering(circuit):
        await client.cluster.health()


@asynccontextmanager
async def _answering(circuit: Circuit) -> AsyncIterator[None]:
    """Wrap a call and the reading of its answer. Raises SearchUnavailable for any failure."""
    try:
        async with circuit.calling():
            yield
    except Exception as error:
        raise SearchUnavailable(described(error)) from error


def _is_down(error: BaseException) -> bool:
    """Whether other calls would fail alike: not when the index is
    missing, or the request is bad."""
    if isinstance(error, ApiError):
        return error.status_code != BAD_REQUEST and not is_lost(error)
    return isinstance(error, Exception) and not isinstance(error, StorageLost)


def _candidates(lookup: Lookup) -> dict[str, Any]:
    """The part of a search request that selects candidates: loose matches, those that begin alike
    first."""
    if lookup.typed is None:
        return {"query": {"bool": {"filter": _counts(lookup)}}, "size": 0}
    typed = lookup.typed
    begins: Query = {"prefix": {"canonical": typed.canonical}}
    shares: list[Query] = [
        {
            "match": {
                "keys": {
                    "query": " ".join(typed.trigrams),
                    "minimum_should_match": f"{LOOSE_SHARE:.0%}",
                }
            }
        },
        {"match": {"keys": {"query": " ".join(typed.other_keys)}}},
    ]
    boosts: list[Query] = [
        {"constant_score": {"filter": begins, "boost": 8}},
        {"constant_score": {"filter": _strict(typed), "boost": 8}},
        {"constant_score": {"filter": {"term": {"canonical": typed.canonical}}, "boost": 500}},
        {"constant_score": {"filter": {"term": {"text": typed.text}}, "boost": 1000}},
    ]
    if lookup.popular:
        ids = [str(game_id) for game_id in lookup.popular]
        boosts.append({"constant_score": {"filter": {"ids": {"values": ids}}, "boost": 100}})
    query: Query = {
        "bool": {"filter": _counts(lookup), "should": [*shares, *boosts], "minimum_should_match": 1}
    }
    rank: Query = {"field_value_factor": {"field": "rank"}}
    return {
        "query": {
            "function_score": {"query": query, "functions": [rank], "boost_mode": "multiply"}
        },
        "size": MAX_CANDIDATES,
        "source": _CANDIDATE,
    }


def _facets(counts: _Counts) -> Facets:
    def values(facet: str, found: _Buckets) -> list[FacetValue]:
        return facet_values(facet, [(bucket.key, bucket.doc_count) for bucket in found.buckets])

    prices = enumerate(bucket.doc_count for bucket in counts.price.buckets)
    return Facets(
        genre=values("genre", counts.genre),
        tag=values("tag", counts.tag),
        platform=values("platform", counts.platform),
        price=[price_range(step, count) for step, count in prices if count],
    )


def _strict(typed: Typed) -> Query:
    """Every typed word matches, in one way or another."""
    groups = [
        {"bool": {"should": [_alternative(each) for each in group]}} for group in typed.strict
    ]
    return {"bool": {"filter": groups, "_name": "strict"}}


def _alternative(alternative: Alternative) -> Query:
    return {"prefix" if alternative.unfinished else "term": {"lexemes": alternative.lexeme}}


def _counts(lookup: Lookup) -> list[Query]:
    """The conditions for a game to count in this lookup."""
    conditions: list[Query] = [{"term": {"filters": each}} for each in lookup.filters]
    if lookup.game_ids is None:
        conditions.append({"term": {"active": True}})
    else:
        conditions.append({"terms": {"id": [str(game_id) for game_id in lookup.game_ids]}})
    if lookup.seller_id is not None:
        conditions.append({"term": {"seller_id": str(lookup.seller_id)}})
    if lookup.price_min is not None or lookup.price_max is not None:
        conditions.append(_price_between(lookup, lookup.price_min, lookup.price_max))
    return conditions


def _price_between(lookup: Lookup, low: int | None, high: int | None) -> Query:
    """The region's price is in range; or there is none, and the `*` price is."""
    in_range: Query = {"range": {"prices.cents": {"gte": low, "lte": high}}}
    either = [
        {
            "bool": {
                "filter": [
                    {"nested": {"path": "prices", "query": {"bool": {"filter": [*of, in_range]}}}},
                    *also,
                ]
            }
        }
        for of, also in _price_sources(lookup)
    ]
    return {"bool": {"should": either, "minimum_should_match": 1}}


def _price_sources(lookup: Lookup) -> list[tuple[list[Query], list[Query]]]:
    """Where a game's price may be: which of its prices, with the conditions under which each
    counts."""

    def priced(at: str) -> list[Query]:
        return [{"term": {"prices.at": at}}, {"term": {"prices.currency": lookup.currency}}]

    own: Query = {"term": {"priced_at": lookup.region}}
    return [
        (priced(lookup.region), [own]),
        (priced(region_key(EVERYWHERE)), [{"bool": {"must_not": [own]}}]),
    ]


def _sorts(order: SearchOrder, lookup: Lookup) -> list[tuple[Query, list[Query]]]:
    """What to sort by, with the games that each applies to."""
    direction = "desc" if order.descending else "asc"
    if order.field != "price":
        return [({order.field: {"order": direction}}, [])]
    last = -NO_PRICE if order.descending else NO_PRICE
    return [
        (
            {
                "prices.cents": {
                    "order": direction,
                    "missing": last,
                    "nested": {"path": "prices", "filter": {"bool": {"filter": of}}},
                }
            },
            also,
        )
        for of, also in _price_sources(lookup)
    ]


def _strict_facets(lookup: Lookup) -> Query:
    ends = [*(begin - 1 for begin in PRICE_STEPS[1:]), None]
    ranges = [
        _price_between(lookup, low, high) for low, high in zip(PRICE_STEPS, ends, strict=True)
    ]
    return {
        "filter": _strict(lookup.typed) if lookup.typed else _EVERYTHING,
        "aggs": {
            "genre": {"terms": {"field": "genres", "size": FACET_SPELLINGS}},
            "tag": {"terms": {"field": "tags", "size": FACET_SPELLINGS}},
            "platform": {"terms": {"field": "platforms", "size": FACET_SPELLINGS}},
            "price": {"filters": {"filters": ranges}},
        },
    }
