"""The output of commands when Elasticsearch answers badly: one line, and an exit code."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eventstore.consumers.checkpoints import SUBSCRIPTIONS
from projections.engine.runner import Runner
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.search import search_models
from tests.support.servers import shared
from tests.support.servers.odd_elasticsearch import (
    Odd,
    OddElasticsearch,
    breaks_off,
    hangs_up,
    refuses,
    says,
)
from tests.support.shops.commands import Ludoteca, Shop, until


@pytest.fixture
def odd(
    elasticsearch_url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OddElasticsearch]:
    """A double in front of the Elasticsearch of the commands' shop."""
    server = OddElasticsearch(elasticsearch_url)
    monkeypatch.setenv("LUDOTECA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", database)
    monkeypatch.setenv("LUDOTECA_ELASTICSEARCH_URL", server.url)
    yield server
    server.close()
    shared.drop_indices(elasticsearch_url, Shop(database).ask(PREFIX))


PREFIX = "SELECT convert_from(value, 'UTF8') FROM private.secrets WHERE name = 'index_prefix'"
INDEXED = f"SELECT position FROM {SUBSCRIPTIONS} WHERE projection = 'games_index'"


@pytest.mark.parametrize("command", ["verify", "rebuild"])
@pytest.mark.parametrize(
    "answer",
    [
        refuses(401, "security_exception"),
        says(502, "<html>", "text/html"),
        says(200, {}),
        hangs_up,
        breaks_off,
    ],
    ids=["401", "502", "another product", "hangs up", "breaks off"],
)
def test_a_command_says_it_in_one_line(
    odd: OddElasticsearch, database: str, answer: Odd, command: str
) -> None:
    shop, ludoteca = Shop(database), Ludoteca()
    shop.list_game("Celeste")
    project(shop)
    assert ludoteca("projections", command, "games_index").exit_code == 0
    odd.answers(answer)
    result = ludoteca("projections", command, "games_index")
    assert (result.exit_code, result.exception.__class__) == (3, SystemExit), result.output
    assert "Elasticsearch" in result.stderr
    assert "Traceback" not in result.output
    odd.passes_on()
    assert ludoteca("projections", command, "games_index").exit_code == 0


def project(shop: Shop) -> None:
    """Build the index."""
    runner = Runner(shop.url, codec(), search_models(Settings()))
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        until(lambda: bool(shop.ask(INDEXED)))
    finally:
        runner.stop()
        thread.join()


def test_an_index_of_a_history_that_is_gone_is_listed_and_dropped(
    odd: OddElasticsearch, database: str
) -> None:
    shop, ludoteca = Shop(database), Ludoteca()
    (index,) = search_models(Settings())
    shop.list_game("Celeste")
    project(shop)
    with psycopg.connect(database, autocommit=True) as conn:
        # named as in an epoch that the database has lost
        index.store.begin(conn, "games_index_202_0b8faa96")
        index.store.aside().begin(conn, "games_index_202_replayed")  # of a running verify
    left = {
        "projection": "games_index",
        "storage": "games_index_202_0b8faa96",
        "state": "left behind",
    }
    assert left in ludoteca.json("projections", "list")
    assert left["storage"] in ludoteca("projections", "list").stderr

    odd.answers(refuses(401, "security_exception"))
    assert "Elasticsearch" in ludoteca("projections", "list").stderr
    assert ludoteca("projections", "drop", "--unused").exit_code == 3
    odd.passes_on()
    dropped = ludoteca.json("projections", "drop", "--unused")["dropped"]
    assert dropped == [{"feed": None, "storage": left["storage"], "dropped": True}]
    assert sorted(index.store.storages()) == [index.storage]
    with psycopg.connect(database) as conn:
        assert index.store.aside().exists(conn, "games_index_202_replayed")
    assert "nothing to drop" in ludoteca("projections", "drop", "--unused").stdout
    assert ludoteca("projections", "verify", "games_index").exit_code == 0
