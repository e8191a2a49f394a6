"""Which read models this program runs, and on which stores: what the settings choose of it."""

from secrets import token_hex
from typing import TYPE_CHECKING

from eventstore.database.postgres import connect
from projections.engine.runner import Registered
from projections.registry import read_models
from projections.search.projection import GamesIndex
from runtime.instance import database_url
from runtime.settings import Settings

if TYPE_CHECKING:
    from queries.deadlines import DueTimes
    from runtime.wiring.core import Core

INDEX_SECONDS = 10.0
"""How long Elasticsearch may take to write, or to read out, what goes with one request: a second, where it is well."""


def search_models(settings: Settings) -> list[Registered]:
    """The search indexes beyond PostgreSQL: one, where Elasticsearch is set."""
    url = settings.elasticsearch_url.get_secret_value()
    if not url:
        return []
    from adapters.elasticsearch.client import open_client  # slow to import: only where it is used
    from adapters.elasticsearch.documents import ElasticsearchDocuments

    client = open_client(url, seconds=INDEX_SECONDS)
    return [Registered(GamesIndex(), ElasticsearchDocuments(client, index_prefix(settings)))]


def index_prefix(settings: Settings) -> str:
    """What the names of this shop's indices begin with; it is kept in the database, so another database has another."""
    with connect(database_url(settings), "ludoteca", role="") as conn:
        made = f"ludoteca-{token_hex(4)}".encode()
        conn.execute(
            "INSERT INTO private.secrets (name, value) VALUES ('index_prefix', %s) ON CONFLICT (name) DO NOTHING",
            (made,),
        )
        row = conn.execute("SELECT value FROM private.secrets WHERE name = 'index_prefix'").fetchone()
    assert row is not None
    return bytes(row[0]).decode()


def all_models(settings: Settings) -> list[Registered]:
    """Every read model."""
    return [*read_models(), *search_models(settings)]


def due_times(core: "Core") -> "DueTimes":
    """The deadlines, as the read model has them."""
    from queries.deadlines import DueTimes
    from queries.read_models import ReadModels

    return DueTimes(ReadModels(core.log.pool))
