"""The instance that a command speaks to: LUDOTECA_DATABASE_URL, or what runs in LUDOTECA_HOME."""

import json
import os
from pathlib import Path

import psycopg
from pydantic import SecretStr

from adapters.postgres.embedded import EmbeddedPostgres
from eventstore.database.postgres import connect
from runtime.settings import Settings


class NotRunning(Exception):
    """There is no database to speak to; the message says what to do."""


SERVERS = ("database_url", "rabbitmq_url", "elasticsearch_url")
"""Settings that say which servers an instance uses."""


def remember_servers(settings: Settings) -> None:
    """Note in HOME which servers this instance uses, so that commands find them without the same
    environment. The URLs hold passwords: the file is for its owner alone.
    """
    path = _servers_file(settings)
    urls = {name: getattr(settings, name).get_secret_value() for name in SERVERS}
    descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(urls, file, indent=2)
    path.with_suffix(".new").replace(path)


def with_its_servers(settings: Settings) -> Settings:
    """The settings of a command, with the servers of the instance in its HOME where its environment
    names none."""
    try:
        noted = json.loads(_servers_file(settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return settings
    if not settings.embedded and settings.database_url.get_secret_value() != noted.get(
        "database_url"
    ):
        return settings  # the command was told of another instance
    missing = {
        name: SecretStr(noted[name])
        for name in SERVERS
        if noted.get(name) and not getattr(settings, name).get_secret_value()
    }
    return settings.model_copy(update=missing)


def port_file(settings: Settings, server: str) -> Path:
    """Where `run` notes the port of a simulator."""
    return settings.home / f"{server}-port.txt"


def noted_port(settings: Settings, server: str) -> int:
    """The port that a simulator had when it ran last; 0 when there is none."""
    kept = port_file(settings, server)
    noted = kept.read_text(encoding="ascii", errors="replace").strip() if kept.exists() else ""
    return int(noted) if noted.isdecimal() else 0  # a disk that was full has left an empty file


def _servers_file(settings: Settings) -> Path:
    return settings.home / "servers.json"


def database_url(settings: Settings) -> str:
    """Where this instance's database is."""
    return settings.database_url.get_secret_value() or EmbeddedPostgres(settings.home).url


def running_database_url(settings: Settings) -> str:
    """As database_url, after a look whether it answers. Raises NotRunning."""
    url = database_url(settings)
    try:
        with connect(url, "ludoteca", role=""):
            return url
    except psycopg.Error as error:
        if settings.embedded:
            raise NotRunning(
                f"no instance is running in {settings.home}: start one with `ludoteca run`,"
                " or set LUDOTECA_HOME or LUDOTECA_DATABASE_URL to another"
            ) from error
        raise NotRunning(
            f"the database of LUDOTECA_DATABASE_URL does not answer: {error}"
        ) from error
