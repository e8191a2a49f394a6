"""The search index in Elasticsearch: its documents, its mark, and the aliases that point to it.

It uses only features of the minimal distribution: whitespace, prefixes, aggregations, aliases,
external versions. `projections.search.text` splits the titles.
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch

from adapters.elasticsearch.bulk import (
    Operation,
    Outcome,
    chunks,
    error_of,
    index_operation,
    is_refused,
)
from adapters.elasticsearch.failures import (
    NOT_FOUND,
    TOO_LARGE,
    is_lost,
    says_lost,
    says_refused,
)
from kit.ahead import one_ahead
from projections.engine.folding import RowsRefused, StorageLost, StoreFailed
from projections.search.document import GameDocument

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
        # Nested: one field per region and currency would soon exceed the index's limit of fields.
        "prices": {
            "type": "nested",
            "properties": {
                "at": {"type": "keyword"},
                "currency": {"type": "keyword"},
                "cents": {"type": "long"},
            },
        },
        "position": {"type": "long"},
        "event_id": {"type": "keyword", "index": False, "doc_values": False},
        "document": {"type": "object", "enabled": False},
    },
}

SETTINGS: dict[str, Any] = {
    "number_of_shards": 1,
    "refresh_interval": "-1",  # the projection refreshes before it moves a checkpoint
    "similarity": {"keys": {"type": "BM25", "k1": 0.4, "b": 0.3}},
}


_SHAPE = hashlib.sha256(msgspec.json.encode([MAPPINGS, SETTINGS])).hexdigest()[:16]


KEPT = "10m"
"""How long the server keeps a scan's view between two pages."""

LOOK_SECONDS = 2.0
"""How long a listing waits."""

_MARKED_BY = ["*.mappings._meta", "*.settings.index.uuid", "*.settings.index.verified_before_close"]

FETCHED_AT_ONCE = 200
"""Documents, of at most some 100 kB each."""

SCANNED_AT_ONCE = 1_000
"""Documents of a scan's page, if they are as small as usual: a fifth of the server's work."""


Between = Callable[[], object]
"""Called after each of several requests, to show that the caller is alive."""


