"""Nothing stays open for ever: orders and carts whose time runs out, here after two seconds."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.processes.instance import SECURE, VISA, Instance, Person, eventually, running
from tests.support.servers import shared
from tests.support.shops.live import another_api, close_code, hear, listening

CANCELLED, REFUNDED = "order.cancelled.v1", "payment.refunded.v1"
ASYNC = {"Prefer": "respond-async"}
CART_ENDS, ORDER_ENDS = ("cart.status", "EXPIRED"), ("order.status", "CANCELLED")


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    settings = {"LUDOTECA_PAYMENT_TTL_SECONDS": "2", "LUDOTECA_CART_TTL_SECONDS": "2"}
    with running(tmp_path_factory.mktemp("home"), database, settings) as instance:
        yield instance
    shared.drop_database(database)


@pytest.fixture
def without_worker(shop: Instance) -> Iterator[Instance]:
    """The worker runs when the test begins, and is started again after it if necessary."""
    yield shop
    if "worker" not in shop.running:
        shop.start("worker")


def test_an_order_left_in_three_d_secure_is_cancelled_within_a_second_of_its_deadline(
    shop: Instance,
) -> None:
    ann = shop.register()
    order = left_open(shop, ann)
    cancelled(ann, order)
    assert timedelta(0) <= lateness(shop, order) < timedelta(seconds=1)
    eventually(
        lambda: intents(shop, order), lambda found: [i["status"] for i in found] == ["canceled"]
    )
    assert "payment_failed" not in ann.notices()


def test_an_order_without_a_method_is_cancelled_within_a_second_of_its_deadline(
    shop: Instance,
) -> None:
    ann = shop.register()
    order = left_open(shop, ann, None)
    cancelled(ann, order)
    assert timedelta(0) <= lateness(shop, order) < timedelta(seconds=1)
    eventually(
        lambda: intents(shop, order), lambda found: [i["status"] for i in found] == ["canceled"]
    )


def test_after_the_deadline_the_game_can_be_ordered_again(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, None).json()
    cancelled(ann, order)
    assert ann.buy(game, None, **ASYNC).status_code == 202


def test_approving_after_the_deadline_changes_nothing(shop: Instance) -> None:
    ann = shop.register()
    order = left_open(shop, ann)
    cancelled(ann, order)
    eventually(
        lambda: intents(shop, order), lambda found: [i["status"] for i in found] == ["canceled"]
    )
    answer = httpx.post(order["redirect_url"], data={"decision": "approve"})
    assert (answer.status_code, "cancel" in answer.text.lower()) == (409, True)
    assert [i["status"] for i in intents(shop, order)] == ["canceled"]
    assert ann.titles() == []


def test_a_worker_that_was_away_at_the_deadline_cancels_when_it_comes_back(
    without_worker: Instance,
) -> None:
    shop = without_worker
    ann, game, other = shop.register(), shop.game(), shop.game()
    shop.kill("worker")
    order, another = (ann.buy(each, VISA, **ASYNC).json() for each in (game, other))
    overdue(shop, order, another)
    assert ann.order(order["order_id"])["status"] == "PENDING_PAYMENT"

    body = {"order_id": order["order_id"], "payment_method": {"type": "card", "token": VISA}}
    assert ann.http.post("/api/v1/payments", json=body).status_code == 409
    again = ann.buy(game, None, **ASYNC)  # the overdue order no longer reserves anything
    assert again.status_code == 202, again.text
    cancelled(ann, order)

    shop.start("worker")
    cancelled(ann, another)
    assert intents(shop, order) == intents(shop, another) == []
    assert ann.titles() == []


def test_money_that_comes_after_the_deadline_while_the_worker_is_away_goes_back(
    without_worker: Instance,
) -> None:
    shop = without_worker
    ann = shop.register()
    order = left_open(shop, ann)
    shop.kill("worker")
    overdue(shop, order)
    assert httpx.post(order["redirect_url"], data={"decision": "approve"}).status_code == 200
    eventually(
        lambda: (
            ann.http.get(f"/api/v1/payments/{order['payment_id']}").json()["status"] == "CAPTURED"
        )
    )

    shop.start("worker")
    cancelled(ann, order)
    eventually(
        lambda: [e["name"] for e in shop.events(stream=order["payment_id"])],
        lambda names: REFUNDED in names,
    )
    assert [(i["status"], i["amount_refunded"]) for i in intents(shop, order)] == [
        ("succeeded", order["amount_cents"])
    ]
    assert ann.titles() == []


# -- carts -----------------------------------------------------------------------------------------


def test_a_cart_ends_within_a_second_of_its_deadline_and_what_it_held_is_free(
    shop: Instance,
) -> None:
    ann, game = shop.register(), shop.stocked(3)
    cart = put_in(ann, game, 2)
    (ended,) = eventually(lambda: endings(shop, cart))
    late = datetime.fromisoformat(ended["recorded_at"]) - datetime.fromisoformat(cart["expires_at"])
    assert timedelta(0) <= late < timedelta(seconds=1)
    assert eventually(lambda: shop.stock(game), lambda stock: stock[1] == 3) == (3, 3, 0, 0)


def test_carts_whose_time_ended_while_the_worker_was_away_end_when_it_comes_back(
    without_worker: Instance,
) -> None:
    shop = without_worker
    ann, bob, game = shop.register(), shop.register(), shop.stocked(3)
    shop.kill("worker")
    carts = [put_in(ann, game, 2), put_in(bob, game, 1)]
    eventually(lambda: datetime.now(UTC) > datetime.fromisoformat(carts[-1]["expires_at"]))
    assert [endings(shop, cart) for cart in carts] == [[], []]
    shop.start("worker")
    for cart in carts:
        assert len(eventually(partial(endings, shop, cart))) == 1
    assert eventually(lambda: shop.stock(game), lambda stock: stock[1] == 3) == (3, 3, 0, 0)


def endings(shop: Instance, cart: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        event for event in shop.events(stream=cart["id"]) if event["name"] == "cart.abandoned.v1"
    ]


def put_in(buyer: Person, game: str, quantity: int) -> dict[str, Any]:
    """The buyer's cart with this many units in it."""
    answer = buyer.http.post("/api/v1/cart/items", json={"product_id": game, "quantity": quantity})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_buyer_hears_of_it_from_any_process_and_of_what_they_missed_from_another(
    shop: Instance,
) -> None:
    ann, game = shop.register(), shop.stocked(1)
    with another_api(shop) as another, listening(another, ann) as ws:
        put_in(ann, game, 1)
        first = hear(ws, ("cart.status", "ACTIVE"))
        another.stop()
        assert close_code(ws) == 1012
    order = ann.buy(shop.game(), None, **ASYNC).json()
    with listening(shop, ann, after_position=first[-1]["position"]) as ws:
        then = hear(ws, CART_ENDS, ORDER_ENDS)
    with listening(shop, ann, after_position=0) as ws:
        assert hear(ws, CART_ENDS, ORDER_ENDS) == first + then

    (ended,) = (each for each in then if (each["type"], each["status"]) == ORDER_ENDS)
    assert (ended["order_id"], ended["reason"]) == (order["order_id"], "expired")


