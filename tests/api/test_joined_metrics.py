"""Several API processes show their metrics to each other: each of them answers for all."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from api.middleware import joined_metrics
from api.middleware.metrics import Metrics
from api.middleware.replica_metrics import ReplicaMetrics
from runtime.processes.siblings import create_shared, siblings_of

REQUESTS = 'ludoteca_http_requests_total{method="GET",route="/games",status="200"}'
SECONDS = 'ludoteca_http_request_seconds_sum{method="GET",route="/games"}'
BUCKET = 'ludoteca_http_request_seconds_bucket{le="0.5",method="GET",route="/games"}'


@dataclass
class Processes:
    """API processes that share memory."""

    memory: int

    def start(self, number: int) -> Metrics:
        return Metrics(siblings_of(number, self.memory))


@pytest.fixture
def processes() -> Iterator[Processes]:
    memory = create_shared(2)
    yield Processes(memory)
    os.close(memory)


def scraped(metrics: Metrics) -> dict[str, float]:
    text = metrics.render(7, {"orders": (3, 0, False)}, {"mail": (1, 0)}, {"worker": 5}).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    assert len({name for name, _, _ in lines}) == len(lines), "a series appears twice"
    return {name: float(value) for name, _, value in lines}


def answer(metrics: Metrics, times: int, seconds: float = 0.25) -> None:
    for _ in range(times):
        metrics.count_request("GET", "/games", 200, seconds)
    assert metrics.joined is not None
    metrics.joined.publish()


def test_whichever_is_asked_counts_what_all_have_answered(processes: Processes) -> None:
    one, two = processes.start(1), processes.start(2)
    answer(one, 3)
    answer(two, 4, seconds=1.0)
    for asked in (one, two):
        found = scraped(asked)
        assert found[REQUESTS] == 7
        assert found[SECONDS] == pytest.approx(3 * 0.25 + 4)
        assert found[BUCKET] == 3
        assert found["ludoteca_api_processes"] == 2


def test_a_restarted_process_goes_on_counting(processes: Processes) -> None:
    one, two = processes.start(1), processes.start(2)
    answer(one, 3)
    answer(two, 4)

    one = processes.start(1)
    assert scraped(two)[REQUESTS] == 7
    assert scraped(one)[REQUESTS] == 7
    answer(one, 1)
    assert scraped(two)[REQUESTS] == 8

    one = processes.start(1)
    answer(one, 1)
    assert scraped(one)[REQUESTS] == 9


def test_a_route_that_only_another_has_answered_is_counted(processes: Processes) -> None:
    one, two = processes.start(1), processes.start(2)
    answer(two, 1)
    assert scraped(one)[REQUESTS] == 1


@dataclass
class Standbys:
    """What a process knows of them."""

    answered: int
    passed_on: int
    unfit: str = ""


def test_queries_that_standbys_answer_are_added_up(processes: Processes) -> None:
    one, two = processes.start(1), processes.start(2)
    one.registry.register(ReplicaMetrics(Standbys(3, 1)))
    two.registry.register(ReplicaMetrics(Standbys(4, 2, "it is behind")))
    answer(one, 1)
    answer(two, 1)
    for asked in (one, two):
        found = scraped(asked)
        assert found['ludoteca_replica_queries_total{answered_by="standby"}'] == 7
        assert found['ludoteca_replica_queries_total{answered_by="primary"}'] == 3
        assert found["ludoteca_replica_up"] == 0


def test_gauges_are_those_of_the_living(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = processes.start(1), processes.start(2)
    one.sockets.set(2)
    two.sockets.set(5)
    one.clock_ahead.set(-3.0)
    two.clock_ahead.set(0.5)
    answer(one, 1)
    answer(two, 1)
    found = scraped(one)
    assert found["ludoteca_live_sockets"] == 7
    assert found["ludoteca_clock_ahead_seconds"] == -3

    monkeypatch.setattr(joined_metrics, "ALIVE_SECONDS", 0.0)  # nobody has shown anything just now
    found = scraped(one)
    assert found["ludoteca_api_processes"] == 0
    assert "ludoteca_live_sockets" not in found
    assert found[REQUESTS] == 2


def test_what_is_looked_up_is_shown_once_and_the_processes_figures_by_name(
    processes: Processes,
) -> None:
    one, two = processes.start(1), processes.start(2)
    answer(one, 1)
    answer(two, 1)
    found = scraped(two)
    assert found['ludoteca_projection_lag{projection="orders"}'] == 3
    assert found["ludoteca_log_head"] == 7
    assert found['ludoteca_dropped_log_lines_total{process="worker"}'] == 5
    assert [name for name in found if name.startswith("python_info")] != []
    for number in (1, 2):
        assert found[f'process_cpu_seconds_total{{process="api.{number}"}}'] > 0
    assert "process_cpu_seconds_total" not in found
