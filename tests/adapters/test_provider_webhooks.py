"""The simulated provider's webhooks, and what it still knows after a restart."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.payments.simulator.store import ProviderStore
from adapters.webhooks.signature import SignatureVerifier
from tests.support.servers.provider import (
    PATIENCE,
    SECRET,
    Received,
    Receiver,
    running_provider,
    running_receiver,
)
from tests.support.servers.shared import free_port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "provider.sqlite"


def post(url: str, body: dict[str, Any] | None = None, **options: Any) -> Any:
    response = httpx.post(url, json=body, timeout=PATIENCE, trust_env=False, **options)
    assert response.status_code == 200, response.text
    return response.json()


def create(provider: str, method: str | None = None, key: str = "", amount: int = 5990) -> Any:
    body = {"amount": amount, "currency": "BRL", "metadata": {"payment_id": "p-1"}}
    headers = {"Idempotency-Key": key} if key else {}
    return post(
        f"{provider}/v1/payment_intents",
        body | ({"payment_method": method} if method else {}),
        headers=headers,
    )


def get(provider: str, ref: str) -> Any:
    return httpx.get(f"{provider}/v1/payment_intents/{ref}", trust_env=False).json()


def until_healthy(provider: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert httpx.get(f"{provider}/health", trust_env=False).status_code == 200
            return
        except httpx.ConnectError:
            assert time.monotonic() < deadline, "the provider did not start"


def until_all_delivered(provider: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while httpx.get(f"{provider}/health", trust_env=False).json()["pending_webhooks"]:
        assert time.monotonic() < deadline, "webhooks are still pending"


def test_a_capture_is_posted_signed_and_in_stripes_shape(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        intent = create(provider, "pm_card_visa")
        webhook = receiver.wait_for_one("payment_intent.succeeded")
    SignatureVerifier([SECRET]).check(webhook.body, webhook.signature, datetime.now(UTC))
    assert webhook.event["id"].startswith("evt_")
    assert abs(webhook.event["created"] - time.time()) < 60
    assert webhook.intent == intent


def test_every_change_is_posted(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        intents = f"{provider}/v1/payment_intents"
        paid = create(provider)["id"]
        post(f"{intents}/{paid}/confirm", {"payment_method": "pm_card_chargeDeclined"})
        failed = receiver.wait_for_one("payment_intent.payment_failed")
        assert failed.intent["last_payment_error"]["code"] == "card_declined"

        action = post(
            f"{intents}/{paid}/confirm", {"payment_method": "pm_card_authenticationRequired"}
        )
        assert (
            receiver.wait_for_one("payment_intent.requires_action").intent["next_action"]
            == action["next_action"]
        )

        httpx.post(f"{provider}/3ds/{paid}", data={"decision": "approve"}, trust_env=False)
        assert receiver.wait_for_one("payment_intent.succeeded").intent["id"] == paid

        post(f"{provider}/v1/refunds", {"payment_intent": paid, "amount": 90})
        assert receiver.wait_for_one("charge.refunded").intent["amount_refunded"] == 90
        assert receiver.wait_for_one("refund.created").intent["status"] == "succeeded"

        canceled = create(provider)["id"]
        post(f"{intents}/{canceled}/cancel")
        assert receiver.wait_for_one("payment_intent.canceled").intent["id"] == canceled
        until_all_delivered(provider)
    assert len(receiver.received) == 6


@pytest.mark.parametrize(
    ("method", "told", "kept"),
    [
        ("pm_card_pendingRefund", ["charge.refunded", "refund.created", "refund.updated"], 90),
        (
            "pm_card_refundFail",
            ["charge.refunded", "refund.created", "refund.failed", "refund.updated"],
            0,
        ),
    ],
)
def test_a_slow_refund_comes_to_its_end_over_a_restart(
    store: Path, receiver: Receiver, method: str, told: list[str], kept: int
) -> None:
    with running_provider(store, receiver.url, slow_seconds=0.3) as provider:
        paid = create(provider, method)["id"]
        refund = post(
            f"{provider}/v1/refunds",
            {"payment_intent": paid, "amount": 90, "metadata": {"refund_id": "r"}},
        )
        assert (refund["status"], refund["metadata"]) == ("pending", {"refund_id": "r"})
    with running_provider(store, receiver.url) as provider:
        ended = receiver.wait_for_one("refund.updated").intent
        assert ended == httpx.get(f"{provider}/v1/refunds/{refund['id']}", trust_env=False).json()
        assert ended["status"] == ("succeeded" if kept else "failed")
        assert get(provider, paid)["amount_refunded"] == kept
        until_all_delivered(provider)
    assert (
        sorted({webhook.type for webhook in receiver.received} - {"payment_intent.succeeded"})
        == told
    )


def test_a_decline_on_the_page_is_posted(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        ref = create(provider, "pm_card_authenticationRequired")["id"]
        httpx.post(f"{provider}/3ds/{ref}", data={"decision": "decline"}, trust_env=False)
        error = receiver.wait_for_one("payment_intent.payment_failed").intent["last_payment_error"]
    assert error["code"] == "payment_intent_authentication_failure"


def test_a_repeat_under_the_same_key_is_told_once(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        for _ in range(3):
            create(provider, "pm_card_visa", key="k")
        until_all_delivered(provider)
    assert len(receiver.received) == 1


def test_a_webhook_is_sent_again_until_the_receiver_accepts_it(
    store: Path, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302, 404, 503]
    with running_provider(store, receiver.url) as provider:
        create(provider, "pm_card_visa")
        until_all_delivered(provider)
    assert len(receiver.received) == 5
    assert len({webhook.body for webhook in receiver.received}) == 1


def test_the_pause_doubles_with_each_failure(
    store: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500, 500, 500]
    with running_provider(store, receiver.url, webhook_retry_seconds=0.1) as provider:
        create(provider, "pm_card_visa")
        until_all_delivered(provider)
    pauses = [message.split("again in ")[1] for message in caplog.messages if "again in" in message]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s"]


def test_a_webhook_nobody_ever_accepts_is_given_up_but_kept(
    store: Path, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 1000
    with running_provider(store, receiver.url, webhook_give_up_seconds=0.1) as provider:
        create(provider, "pm_card_visa")
        until_all_delivered(provider)
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("select attempts, due_at from webhooks").fetchall() == [
            (len(receiver.received), None)
        ]


def test_a_receiver_that_does_not_answer_does_not_hold_up_the_others(
    store: Path, receiver: Receiver
) -> None:
    answer_now = threading.Event()
    take = receiver.take

    def take_slowly_if_told(received: Received) -> int:
        if received.intent["amount"] == 1:
            answer_now.wait(PATIENCE)
        return take(received)

    receiver.take = take_slowly_if_told  # type: ignore[method-assign]
    with running_provider(store, receiver.url) as provider:
        create(provider, "pm_card_visa", amount=1)
        create(provider, "pm_card_visa", amount=2)
        receiver.wait_for(1, lambda webhook: webhook.intent["amount"] == 2)
        answer_now.set()
        until_all_delivered(provider)
    assert [webhook.intent["amount"] for webhook in receiver.received] == [2, 1]


def test_many_intents_at_once_are_each_told_once(store: Path, receiver: Receiver) -> None:
    with (
        running_provider(store, receiver.url, webhook_concurrency=4) as provider,
        httpx.Client(base_url=provider, timeout=PATIENCE, trust_env=False) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        body = {"amount": 100, "currency": "BRL", "payment_method": "pm_card_visa"}
        answers = list(
            pool.map(lambda _: client.post("/v1/payment_intents", json=body).json(), range(200))
        )
        until_all_delivered(provider)
    assert sorted(webhook.intent["id"] for webhook in receiver.received) == sorted(
        a["id"] for a in answers
    )


def test_a_slow_card_is_processing_first_and_captured_later(
    store: Path, receiver: Receiver
) -> None:
    with running_provider(store, receiver.url, slow_seconds=0.2) as provider:
        intent = create(provider, "pm_card_slow")
        assert intent["status"] == "processing"
        assert get(provider, intent["id"])["status"] == "processing"
        receiver.wait_for_one("payment_intent.succeeded")
        assert get(provider, intent["id"])["status"] == "succeeded"
    assert len(receiver.received) == 1


def test_a_card_that_times_out_is_captured_and_told_and_no_repeat_is_answered_either(
    store: Path, receiver: Receiver
) -> None:
    with running_provider(store, receiver.url) as provider:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{provider}/v1/payment_intents",
                    json={"amount": 5, "currency": "BRL", "payment_method": "pm_card_timeout"},
                    headers={"Idempotency-Key": "late"},
                    timeout=0.2,
                    trust_env=False,
                )
        webhook = receiver.wait_for_one("payment_intent.succeeded")
        assert get(provider, webhook.intent["id"])["status"] == "succeeded"
        until_all_delivered(provider)
    assert len(receiver.received) == 1


# -- restarts --------------------------------------------------------------------------------------


def test_intents_and_answers_outlive_a_restart(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        before = create(provider, "pm_card_visa", key="k")
    with running_provider(store, receiver.url) as provider:
        assert get(provider, before["id"]) == before
        assert create(provider, "pm_card_visa", key="k") == before
        until_all_delivered(provider)
    assert len(receiver.received) == 1


def test_webhooks_that_found_no_receiver_are_sent_after_a_restart_at_once(store: Path) -> None:
    port = free_port()
    with running_provider(
        store, f"http://127.0.0.1:{port}/webhook", webhook_retry_seconds=600
    ) as provider:
        ref = create(provider, "pm_card_visa")["id"]
    with running_receiver(port) as receiver, running_provider(store, receiver.url) as provider:
        assert receiver.wait_for_one("payment_intent.succeeded").intent["id"] == ref
        until_all_delivered(provider)


def test_a_webhook_under_way_at_the_stop_is_sent_again(store: Path, receiver: Receiver) -> None:
    take, stopped = receiver.take, threading.Event()

    def take_and_hang(received: Received) -> int:
        status = take(received)
        stopped.wait(PATIENCE)
        return status

    receiver.take = take_and_hang  # type: ignore[method-assign]
    with running_provider(store, receiver.url) as provider:
        create(provider, "pm_card_visa")
        receiver.wait_for(1)
    stopped.set()
    with running_provider(store, receiver.url) as provider:
        receiver.wait_for(2)
        until_all_delivered(provider)
    first, second = receiver.received
    assert first.body == second.body


def test_a_slow_payment_that_fell_due_meanwhile_is_settled_after_a_restart(
    store: Path, receiver: Receiver
) -> None:
    with running_provider(store, receiver.url, slow_seconds=3600) as provider:
        ref = create(provider, "pm_card_slow")["id"]
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("update intents set settles_at = settles_at - 3600")
    with running_provider(store, receiver.url) as provider:
        assert receiver.wait_for_one("payment_intent.succeeded").intent["id"] == ref
        assert get(provider, ref)["status"] == "succeeded"


def test_a_payer_may_come_back_to_the_page_after_a_restart(store: Path, receiver: Receiver) -> None:
    with running_provider(store, receiver.url) as provider:
        ref = create(provider, "pm_card_authenticationRequired")["id"]
    with running_provider(store, receiver.url) as provider:
        httpx.post(f"{provider}/3ds/{ref}", data={"decision": "approve"}, trust_env=False)
        assert receiver.wait_for_one("payment_intent.succeeded").intent["id"] == ref


def test_two_processes_cannot_share_a_store(store: Path, receiver: Receiver) -> None:
    with (
        running_provider(store, receiver.url),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        ProviderStore(store, lock_timeout_seconds=0.01)


def test_what_was_answered_is_known_after_a_kill(store: Path, receiver: Receiver) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = (
        "import pathlib, uvicorn; from adapters.payments.simulator import create_app; app ="
        f" create_app(pathlib.Path({str(store)!r}), 'http://127.0.0.1:{free_port()}/', {SECRET!r},"
        f" {url!r}); uvicorn.run(app, port={port}, log_level='error')"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    try:
        until_healthy(url)
        answered = [create(url, "pm_card_visa", key=f"k{number}") for number in range(5)]
    finally:
        process.kill()
        process.wait()
    with running_provider(store, receiver.url) as provider:
        assert [get(provider, intent["id"]) for intent in answered] == answered
        assert [
            create(provider, "pm_card_visa", key=f"k{number}") for number in range(5)
        ] == answered
        until_all_delivered(provider)
    assert sorted(webhook.intent["id"] for webhook in receiver.received) == sorted(
        intent["id"] for intent in answered
    )


def test_the_file_of_an_older_release_is_taken_over_with_its_notices(store: Path) -> None:
    store.parent.mkdir()
    with closing(sqlite3.connect(store)) as older, older:
        older.execute(
            "create table webhooks (id text primary key, body blob not null,"
            " attempts integer not null default 0, created_at real not null, due_at real)"
        )
        older.execute("insert into webhooks values ('evt_1', '{}', 2, 5.0, 7.0)")
    for _ in range(2):
        with closing(ProviderStore(store)) as taken:
            (webhook,) = taken.lease_webhooks(now=8.0, until=7.0, limit=5)
            assert (webhook.id, webhook.traceparent) == ("evt_1", None)
