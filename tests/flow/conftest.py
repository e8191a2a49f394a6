from collections.abc import Iterator

import pytest

from tests.support.processes.instance import Instance, running
from tests.support.servers import shared


@pytest.fixture(scope="module", params=["postgresql alone", "rabbitmq and elasticsearch"])
def shop(
    request: pytest.FixtureRequest,
    postgres_url: str,
    postgres_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Instance]:
    """A shop that a module's tests share, on either set of servers: the same tests hold for both.

    A module may have SETTINGS of its own.
    """
    settings = dict(getattr(request.module, "SETTINGS", {}))
    if request.param == "rabbitmq and elasticsearch":
        host = request.getfixturevalue("rabbitmq_virtual_host")
        settings["LUDOTECA_RABBITMQ_URL"] = shared.empty_virtual_host(host)
        settings["LUDOTECA_ELASTICSEARCH_URL"] = request.getfixturevalue("elasticsearch_url")
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, settings) as instance:
        yield instance
    shared.drop_database(database)
