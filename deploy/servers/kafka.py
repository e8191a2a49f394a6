"""Kafka: one broker that is its own controller (KRaft), of the jars that its makers publish.

Maven fetches them, a JDK runs them.
"""

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deploy.servers.common import (
    Missing,
    cache_directory,
    free_port,
    remember,
    remembered,
    run,
    stop_process,
    wait,
)
from deploy.servers.java import find_jdk, need_maven

KAFKA_VERSION = "4.3.1"
ARTIFACTS = {"org.apache.kafka:kafka_2.13": KAFKA_VERSION, "org.slf4j:slf4j-simple": "1.7.36"}

CLUSTER_ID = "bHVkb3RlY2EtdGVzdHMtMQ"
"""Any 16 bytes in base64."""

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""The request that every client sends first: length, key, version, correlation id, no client id."""

JAVA_OPTIONS = [
    *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]


def kafka_url() -> str:
    """The URL of the Kafka for tests: the environment's, else the one that `up` found or
    started."""
    if chosen := os.environ.get("LUDOTECA_TEST_KAFKA_URL"):
        return chosen
    return remembered().get("kafka_url", "kafka://127.0.0.1:9092")


def check_kafka(url: str | None = None) -> None:
    """Raises Missing unless a broker answers."""
    where = urlsplit(url or kafka_url())
    host, port = where.hostname or "127.0.0.1", where.port or 9092
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(API_VERSIONS)
            answer = connection.recv(10, socket.MSG_WAITALL)
    except OSError as error:
        raise Missing(f"nothing answers on port {port} ({error})") from error
    if len(answer) < 10 or struct.unpack(">ih", answer[4:]) != (1, 0):
        raise Missing(f"what listens on port {port} does not speak Kafka's protocol")


def start_kafka() -> None:
    """Fetch it if need be, start it on port 9092 or another that is free, wait until it answers."""
    try:
        return check_kafka()
    except Missing:
        if os.environ.get("LUDOTECA_TEST_KAFKA_URL"):
            raise
    port, state = free_port(9092), cache_directory() / "kafka"
    make_kafka(state, port, free_port(port + 1))
    server = launch_kafka(state)
    url = f"kafka://127.0.0.1:{port}"
    remember(kafka_url=url, kafka_pid=str(server.pid))
    await_kafka(server, url, state)
    return None


def make_kafka(
    state: Path, port: int, controller_port: int, properties: Mapping[str, str] | None = None
) -> None:
    """Fetch it if need be, and make a broker without topics, with everything that it keeps in
    `state`, which is emptied first. `properties` replace or complete its configuration. Raises
    Missing."""
    java, jars = find_jdk(), fetch_kafka()
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    configuration = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "log.dirs": str(state / "data"),
        "num.partitions": "3",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": "4194304",  # 128 MB otherwise
        "log.segment.bytes": "16777216",
        **(properties or {}),
    }
    text = "".join(f"{name}={value}\n" for name, value in configuration.items())
    (state / "server.properties").write_text(text)
    run(
        [
            str(java / "bin" / "java"),
            *("-cp", f"{jars}/*", "kafka.tools.StorageTool"),
            *("format", "-t", CLUSTER_ID, "-c", str(state / "server.properties")),
        ]
    )


def launch_kafka(state: Path) -> subprocess.Popen[bytes]:
    """Start the broker of `make_kafka`, also again."""
    command = [
        str(find_jdk() / "bin" / "java"),
        *JAVA_OPTIONS,
        *("-cp", f"{fetch_kafka()}/*", "kafka.Kafka", str(state / "server.properties")),
    ]
    with (state / "console.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def await_kafka(server: subprocess.Popen[bytes], url: str, state: Path) -> None:
    """Return as soon as it answers. Raises Missing when it has stopped, or does not answer in
    time."""

    def check() -> None:
        if server.poll() is not None:
            raise Missing(
                f"Kafka stopped with exit code {server.returncode}: see {state}/console.log"
            )
        check_kafka(url)

    wait(check, f"{state}/console.log")


def stop_kafka() -> None:
    """Stop it, if it was this program that started it."""
    stop_process("kafka", b"kafka.Kafka")


def fetch_kafka() -> Path:
    """The folder of its jars, fetched by Maven the first time. Raises Missing."""
    jars = cache_directory() / f"kafka-{KAFKA_VERSION}"
    if jars.exists():
        return jars
    need_maven("Kafka", "LUDOTECA_TEST_KAFKA_URL")
    download = cache_directory() / "download-kafka"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    (download / "pom.xml").write_text(_pom())
    run(
        [
            *("mvn", "-q", "-B", "-f", str(download / "pom.xml")),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={download / 'jars'}",
        ]
    )
    (download / "jars").rename(jars)
    shutil.rmtree(download)
    return jars


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency>"
        for (group, name), version in ((key.split(":"), v) for key, v in ARTIFACTS.items())
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>ludoteca</groupId><artifactId>kafka</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
