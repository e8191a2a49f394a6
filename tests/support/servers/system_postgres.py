"""The system's PostgreSQL, which was built with TLS, unlike the embedded one. It may be older than
the program's tables require."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from adapters.postgres.unprivileged import pick_user
from tests.support.processes.instance import eventually
from tests.support.servers.shared import free_port, quick_folder
from tests.support.servers.tls import Pair

FOLDERS = Path("/usr/lib/postgresql")
USER, PASSWORD = "shop", "a secret"


@contextmanager
def system_postgres(pair: Pair) -> Iterator[str]:
    """The URL of a new server with this certificate, which takes connections by TLS only, with a
    password. Skips the test where the system has no PostgreSQL."""
    programs = max(FOLDERS.glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
    if programs is None:
        pytest.skip("the system has no PostgreSQL: apt-get install postgresql")
    home, port = quick_folder("ludoteca-system-postgres-"), free_port()
    files = [Path(shutil.copy(path, home)) for path in pair]
    (home / "password").write_text(PASSWORD)
    (home / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    user = None
    if os.geteuid() == 0:
        user = pick_user("postgres", "nobody").pw_name
        for path in (home, *home.iterdir()):
            shutil.chown(path, user)
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "hba_file": home / "pg_hba.conf",
        "ssl": "on",
        "ssl_cert_file": files[0],
        "ssl_key_file": files[1],
        "fsync": "off",
    }
    at = ["-D", str(home / "data")]
    made = [str(programs / "initdb"), *at, "-U", USER, f"--pwfile={home}/password"]
    subprocess.run(made, user=user, check=True, capture_output=True)
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (home / "log.txt").open("wb") as log:
        started = [str(programs / "postgres"), *at, *options]
        server = subprocess.Popen(started, user=user, stdout=log, stderr=log)
    url = f"postgresql://{USER}:a%20secret@127.0.0.1:{port}/postgres"
    try:
        eventually(lambda: _answers(f"{url}?sslmode=require", server))
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(home)


def _answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
