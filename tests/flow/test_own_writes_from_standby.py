"""As test_own_writes, while a standby answers queries of both API processes, and its replay stops
and goes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.flow import test_own_writes
from tests.flow.test_own_writes import (  # noqa: F401
    Shop,
    second_api,
    test_a_cart_has_what_was_just_put_into_it,
    test_a_game_is_as_it_was_just_edited_also_in_lists_that_are_kept,
    test_an_order_that_is_completed_is_in_the_list_and_its_game_in_the_library,
)
from tests.support.processes.instance import Instance, eventually, running
from tests.support.servers.standby import Pair


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a standby, each kind of write is tried more often."""
    monkeypatch.setattr(test_own_writes, "ROUNDS", 20)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        pair.standby.start()
        yield pair


@pytest.fixture(scope="module")
def shop(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    settings = {"LUDOTECA_READ_URL": pair.standby.url}
    with running(tmp_path_factory.mktemp("home"), pair.primary.url, settings) as instance:
        ports = ("LUDOTECA_PROVIDER_PORT", "LUDOTECA_FISCAL_PORT")
        settings |= {name: instance.environment[name] for name in ports}
        with second_api(instance, pair.primary.url, settings) as (second,), stopping_replay(pair):
            second.await_ready()
            yield Shop(instance, second.url)


@contextmanager
def stopping_replay(pair: Pair) -> Iterator[None]:
    """Have the standby fall behind and catch up, again and again."""
    over = threading.Event()

    def stop_and_go_on() -> None:
        while not over.wait(0.5):
            pair.pause_replay()
            over.wait(0.5)
            pair.resume_replay()

    thread = threading.Thread(target=stop_and_go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_readiness_and_metrics_tell_whether_standbys_answer(shop: Shop, pair: Pair) -> None:
    """The last test: the standby has answered some of the others' queries."""
    assert answered(shop.instance, "standby") > 0
    assert answered(shop.instance, "primary") > 0
    eventually(lambda: readiness(shop.instance) == ("ok", "ok"))
    pair.freeze()
    eventually(lambda: readiness(shop.instance) == ("degraded", "down"))
    pair.go_on()
    eventually(lambda: readiness(shop.instance) == ("ok", "ok"))


def answered(instance: Instance, by: str) -> float:
    """How many queries this server has answered, by the metrics."""
    wanted = f'ludoteca_replica_queries_total{{answered_by="{by}"}} '
    lines = httpx.get(f"{instance.base}/metrics").text.splitlines()
    return next(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def readiness(instance: Instance) -> tuple[str, str]:
    """What readiness says of everything, and of the standby."""
    answer = httpx.get(f"{instance.base}/health/ready")
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return said["status"], said["dependencies"]["replica"]["status"]
