"""Buying a game end to end, through real processes: on PostgreSQL alone, and with RabbitMQ and
Elasticsearch."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.message import Message
from email.utils import parseaddr
from pathlib import Path

import httpx

from tests.support.processes.instance import (
    DECLINED,
    DOWN,
    LOST,
    SECURE,
    SLOW,
    VISA,
    Instance,
    Person,
    eventually,
)

REFUNDED = "payment.refunded.v1"
CHAIN = [
    "order.created.v1",
    "payment.requested.v1",
    "payment.submitted.v1",
    "payment.transaction.completed.v1",
    "order.confirmed.v1",
    "order.completed.v1",
    "library.game.added.v1",
]


def test_a_bought_game_is_in_the_library_and_the_buyer_is_notified(shop: Instance) -> None:
    ann, game = shop.register(), shop.game(title="Hollow Knight")
    answer = ann.buy(game, VISA)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "COMPLETED"
    order_id = answer.json()["order_id"]
    assert eventually(ann.titles) == ["Hollow Knight"]
    assert eventually(ann.notices, lambda told: "purchase" in told and "welcome" in told)
    mails = eventually(lambda: mails_to(shop, ann), lambda found: len(found) == 2)
    (bought,) = [mail for mail in mails if order_id in mail.as_string()]
    assert "Hollow Knight" not in str(bought), (
        "a seller's words go to no address that nobody has shown to be theirs"
    )


def test_one_purchase_leaves_this_chain_of_events_with_one_correlation(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game).json()
    eventually(ann.titles)
    by_stream = [
        e
        for e in shop.events()
        if order["order_id"] in json.dumps(e) or order["payment_id"] in json.dumps(e)
    ]
    assert [e["name"] for e in by_stream if e["name"] in CHAIN] == CHAIN
    assert len({e["correlation_id"] for e in by_stream if e["name"] in CHAIN}) == 1


def test_search_finds_a_new_game_by_a_misspelt_word_and_says_which_engine_did(
    shop: Instance,
) -> None:
    shop.game(title="Disco Elysium")
    engine = "elasticsearch" if "LUDOTECA_ELASTICSEARCH_URL" in shop.environment else "postgres"
    found = eventually(
        lambda: shop.http().get("/api/v1/games/search", params={"q": "disko elysum"}).json(),
        # until the index has the game, or while its server is slow, PostgreSQL answers
        lambda f: f["items"] and f["engine"] == engine,
    )
    assert found["items"][0]["title"] == "Disco Elysium"


def test_a_declined_card_cancels_the_order_and_the_game_can_be_ordered_again(
    shop: Instance,
) -> None:
    ann, game = shop.register(), shop.game()
    declined = ann.buy(game, DECLINED)
    assert declined.status_code == 402
    problem = declined.json()
    assert problem["code"] == "payment_failed"
    assert problem["decline_code"] == "card_declined"
    assert eventually(lambda: ann.order(problem["order_id"])["status"], lambda s: s == "CANCELLED")
    assert eventually(ann.notices, lambda told: "payment_failed" in told)
    assert ann.buy(game, VISA).json()["status"] == "COMPLETED"


def test_three_d_secure_waits_for_the_buyer_who_approves(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, SECURE).json()
    assert order["status"] == "PENDING_PAYMENT"
    page = httpx.get(order["redirect_url"])
    assert page.status_code == 200
    httpx.post(order["redirect_url"], data={"decision": "approve"})
    assert eventually(lambda: ann.order(order["order_id"])["status"], lambda s: s == "COMPLETED")
    assert eventually(ann.titles)


def test_an_answer_that_never_comes_is_found_out_and_charged_once(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, LOST).json()
    assert eventually(lambda: ann.order(order["order_id"])["status"], lambda s: s == "COMPLETED")
    captures = [
        e
        for e in shop.events(stream=order["payment_id"])
        if e["name"] == "payment.transaction.completed.v1"
    ]
    assert len(captures) == 1


def test_a_slow_payment_is_settled_by_the_webhook(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    answer = ann.buy(game, SLOW, Prefer="respond-async")
    assert answer.status_code == 202
    order_id = answer.json()["order_id"]
    assert eventually(lambda: ann.order(order_id)["status"], lambda s: s == "COMPLETED")


def test_a_provider_that_is_down_ends_in_a_dead_letter_and_a_failed_payment(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, DOWN, Prefer="respond-async").json()
    assert eventually(lambda: ann.order(order["order_id"])["status"], lambda s: s == "CANCELLED")
    dead = eventually(
        lambda: json.loads(shop.cli("dlq", "list", "--json")),
        lambda d: order["payment_id"] in json.dumps(d),
    )
    job = next(d for d in dead if order["payment_id"] in json.dumps(d))
    submitted = [
        e for e in shop.events(stream=order["payment_id"]) if e["name"] == "payment.submitted.v1"
    ]
    assert len(submitted) == 3  # one attempt, and one after each pause
    job_id = job.get("id") or job["job"]["id"]
    shop.cli("dlq", "redrive", job_id)
    assert (
        eventually(lambda: shop.cli("dlq", "list", "--json"), lambda d: job_id not in d) is not None
    )
    assert ann.order(order["order_id"])["status"] == "CANCELLED"
    assert ann.buy(game, VISA).json()["status"] == "COMPLETED"


def test_a_free_game_needs_no_provider(shop: Instance) -> None:
    ann, game = shop.register(), shop.game(cents=0)
    assert ann.buy(game, None).json()["status"] == "COMPLETED"
    assert eventually(ann.titles)


def test_a_method_can_be_attached_later(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, None).json()
    assert order["client_secret"]
    body = {"order_id": order["order_id"], "payment_method": {"type": "card", "token": VISA}}
    paid = ann.http.post("/api/v1/payments", json=body)
    assert paid.status_code == 201, paid.text
    assert eventually(lambda: ann.order(order["order_id"])["status"], lambda s: s == "COMPLETED")
    again = ann.http.post("/api/v1/payments", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "order_paid")


def test_of_twenty_orders_of_one_game_at_once_one_is_paid(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ann.buy(game), range(20)))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 19
    assert {a.json()["code"] for a in answers if a.status_code == 409} <= {
        "already_owned",
        "order_pending",
    }
    eventually(ann.titles)
    mine = [
        e
        for e in shop.events(name="payment.transaction.completed.v1")
        if e["payload"]["buyer_id"] == ann.id
    ]
    assert len(mine) == 1


def test_twenty_repeats_of_one_request_make_one_order(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: ann.buy(game, VISA, **{"Idempotency-Key": "the same"}), range(20))
        )
    made = {a.json()["order_id"] for a in answers if a.status_code == 201}
    assert len(made) == 1
    assert {a.json()["code"] for a in answers if a.status_code != 201} <= {
        "idempotency_in_progress"
    }
    assert len(ann.http.get("/api/v1/orders").json()["items"]) == 1


def test_an_unpaid_order_is_cancelled_by_its_buyer_and_its_intent_with_it(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, SECURE).json()
    assert ann.http.post(f"/api/v1/orders/{order['order_id']}/cancel").status_code in {200, 204}
    assert ann.order(order["order_id"])["status"] == "CANCELLED" or eventually(
        lambda: ann.order(order["order_id"])["status"], lambda s: s == "CANCELLED"
    )
    page = order["redirect_url"]
    eventually(
        lambda: httpx.get(page).text, lambda found: re.search("cancel", found, re.IGNORECASE)
    )
    assert re.search("cancel", httpx.post(page, data={"decision": "approve"}).text, re.IGNORECASE)
    assert ann.titles() == []


def test_money_that_comes_too_late_goes_back(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, SLOW, Prefer="respond-async").json()
    eventually(
        lambda: ann.http.get(f"/api/v1/payments/{order['payment_id']}").json(),
        lambda p: p["status"] == "PROCESSING",
    )
    ann.http.post(f"/api/v1/orders/{order['order_id']}/cancel")
    names = eventually(
        lambda: [e["name"] for e in shop.events(stream=order["payment_id"])],
        lambda found: "payment.refunded.v1" in found,
    )
    assert names.count("payment.transaction.completed.v1") == 1
    assert ann.order(order["order_id"])["status"] == "CANCELLED"
    assert ann.titles() == []


def test_a_full_refund_takes_the_game_back(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    order_id = ann.buy(game).json()["order_id"]
    eventually(ann.titles)
    answer = shop.admin().post(f"/api/v1/orders/{order_id}/refund", json={"reason": "did not run"})
    assert answer.status_code in {200, 201, 202}, answer.text
    assert eventually(lambda: ann.order(order_id)["status"], lambda s: s == "REFUNDED")
    assert eventually(ann.titles, lambda titles: titles == []) == []
    assert ann.buy(game).json()["status"] == "COMPLETED"


def test_both_text_logs_follow_a_payment(shop: Instance) -> None:
    ann, game = shop.register(), shop.game()
    payment_id = ann.buy(game).json()["payment_id"]
    for name in ("payment-worker.txt", "payment-webhook.txt"):
        eventually_says(shop.home / "logs" / name, payment_id)


def eventually_says(path: Path, words: str) -> None:
    eventually(lambda: path.exists() and words in path.read_text())


def test_all_read_models_equal_their_replay(shop: Instance) -> None:
    eventually(
        lambda: json.loads(shop.cli("projections", "list", "--json")),
        lambda rows: all(r["lag"] == 0 for r in rows),
    )
    assert all(row["equal"] for row in shop.verify())
    assert "intact" in shop.cli("audit", "verify")


def mails_to(shop: Instance, person: Person) -> list[Message]:
    found = [message_from_bytes(path.read_bytes()) for path in (shop.home / "mail").glob("*.eml")]
    return [mail for mail in found if parseaddr(str(mail["To"]))[1] == person.email]
