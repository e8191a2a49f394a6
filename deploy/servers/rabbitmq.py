"""RabbitMQ: the system's package, installed when missing, which takes root."""

import os
import shutil
import socket
from urllib.parse import urlsplit

from deploy.servers.common import (
    Missing,
    apt_install,
    http,
    port_is_open,
    remember,
    remembered,
    run,
    wait,
)

RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672/"
RABBITMQ_MANAGEMENT_URL = "http://guest:guest@127.0.0.1:15672"

_HOME = "/var/lib/rabbitmq"
"""The home directory of its user."""

_FILES = 20_000
"""How many files it may have open. It sets three aside for each quorum queue, and accepts no
connection, without an error, when none is left: with the usual 1024, after some 300 queues."""

_WITH_FILES = [
    *("prlimit", f"--nofile={_FILES}:{_FILES}"),
    # as its own user from the start: the package's `su` would bring the usual limit back
    *("setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups"),
]


def rabbitmq_url() -> str:
    """The AMQP URL of the server for tests; its virtual host is to be replaced."""
    return os.environ.get("LUDOTECA_TEST_RABBITMQ_URL") or RABBITMQ_URL


def rabbitmq_management_url() -> str:
    """The URL of RabbitMQ's HTTP interface, by which virtual hosts are made and dropped."""
    return os.environ.get("LUDOTECA_TEST_RABBITMQ_MANAGEMENT_URL") or RABBITMQ_MANAGEMENT_URL


def check_rabbitmq() -> None:
    """Raises Missing unless the server and its HTTP interface answer."""
    amqp, management = urlsplit(rabbitmq_url()), rabbitmq_management_url()
    try:
        with socket.create_connection(
            (amqp.hostname or "127.0.0.1", amqp.port or 5672), timeout=5
        ) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            if connection.recv(1) != b"\x01":
                raise Missing(f"what listens on port {amqp.port or 5672} does not speak AMQP")
    except OSError as error:
        raise Missing(f"nothing answers on port {amqp.port or 5672} ({error})") from error
    try:
        http("GET", f"{management}/api/overview")
    except (OSError, ValueError) as error:
        raise Missing(f"its management interface does not answer ({error})") from error


def start_rabbitmq() -> None:
    """Install it if need be, start it with its management interface, wait until both answer."""
    if os.environ.get("LUDOTECA_TEST_RABBITMQ_URL"):
        return check_rabbitmq()
    try:
        return check_rabbitmq()
    except Missing as missing:
        if os.geteuid() != 0:
            raise Missing(
                f"{missing}; starting it takes root: run `sudo python3 deploy/services.py up`"
            ) from missing
    if not shutil.which("rabbitmq-server"):
        apt_install("rabbitmq-server")
    run(["rabbitmq-plugins", "enable", "--offline", "rabbitmq_management"])
    if port_is_open(5672):  # it runs, but without the plug-in
        run(["rabbitmq-plugins", "enable", "rabbitmq_management"], seconds=120)
    else:
        run([*_WITH_FILES, "rabbitmq-server", "-detached"], env=os.environ | {"HOME": _HOME})
        remember(rabbitmq_started="yes")
    wait(check_rabbitmq, "/var/log/rabbitmq")
    return None


def stop_rabbitmq() -> None:
    """Stop it, if it was this program that started it."""
    if remembered().get("rabbitmq_started") != "yes":
        raise Missing("it was not started by this program: left alone")
    run(["rabbitmqctl", "shutdown"])
    remember(rabbitmq_started="no")
