"""What is logged and counted of requests."""

import logging

import pytest

from kit.metrics import REGISTRY
from tests.support.shops.gateway import Person, Shop


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(each) for each in caplog.records if each.name == "api.requests"]


async def test_a_request_is_logged_by_its_route_with_its_caller_and_without_what_it_asks(
    shop: Shop, buyer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "api.requests")
    answer = await buyer.get("/api/v1/games/search?q=s3cret")
    (line,) = requests(caplog)
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/v1/games/search", 200)
    assert line["bytes"] == len(answer.content)
    assert isinstance(line["ms"], float)
    assert "s3cret" not in str(line)


async def test_the_caller_is_named_and_a_stranger_is_not(
    shop: Shop, buyer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "api.requests")
    await buyer.get("/api/v1/library")
    await shop.client().get("/api/v1/library")
    known, stranger = requests(caplog)
    assert known["user_id"] == str(buyer.id)
    assert (stranger["status"], "user_id" in stranger) == (401, False)


async def test_probes_and_scrapes_are_not_logged(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "api.requests")
    for path in ("/health/live", "/health/ready", "/metrics"):
        await shop.client().get(path)
    assert requests(caplog) == []


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
