"""Search: which engine indexes the games, and which one answers."""

import asyncio
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import TYPE_CHECKING

from eventstore.database.postgres import connect
from kit.tls import Trust
from projections.engine.runner import Registered
from projections.registry import read_models
from projections.search.projection import GamesIndex
from queries.engine.positions import ActiveSubscription
from queries.engine.read_models import ReadModels
from queries.search.engines import Engine, SearchEngines
from queries.search.popular import Popularity
from queries.search.searching import GameSearch
from runtime.database.instance import database_url
from runtime.settings import Settings

if TYPE_CHECKING:
    # imports all commands and adapters, which the projector does not need
    from runtime.wiring.core import Core

INDEX_SECONDS = 10.0
"""How long Elasticsearch may take for one bulk request; normally a second."""

SEARCH_SECONDS = 0.4
"""How long Elasticsearch may take for an answer, normally milliseconds. After that PostgreSQL
answers."""

_KEEP_INDEX_PREFIX = """
INSERT INTO private.secrets (name, value) VALUES ('index_prefix', %s)
ON CONFLICT (name) DO NOTHING
"""

_INDEX_PREFIX = "SELECT value FROM private.secrets WHERE name = 'index_prefix'"


def all_models(settings: Settings) -> list[Registered]:
    """Every read model, with the store of its rows."""
    return [*read_models(), *search_models(settings)]


def search_models(settings: Settings) -> list[Registered]:
    """The search indexes outside PostgreSQL: one if Elasticsearch is configured."""
    url = settings.elasticsearch_url.get_secret_value()
    if not url:
        return []
    from adapters.elasticsearch.client import open_client  # slow to import: only where it is used
    from adapters.elasticsearch.documents import ElasticsearchDocuments

    client = open_client(url, seconds=INDEX_SECONDS, trust=Trust(settings.tls_ca))
    return [Registered(GamesIndex(), ElasticsearchDocuments(client, _index_prefix(settings)))]


async def open_search(core: "Core", reads: ReadModels) -> SearchEngines:
    """The engines that searches ask: Elasticsearch first, if it is configured, then PostgreSQL.
    They are closed with the core."""
    first = await _open_elasticsearch(core.settings, core.stack)
    return SearchEngines(core.log.pool, first, Popularity(reads))


async def _open_elasticsearch(settings: Settings, stack: AsyncExitStack) -> Engine | None:
    url = settings.elasticsearch_url.get_secret_value()
    if not url:
        return None
    # slow to import: only where it is used
    from adapters.elasticsearch.client import open_async_client
    from adapters.elasticsearch.documents import alias_name
    from adapters.elasticsearch.search import (
        ElasticsearchGameIndex,
        check_elasticsearch,
        elasticsearch_circuit,
    )

    client = open_async_client(url, seconds=SEARCH_SECONDS, trust=Trust(settings.tls_ca))
    stack.push_async_callback(client.close)
    circuit = elasticsearch_circuit()
    prefix = await asyncio.to_thread(_index_prefix, settings)

    def search(subscription: ActiveSubscription) -> GameSearch:
        return GameSearch(
            ElasticsearchGameIndex(client, alias_name(prefix, subscription.storage), circuit)
        )

    return Engine(GamesIndex.name, search, lambda: check_elasticsearch(client, circuit))


def _index_prefix(settings: Settings) -> str:
    """The prefix of this shop's indices. It is stored in the database, so that shops with databases
    of their own can share an Elasticsearch."""
    with connect(database_url(settings), "ludoteca", role="") as conn:
        made = f"ludoteca-{token_hex(4)}".encode()
        conn.execute(_KEEP_INDEX_PREFIX, (made,))
        row = conn.execute(_INDEX_PREFIX).fetchone()
    assert row is not None
    return bytes(row[0]).decode()
