"""A shop that sells, and a real Prometheus that scrapes all of its processes: every expression of
rules and dashboards finds data. The logs of all processes name the request they are about."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runtime.output.log_stream import add_to
from runtime.processes.metrics_server import show_metrics
from runtime.settings import Settings
from tests.support.monitoring import expressions
from tests.support.processes.instance import (
    ADMIN,
    DECLINED,
    PASSWORD,
    VISA,
    Instance,
    eventually,
)
from tests.support.processes.started import Started, started
from tests.support.servers import shared
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.shared import free_port
from tests.support.shops.broken import sold

TOKEN = "what Alertmanager knows"


@pytest.fixture(scope="module")
def run(
    postgres_url: str,
    postgres_template: str,
    elasticsearch_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Started]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with started(
        tmp_path_factory.mktemp("monitored"),
        LUDOTECA_DATABASE_URL=database,
        LUDOTECA_ELASTICSEARCH_URL=elasticsearch_url,
        LUDOTECA_ADMIN_EMAIL=ADMIN,
        LUDOTECA_ADMIN_PASSWORD=PASSWORD,
        LUDOTECA_RATE_LIMIT="off",
        LUDOTECA_SELF_AUDIT_SECONDS="1",
        LUDOTECA_LOG_FORMAT="json",
        LUDOTECA_ALERTMANAGER_TOKEN=TOKEN,
    ) as run:
        run.until(run.is_open)
        yield run
    shared.drop_database(database)


def home_of(run: Started) -> Path:
    return run.folder / "home"


def shop_of(run: Started) -> Instance:
    return Instance(home_of(run), dict(os.environ), run.port)


def test_every_expression_of_rules_and_dashboards_finds_data(run: Started, tmp_path: Path) -> None:
    urls = json.loads((home_of(run) / "servers.json").read_text())["metrics"]
    assert urls.keys() == {"api", "provider", "fiscal", "carrier", "projector", "worker"}
    shop = shop_of(run)
    sold(shop)
    add_to(home_of(run) / "logs" / "dropped" / "worker", 1)
    game = shop.game()
    wanted = set(expressions())
    with Prometheus(tmp_path, [urlsplit(url).netloc for url in urls.values()]) as prometheus:

        def empty() -> set[str]:
            for token in (VISA, DECLINED):  # something goes on while rates are computed
                shop.register().buy(game, token)
            values = {each: prometheus.query(each) for each in wanted}
            return {each for each, found in values.items() if all(map(math.isnan, found))}

        eventually(empty, lambda left: not left)
        assert prometheus.query('up{job="ludoteca"}') == [1.0] * len(urls)


def test_a_process_that_is_down_is_an_alert_of_alertmanagers_until_it_is_up(
    run: Started, tmp_path: Path
) -> None:
    settings = Settings(metrics_port=free_port())
    instance = f"{settings.host}:{settings.metrics_port}"
    shop = shop_of(run)

    def alert(status: str) -> list[dict[str, Any]]:
        query = {"status": status, "name": "ProcessDown"}
        items = shop.admin().get("/api/v1/ops/alerts", params=query).json()["items"]
        return [each for each in items if each["labels"]["instance"] == instance]

    with (
        Alertmanager(tmp_path, run.base, TOKEN) as alertmanager,
        Prometheus(tmp_path, [instance], alertmanager.address),
    ):
        (raised,) = eventually(lambda: alert("RAISED"))
        assert (raised["source"], raised["severity"]) == ("alertmanager", "critical")
        assert raised["runbook"] == "processdown"
        show_metrics(settings)
        eventually(lambda: alert("RESOLVED"))
    events = shop.events(stream=raised["alert_id"])
    assert [(each["name"], each["actor"]) for each in events] == [
        ("alert.raised.v1", "alertmanager"),
        ("alert.resolved.v1", "alertmanager"),
    ]


def test_what_follows_from_a_request_is_logged_with_its_ids(run: Started) -> None:
    shop = shop_of(run)
    buyer = shop.register()
    bought = buyer.buy(shop.game())
    trace_id, correlation_id = (
        bought.headers["traceparent"].split("-")[1],
        bought.headers["X-Correlation-ID"],
    )
    eventually(lambda: buyer.completed(bought.json()["order_id"]))

    def logged() -> list[dict[str, Any]]:
        lines = map(json.loads, filter(_is_json, run.output.splitlines()))
        return [
            each
            for each in lines
            if each.get("trace_id") == trace_id and each["event"] == "request"
        ]

    (line,) = eventually(logged)
    assert line["process"] == "api"
    assert (line["method"], line["route"]) == ("POST", "/api/v1/orders")
    assert (line["user_id"], line["correlation_id"]) == (buyer.id, correlation_id)
    steps = (home_of(run) / "logs" / "payment-worker.txt").read_text().splitlines()
    ours = [step for step in steps if bought.json()["payment_id"] in step]
    assert ours
    assert all(f"trace_id={trace_id}" in step for step in ours)
    assert all(f"correlation_id={correlation_id}" in step for step in ours)


def _is_json(line: str) -> bool:
    return line.startswith("{")
