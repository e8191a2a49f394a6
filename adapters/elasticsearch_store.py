"""The search index in Elasticsearch: its documents, and the alias that says which index is the active one.

Only what the minimal distribution has is asked of the server: whitespace, prefixes, aggregations, aliases, external
versions. How titles are taken apart is `projections.search_text`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from elasticsearch import Elasticsearch, NotFoundError
from elasticsearch.helpers import BulkIndexError, scan, streaming_bulk

from projections.game_document import GameDocument, derive

_WORDS = {"type": "text", "analyzer": "whitespace"}
_SHOWN = {"type": "keyword", "ignore_above": 1000}
_SORTED = {"type": "keyword"}

MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "title": {"type": "keyword", "index": False, "doc_values": False},
        "text": _SORTED,
        "canonical": _SORTED,
        "released": _SORTED,
        "id": _SORTED,
        "rank": {"type": "float"},
        "lexemes": {
            **_WORDS,
            "index_prefixes": {"min_chars": 1, "max_chars": 10},
            "index_options": "docs",
            "norms": False,
        },
        "keys": {**_WORDS, "similarity": "keys", "index_options": "freqs"},
        "filters": {"type": "keyword"},
        "active": {"type": "boolean"},
        "seller_id": {"type": "keyword"},
        "genres": _SHOWN,
        "tags": _SHOWN,
        "platforms": _SHOWN,
        "priced_at": {"type": "keyword"},
        # Nested: a field for each region and currency would soon be more fields than an index may have.
        "prices": {
            "type": "nested",
            "properties": {"at": {"type": "keyword"}, "currency": {"type": "keyword"}, "cents": {"type": "long"}},
        },
        "document": {"type": "object", "enabled": False},
    },
}

SETTINGS: dict[str, Any] = {
    "number_of_shards": 1,
    "refresh_interval": "-1",  # whoever moves a checkpoint refreshes first
    "similarity": {"keys": {"type": "BM25", "k1": 0.4, "b": 0.3}},
}


class ElasticsearchGameStore:
    """Writes documents and moves the alias. The client is the caller's."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client

    def create_index(self, index: str, *, replicas: int = 0) -> None:
        """Create an index, empty."""
        settings = SETTINGS | {"number_of_replicas": replicas}
        self._client.indices.create(index=index, settings=settings, mappings=MAPPINGS)

    def drop_index(self, index: str) -> None:
        """Drop an index, if it is there."""
        self._client.options(ignore_status=404).indices.delete(index=index)

    def bulk(self, index: str, documents: Iterable[GameDocument]) -> None:
        """Put documents in. One that is not newer than what is there, by its position, is ignored.

        Raises BulkIndexError when the server refuses any.
        """
        failed = []
        actions = (_action(index, document) for document in documents)
        for ok, answer in streaming_bulk(self._client, actions, chunk_size=1000, raise_on_error=False, max_retries=3):
            if not ok and answer["index"]["status"] != 409:  # 409: already applied
                failed.append(answer)
        if failed:
            raise BulkIndexError(f"{len(failed)} documents were refused", failed)

    def refresh(self, index: str) -> None:
        """Make all that was put in findable."""
        self._client.indices.refresh(index=index)

    def fetch(self, index: str, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """The documents of games, in the order asked for; those that are not there are left out."""
        if not game_ids:
            return []
        found = self._client.mget(index=index, ids=[str(id_) for id_ in game_ids], source_includes=["document"])
        return decode_documents(found["docs"])

    def scan(self, index: str) -> Iterator[GameDocument]:
        """All documents that are findable, in no order."""
        for hit in scan(self._client, index=index, source_includes=["document"], size=1000):
            yield from decode_documents([hit])

    def active_index(self, alias: str) -> str | None:
        """The index that the alias points to, None when there is no such alias."""
        try:
            indices: dict[str, Any] = self._client.indices.get_alias(name=alias).body
        except NotFoundError:
            return None
        return next(iter(indices), None)

    def point_alias(self, alias: str, index: str) -> None:
        """Point the alias to an index, and away from any other, in one step."""
        active = self.active_index(alias)
        actions: list[dict[str, Any]] = [{"add": {"index": index, "alias": alias}}]
        if active is not None and active != index:
            actions.insert(0, {"remove": {"index": active, "alias": alias}})
        self._client.indices.update_aliases(actions=actions)


def decode_documents(hits: Iterable[dict[str, Any]]) -> list[GameDocument]:
    """The documents in a response's hits; a hit without a source is of a game that is not there."""
    return [msgspec.convert(hit["_source"]["document"], GameDocument) for hit in hits if "_source" in hit]


def _action(index: str, document: GameDocument) -> dict[str, Any]:
    derived = derive(document)
    return {
        "_op_type": "index",
        "_index": index,
        "_id": str(document.game_id),
        "version": document.position,
        "version_type": "external",
        "_source": {
            "id": str(document.game_id),
            "title": document.title,
            "text": derived.text.text,
            "canonical": derived.text.canonical,
            "released": derived.released,
            "rank": derived.text.rank,
            "lexemes": " ".join(derived.text.lexemes),
            "keys": " ".join(derived.text.keys),
            "filters": derived.filters,
            "active": document.status == "ACTIVE",
            "seller_id": str(document.seller_id),
            "genres": derived.genres,
            "tags": derived.tags,
            "platforms": derived.platforms,
            "priced_at": list(derived.prices),
            "prices": [
                {"at": at, "currency": currency, "cents": cents}
                for at, by_currency in derived.prices.items()
                for currency, cents in by_currency.items()
            ],
            "document": msgspec.to_builtins(document),
        },
    }
