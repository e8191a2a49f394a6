"""Measures how fast the search indexes are rebuilt from the log: the games of a real catalogue.

A rebuild is the whole of `rebuild`: fold, index, comparison with the live index, switch. The peers
are the `elasticsearch` library's helpers, which get the same documents ready to be sent, and
neither fold nor compare.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk, streaming_bulk

from adapters.elasticsearch.bulk import index_operation
from adapters.elasticsearch.client import open_client
from adapters.elasticsearch.documents import ElasticsearchDocuments
from adapters.elasticsearch.store import ElasticsearchGameStore
from benchmarks.http.shop import games_file
from benchmarks.http.shop import settings as shop_settings
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.server import Server, connect_as_program
from deploy.servers.common import Missing
from deploy.servers.elasticsearch import check_elasticsearch, elasticsearch_url
from projections.engine.rebuild import CatchingUp, NeverRan, live, rebuild
from projections.engine.runner import Registered, Runner
from projections.search.postgres_store import PostgresDocuments
from projections.search.projection import GamesIndex, GamesText
from runtime.load import load_games
from runtime.wiring.codec import codec
from runtime.wiring.core import open_core
from runtime.wiring.search import INDEX_SECONDS


def benchmark(server: Server, games: Path | None, *, rounds: int, log: Log) -> list[Table]:
    """Rebuilds of both indexes, and the library's helpers; nothing without Elasticsearch."""
    try:
        check_elasticsearch()
    except Missing as missing:
        log(f"search indexes are left out: {missing}")
        return []
    prefix = f"bench-{uuid4().hex[:8]}"
    with ExitStack() as stack:
        client = stack.enter_context(open_client(elasticsearch_url(), seconds=INDEX_SECONDS))
        stack.enter_context(_dropped(client, prefix))
        text = Registered(GamesText(), PostgresDocuments())
        index = Registered(GamesIndex(), ElasticsearchDocuments(client, prefix))
        log("listing the games")
        server.template("games", partial(_list_games, games), of="ours")
        server.template("games_indexed", partial(_index, [text, index]), of="games")
        documents = _documents(index)
        cases = [
            Case("rebuild in PostgreSQL", partial(_rebuild, server, text)),
            Case("rebuild in Elasticsearch", partial(_rebuild, server, index)),
            Case(
                "streaming_bulk",
                partial(_send, client, f"{prefix}-peer", documents, parallel=False),
            ),
            Case(
                "parallel_bulk", partial(_send, client, f"{prefix}-peer", documents, parallel=True)
            ),
        ]
        samples = take_turns(cases, rounds, log)
    aims = [
        Aim(f"rebuild in {engine}", peer)
        for engine in ("PostgreSQL", "Elasticsearch")
        for peer in ("streaming_bulk", "parallel_bulk")
    ]
    lines = [line(case.name, samples, aims, unit="documents/s") for case in cases]
    return [Table(f"Rebuild the search index of {len(documents):,} games", lines)]


# -- ours ------------------------------------------------------------------------------------------


def _list_games(games: Path | None, url: str) -> None:
    """List the games by the program's own command."""

    async def main(home: Path) -> None:
        async with open_core(shop_settings(url, home)) as core:
            await load_games(core, games_file(games, home))

    with TemporaryDirectory() as home:
        asyncio.run(main(Path(home)))


def _index(registered: list[Registered], url: str) -> None:
    """Run a projector until both indexes are live, and leave the tables as autovacuum would."""
    runner = Runner(url, codec(), registered)
    thread = threading.Thread(target=runner.run)
    with connect_as_program(url) as conn:
        thread.start()
        while not all(_is_live(conn, each) for each in registered):
            if not thread.is_alive():
                raise RuntimeError("the projector ended")
            time.sleep(0.02)
    runner.stop()
    thread.join()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


def _is_live(conn: psycopg.Connection, registered: Registered) -> bool:
    try:
        row = live(conn, registered)
    except (NeverRan, CatchingUp):
        return False
    end = conn.execute("SELECT max(position) FROM log.events").fetchone()
    return end == (row.position,)


def _rebuild(server: Server, registered: Registered) -> Sample:
    with server.fresh("games_indexed") as url, connect_as_program(url) as conn:
        started = time.perf_counter()
        rebuilt = rebuild(conn, codec(), registered, lambda _done, _all: None)
        return Sample(rebuilt.rows, time.perf_counter() - started)


# -- peers -----------------------------------------------------------------------------------------


def _documents(index: Registered) -> list[dict[str, Any]]:
    """What a rebuild indexes, as the helpers take it."""
    assert isinstance(index.store, ElasticsearchDocuments)
    lines = (index_operation(each, None).lines for each in index.store.scan(index.storage))
    return [
        {"_source": msgspec.json.decode(source), "_id": msgspec.json.decode(action)["index"]["_id"]}
        for action, source in lines
    ]


def _send(
    client: Elasticsearch, index: str, documents: list[dict[str, Any]], *, parallel: bool
) -> Sample:
    store = ElasticsearchGameStore(client)
    store.drop_index(index)
    started = time.perf_counter()
    store.create_index(index)
    send = partial(parallel_bulk, thread_count=2) if parallel else streaming_bulk
    for _ in send(client, documents, index=index):
        pass
    store.refresh(index)
    return Sample(len(documents), time.perf_counter() - started)


@contextmanager
def _dropped(client: Elasticsearch, prefix: str) -> Iterator[None]:
    """Drop the indexes at the end."""
    try:
        yield
    finally:
        store = ElasticsearchGameStore(client)
        for name in client.indices.get(index=f"{prefix}*"):
            store.drop_index(name)
