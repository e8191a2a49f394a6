"""Environment variables meant for other programs do not affect ours: it starts, stops, and uses its
own servers."""

import http.server
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.pq import Conninfo

from adapters.payments.stripe import StripeProvider
from adapters.postgres.embedded import EmbeddedPostgres
from runtime.host import environment
from runtime.host.children import Child
from runtime.host.listening import CannotListen
from runtime.settings import Settings
from runtime.supervision import supervisor
from runtime.supervision.health import health, is_ok
from runtime.supervision.stopping import Stopping
from tests.support.processes.started import STOP_SECONDS, started
from tests.support.servers.shared import free_port
from tests.support.shops.commands import Ludoteca, Shop

LIBPQ = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar} | {
    *(
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGSYSCONFDIR",
        "PGDATESTYLE",
        "PGTZ",
        "PGGEQO",
        "PGLOCALEDIR",
        "PGREALM",
    ),
}
"""Every variable that libpq reads, according to libpq itself and its documentation."""

HOSTILE = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=nowhere",
    "PGCLIENTENCODING": "SQL_ASCII",
}

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")

SURROUNDINGS: dict[str, str | None] = {
    **{name: HOSTILE.get(name, "nonsense") for name in LIBPQ},
    **{
        name: "socks5://192.0.2.1:9" if "all" in name.lower() else "http://192.0.2.1:9"
        for name in PROXIES
    },
    **{
        "SSL_CERT_FILE": "/no/such/file",
        "SSL_CERT_DIR": "/no/such/folder",
        "SSLKEYLOGFILE": "/no/such/folder/keys",
    },
    **{
        "TZ": "Nowhere/Odd",
        "LC_ALL": "xx_YY.KOI9",
        "LANG": "zz",
        "TMPDIR": "/no/such/folder",
        "HOME": None,
    },
    **{
        "PYTHONIOENCODING": "ascii:strict",
        "PYTHONUTF8": "0",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
    },
    **{"WEB_CONCURRENCY": "4", "FORWARDED_ALLOW_IPS": "*", "COLUMNS": "x", "TERM": "odd"},
}


# -- libpq's variables -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("environment") / "home"
    with EmbeddedPostgres(home):
        pass
    return home