# -- helpers ---------------------------------------------------------------------------------------


def left_open(shop: Instance, buyer: Person, token: str | None = SECURE) -> dict[str, Any]:
    """An order for which the provider already has an intent. A busy machine may need more than one
    attempt: within 2 s."""
    wanted = "redirect_url" if token else "client_secret"
    order: dict[str, Any] = eventually(
        lambda: buyer.buy(shop.game(), token).json(), lambda made: made.get(wanted)
    )
    return order


def cancelled(buyer: Person, order: dict[str, Any]) -> None:
    eventually(
        lambda: buyer.order(order["order_id"])["status"], lambda status: status == "CANCELLED"
    )


def overdue(shop: Instance, *orders: dict[str, Any]) -> None:
    """Wait until the deadline of each is over."""
    deadlines = [deadline(shop, order) for order in orders]
    eventually(lambda: datetime.now(UTC) > max(deadlines))


def deadline(shop: Instance, order: dict[str, Any]) -> datetime:
    created = shop.events(stream=order["order_id"])[0]
    return datetime.fromisoformat(created["payload"]["expires_at"])


def lateness(shop: Instance, order: dict[str, Any]) -> timedelta:
    """How long after its deadline the cancellation was recorded."""
    at = next(
        e["recorded_at"] for e in shop.events(stream=order["order_id"]) if e["name"] == CANCELLED
    )
    return datetime.fromisoformat(at) - deadline(shop, order)


def intents(shop: Instance, order: dict[str, Any]) -> list[dict[str, Any]]:
    """The provider's intents for the order's payment."""
    address = f"http://127.0.0.1:{shop.environment['LUDOTECA_PROVIDER_PORT']}/v1/payment_intents"
    return list(
        httpx.get(address, params={"payment_id": order["payment_id"]}, timeout=30).json()["data"]
    )