class ElasticsearchGameStore:
    """Writes documents and moves aliases. The caller owns the client.

    Raises the client's exceptions and, where it can tell, StorageLost, RowsRefused and StoreFailed
    of `projections.engine.folding`.
    """

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client

    def create_index(self, index: str, *, replicas: int = 0) -> None:
        """Create an empty index."""
        settings = SETTINGS | {"number_of_replicas": replicas}
        self._client.indices.create(index=index, settings=settings, mappings=MAPPINGS)

    def mark(self, index: str, alias: str) -> None:
        """Mark a new index, so that it is recognised as this very one, and point the alias to it.

        The alias comes last: an index found through it is always marked.
        """
        found = self._looked_at(index) or {}
        self._client.indices.put_mapping(index=index, meta=_mark(found[index]))
        self.point_alias(alias, index)

    def is_marked(self, index: str, alias: str) -> bool:
        """Whether the alias points to the index as created and marked: not to another with the same
        name, with or without the same mappings; not to several; not to a closed one."""
        found = self._looked_at(alias) or {}
        return found.keys() == {index} and _is_marked(found[index])

    def made(self, pattern: str) -> list[str]:
        """The indices matching a pattern that were created here, by any release, without copies
        made by others."""
        look = self._client.options(request_timeout=LOOK_SECONDS, max_retries=0)
        found: dict[str, Any] = look.indices.get(index=pattern, filter_path=_MARKED_BY).body
        return sorted(
            name
            for name, each in found.items()
            if each.get("mappings", {}).get("_meta", {}).get("uuid") == _uuid(each)
        )

    def drop_index(self, index: str) -> None:
        """Drop an index, if it exists."""
        self._client.options(ignore_status=NOT_FOUND).indices.delete(index=index)

    def bulk(
        self,
        index: str,
        documents: Iterable[GameDocument],
        event_ids: Mapping[int, UUID] = MappingProxyType({}),
        *,
        require_alias: bool = False,
        between: Between = lambda: None,
    ) -> int:
        """Insert or replace documents. Returns how many are new. A document that is not newer than
        the stored one, by position, is ignored. `event_ids`: the event at each document's position.

        With `require_alias`, the server does not create an index of its own in place of a missing
        one.
        """
        outcome = Outcome()
        for chunk in chunks(
            index_operation(each, event_ids.get(each.position)) for each in documents
        ):
            self._put(index, chunk, require_alias, outcome, between)
        if outcome.refused:
            raise RowsRefused(next(iter(outcome.refused.values())), [*outcome.refused])
        return outcome.created

    def delete(
        self, index: str, game_ids: Sequence[UUID], *, between: Between = lambda: None
    ) -> None:
        """Delete documents, where they exist. (A retired game keeps its
        document, with its status.)"""
        for game_id in game_ids:
            self._client.options(ignore_status=NOT_FOUND).delete(index=index, id=str(game_id))
            between()

    def newest(self, index: str) -> tuple[int, str] | None:
        """Position and event of the document changed last; None in an empty index."""
        self.refresh(index)
        answer = self._client.search(
            index=index,
            size=1,
            sort=[{"position": "desc"}],
            source_includes=["position", "event_id"],
            allow_partial_search_results=False,
        )
        found = [hit["_source"] for hit in answer["hits"]["hits"]]
        return (found[0]["position"], found[0]["event_id"]) if found else None

    def refresh(self, index: str) -> None:
        """Make all documents searchable."""
        answer = self._client.indices.refresh(index=index)
        if answer["_shards"]["failed"]:
            raise StoreFailed(f"{index} is not refreshed: {answer['_shards']}")

    def fetch(
        self, index: str, game_ids: Sequence[UUID], *, between: Between = lambda: None
    ) -> list[GameDocument]:
        """The documents of games, in the order asked for, without missing ones."""
        found: list[GameDocument] = []
        for start in range(0, len(game_ids), FETCHED_AT_ONCE):
            ids = [str(game_id) for game_id in game_ids[start : start + FETCHED_AT_ONCE]]
            answer = self._client.mget(index=index, ids=ids, source_includes=["document"])
            found += read_fetched(answer["docs"], ids)
            between()
        return found

    def count(self, index: str) -> int:
        """The number of searchable documents."""
        answer = self._client.count(index=index)
        if answer["_shards"]["failed"]:
            raise StoreFailed(f"{index} is not counted: {answer['_shards']}")
        return int(answer["count"])

    def scan(self, index: str) -> Iterator[GameDocument]:
        """All documents that are searchable now, by id, without those inserted meanwhile."""
        opened = self._client.open_point_in_time(index=index, keep_alive=KEPT)
        return self._documents(opened["id"])

    def _documents(self, view: str) -> Iterator[GameDocument]:
        with closing(self._pages(view)) as pages:
            for documents in one_ahead(pages):
                yield from documents

    def _pages(self, view: str) -> Generator[list[GameDocument], None, None]:
        size, after = SCANNED_AT_ONCE, None
        try:
            while True:
                try:
                    page = self._client.search(
                        pit={"id": view, "keep_alive": KEPT},
                        size=size,
                        sort="id",
                        search_after=after,
                        source_includes=["document"],
                        track_total_hits=False,
                        allow_partial_search_results=False,
                    )
                except TransportError:
                    if size == FETCHED_AT_ONCE:
                        raise
                    size = FETCHED_AT_ONCE  # the answer may have been too large
                    continue
                if page["_shards"]["failed"] or page["timed_out"]:
                    raise StoreFailed(
                        f"Elasticsearch shows a part of its documents only: {page['_shards']}"
                    )
                hits = page["hits"]["hits"]
                if not hits:
                    return
                yield decode_documents(hits)
                view, after = page["pit_id"], hits[-1]["sort"]
        finally:
            self._client.options(ignore_status=NOT_FOUND).close_point_in_time(id=view)

    def active_index(self, alias: str) -> str | None:
        """The index that the alias points to; None when there is no such alias."""
        return next((name for name in self._looked_at(alias) or {} if name != alias), None)

    def point_alias(self, alias: str, index: str) -> None:
        """Point the alias to this index only, in one step. Removes an index that has the alias's
        name."""
        actions: list[dict[str, Any]] = []
        for name in self._looked_at(alias) or {}:
            if name == alias:
                actions.append({"remove_index": {"index": name}})
            elif name != index:
                actions.append({"remove": {"index": name, "alias": alias}})
        self._client.indices.update_aliases(
            actions=[*actions, {"add": {"index": index, "alias": alias}}]
        )

    def _looked_at(self, name: str) -> dict[str, Any] | None:
        """The indices with this name or alias, with their marks; None when there is none."""
        try:
            found: dict[str, Any] = self._client.indices.get(
                index=name, filter_path=_MARKED_BY
            ).body
        except ApiError as error:
            if is_lost(error):
                return None
            raise
        if not found or not all(_uuid(each) for each in found.values()):
            raise StoreFailed(f"Elasticsearch does not say what {name} is: {found}")
        return found

    def _put(
        self,
        index: str,
        chunk: Sequence[Operation],
        require_alias: bool,
        outcome: Outcome,
        between: Between,
    ) -> None:
        """Insert what goes with one request, and note the outcome."""
        lines = [line for each in chunk for line in each.lines]
        try:
            answer = self._client.bulk(index=index, operations=lines, require_alias=require_alias)  # type: ignore[arg-type]
        except ApiError as error:
            if error.status_code == TOO_LARGE and len(chunk) > 1:
                half = len(chunk) // 2
                between()
                self._put(index, chunk[:half], require_alias, outcome, between)
                self._put(index, chunk[half:], require_alias, outcome, between)
            elif error.status_code == TOO_LARGE or says_refused(error.status_code, error.body):
                outcome.refused |= {each.game_id: str(error) for each in chunk}
            else:
                raise
            return
        items = [item["index"] for item in answer["items"]]
        if [item["_id"] for item in items] != [str(each.game_id) for each in chunk]:
            raise StoreFailed(
                f"Elasticsearch does not answer for the documents that {index} was given"
            )
        for each, item in zip(chunk, items, strict=True):
            if is_refused(item):
                outcome.refused[each.game_id] = error_of(item)
            outcome.created += item.get("result") == "created"
        between()


