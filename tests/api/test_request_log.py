"""What is logged and counted of requests."""

import dataclasses
import json
import re
from typing import Literal

import pytest

from api.app import create_app
from api.middleware.request_log import RequestLine
from kit.metrics import REGISTRY
from runtime.output.request_log import RequestLog
from runtime.settings import Settings
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.small_gateway import client_of


class Logged:
    """A second gateway of the shop, whose lines are kept."""

    def __init__(self, shop: Shop) -> None:
        self.lines: list[RequestLine] = []
        services = dataclasses.replace(shop.services, log_request=self.lines.append)
        self.client = client_of(create_app(services))


async def test_a_request_is_logged_by_its_route_and_without_what_it_asks(shop: Shop) -> None:
    logged = Logged(shop)
    answer = await logged.client.get("/api/v1/games/search?q=s3cret")
    (line,) = logged.lines
    assert (line.method, line.route, line.status) == ("GET", "/api/v1/games/search", 200)
    assert line.bytes == len(answer.content)
    assert line.trace_id == answer.headers["traceparent"].split("-")[1]
    assert str(line.correlation_id) == answer.headers["X-Correlation-ID"]
    assert line.user_id is None
    assert "s3cret" not in repr(line)


async def test_the_caller_is_named(shop: Shop, buyer: Person) -> None:
    logged = Logged(shop)
    authorization = {"Authorization": buyer.client.headers["Authorization"]}
    await logged.client.get("/api/v1/library", headers=authorization)
    await logged.client.get("/api/v1/library")
    known, stranger = logged.lines
    assert (known.status, str(known.user_id)) == (200, str(buyer.id))
    assert (stranger.status, stranger.user_id) == (401, None)


async def test_probes_and_scrapes_are_not_logged(shop: Shop) -> None:
    logged = Logged(shop)
    for path in ("/health/live", "/health/ready", "/metrics"):
        await logged.client.get(path)
    assert logged.lines == []


async def test_lines_are_written_together_in_either_format(
    shop: Shop, buyer: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = Logged(shop)
    await logged.client.get("/api/v1/games")
    await logged.client.get("/no/such%0Athing")
    formats: tuple[Literal["json", "console"], ...] = ("json", "console")
    for log_format in formats:
        log = RequestLog(Settings(log_format=log_format), "api.2")
        for line in logged.lines:
            log(line)
        assert capsys.readouterr().err == ""
        log.flush()
        first, second = capsys.readouterr().err.splitlines()
        if log_format == "json":
            told = json.loads(first)
            assert (told["event"], told["process"], told["level"]) == ("request", "api.2", "info")
            assert told["route"] == "/api/v1/games"
            assert json.loads(second)["route"] == "unmatched"
        else:
            assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[info\] request \[api.requests\] ", first)
            assert "route=/api/v1/games " in first
            assert "process=api.2 " in first


async def test_what_is_appended_is_counted_by_name(shop: Shop, buyer: Person) -> None:
    def counted() -> float:
        name = {"name": "wallet.created.v1"}
        return REGISTRY.get_sample_value("ludoteca_appended_events_total", name) or 0.0

    before = counted()
    assert (await buyer.post("/api/v1/wallets", json={"currency": "USD"})).status_code == 201
    assert counted() == before + 1
    shown = (await shop.client().get("/metrics")).text
    assert f'ludoteca_appended_events_total{{name="wallet.created.v1"}} {counted()}' in shown
    assert "ludoteca_deadlines_due 0.0" in shown
    assert 'ludoteca_queue_oldest_job_seconds{queue="ludoteca.payments"}' in shown
    assert "ludoteca_projection_lag_seconds{" in shown
