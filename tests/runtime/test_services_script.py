"""`deploy/services.py`, which finds or starts the tests' servers: its messages when they are
missing.

No server is started here: each run has its own cache directory, and addresses at which nothing
listens.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.shared import free_port

SCRIPT = Path(__file__).parents[2] / "deploy" / "services.py"


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment without any server."""
    return {
        "PATH": os.defpath,
        "LUDOTECA_TEST_CACHE": str(tmp_path),
        "LUDOTECA_TEST_RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/",
        "LUDOTECA_TEST_RABBITMQ_MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{free_port()}",
        "LUDOTECA_TEST_KAFKA_URL": f"kafka://127.0.0.1:{free_port()}",
        "LUDOTECA_TEST_ELASTICSEARCH_URL": f"http://127.0.0.1:{free_port()}",
        "LUDOTECA_TEST_STRIPE_MOCK_URL": f"http://127.0.0.1:{free_port()}",
        "LUDOTECA_TEST_FAKETIME": "/nowhere/libfaketime.so",
        "LUDOTECA_TEST_PATRONI": "/nowhere/patroni",
        "LUDOTECA_TEST_PGBOUNCER": "/nowhere/pgbouncer",
        "LUDOTECA_TEST_PROMETHEUS": "/nowhere",
        "LUDOTECA_TEST_ALERTMANAGER": "/nowhere/alertmanager",
        "LUDOTECA_TEST_CHROMIUM": "/nowhere/chromium",
    }


def services(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it by a Python without any package, like a newcomer's."""
    return subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["status", "up"])
def test_a_missing_server_is_named_with_the_reason_and_one_that_was_given_is_never_started(
    command: str, nowhere: dict[str, str]
) -> None:
    done = services(command, nowhere)
    assert done.returncode == 1, done.stderr
    rabbitmq, kafka, elasticsearch, stripe_mock, *installed = done.stdout.splitlines()
    faketime, patroni, pgbouncer, prometheus, alertmanager, chromium = installed
    assert rabbitmq.startswith("RabbitMQ: missing: nothing answers on port")
    assert kafka.startswith("Kafka: missing: nothing answers on port")
    assert elasticsearch.startswith(
        "Elasticsearch: missing: nothing usable answers at http://127.0.0.1:"
    )
    assert stripe_mock.startswith(
        "stripe-mock: missing: nothing usable answers at http://127.0.0.1:"
    )
    assert faketime == "faketime: missing: there is no /nowhere/libfaketime.so"
    assert patroni == "Patroni: missing: there is no /nowhere/patroni/bin/patroni"
    assert pgbouncer == "pgbouncer: missing: there is no /nowhere/pgbouncer"
    assert prometheus == "Prometheus: missing: there is no prometheus with promtool in /nowhere"
    assert (
        alertmanager
        == "Alertmanager: missing: there is no alertmanager with amtool at /nowhere/alertmanager"
    )
    assert chromium == "Chromium: missing: there is no /nowhere/chromium"
    assert "Traceback" not in done.stderr


def test_services_that_it_did_not_start_are_not_stopped(nowhere: dict[str, str]) -> None:
    done = services("down", nowhere)
    assert done.stdout.count("left alone") == 4


def test_without_go_it_says_how_to_get_stripe_mock(nowhere: dict[str, str], tmp_path: Path) -> None:
    free = {
        name: value for name, value in nowhere.items() if name != "LUDOTECA_TEST_STRIPE_MOCK_URL"
    }
    free["PATH"] = str(tmp_path)
    (tmp_path / "services.json").write_text(
        f'{{"stripe_mock_url": "http://127.0.0.1:{free_port()}"}}'
    )
    done = services("up", free)
    assert "stripe-mock: missing: Go builds it: install Go (https://go.dev/dl)" in done.stdout


@pytest.mark.parametrize("command", ["", "restart", "up down"])
def test_an_unknown_command_is_answered_by_those_there_are(
    command: str, nowhere: dict[str, str]
) -> None:
    done = services(command, nowhere)
    assert done.returncode == 2
    assert "up|status|down" in done.stderr
