"""A load, and one page of each query, cost no more with ten times the history: the server looks at
as many blocks, whatever its plan."""

from pathlib import Path

import psycopg
import pytest

from benchmarks.scale.archive import fill, write
from benchmarks.scale.costs import Cost, cost
from benchmarks.scale.history import History
from benchmarks.scale.queries import known, loads, pages
from eventstore.database.postgres import connect
from eventstore.postgres_log import PostgresLog
from runtime.wiring.codec import codec
from tests.support.servers import shared
from tests.support.shops.commands import Shop

FEW, MANY = 3_000, 30_000

GROWS = {
    "trial balance": "it adds up all accounts",
    "sales of a month, by day": "it adds up the month's sales",
    "carts of a month, by day": "it adds up the month's carts",
    "audit, a rare name": "it looks at up to 1,000,000 events, and says how far it got",
    "audit, an actor": "as by name",
}
"""What depends on how much there is of what it is asked about."""

AT_MOST, BLOCKS = 1.6, 60
"""The largest ratio, where each row of a page is looked up by an index that is a level higher; and
so many blocks more, where each of a page's 50 rows lies in a block of its own. What grows with the
history is ten times as much."""


async def _costs(postgres_url: str, template: str, folder: Path, events: int) -> dict[str, Cost]:
    url = shared.create_database(postgres_url, template=template)
    try:
        archive = folder / f"{events}.jsonl"
        write(archive, History(events, games=100, busiest=events // 10), lambda _text: None)
        fill(url, archive, 1, lambda _what, _done, _all: None)
        Shop(url).project()
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
        async with PostgresLog.open(url, codec(), pool_size=2) as log:
            it = await known(log.pool)
            asked = {**loads(log, it), **pages(log, it)}
            with connect(url, "test") as conn:
                return {name: await cost(conn, ask) for name, ask in asked.items()}
    finally:
        shared.drop_database(url)


async def test_a_load_and_a_page_cost_no_more_with_ten_times_the_history(
    postgres_url: str, postgres_template: str, tmp_path: Path
) -> None:
    few = await _costs(postgres_url, postgres_template, tmp_path, FEW)
    many = await _costs(postgres_url, postgres_template, tmp_path, MANY)
    grown = {
        name: f"{few[name].buffers} blocks, then {many[name].buffers}: {many[name].plans}"
        for name in many.keys() - GROWS
        if many[name].buffers > AT_MOST * few[name].buffers + BLOCKS
        or many[name].statements > few[name].statements
    }
    assert not grown
    assert len(many) > 45


@pytest.mark.parametrize("name", GROWS)
def test_each_exception_is_one_of_the_queries(name: str) -> None:
    source = (Path(__file__).parents[2] / "benchmarks/scale/queries.py").read_text()
    assert f'"{name}"' in source