def test_the_embedded_server_is_spoken_to_whatever_libpqs_variables_say(
    initialized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LIBPQ:
        monkeypatch.setenv(name, HOSTILE.get(name, "nonsense"))
    monkeypatch.setenv("TZ", "America/Lima")
    with EmbeddedPostgres(initialized) as server, psycopg.connect(server.url) as conn:
        row = conn.execute(
            "SELECT current_user, current_database(), current_setting('TimeZone'),"
            " current_setting('log_timezone'), current_setting('client_encoding'),"
            " current_setting('default_transaction_read_only')"
        ).fetchone()
    assert row == ("postgres", "ludoteca", "UTC", "UTC", "UTF8", "off")


@pytest.mark.parametrize("name", sorted(LIBPQ))
def test_each_of_libpqs_variables_is_dropped_where_the_server_is_our_own(
    name: str, initialized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "nonsense")
    EmbeddedPostgres(initialized)
    assert name not in os.environ


def test_where_the_database_is_the_users_own_libpqs_variables_count(
    ludoteca: Ludoteca, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(database)
    service = "\n".join(["[shop]", *(f"{name}={value}" for name, value in parameters.items())])
    (tmp_path / "services.conf").write_text(service + "\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", "service=shop")
    assert ludoteca.json("audit", "verify")["intact"]
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", "service=warehouse")
    result = ludoteca("audit", "verify")
    assert result.exit_code == 3
    assert 'service "warehouse" not found' in result.stderr


# -- our own calls ---------------------------------------------------------------------------------


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"dependencies": {}}')

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def local_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_calls_on_this_machine_go_through_no_proxy_and_need_no_certificates(
    local_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SURROUNDINGS.items():
        if name in PROXIES or name.startswith("SSL_CERT"):
            monkeypatch.setenv(name, str(value))
    assert is_ok(local_server)
    assert health(local_server) == ([], 0, 0)


@pytest.mark.parametrize("given", ["", "*", "example.org, 127.0.0.1"])
def test_libraries_that_go_by_the_environment_reach_this_machine_directly(
    given: str, local_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, given)
    for name in PROXIES[:4]:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    environment._speak_to_this_machine_directly()
    assert httpx.get(local_server, timeout=5).status_code == 200
    hosts = os.environ["NO_PROXY"].split(",")
    assert len(hosts) == len(set(hosts))
    assert given == "*" or {"localhost", "127.0.0.1", "::1"} <= set(hosts)
    assert "example.org" not in given or "example.org" in hosts


def test_stripe_is_reached_through_a_proxy_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socksio")
    for name in PROXIES:
        monkeypatch.setenv(name, str(SURROUNDINGS[name]))
    StripeProvider("sk_test", ("whsec_test",))


# -- settings that make no sense -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://me:hunter22@host"),
        ("DATABASE_URL", "host=x hunter22"),
        ("RABBITMQ_URL", "http://me:hunter22@host"),
        ("ELASTICSEARCH_URL", "me:hunter22@localhost:9200"),
        ("ELASTICSEARCH_URL", "http://localhost:99999"),
        ("PUBLIC_URL", "shop.example"),
        ("PROVIDER_URL", "ftp://provider"),
        ("HEAD_SECONDS", "inf"),
        ("BODY_SECONDS", "nan"),
        ("CART_TTL_SECONDS", "1e300"),
        ("PAYMENT_TTL_SECONDS", "-1"),
        ("PAYMENT_RETRY_SECONDS", "1,-1"),
        ("NOTICE_RETRY_SECONDS", "1,soon"),
        ("TRUSTED_PROXIES", "my-proxy"),
        ("PORT", "65536"),
        ("WORKERS", "1.5"),
    ],
)
@pytest.mark.parametrize("command", ["run", "settings"])
def test_a_setting_that_makes_no_sense_is_one_line_and_exit_code_2(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(f"LUDOTECA_{name}", value)
    result = ludoteca(command)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"LUDOTECA_{name}: ")
    assert "hunter22" not in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HOME": "/dev/null/home"}, "/dev/null/home: Not a directory"),
        ({"HOST": "no.such.host.invalid"}, "LUDOTECA_HOST: there is no host no.such.host.invalid"),
        ({"HOST": "192.0.2.1"}, "Cannot assign requested address; change LUDOTECA_HOST"),
        ({"DATABASE_URL": "service=nowhere"}, 'definition of service "nowhere" not found'),
        (
            {"DATABASE_URL": "postgresql://127.0.0.1:1/shop"},
            "LUDOTECA_DATABASE_URL does not answer",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_started_ends_with_one_line_and_exit_code_3(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    monkeypatch.setenv("LUDOTECA_PORT", str(free_port()))
    for name, value in settings.items():
        monkeypatch.setenv(f"LUDOTECA_{name}", value)
    result = ludoteca("run")
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("command", "setting"),
    [("api", ""), ("provider", "PROVIDER_"), ("fiscal", "FISCAL_"), ("carrier", "CARRIER_")],
)
def test_a_server_that_cannot_listen_says_so_in_one_line(
    ludoteca: Ludoteca, shop: Shop, monkeypatch: pytest.MonkeyPatch, command: str, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(f"LUDOTECA_{setting}PORT", str(taken.getsockname()[1]))
        result = ludoteca(command)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.endswith(f"is taken; set LUDOTECA_{setting}PORT to another")


# -- starting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["initdb", "postgres"])
def test_a_signal_is_heard_while_the_database_is_made(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with started(tmp_path) as run:
        run.until(lambda: run.has_child(moment))
        code, seconds = run.told(number)
        assert code == 0, run.output
        assert seconds < STOP_SECONDS
        assert "Traceback" not in run.output


@pytest.mark.soak
# on a quiet machine it is open after five seconds
@pytest.mark.parametrize("tenths", [2, 6, 12, 20, 30, 45, 70])
def test_a_signal_is_heard_at_every_moment_of_the_start(tmp_path: Path, tenths: int) -> None:
    began = time.monotonic()
    with started(tmp_path) as run:
        run.until(lambda: time.monotonic() > began + tenths / 10)
        code, seconds = run.told(signal.SIGTERM)
        # the latter before it has started anything
        assert code in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert seconds < STOP_SECONDS
        assert "Traceback" not in run.output


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_database_that_says_nothing_is_not_waited_for(tmp_path: Path, silent: int) -> None:
    began = time.monotonic()
    with started(tmp_path, LUDOTECA_DATABASE_URL=f"postgresql://127.0.0.1:{silent}/shop") as run:
        assert run.ends() == 3
        (line,) = run.output.splitlines()
    assert "does not answer" in line
    assert time.monotonic() - began < 30


def test_a_signal_is_heard_while_another_process_prepares_the_database(
    tmp_path: Path, empty_database: str
) -> None:
    with psycopg.connect(empty_database) as other:
        other.execute("SELECT pg_advisory_xact_lock(4910, 2)")
        with started(tmp_path, LUDOTECA_DATABASE_URL=empty_database) as run:
            run.until(lambda: _waits_for_a_lock(empty_database))
            code, seconds = run.told(signal.SIGTERM)
    assert code == 0, run.output
    assert seconds < STOP_SECONDS


@pytest.mark.soak
def test_a_process_that_never_finishes_preparing_the_database_is_not_waited_for(
    tmp_path: Path, empty_database: str
) -> None:
    with psycopg.connect(empty_database) as other:
        other.execute("SELECT pg_advisory_xact_lock(4910, 2)")
        with started(tmp_path, LUDOTECA_DATABASE_URL=empty_database) as run:
            began = time.monotonic()
            assert run.ends() == 3
    assert time.monotonic() - began < 40
    assert "another process has been preparing this database" in run.output


def _waits_for_a_lock(url: str) -> bool:
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ).fetchone()
        return row is not None and row[0] > 0


def test_what_lies_in_the_current_folder_is_no_module_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("runtime", "domain", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    assert Child("--version", os.environ).process.wait(60) == 0


def test_ports_that_were_chosen_and_are_taken_are_named(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_PORT", str(free_port()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LUDOTECA_FISCAL_PORT", str(taken.getsockname()[1]))
        with pytest.raises(CannotListen, match="set LUDOTECA_FISCAL_PORT to another"):
            supervisor._check_ports(Settings())


def test_a_process_that_ends_again_and_again_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "FAILURES", 2)
    child = Child("no-such-command", os.environ)
    heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(
            supervisor.CannotStart, match="no-such-command ended 2 times, with 2 at last"
        ):
            supervisor._await_open(Settings(port=free_port()), None, [child], Stopping())
    finally:
        for number, before in heard.items():
            signal.signal(number, before)


# -- the sockets -----------------------------------------------------------------------------------


def test_a_socket_that_was_cleaned_away_is_made_again(initialized: Path) -> None:
    with EmbeddedPostgres(initialized) as server:
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("CREATE TABLE kept ()")
        shutil.rmtree(server._sockets)
        assert server.pid is not None
        assert not server.is_reachable
        server.start()
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("DROP TABLE kept")


@pytest.mark.parametrize("left", ["", "nonsense", "99999"])
def test_what_a_full_disk_left_of_notes_in_home_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setenv("LUDOTECA_HOME", str(tmp_path))
    note = tmp_path / "provider-port.txt"
    note.write_text(left)
    port = supervisor._kept_port(Settings(), "provider", free_port())
    assert note.read_text() == str(port)


@pytest.mark.soak
def test_it_opens_and_serves_in_hostile_surroundings(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("runtime", "domain", "typer", "psycopg"):
        (tmp_path / "elsewhere" / f"{name}.py").write_text("raise SystemExit(77)")
    (tmp_path / "user").mkdir()
    before = os.umask(0o777)
    try:
        with started(tmp_path, cwd=tmp_path / "elsewhere", output=None, **SURROUNDINGS) as run:
            os.umask(before)
            run.until(run.is_open)
            body = {
                "email": "ann@example.com",
                "password": "correct horse battery",
                "name": "Ann",
                "region": "US",
            }
            answer = httpx.post(f"{run.base}/api/v1/users", json=body, timeout=30, trust_env=False)
            assert answer.status_code == 201, answer.text

            digest_folders = [
                path for path in Path("/tmp").glob("ludoteca-*") if _is_of(path, tmp_path / "home")
            ]
            for folder in digest_folders:
                shutil.rmtree(folder)
            assert digest_folders
            run.until(lambda: "lost its socket" in run.output)
            run.until(run.is_ready)
            code, seconds = run.told(signal.SIGTERM)
            assert code == 0
            assert seconds < STOP_SECONDS
    finally:
        os.umask(before)


def _is_of(folder: Path, home: Path) -> bool:
    return folder == EmbeddedPostgres(home)._sockets
