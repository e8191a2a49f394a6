"""The instance that a command uses: the database of LUDOTECA_DATABASE_URL, or the instance in
LUDOTECA_HOME."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from pydantic import SecretStr

from adapters.postgres.embedded import EmbeddedPostgres
from eventstore.database.postgres import connect
from runtime.settings import Settings


class NotRunning(Exception):
    """There is no database to connect to. The message says what to do."""


SERVERS = (
    "database_url",
    "direct_url",
    "rabbitmq_url",
    "kafka_url",
    "elasticsearch_url",
    "kurrentdb_url",
)
"""Settings that name the servers of an instance."""

FILES = ("tls_ca", "master_key_file")
"""Settings that name files which are needed to use them."""


def remember_servers(settings: Settings, metrics: Mapping[str, str] | None = None) -> None:
    """Write this instance's servers to HOME, so that commands find them without the same
    environment, and where each process shows its `metrics`. Only the owner can read the file, as
    URLs contain passwords."""
    path = _servers_file(settings)
    urls = {name: getattr(settings, name).get_secret_value() for name in SERVERS}
    files = {name: getattr(settings, name) for name in FILES}
    noted = {**urls, **files, "metrics": metrics or {}}
    descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(noted, file, indent=2)
    path.with_suffix(".new").replace(path)


def with_remembered_servers(settings: Settings) -> Settings:
    """The settings of a command, completed with the remembered servers where its environment names
    none."""
    try:
        noted = json.loads(_servers_file(settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return settings
    if not settings.embedded and settings.database_url.get_secret_value() != noted.get(
        "database_url"
    ):
        return settings  # the environment names another instance
    missing: dict[str, object] = {
        name: SecretStr(noted[name])
        for name in SERVERS
        if noted.get(name) and not getattr(settings, name).get_secret_value()
    }
    missing |= {name: noted.get(name, "") for name in FILES if not getattr(settings, name)}
    return settings.model_copy(update=missing)


def port_file(settings: Settings, server: str) -> Path:
    """The file in which `run` notes a simulator's port."""
    return settings.home / f"{server}-port.txt"


def noted_port(settings: Settings, server: str) -> int:
    """The port that a simulator had the last time it ran, or 0."""
    kept = port_file(settings, server)
    noted = kept.read_text(encoding="ascii", errors="replace").strip() if kept.exists() else ""
    return int(noted) if noted.isdecimal() else 0  # empty if the disk was full


def _servers_file(settings: Settings) -> Path:
    return settings.home / "servers.json"


def database_url(settings: Settings) -> str:
    """The URL of this instance's database itself, past a pooler."""
    if settings.embedded:
        return EmbeddedPostgres(settings.home).url
    url = settings.direct_url.get_secret_value() or settings.database_url.get_secret_value()
    return trusting(url, settings.tls_ca)


def pooler_url(settings: Settings) -> str:
    """The URL of the pooler in front of the database; empty when there is none."""
    if settings.embedded or not settings.direct_url.get_secret_value():
        return ""
    return trusting(settings.database_url.get_secret_value(), settings.tls_ca)


def read_url(settings: Settings) -> str:
    """The URL of its database's standbys that answer queries; empty when there are none."""
    url = settings.read_url.get_secret_value()
    return trusting(url, settings.tls_ca) if url else ""


def trusting(url: str, authorities: str) -> str:
    """The URL of a PostgreSQL, with the file of authorities (none if empty) by which libpq verifies
    its certificate, where it is to be verified by others than the URL or the environment name."""
    if not authorities:
        return url
    usual = {option.keyword: option.val or b"" for option in Conninfo.get_defaults()}
    given = conninfo_to_dict(url)
    mode = str(given.get("sslmode") or usual[b"sslmode"].decode())
    if not mode.startswith("verify-") or given.get("sslrootcert") or usual[b"sslrootcert"]:
        return url
    return make_conninfo(url, sslrootcert=authorities)


def _variable(settings: Settings) -> str:
    """The setting that names the database itself."""
    return "LUDOTECA_DIRECT_URL" if pooler_url(settings) else "LUDOTECA_DATABASE_URL"


def running_database_url(settings: Settings) -> str:
    """As `database_url`, after checking that the database answers. Raises NotRunning."""
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
            f"the database of {_variable(settings)} does not answer: {error}"
        ) from error
