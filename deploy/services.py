"""Find or start the servers that the tests talk to: RabbitMQ and Elasticsearch.

    python deploy/services.py up|status|down

`up` reuses what already answers, starts what does not, and waits until it does; it leaves 0 when both are up and 1
otherwise, with the reason on the line of the one that is missing. Where they are is kept in `services.json` in the
cache directory. To use servers of your own, set LUDOTECA_TEST_RABBITMQ_URL, LUDOTECA_TEST_RABBITMQ_MANAGEMENT_URL and
LUDOTECA_TEST_ELASTICSEARCH_URL.

RabbitMQ is the system's package (installed when missing, which takes root). Elasticsearch is the minimal distribution
that its makers publish for integration tests; Maven fetches it, a JDK from 21 on runs it, never as root.

Standard library only, so that it runs before anything is installed.
"""

import base64
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

ELASTICSEARCH_VERSION = "9.2.0"
ELASTICSEARCH_ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{ELASTICSEARCH_VERSION}:zip"
OLDEST_JDK = 21
START_TIMEOUT_SECONDS = 120.0

RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672/"
RABBITMQ_MANAGEMENT_URL = "http://guest:guest@127.0.0.1:15672"


class Missing(Exception):
    """A service that is not up, and why or what would help."""


# -- where things are --------------------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where downloads, data and the choice of ports are kept. Root's is one that an ordinary user may read."""
    if chosen := os.environ.get("LUDOTECA_TEST_CACHE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/cache/ludoteca")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ludoteca"


def rabbitmq_url() -> str:
    """The AMQP URL of the server for tests; its virtual host is to be replaced."""
    return os.environ.get("LUDOTECA_TEST_RABBITMQ_URL") or RABBITMQ_URL


def rabbitmq_management_url() -> str:
    """The URL of RabbitMQ's HTTP interface, by which virtual hosts are made and dropped."""
    return os.environ.get("LUDOTECA_TEST_RABBITMQ_MANAGEMENT_URL") or RABBITMQ_MANAGEMENT_URL


def elasticsearch_url() -> str:
    """The URL of the Elasticsearch for tests: the environment's, else the one that `up` found or started."""
    if chosen := os.environ.get("LUDOTECA_TEST_ELASTICSEARCH_URL"):
        return chosen
    return _remembered().get("elasticsearch_url", "http://127.0.0.1:9200")


