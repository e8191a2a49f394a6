"""A shop whose log is in KurrentDB, through real processes. `pytest --kurrentdb` runs any suite so;
these are the purchases of the usual one, and what is different here."""

import re
import signal
from collections.abc import Iterator
from uuid import uuid4

import httpx
import psycopg
import pytest

from adapters.kurrentdb.mirror_state import LATE
from adapters.kurrentdb.wire import PREFIX
from tests.flow import test_buying
from tests.support.processes.instance import VISA, Instance, Person, eventually, running
from tests.support.servers import shared
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.mirrored import mirrored

test_a_purchase = test_buying.test_a_bought_game_is_in_the_library_and_the_buyer_is_notified
test_its_events = test_buying.test_one_purchase_leaves_this_chain_of_events_with_one_correlation
test_a_declined_card = (
    test_buying.test_a_declined_card_cancels_the_order_and_the_game_can_be_ordered_again
)
test_a_refund = test_buying.test_a_full_refund_takes_the_game_back
test_twenty_orders = test_buying.test_of_twenty_orders_of_one_game_at_once_one_is_paid
test_twenty_repeats = test_buying.test_twenty_repeats_of_one_request_make_one_order


@pytest.fixture(scope="module")
def kurrent() -> Iterator[KurrentDouble]:
    with mirrored() as double:
        yield double


@pytest.fixture(scope="module")
def shop(
    kurrent: KurrentDouble,
    postgres_url: str,
    postgres_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, {}) as instance:
        yield instance
    shared.drop_database(database)


def ready(shop: Instance) -> httpx.Response:
    return shop.http().get("/health/ready")


def state_of(shop: Instance, dependency: str) -> object:
    return ready(shop).json()["dependencies"][dependency]["status"]


def buy_surely(ann: Person, game: str) -> str:
    """Repeat an order under its key until it is taken. Returns its id."""
    key = str(uuid4())
    answer = eventually(
        lambda: ann.buy(game, VISA, **{"Idempotency-Key": key}),
        lambda answer: answer.status_code < 500 and answer.status_code != 409,
    )
    assert answer.status_code in {201, 202}, answer.text
    order_id = str(answer.json()["order_id"])
    eventually(lambda: ann.completed(order_id))
    return order_id


def test_a_decision_is_in_kurrentdb_and_in_its_mirror(
    shop: Instance, kurrent: KurrentDouble
) -> None:
    order_id = buy_surely(shop.register(), shop.game())
    there = [each for each in kurrent.store.log if each.stream == f"{PREFIX}{order_id}"]
    here = shop.events(stream=order_id)
    assert [each.id for each in there] == [event["event_id"] for event in here]
    assert shop.cli("audit", "verify").startswith("intact")


def test_a_killed_mirror_is_replaced_and_an_order_that_waited_for_it_is_made_once(
    shop: Instance, kurrent: KurrentDouble
) -> None:
    game, ann = shop.game(), shop.register()
    before = shop.count("order.created.v1")
    shop.kill("mirror")
    key = {"Idempotency-Key": str(uuid4())}
    assert ann.buy(game, VISA, **key).status_code == 503  # KurrentDB has it
    assert shop.count("order.created.v1") == before
    shop.start("mirror")
    answer = eventually(
        lambda: ann.buy(game, VISA, **key), lambda answer: answer.status_code in {200, 201, 202}
    )
    eventually(lambda: ann.completed(str(answer.json()["order_id"])))
    assert shop.count("order.created.v1") == before + 1


def test_another_mirror_takes_over_from_one_that_hangs(shop: Instance) -> None:
    game, ann, bob = shop.game(), shop.register(), shop.register()
    hung = shop.running["mirror"]
    shop.start("mirror")
    hung.send_signal(signal.SIGSTOP)
    try:
        buy_surely(ann, game)
        hung.send_signal(signal.SIGCONT)
        buy_surely(bob, game)
    finally:
        hung.kill()
        hung.wait()
    assert shop.cli("audit", "verify").startswith("intact")


def test_without_kurrentdb_the_shop_reads_and_says_what_is_down(
    shop: Instance, kurrent: KurrentDouble
) -> None:
    game, ann = shop.game(), shop.register()
    assert ready(shop).status_code == 200
    assert (state_of(shop, "kurrentdb"), state_of(shop, "mirror")) == ("ok", "ok")
    (lag,) = re.findall(
        r"^ludoteca_mirror_lag_seconds (\S+)$", shop.http().get("/metrics").text, re.M
    )
    assert 0 <= float(lag) < LATE.total_seconds()
    kurrent.stop()
    try:
        assert ann.http.get(f"/api/v1/games/{game}").status_code == 200
        assert ann.buy(game).status_code == 503
        answer = ready(shop)
        assert answer.status_code == 503
        down = {
            name
            for name, found in answer.json()["dependencies"].items()
            if found["status"] == "down"
        }
        assert down == {"kurrentdb", "writer"}  # the mirror has what there was
    finally:
        kurrent.start()
    buy_surely(ann, game)
    eventually(lambda: ready(shop).status_code == 200)


def test_all_of_it_copied_again_is_the_same(
    shop: Instance, kurrent: KurrentDouble, postgres_url: str, postgres_template: str
) -> None:
    """Last: the log of all tests above."""
    other = shared.create_database(postgres_url, template=postgres_template)
    try:
        assert "copied and verified" in shop.cli(
            "log", "copy", "--from", kurrent.url, "--to", other
        )
        with psycopg.connect(other) as conn:
            copied = conn.execute("SELECT position, hash FROM log.events ORDER BY 1").fetchall()
        with psycopg.connect(shop.environment["LUDOTECA_DATABASE_URL"]) as conn:
            assert (
                conn.execute(
                    "SELECT position, hash FROM log.events WHERE position <= %s ORDER BY 1",
                    [copied[-1][0]],
                ).fetchall()
                == copied
            )
    finally:
        shared.drop_database(other)
