"""When Elasticsearch refuses one document, that document is at fault. All its other errors on
writes are its own, and the writes are repeated once it is well again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from adapters.elasticsearch import client as elasticsearch_client
from adapters.elasticsearch.client import open_async_client, open_client
from adapters.elasticsearch.store import ElasticsearchGameStore
from domain.amendments import AmendmentDeclared
from domain.catalog import GameUpdated, Price
from eventstore.amendments import STREAM
from kit import circuit
from projections.engine import lanes, runner
from projections.engine.folding import RowsRefused
from projections.search.document import DocumentPrice, GameDocument
from queries.search import engines
from tests.faults.test_elasticsearch_answers import ODD
from tests.support.events.history import game_created, some_id
from tests.support.queues import until_so
from tests.support.servers.odd_elasticsearch import (
    Odd,
    OddElasticsearch,
    dribbles,
    never_ends,
    says,
)
from tests.support.shops.projected import projecting
from tests.support.shops.searching import NAME, Searching, open_searching

SLOW = {"hangs", "dribbles"}

OF_A_DOCUMENT = {"400", "413"}
"""What Elasticsearch says about a document when it refuses to write it."""


@pytest.fixture
def odd(elasticsearch_url: str) -> Iterator[OddElasticsearch]:
    server = OddElasticsearch(elasticsearch_url)
    yield server
    server.close()


@pytest.fixture
async def searching(
    database: str,
    odd: OddElasticsearch,
    elasticsearch_url: str,
    elasticsearch_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Searching]:
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(runner, "RESCAN_SECONDS", 0.1)
    monkeypatch.setattr(circuit, "FAILURES_TO_OPEN", 10_000)
    monkeypatch.setattr(engines, "SEARCH_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(elasticsearch_client, "MAX_ANSWER", 2**20)
    async with open_searching(
        database, odd.url, elasticsearch_url, elasticsearch_prefix
    ) as searching:
        yield searching


def is_write(request: web.Request) -> bool:
    return request.path.endswith("/_bulk")


def is_refresh(request: web.Request) -> bool:
    return request.path.endswith("/_refresh")


def is_read(request: web.Request) -> bool:
    return request.path.endswith("/_mget")


REQUESTS: dict[str, Any] = {
    "write": is_write,
    "read": is_read,
    "refresh": is_refresh,
    "all": lambda _: True,
}


async def is_met(odd: OddElasticsearch) -> None:
    """The odd answer was given, and given again: the projector survived the first."""
    async with asyncio.timeout(60):
        while odd.odd < 2:  # noqa: ASYNC110 another thread's work
            await asyncio.sleep(0.02)


QUICK = {"401", "403, blocked", "429, full disk", "502 in HTML", "200, half of a JSON", "hangs up"}


@pytest.mark.parametrize(
    ("of", "names"),
    [
        pytest.param(is_write, QUICK, id="write-some"),
        pytest.param(is_read, QUICK, id="read-some"),
        *(
            pytest.param(of, {*ODD} - SLOW, id=name, marks=pytest.mark.soak)
            for name, of in REQUESTS.items()
        ),
    ],
)
async def test_no_event_is_held_at_fault_for_what_the_server_answers(
    searching: Searching, odd: OddElasticsearch, of: Any, names: set[str]
) -> None:
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.until_elasticsearch_answers()
        for number, name in enumerate(sorted(names - (OF_A_DOCUMENT if of is is_write else set()))):
            odd.answers(ODD[name], of)
            await searching.happened("Celeste", GameUpdated(tags=(name,)))
            await searching.sells(f"Game {number}")
            await is_met(odd)
            assert await searching.answers() == "postgres", name
            assert await searching.shop.operations.quarantine() == [], name
            odd.passes_on()
            assert await searching.indexing_is(whole=True), name
        await searching.is_proven()
        await searching.until_elasticsearch_answers()


ITEMS: dict[str, dict[str, Any]] = {
    "an item too few": {"errors": False, "items": []},
    "no items": {"errors": False},
    "an item of another document": {
        "errors": False,
        "items": [{"index": {"_id": str(UUID(int=1)), "status": 201}}],
    },
    "an item without status": {
        "errors": False,
        "items": [{"index": {"_id": str(some_id("Celeste"))}}],
    },
    **{
        f"an item with {status} {kind}": {
            "errors": True,
            "items": [
                {
                    "index": {
                        "_id": str(some_id("Celeste")),
                        "status": status,
                        "error": {"type": kind},
                    }
                }
            ],
        }
        for status, kind in [
            (429, "es_rejected_execution_exception"),
            (429, "circuit_breaking_exception"),
            (429, "cluster_block_exception"),
            (403, "cluster_block_exception"),
            (403, "security_exception"),
            (400, "index_closed_exception"),
            (500, "translog_exception"),
            (503, "unavailable_shards_exception"),
            (404, "shard_not_found_exception"),
        ]
    },
}


async def test_an_answer_that_does_not_say_of_each_document_that_it_was_taken_is_a_failure(
    searching: Searching, odd: OddElasticsearch
) -> None:
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.until_elasticsearch_answers()
        for name, body in ITEMS.items():
            odd.answers(says(200, body), is_write)
            await searching.happened("Celeste", GameUpdated(tags=(name,)))
            await is_met(odd)
            assert not await searching.indexing_is(whole=False), name
            odd.passes_on()
            assert await searching.indexing_is(whole=True), name
        await searching.is_proven()


# -- what the real server refuses ------------------------------------------------------------------

REFUSED = {
    "a price beyond 64 bits": game_created(title="Odd", prices=(Price("*", 2**63, "USD"),)),
    "a term of 40 kB": game_created(title="Odd", prices=(Price("*", 1, "USD" * 13_000),)),
}
"""Events that the program could not append; the server refuses their documents."""


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED)
async def test_a_document_that_is_refused_is_quarantined_and_holds_up_no_other(
    searching: Searching, event: Any
) -> None:
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.happened("Odd", event)
        await searching.sells("Hades", "Silksong")
        await searching.happened("Celeste", GameUpdated(tags=("New",)))
        assert await searching.indexing_is(whole=True)
        (quarantined,) = await searching.shop.operations.quarantine()
        assert (quarantined.stream_id, quarantined.feed) == (
            some_id("Odd"),
            f"{NAME}.{searching.indexed.projection.version}",
        )
        assert "document_parsing_exception" in quarantined.error
        found = {
            hit["_source"]["title"]: hit["_source"]["document"]["tags"]
            for hit in _documents(searching)
        }
        assert found.keys() == {"Celeste", "Hades", "Silksong"}
        assert found["Celeste"] == ["New"]


async def test_an_amended_document_is_indexed_as_it_is_to_be_read(searching: Searching) -> None:
    shop = searching.shop
    async with projecting(shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.happened("Odd", game_created(prices=(Price("*", 2**63, "USD"),)))
        await searching.happened("Odd", GameUpdated(tags=("New",)))
        assert await searching.indexing_is(whole=True)
        (held,) = await shop.operations.quarantine()
        ((env, payload),) = await shop.log.read_raw(held.position - 1, upto=held.position)
        corrected = payload.decode().replace(str(2**63), "1999")
        about = (env.position, env.event_id, env.stream_id, env.name)
        await shop.happened(STREAM, AmendmentDeclared(*about, "amend", "typed wrongly", corrected))

        async def is_indexed() -> bool:
            found = {
                hit["_source"]["title"]: hit["_source"]["document"]["tags"]
                for hit in _documents(searching)
            }
            return found.get("Hollow Knight") == ["New"]

        async def is_released() -> bool:
            return await shop.operations.quarantine() == []

        await until_so(is_indexed)
        await until_so(is_released)
        await searching.is_proven()


def _documents(of: Searching) -> list[dict[str, Any]]:
    return list(of.client.search(index=of.index, size=100)["hits"]["hits"])


def document(number: int, **fields: Any) -> GameDocument:
    usual = {
        "game_id": UUID(int=number),
        "seller_id": UUID(int=99),
        "title": f"Game {number}",
        "position": number,
    }
    return GameDocument(**{**usual, **fields})


def test_refused_documents_are_named(elasticsearch_url: str, elasticsearch_prefix: str) -> None:
    """Also bad versions: the server refuses those together with the rest of the request."""
    index = f"{elasticsearch_prefix}one"
    good = [document(1), document(2)]
    with open_client(elasticsearch_url, seconds=10) as client:
        store = ElasticsearchGameStore(client)
        store.create_index(index)
        for bad in (
            document(3, position=-1),
            document(3, position=2**63),
            document(3, prices=[DocumentPrice("*", 2**63, "")]),
        ):
            with pytest.raises(RowsRefused) as refused:
                store.bulk(index, [*good, bad])
            assert UUID(int=3) in refused.value.keys
            with pytest.raises(RowsRefused) as refused:
                store.bulk(index, [bad])
            assert refused.value.keys == [UUID(int=3)]
        store.bulk(index, good)
        store.refresh(index)
        assert {document.game_id.int for document in store.scan(index)} == {1, 2}


def test_whoever_writes_shows_after_each_request_that_he_lives(
    odd: OddElasticsearch, elasticsearch_url: str, elasticsearch_prefix: str
) -> None:
    """Large documents make many requests, and a leader that is silent for long is ended."""
    index, requests, signs = f"{elasticsearch_prefix}one", list[int](), list[int]()

    def counted(request: web.Request) -> bool:
        requests.append(len(signs))
        return False

    documents = [document(n, description="x" * 80_000) for n in range(1, 201)]
    with open_client(odd.url, seconds=10) as client:
        store = ElasticsearchGameStore(client)
        store.create_index(index)
        odd.answers(says(500), counted)
        store.bulk(index, documents, between=lambda: signs.append(1))
        assert store.fetch(
            index, [each.game_id for each in documents * 2], between=lambda: signs.append(1)
        )
    assert requests == list(range(len(signs)))
    assert len(signs) > 3


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
async def test_an_index_that_may_not_be_written_is_written_when_it_may_be(
    searching: Searching, odd: OddElasticsearch, block: str
) -> None:
    """As on a full disk (`read_only_allow_delete`), or after an operator's setting."""
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.until_elasticsearch_answers()
        searching.client.indices.put_settings(
            index=searching.index, settings={f"index.blocks.{block}": True}
        )
        await searching.sells("Hades")
        assert not await searching.indexing_is(whole=False)
        assert await searching.answers() == "postgres"
        assert await searching.shop.operations.quarantine() == []
        searching.client.indices.put_settings(
            index=searching.index, settings={f"index.blocks.{block}": None}
        )
        await searching.until_elasticsearch_answers()
        await searching.is_proven()


