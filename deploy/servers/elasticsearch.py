"""Elasticsearch: the minimal distribution that its makers publish for integration tests.

Maven fetches it, a JDK from 21 on runs it, never as root.
"""

import json
import os
import pwd
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from deploy.servers.common import (
    Missing,
    cache_directory,
    free_port,
    http,
    remember,
    remembered,
    run,
    stop_process,
    wait,
)
from deploy.servers.java import find_jdk, need_maven

ELASTICSEARCH_VERSION = "9.2.0"
ELASTICSEARCH_ARTIFACT = (
    f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{ELASTICSEARCH_VERSION}:zip"
)


def elasticsearch_url() -> str:
    """The URL of the Elasticsearch for tests: the environment's, else the one that `up` found or
    started."""
    if chosen := os.environ.get("LUDOTECA_TEST_ELASTICSEARCH_URL"):
        return chosen
    return remembered().get("elasticsearch_url", "http://127.0.0.1:9200")


def check_elasticsearch(url: str | None = None) -> None:
    """Raises Missing unless an Elasticsearch 9 answers and is ready to index."""
    url = url or elasticsearch_url()
    try:
        health = http("GET", f"{url}/_cluster/health?wait_for_status=yellow&timeout=5s")
        nodes = http("GET", f"{url}/_nodes/_local?filter_path=nodes.*.version")
    except (OSError, ValueError) as error:
        raise Missing(f"nothing usable answers at {url} ({error})") from error
    if not isinstance(health, dict) or not isinstance(nodes, dict) or "cluster_name" not in health:
        raise Missing(f"what answers at {url} is not Elasticsearch")
    versions = [str(node["version"]) for node in nodes["nodes"].values()]
    if not versions[0].startswith("9."):
        raise Missing(f"the Elasticsearch at {url} is version {versions[0]}, and 9 is needed")


def start_elasticsearch() -> None:
    """Fetch it if need be, start it on port 9200 or another that is free, wait until it answers."""
    try:
        return check_elasticsearch()
    except Missing:
        if os.environ.get("LUDOTECA_TEST_ELASTICSEARCH_URL"):
            raise
    port, state = free_port(9200), cache_directory() / "elasticsearch"
    server = launch_elasticsearch(state, port, "-Xms512m -Xmx512m")
    url = f"http://127.0.0.1:{port}"
    remember(elasticsearch_url=url, elasticsearch_pid=str(server.pid))
    await_elasticsearch(server, url, state)
    return None


def launch_elasticsearch(state: Path, port: int, java_options: str) -> subprocess.Popen[bytes]:
    """Fetch it if need be, start it on a port, with everything that it keeps in `state`, which is
    emptied first.

    Its processes are a group, named by the pid. Raises Missing.
    """
    java, home = find_jdk(), fetch_elasticsearch()
    _make_state(state, port)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "ES_JAVA_HOME": str(java),
        "ES_JAVA_OPTS": java_options,
        "ES_PATH_CONF": str(state / "config"),
        "ES_TMPDIR": str(state / "tmp"),
    }
    with (state / "console.log").open("ab") as log:
        return subprocess.Popen(
            [home / "bin" / "elasticsearch"],
            env=environment,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **_ordinary_user(),
        )


def await_elasticsearch(server: subprocess.Popen[bytes], url: str, state: Path) -> None:
    """Return as soon as it is ready. Raises Missing when it has stopped, or does not get ready in
    time."""

    def check() -> None:
        if server.poll() is not None:
            raise Missing(
                f"Elasticsearch stopped with exit code {server.returncode}: see {state}/console.log"
            )
        check_elasticsearch(url)

    wait(check, f"{state}/console.log")


def stop_elasticsearch() -> None:
    """Stop it, if it was this program that started it."""
    stop_process("elasticsearch", b"elasticsearch")


def fetch_elasticsearch() -> Path:
    """The unpacked distribution, fetched by Maven the first time. Raises Missing."""
    cache = cache_directory()
    home = cache / f"elasticsearch-{ELASTICSEARCH_VERSION}"
    if home.exists():
        return home
    need_maven("Elasticsearch", "LUDOTECA_TEST_ELASTICSEARCH_URL")
    download = cache / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    run(
        [
            "mvn",
            "-q",
            "-B",
            "dependency:copy",
            f"-Dartifact={ELASTICSEARCH_ARTIFACT}",
            f"-DoutputDirectory={download}",
        ]
    )
    with zipfile.ZipFile(next(download.glob("*.zip"))) as archive:
        archive.extractall(download)
    unpacked = download / home.name
    for program in (unpacked / "bin").iterdir():  # a zip file's permissions are not restored
        program.chmod(0o755)
    unpacked.rename(home)
    shutil.rmtree(download)
    return home


def _make_state(state: Path, port: int) -> None:
    """A fresh directory for its configuration, data and logs: tests keep nothing between starts."""
    shutil.rmtree(state, ignore_errors=True)
    for folder in ("", "config", "data", "logs", "tmp"):
        (state / folder).mkdir()
    distribution = cache_directory() / f"elasticsearch-{ELASTICSEARCH_VERSION}" / "config"
    for name in ("jvm.options", "log4j2.properties"):
        shutil.copy(distribution / name, state / "config" / name)
    (state / "config" / "elasticsearch.yml").write_text(
        f"cluster.name: ludoteca-tests\n"
        f"discovery.type: single-node\n"
        f"http.host: 127.0.0.1\n"
        f"http.port: {port}\n"
        f"transport.host: 127.0.0.1\n"
        f"transport.port: 9300-9399\n"
        f"path.data: {json.dumps(str(state / 'data'))}\n"
        f"path.logs: {json.dumps(str(state / 'logs'))}\n"
        f"xpack.security.enabled: false\n"
        f"cluster.routing.allocation.disk.threshold_enabled: false\n"
    )
    if user := _ordinary_user():
        for path in [state, *state.rglob("*")]:
            os.chown(path, user["user"], user["group"])


def _ordinary_user() -> dict[str, Any]:
    """As root: the arguments that make a child run as `nobody`, for Elasticsearch refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
