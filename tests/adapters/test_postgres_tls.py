"""PostgreSQL by TLS: every connection of the program, and those of PostgreSQL's programs, check the
server's certificate and its name."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from adapters.postgres.programs import program
from eventstore.database.postgres import AWAY, connect
from runtime.backup.making import backup
from runtime.database.instance import database_url, trusting
from runtime.database.postgres_programs import access
from runtime.settings import Settings
from runtime.wiring.core import open_core
from tests.support.servers.system_postgres import system_postgres
from tests.support.servers.tls import Authority, PostgresTls

HOST = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secured(database: str, authority: Authority) -> Iterator[str]:
    """The URL of a database that is reached by TLS only."""
    with PostgresTls(database, authority.context(HOST)) as server:
        yield verified(server.url)


def verified(url: str, mode: str = "verify-full") -> str:
    return f"{url}{'&' if '?' in url else '?'}sslmode={mode}"


def settings_of(url: str, authority: Authority, home: Path) -> Settings:
    return Settings(database_url=url, tls_ca=authority.file, home=home)


@pytest.mark.parametrize("name", [HOST, "localhost"])
async def test_the_program_works_by_tls(
    name: str, database: str, authority: Authority, tmp_path: Path
) -> None:
    """A name is checked although the program connects to its addresses in turn."""
    with PostgresTls(database, authority.context(name)) as server:
        url = verified(server.url).replace(HOST, name)
        await _works(settings_of(url, authority, tmp_path))


async def _works(settings: Settings) -> None:
    async with open_core(settings, watched=True) as core:
        await core.log.prove_writer()
        async with core.log.pool.connection() as conn:
            assert conn.pgconn.ssl_in_use
        assert core.log.watch is not None
        with core.log.while_there():
            assert await core.log.head() == 0


async def test_a_server_that_falls_silent_is_noticed_and_used_again_when_it_answers(
    database: str, authority: Authority, tmp_path: Path
) -> None:
    with PostgresTls(database, authority.context(HOST)) as server:
        settings = settings_of(verified(server.url), authority, tmp_path)
        async with open_core(settings, watched=True) as core, asyncio.timeout(30):
            await core.log.prove_writer()
            server.freeze()
            with pytest.raises(AWAY), core.log.while_there():
                await core.log.head()
            server.heal()
            assert core.log.watch is not None
            await core.log.watch.until_there()
            await core.log.prove_writer()


def test_a_server_with_tls_of_its_own(authority: Authority, tmp_path: Path) -> None:
    with system_postgres(authority.pair(HOST)) as url:
        bound = f"{verified(url)}&channel_binding=require"  # the password is of use here only
        by_tls = trusting(bound, authority.file)
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        with connect(by_tls, "ludoteca", role="") as conn:
            assert conn.execute(asked).fetchone() == (True,)
        assert _psql(by_tls, asked).stdout == "t\n"
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            connect(f"{url}?sslmode=disable", "ludoteca", role="")
        with pytest.raises(psycopg.OperationalError, match="does not match host name"):
            connect(by_tls.replace(HOST, "localhost"), "ludoteca", role="")
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            connect(trusting(bound, Authority(stranger).file), "ludoteca", role="")


def test_who_knows_no_authority_is_not_connected(secured: str, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(trusting(secured, stranger.file), "ludoteca", role="")


@pytest.mark.parametrize(
    ("name", "expired", "mode", "why"),
    [
        ("elsewhere.example", False, "verify-full", "does not match host name"),
        (HOST, True, "verify-full", "certificate verify failed"),
        (HOST, True, "verify-ca", "certificate verify failed"),
    ],
    ids=["another name", "expired", "expired, whatever its name"],
)
def test_what_is_wrong_with_a_certificate(
    database: str, authority: Authority, name: str, expired: bool, mode: str, why: str
) -> None:
    with PostgresTls(database, authority.context(name, expired=expired)) as server:
        url = trusting(verified(server.url, mode), authority.file)
        with pytest.raises(psycopg.OperationalError, match=why):
            connect(url, "ludoteca", role="")


def test_the_authority_of_the_url_goes_first(authority: Authority, tmp_path: Path) -> None:
    own = "postgresql://db/shop?sslmode=verify-full&sslrootcert=/etc/own.pem"
    assert trusting(own, authority.file) == own
    for unchecked in ("postgresql://db/shop", "postgresql://db/shop?sslmode=require"):
        assert trusting(unchecked, authority.file) == unchecked
    assert trusting(verified("postgresql://db/shop"), "") == verified("postgresql://db/shop")


def test_the_environment_goes_before_the_setting(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert authority.file in trusting("postgresql://db/shop", authority.file)
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/own.pem")
    assert trusting("postgresql://db/shop", authority.file) == "postgresql://db/shop"


def test_postgresqls_programs_speak_tls_too(
    secured: str, authority: Authority, tmp_path: Path
) -> None:
    url = database_url(settings_of(secured, authority, tmp_path))
    asked = _psql(url, "SELECT 1")
    assert (asked.stdout, asked.stderr) == ("1\n", "")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    refused = _psql(trusting(secured, Authority(stranger).file), "SELECT 1")
    assert refused.returncode == 2
    assert "certificate verify failed" in refused.stderr


def _psql(url: str, query: str) -> subprocess.CompletedProcess[str]:
    where, environment = access(url, "test")
    command = [str(program("psql")), f"--dbname={where}", "-qAtc", query]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_backup_is_made_by_tls(secured: str, authority: Authority, tmp_path: Path) -> None:
    url = database_url(settings_of(secured, authority, tmp_path))
    manifest = backup(url, tmp_path / "backup", None, lambda *_: None)
    assert manifest.files.keys() == {"log.dump", "keys.dump", "events.jsonl.gz"}