def decode_documents(hits: Iterable[dict[str, Any]]) -> list[GameDocument]:
    """The documents in a response's hits; a hit without a source belongs to a missing game."""
    return [
        msgspec.convert(hit["_source"]["document"], GameDocument)
        for hit in hits
        if "_source" in hit
    ]


def read_fetched(found: Sequence[dict[str, Any]], asked: Sequence[str]) -> list[GameDocument]:
    """The documents fetched by these ids. Raises StorageLost, or StoreFailed, unless the answer
    says of each whether it exists."""
    failed = next((each for each in found if not isinstance(each.get("found"), bool)), None)
    if failed is not None:
        raise (StorageLost if says_lost(NOT_FOUND, failed) else StoreFailed)(
            str(failed.get("error"))
        )
    if [each["_id"] for each in found] != list(asked):
        raise StoreFailed("Elasticsearch does not answer for the documents that were asked for")
    return decode_documents(found)


def _mark(index: dict[str, Any]) -> dict[str, str]:
    """The uuid differs for an index of the same name that is created again, restored or copied."""
    return {"uuid": _uuid(index), "shape": _SHAPE}


def _uuid(index: dict[str, Any]) -> str:
    return str(index["settings"]["index"]["uuid"])


def _is_marked(index: dict[str, Any]) -> bool:
    is_closed = "verified_before_close" in index["settings"]["index"]
    return not is_closed and index.get("mappings", {}).get("_meta") == _mark(index)
