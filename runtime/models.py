"""Which read models this program runs, and on which stores: what the settings choose of it."""

from elasticsearch import Elasticsearch

from adapters.elasticsearch_documents import ElasticsearchDocuments
from projections.engine import Registered
from projections.game_documents import GamesIndex
from projections.registry import read_models
from queries.deadlines import DueTimes
from queries.read_models import ReadModels
from runtime.settings import Settings
from runtime.wiring import Core

INDEX_ALIAS = "ludoteca-games"


def table_models() -> list[Registered]:
    """The read models in PostgreSQL."""
    return read_models()


def search_models(settings: Settings) -> list[Registered]:
    """The search indexes beyond PostgreSQL: one, where Elasticsearch is set."""
    url = settings.elasticsearch_url.get_secret_value()
    if not url:
        return []
    return [Registered(GamesIndex(), ElasticsearchDocuments(Elasticsearch(url, request_timeout=30), INDEX_ALIAS))]


def all_models(settings: Settings) -> list[Registered]:
    """Every read model."""
    return [*table_models(), *search_models(settings)]


def due_times(core: Core) -> DueTimes:
    """The deadlines, as the read model has them."""
    return DueTimes(ReadModels(core.log.pool))
