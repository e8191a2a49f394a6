"""Metrics, rules, dashboards and their documentation fit one another."""

import re
import socket
import subprocess
from typing import Any

import httpx
import pytest
import yaml

from api.middleware.metrics import Metrics
from runtime.processes.alert_watch import CONDITIONS
from runtime.processes.metrics_server import show_metrics
from runtime.settings import Settings
from runtime.supervision.metrics_ports import metrics_ports, metrics_urls
from tests.support import ROOT
from tests.support.monitoring import RULES, alerts, expressions
from tests.support.processes.instance import eventually
from tests.support.servers.alertmanager import CONFIGURATION
from tests.support.servers.shared import free_port, require_alertmanager, require_prometheus

DOCS = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbooks" / "alerts.md").read_text(encoding="utf-8")

DOCUMENTED = set(re.findall(r"^\| `(ludoteca_\w+)` \|", DOCS, re.MULTILINE))
ELSEWHERE = {
    "ludoteca_api_processes",
    "ludoteca_replica_up",
    "ludoteca_replica_queries",
    "ludoteca_mirror_lag_seconds",
}
"""Of a shop with several API processes, with standbys, with KurrentDB."""

_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def test_every_metric_is_documented_and_there_are_all_that_are() -> None:
    shown = {metric.name for metric in Metrics().registry.collect()}
    ours = {name for name in shown if name.startswith("ludoteca_")}
    assert ours | ELSEWHERE == DOCUMENTED


def test_rules_and_dashboards_use_metrics_that_there_are() -> None:
    used = {
        _SUFFIX.sub("", name)
        for expression in expressions()
        for name in re.findall(r"\bludoteca_\w+", expression)
    }
    assert used <= DOCUMENTED


def test_every_alert_has_its_section_in_the_runbook() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == names
    for alert in alerts():
        assert alert["annotations"]["runbook"].endswith(f"alerts.md#{alert['alert'].lower()}")


def test_the_shops_own_alerts_are_as_severe_as_prometheus() -> None:
    rules = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
    assert {each.name: each.severity for each in CONDITIONS}.items() <= rules.items()


def test_prometheus_scrapes_every_process_of_docker_compose() -> None:
    def goes_on(service: dict[str, Any]) -> bool:
        return service["image"] == "ludoteca" and service.get("restart") != "no"

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    ours = {name for name, service in compose["services"].items() if goes_on(service)}
    scraping = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [each for each in scraping["scrape_configs"] if each["job_name"] == "ludoteca"]
    assert {name for found in job["dns_sd_configs"] for name in found["names"]} == ours


@pytest.mark.parametrize("words", ["check rules rules.yml", "test rules rules_test.yml"])
def test_promtool_finds_no_fault_in_the_rules_and_every_alert_works_both_ways(words: str) -> None:
    command = [str(require_prometheus() / "promtool"), *words.split()]
    done = subprocess.run(
        command, cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_finds_no_fault_in_the_configuration_of_alertmanager() -> None:
    amtool = require_alertmanager().with_name("amtool")
    done = subprocess.run(
        [amtool, "check-config", CONFIGURATION],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    text = (RULES.parent / "rules_test.yml").read_text(encoding="utf-8")
    for alert in alerts():
        assert len(re.findall(rf"alertname: {alert['alert']}\b", text)) == 2


def test_a_process_shows_its_metrics_at_the_port_that_is_set() -> None:
    settings = Settings(metrics_port=free_port())
    show_metrics(settings)
    url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
    text = eventually(lambda: _text(url))
    assert "process_cpu_seconds_total" in text
    assert "ludoteca_append_batch_size_count" in text


def _text(url: str) -> str:
    try:
        return httpx.get(url, timeout=10).text
    except httpx.ConnectError:
        return ""


def test_a_port_that_is_taken_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        show_metrics(Settings(metrics_port=port))
        eventually(lambda: caplog.messages)
    assert caplog.messages[0].startswith(f"metrics are not shown: port {port} on 127.0.0.1")


def test_the_processes_of_run_get_ports_that_are_free() -> None:
    port, taken = free_port(), free_port()
    settings = Settings(port=port, metrics_port=taken, provider_port=taken, fiscal_port=taken + 1)
    ports = metrics_ports(settings, ["worker.1", "worker.2"])
    assert len(set(ports.values())) == 2
    assert not {port, taken, taken + 1} & set(ports.values())
    assert metrics_urls(settings, ports) == {
        "api": f"http://127.0.0.1:{port}/metrics",
        "worker.1": f"http://127.0.0.1:{ports['worker.1']}/metrics",
        "worker.2": f"http://127.0.0.1:{ports['worker.2']}/metrics",
    }
