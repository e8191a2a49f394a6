"""Documents as operations of bulk requests, and what became of each."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from adapters.elasticsearch.failures import CONFLICT, says_lost, says_refused
from projections.engine.folding import StorageLost, StoreFailed
from projections.search.document import GameDocument, derive

CHUNK = 1000
"""How many documents one request has at most."""

CHUNK_BYTES = 5 * 2**20
"""How large one request is at most, unless it has a single larger document."""


def is_refused(item: dict[str, Any]) -> bool:
    """Whether a document is refused for its content. Raises StorageLost, StoreFailed when it was
    not stored for another reason."""
    status = item["status"]
    if 200 <= status < 300 or status == CONFLICT:  # a conflict: the same or a newer one is stored
        return False
    if says_refused(status, item):
        return True
    raise (StorageLost if says_lost(status, item) else StoreFailed)(
        f"{status}: {item.get('error')}"
    )


def error_of(item: dict[str, Any]) -> str:
    """The reason that Elasticsearch gives for refusing a document."""
    error = item["error"]
    return f"{error['type']}: {error.get('reason')}"


class Outcome(msgspec.Struct):
    """What became of documents: how many are new, and which were refused, with the reason."""

    created: int = 0
    refused: dict[UUID, str] = {}


class Operation(msgspec.Struct, frozen=True):
    """A document as two lines of a bulk request."""

    game_id: UUID
    lines: tuple[bytes, bytes]


def chunks(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Group operations into requests of at most CHUNK operations and CHUNK_BYTES bytes."""
    chunk: list[Operation] = []
    size = 0
    for operation in operations:
        more = sum(map(len, operation.lines))
        if chunk and (len(chunk) == CHUNK or size + more > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(operation)
        size += more
    if chunk:
        yield chunk


def index_operation(document: GameDocument, event_id: UUID | None) -> Operation:
    """The operation that inserts or replaces a document, unless a newer one (by position) is
    stored."""
    derived = derive(document)
    action = {
        "index": {
            "_id": str(document.game_id),
            "version": document.position,
            "version_type": "external",
        }
    }
    source = {
        "id": str(document.game_id),
        "position": document.position,
        "event_id": str(event_id) if event_id else "",
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
        "document": document,
    }
    return Operation(document.game_id, (msgspec.json.encode(action), msgspec.json.encode(source)))
