"""Two API processes behind the load balancer of docker-compose.yml."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.servers.patroni import system_program
from tests.support import ROOT
from tests.support.processes.fleet import Fleet, fleet
from tests.support.processes.instance import eventually
from tests.support.servers.shared import free_port, require_patroni

CONFIGURATION = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")

CHECKED = "check inter 1s fall 2 rise 1"
TEMPLATE = f"    server-template api 4 api:8000 {CHECKED} resolvers docker init-addr none\n"


@contextmanager
def balanced(shop: Fleet, folder: Path) -> Iterator[httpx.Client]:
    """HAProxy, with the fleet's processes in place of the containers."""
    port = free_port()
    assert TEMPLATE in CONFIGURATION
    servers = "".join(
        f"    server api{n} {url.removeprefix('http://')} {CHECKED}\n"
        for n, url in enumerate(shop.urls)
    )
    text = CONFIGURATION.replace(TEMPLATE, servers).replace("bind :8000", f"bind 127.0.0.1:{port}")
    (folder / "haproxy.cfg").write_text(text)
    command = [system_program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    with (folder / "haproxy.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            eventually(lambda: _answers(client))
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.HTTPError:
        return False


def test_docker_takes_the_configuration_as_it_stands(tmp_path: Path) -> None:
    require_patroni()  # and with it HAProxy
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIGURATION)
    done = subprocess.run(
        [system_program("haproxy"), "-c", "-f", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_process_that_is_killed_is_not_missed(database: str, tmp_path: Path) -> None:
    require_patroni()
    proxies = {"LUDOTECA_TRUSTED_PROXIES": "127.0.0.1"}
    with fleet(tmp_path / "home", database, **proxies) as shop:
        shop.start_all({"api": 2, "projector": 1})
        with balanced(shop, tmp_path) as client:
            assert client.get("/api/v1/games").status_code == 200
            assert client.get("/metrics").status_code == 404
            shop.processes.pop("api.1").kill()
            for _ in range(30):
                assert client.get("/api/v1/games").status_code == 200