def _remembered() -> dict[str, str]:
    try:
        found = json.loads((cache_directory() / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _remember(**choices: str) -> None:
    path = cache_directory() / "services.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(_remembered() | choices, indent=2) + "\n")
    fresh.replace(path)


# -- do they answer? ---------------------------------------------------------------------------------------------------


def http(method: str, url: str, body: object = None, *, timeout: float = 10) -> object:
    """One JSON request; credentials may stand in the URL. Raises OSError (HTTPError among them)."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    if parts.username:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials).decode())
    # No proxy: these servers are this machine's own, or named by whoever runs the tests.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


def check_rabbitmq() -> None:
    """Raises Missing unless the server and its HTTP interface answer."""
    amqp, management = urlsplit(rabbitmq_url()), rabbitmq_management_url()
    try:
        with socket.create_connection((amqp.hostname or "127.0.0.1", amqp.port or 5672), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            if connection.recv(1) != b"\x01":
                raise Missing(f"what listens on port {amqp.port or 5672} does not speak AMQP")
    except OSError as error:
        raise Missing(f"nothing answers on port {amqp.port or 5672} ({error})") from error
    try:
        http("GET", f"{management}/api/overview")
    except (OSError, ValueError) as error:
        raise Missing(f"its management interface does not answer ({error})") from error


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


def _wait(check: Callable[[], None], log: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            return check()
        except Missing as missing:
            if time.monotonic() > deadline:
                raise Missing(f"it was started but {missing}; see {log}") from missing
        time.sleep(0.5)


# -- RabbitMQ ----------------------------------------------------------------------------------------------------------


def start_rabbitmq() -> None:
    """Install it if need be, start it with its management interface, wait until both answer."""
    if os.environ.get("LUDOTECA_TEST_RABBITMQ_URL"):
        return check_rabbitmq()
    try:
        return check_rabbitmq()
    except Missing as missing:
        if os.geteuid() != 0:
            raise Missing(f"{missing}; starting it takes root: run `sudo python3 deploy/services.py up`") from missing
    if not shutil.which("rabbitmq-server"):
        _apt_install("rabbitmq-server")
    _run(["rabbitmq-plugins", "enable", "--offline", "rabbitmq_management"])
    if _port_is_open(5672):  # it runs, but without the plug-in
        _run(["rabbitmq-plugins", "enable", "rabbitmq_management"])
    else:
        _run(["rabbitmq-server", "-detached"])
        _remember(rabbitmq_started="yes")
    _wait(check_rabbitmq, "/var/log/rabbitmq")
    return None


def stop_rabbitmq() -> None:
    """Stop it, if it was this program that started it."""
    if _remembered().get("rabbitmq_started") != "yes":
        raise Missing("it was not started by this program: left alone")
    _run(["rabbitmqctl", "shutdown"])
    _remember(rabbitmq_started="no")


def _apt_install(*packages: str) -> None:
    if not shutil.which("apt-get"):
        raise Missing(f"install {' '.join(packages)} with the system's package manager")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], env=quiet)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)


def _port_is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(command: list[str], *, env: dict[str, str] | None = None) -> None:
    # A daemon keeps what it inherits: give it files, not pipes that would never close.
    with (cache_directory() / "commands.log").open("a+b") as log:
        start = log.seek(0, os.SEEK_END)
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if done.returncode:
            log.seek(start)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise Missing(f"`{' '.join(command)}` failed: {said[-1] if said else f'exit {done.returncode}'}")


# -- Elasticsearch -----------------------------------------------------------------------------------------------------


def start_elasticsearch() -> None:
    """Fetch it if need be, start it on port 9200 or another that is free, wait until it answers."""
    try:
        return check_elasticsearch()
    except Missing:
        if os.environ.get("LUDOTECA_TEST_ELASTICSEARCH_URL"):
            raise
    java, home = find_jdk(), fetch_elasticsearch()
    port = _free_port(9200)
    url = f"http://127.0.0.1:{port}"
    state = _elasticsearch_state(port)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "ES_JAVA_HOME": str(java),
        "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
        "ES_PATH_CONF": str(state / "config"),
        "ES_TMPDIR": str(state / "tmp"),
    }
    with (state / "console.log").open("ab") as log:
        server = subprocess.Popen(
            [home / "bin" / "elasticsearch"],
            env=environment,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **_ordinary_user(),
        )
    _remember(elasticsearch_url=url, elasticsearch_pid=str(server.pid))

    def check() -> None:
        if server.poll() is not None:
            raise Missing(f"Elasticsearch stopped with exit code {server.returncode}: see {state}/console.log")
        check_elasticsearch(url)

    _wait(check, f"{state}/console.log")
    return None


def stop_elasticsearch() -> None:
    """Stop it, if it was this program that started it."""
    pid = int(_remembered().get("elasticsearch_pid", "0"))
    if not pid or b"elasticsearch" not in _command_line(pid):
        raise Missing("it was not started by this program: left alone")
    os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _command_line(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    _remember(elasticsearch_pid="0")


def find_jdk() -> Path:
    """The home of a JDK that can run Elasticsearch, installed if need be. Raises Missing."""
    if home := _installed_jdk():
        return home
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(f"openjdk-{OLDEST_JDK}-jre-headless")
    if home := _installed_jdk():
        return home
    raise Missing(f"no JDK of version {OLDEST_JDK} or later: install one, or set ES_JAVA_HOME to it")


def _installed_jdk() -> Path | None:
    named = [os.environ[name] for name in ("ES_JAVA_HOME", "JAVA_HOME") if os.environ.get(name)]
    installed = [home for folder in ("/usr/lib/jvm", "/opt/java") for home in sorted(Path(folder).glob("*"))]
    for home in [*map(Path, named), *installed]:
        if (home / "bin" / "java").exists() and _jdk_version(home) >= OLDEST_JDK:
            return home
    return None


def _jdk_version(home: Path) -> int:
    said = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, check=False).stderr
    number = re.search(r'version "(\d+)', said)
    return int(number[1]) if number else 0


def fetch_elasticsearch() -> Path:
    """The unpacked distribution, fetched by Maven the first time. Raises Missing."""
    cache = cache_directory()
    home = cache / f"elasticsearch-{ELASTICSEARCH_VERSION}"
    if home.exists():
        return home
    if not shutil.which("mvn"):
        if os.geteuid() != 0:
            raise Missing("Maven fetches Elasticsearch: install maven, or set LUDOTECA_TEST_ELASTICSEARCH_URL")
        _apt_install("maven")
    download = cache / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    _run(
        ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={ELASTICSEARCH_ARTIFACT}", f"-DoutputDirectory={download}"]
    )
    with zipfile.ZipFile(next(download.glob("*.zip"))) as archive:
        archive.extractall(download)
    unpacked = download / home.name
    for program in (unpacked / "bin").iterdir():  # a zip file's permissions are not restored
        program.chmod(0o755)
    unpacked.rename(home)
    shutil.rmtree(download)
    return home


def _elasticsearch_state(port: int) -> Path:
    """A fresh directory for its configuration, data and logs: tests keep nothing between starts."""
    state = cache_directory() / "elasticsearch"
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
            os.chown(path, int(user["user"]), int(user["group"]))
    return state


def _ordinary_user() -> dict[str, int | list[int]]:
    """As root: the arguments that make a child run as `nobody`, for Elasticsearch refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port(first: int) -> int:
    return next(port for port in range(first, first + 90) if not _port_is_open(port))


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- the command -------------------------------------------------------------------------------------------------------


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    cache_directory().mkdir(parents=True, exist_ok=True, mode=0o755)
    with (cache_directory() / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _report(name: str, act: Callable[[], None], done: Callable[[], str]) -> bool:
    try:
        act()
    except Missing as missing:
        print(f"{name}: missing: {missing}", flush=True)
        return False
    print(f"{name}: {done()}", flush=True)
    return True


def main(arguments: list[str]) -> int:
    """Run one of `up`, `status` and `down`; returns the exit code."""
    commands: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "up": (start_rabbitmq, start_elasticsearch),
        "status": (check_rabbitmq, check_elasticsearch),
        "down": (stop_rabbitmq, stop_elasticsearch),
    }
    if len(arguments) != 1 or arguments[0] not in commands:
        print(__doc__.split("\n\n")[1].strip() if __doc__ else "", file=sys.stderr)
        return 2
    rabbitmq, elasticsearch = commands[arguments[0]]
    down = arguments[0] == "down"
    with _one_at_a_time():
        both = [
            _report("RabbitMQ", rabbitmq, lambda: "stopped" if down else f"up at {rabbitmq_url()}"),
            _report("Elasticsearch", elasticsearch, lambda: "stopped" if down else f"up at {elasticsearch_url()}"),
        ]
    return 0 if all(both) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
