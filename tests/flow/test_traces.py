"""A shop whose processes send their spans to a collector: a request is one trace, with all that
follows from it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes.instance import ADMIN, PASSWORD, Instance, Person, eventually
from tests.support.processes.started import Started, started
from tests.support.servers import shared
from tests.support.servers.collector import Collector, Span, running_collector


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def run(
    postgres_url: str,
    postgres_template: str,
    elasticsearch_url: str,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Started]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with started(
        tmp_path_factory.mktemp("traced"),
        LUDOTECA_DATABASE_URL=database,
        LUDOTECA_ELASTICSEARCH_URL=elasticsearch_url,
        LUDOTECA_ADMIN_EMAIL=ADMIN,
        LUDOTECA_ADMIN_PASSWORD=PASSWORD,
        LUDOTECA_RATE_LIMIT="off",
        LUDOTECA_LOG_FORMAT="json",
        LUDOTECA_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
    ) as run:
        run.until(run.is_open)
        yield run
    shared.drop_database(database)


@pytest.fixture(scope="module")
def shop(run: Started) -> Instance:
    return Instance(run.folder / "home", dict(os.environ), run.port)


def trace_of(answer: httpx.Response) -> str:
    return answer.headers["traceparent"].split("-")[1]


def steps(spans: dict[str, Span]) -> set[tuple[str, str]]:
    """The names of each span and its parent, which is empty for the first."""
    return {
        (spans[span.parent_id].name if span.parent_id else "", span.name) for span in spans.values()
    }


def complete(collector: Collector, trace_id: str, wanted: set[tuple[str, str]]) -> dict[str, Span]:
    """The trace, once it has these steps and no span without its parent."""

    def missing() -> set[tuple[str, str]]:
        spans = collector.trace(trace_id)
        known = {**spans, "": None}
        orphans = {("?", span.name) for span in spans.values() if span.parent_id not in known}
        return orphans or wanted - steps(spans)

    eventually(missing, lambda left: not left)
    return collector.trace(trace_id)


PURCHASE = {
    ("", "POST /api/v1/orders"),
    ("POST /api/v1/orders", "decide OrderCommands.place"),
    ("decide OrderCommands.place", "append"),
    ("append", "react payment_jobs"),
    ("react payment_jobs", "job ludoteca.payments"),
    ("job ludoteca.payments", "call simulated"),
    ("call simulated", "POST /v1/payment_intents"),
    ("POST /v1/payment_intents", "send notice"),
    ("send notice", "POST /api/v1/payments/webhook"),
    ("append", "react settlement"),
    ("append", "react library_grants"),
    ("append", "react people_told"),
    ("job ludoteca.mail", "send email"),
    ("job ludoteca.fiscal", "call fiscal"),
    ("call fiscal", "POST /v1/receipts"),
    ("append", "fold orders"),
    ("append", "fold payments"),
    ("append", "fold library"),
}


def bought(shop: Instance) -> tuple[Person, httpx.Response]:
    buyer = shop.register()
    answer = buyer.buy(shop.game())
    eventually(lambda: buyer.completed(answer.json()["order_id"]))
    return buyer, answer


def test_a_purchase_is_one_trace_from_the_request_to_its_last_effect(
    shop: Instance, collector: Collector
) -> None:
    _, answer = bought(shop)
    spans = complete(collector, trace_of(answer), PURCHASE)
    assert len([span for span in spans.values() if not span.parent_id]) == 1
    assert {span.service for span in spans.values()} == {
        f"ludoteca-{process}" for process in ("api", "worker", "projector", "provider", "fiscal")
    }
    assert not [span.name for span in spans.values() if span.is_failure]


def test_every_event_names_the_span_that_appended_it(shop: Instance, collector: Collector) -> None:
    _, answer = bought(shop)
    spans = complete(collector, trace_of(answer), PURCHASE)
    ours = [
        event
        for event in shop.events()
        if (event["traceparent"] or "").split("-")[1:2] == [trace_of(answer)]
    ]
    assert {"order.completed.v1", "notification.sent.v1"} <= {event["name"] for event in ours}
    appended_by = {event["traceparent"].split("-")[2] for event in ours}
    assert appended_by <= spans.keys()
    assert {spans[each].name for each in appended_by} == {"append"}


def test_a_game_is_traced_to_the_search_index(shop: Instance, collector: Collector) -> None:
    answer = shop.admin().post(
        "/api/v1/games",
        json={
            "sku": "TRACED",
            "title": "Return of the Obra Dinn",
            "kind": "DIGITAL",
            "status": "ACTIVE",
            "prices": [{"region": "*", "amount_cents": 1999, "currency": "USD"}],
        },
    )
    wanted = {("", "POST /api/v1/games"), ("append", "fold games_index")}
    complete(collector, trace_of(answer), wanted)


def test_a_page_and_the_requests_to_the_api_behind_it_are_one_trace(
    shop: Instance, collector: Collector
) -> None:
    parent, trace_id = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace_id}-{parent}-01"
    shop.http(traceparent=traceparent).get("/", headers={"Accept": "text/html"})
    page = eventually(
        lambda: [each for each in collector.trace(trace_id).values() if each.parent_id == parent]
    )
    assert [span.name for span in page] == ["GET /"]
    inner = {each for each in collector.trace(trace_id).values() if each.parent_id != parent}
    assert inner
    assert {each.parent_id for each in inner if each.name.startswith("GET /api")} == {page[0].id}


def test_a_caller_that_does_not_want_a_trace_gets_none(
    shop: Instance, collector: Collector
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    unwanted = f"00-{trace_id}-b7ad6b7169203331-00"
    assert shop.register().buy(shop.game(), traceparent=unwanted).status_code == 201
    _, later = bought(shop)
    complete(collector, trace_of(later), PURCHASE)  # so that the spans of before have arrived, too
    assert not collector.trace(trace_id)


def test_lines_of_the_log_name_the_trace_of_the_span(run: Started, shop: Instance) -> None:
    buyer, answer = bought(shop)

    def logged() -> list[str]:
        lines = (json.loads(line) for line in run.output.splitlines() if line.startswith("{"))
        return [line["event"] for line in lines if line.get("trace_id") == trace_of(answer)]

    eventually(lambda: "request" in logged())
    text = Path(run.folder / "home" / "logs" / "payment-worker.txt").read_text()
    ours = [line for line in text.splitlines() if answer.json()["payment_id"] in line]
    assert ours
    assert all(f"trace_id={trace_of(answer)}" in line for line in ours)
    assert buyer.completed(answer.json()["order_id"])