@pytest.mark.parametrize("after", range(9))  # more requests than it sends before it has caught up
async def test_a_projector_killed_at_any_request_leaves_an_index_that_the_next_one_completes(
    searching: Searching, odd: OddElasticsearch, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server executes every request, and the projector gets no answer from one request on."""
    await searching.sells("Celeste", "Hades")
    odd.passes_on_but_keeps_answers(after)
    async with projecting(searching.shop.url, [searching.indexed]):
        async with asyncio.timeout(60):
            while odd.odd <= after and not await searching.indexing_is(whole=False):
                pass
    odd.passes_on()
    await searching.happened("Celeste", GameUpdated(tags=("New",)))
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.is_proven()
        await searching.until_elasticsearch_answers()


# -- clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [dribbles, never_ends], ids=["slow", "large"])
async def test_no_client_reads_for_ever(
    odd: OddElasticsearch, answer: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elasticsearch_client, "MAX_ANSWER", 2**20)
    odd.answers(answer)
    async with asyncio.timeout(30), open_async_client(odd.url, seconds=0.5) as client:
        with pytest.raises(Exception, match=r"Connection (timed out|error)"):
            await client.search(index="x")
    with open_client(odd.url, seconds=0.5) as blocking:
        async with asyncio.timeout(30):
            with pytest.raises(Exception, match=r"Connection (timed out|error)"):
                await asyncio.to_thread(lambda: blocking.options(max_retries=0).search(index="x"))


async def test_no_client_goes_elsewhere(odd: OddElasticsearch, elasticsearch_url: str) -> None:
    odd.answers(says(307, "", Location=elasticsearch_url))
    async with open_async_client(odd.url, seconds=5) as client:
        with pytest.raises(Exception, match="307"):
            await client.cluster.health()
    with open_client(odd.url, seconds=5) as blocking, pytest.raises(Exception, match="307"):
        await asyncio.to_thread(blocking.cluster.health)


def test_a_request_that_is_too_large_is_split(
    odd: OddElasticsearch, elasticsearch_url: str, elasticsearch_prefix: str
) -> None:
    """By a proxy, for instance, that accepts only so many bytes."""
    index = f"{elasticsearch_prefix}one"
    documents = [document(n, description="x" * 1000) for n in range(1, 41)]
    huge = document(99, description="x" * 40_000)
    odd.answers(
        says(413, "<html>", "text/html"), lambda request: (request.content_length or 0) > 20_000
    )
    with open_client(odd.url, seconds=10) as client:
        store = ElasticsearchGameStore(client)
        store.create_index(index)
        with pytest.raises(RowsRefused) as refused:
            store.bulk(index, [*documents, huge])
        assert refused.value.keys == [huge.game_id]
        store.refresh(index)
        assert len(list(store.scan(index))) == len(documents)


def test_a_page_that_is_too_large_is_read_in_smaller_ones(
    elasticsearch_url: str, elasticsearch_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = f"{elasticsearch_prefix}two"
    documents = [document(n, description="x" * 2_000) for n in range(1, 301)]
    with open_client(elasticsearch_url, seconds=10) as client:
        store = ElasticsearchGameStore(client)
        store.create_index(index)
        store.bulk(index, documents)
        store.refresh(index)
        monkeypatch.setattr(elasticsearch_client, "MAX_ANSWER", 550_000)  # 300 take 600 kB
        found = list(store.scan(index))
    assert sorted(found, key=lambda each: each.game_id) == documents
