"""A search index that is missing, or not as the program created it, is noticed at once and created
again, also while its subscription pauses; and no search uses what replaced it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from adapters.elasticsearch.store import SETTINGS
from kit import circuit
from projections.engine import lanes, runner
from queries.search import engines
from tests.support.events.history import some_id
from tests.support.servers.odd_elasticsearch import OddElasticsearch, refuses
from tests.support.shops.projected import projecting
from tests.support.shops.searching import Searching, open_searching

A_DAY = 86_400.0


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
    """A shop whose circuit never opens, and whose searches do not wait for an index that is
    behind."""
    monkeypatch.setattr(runner, "RESCAN_SECONDS", 0.1)
    monkeypatch.setattr(circuit, "FAILURES_TO_OPEN", 10_000)
    monkeypatch.setattr(engines, "SEARCH_TIMEOUT_SECONDS", 0.0)
    async with open_searching(
        database, odd.url, elasticsearch_url, elasticsearch_prefix
    ) as searching:
        yield searching


# -- faults of the index ---------------------------------------------------------------------------


def dropped(of: Searching) -> None:
    of.client.indices.delete(index=of.index)


def replaced_by_an_empty_one(of: Searching) -> None:
    dropped(of)
    of.client.indices.create(index=of.index)


def replaced_by_one_of_another_shape(of: Searching) -> None:
    dropped(of)
    of.client.indices.create(
        index=of.index, mappings={"properties": {"text": {"type": "text"}}}, aliases={of.alias: {}}
    )


def replaced_by_a_copy_without_documents(of: Searching) -> None:
    """With its settings, its mappings, its mark and its aliases."""
    made = of.client.indices.get(index=of.index)[of.index]
    dropped(of)
    kept = {name: made[name] for name in ("mappings", "aliases")}
    of.client.indices.create(index=of.index, settings=SETTINGS, **kept)


def closed(of: Searching) -> None:
    of.client.indices.close(index=of.index)


def left_without_its_alias(of: Searching) -> None:
    of.client.indices.delete_alias(index=of.index, name=of.alias)


def given_an_index_for_its_alias(of: Searching) -> None:
    left_without_its_alias(of)
    of.client.indices.create(index=of.alias)


def joined_by_another_index(of: Searching) -> None:
    of.client.indices.create(index=f"{of.prefix}-other", aliases={of.alias: {}})


def unmarked(of: Searching) -> None:
    of.client.indices.put_mapping(index=of.index, meta={"uuid": "of another"})


def robbed_of_a_document(of: Searching) -> None:
    of.client.delete(index=of.index, id=str(some_id("Hades")), refresh=True)


DONE = [
    robbed_of_a_document,
    dropped,
    replaced_by_an_empty_one,
    replaced_by_one_of_another_shape,
    replaced_by_a_copy_without_documents,
    closed,
    left_without_its_alias,
    given_an_index_for_its_alias,
    joined_by_another_index,
    unmarked,
]
SEARCHED = {
    robbed_of_a_document,
    replaced_by_a_copy_without_documents,
    replaced_by_one_of_another_shape,
    unmarked,
}
"""An index that has the alias is searched until the projector notices."""


CASES = [
    *(pytest.param(do, False, id=f"{do.__name__}-idle") for do in DONE),
    *(pytest.param(do, True, id=f"{do.__name__}-resting", marks=marks) for do in DONE
      for marks in [[] if do in (dropped, closed) else [pytest.mark.soak]] if do in {dropped,
      closed, *SEARCHED}),
]  # fmt: skip


@pytest.mark.parametrize(("do", "rests"), CASES)
async def test_it_is_made_again_at_once(
    searching: Searching,
    odd: OddElasticsearch,
    do: Callable[[Searching], None],
    rests: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (A_DAY, A_DAY) if rests else (0.1, 0.1))
    await searching.sells("Celeste", "Hades")
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.until_elasticsearch_answers()
        if rests:
            odd.answers(refuses(503, "unavailable_shards_exception"))
            await searching.sells("Silksong")
            async with asyncio.timeout(60):
                while not odd.odd:  # noqa: ASYNC110 another thread's work
                    await asyncio.sleep(0.02)
        before = _uuid(searching)
        do(searching)
        odd.passes_on()
        if do in SEARCHED:
            await _until_made_again(searching, before)
            await _until_all_are_found(searching)
        await searching.until_elasticsearch_answers()
        assert _uuid(searching) != before
        await searching.is_proven()
        await searching.sells("Braid")
        await searching.is_proven()
    assert await searching.shop.operations.quarantine() == []


def _uuid(of: Searching) -> Any:
    found = of.client.options(ignore_status=404).indices.get(index=of.alias)
    return {
        name: each["settings"]["index"]["uuid"] for name, each in found.items() if name == of.index
    }


async def _until_all_are_found(searching: Searching) -> None:
    """A search that looked up the subscription before it began anew may once more see the index
    that is being filled."""
    async with asyncio.timeout(60):
        while (await searching.found()).total != len(searching.titles):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _until_made_again(of: Searching, before: Any) -> None:
    async with asyncio.timeout(60):
        while (now := _uuid(of)) == before or not now:  # noqa: ASYNC110 another thread's work
            await asyncio.sleep(0.02)
        while "games_index" not in await of.shop.models.waiter.active():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await of.indexing_is(whole=True)
