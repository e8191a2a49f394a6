"""The instance that a command speaks to: LUDOTECA_DATABASE_URL, or the embedded database of LUDOTECA_HOME."""

import psycopg

from adapters.embedded_postgres import EmbeddedPostgres
from runtime.settings import Settings


class NotRunning(Exception):
    """There is no database to speak to; the message says what to do."""


def database_url(settings: Settings) -> str:
    """Where this instance's database is."""
    return settings.database_url.get_secret_value() or EmbeddedPostgres(settings.home).url


def running_database_url(settings: Settings) -> str:
    """As database_url, after a look whether it answers. Raises NotRunning."""
    url = database_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=3):
            return url
    except psycopg.Error as error:
        if settings.embedded:
            raise NotRunning(
                f"no instance is running in {settings.home}: start one with `ludoteca run`,"
                " or set LUDOTECA_HOME or LUDOTECA_DATABASE_URL to another"
            ) from error
        raise NotRunning(f"the database of LUDOTECA_DATABASE_URL does not answer: {error}") from error
