"""The client of the simulated provider, against the real server and against servers that
misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.payments.simulated import SimulatedProvider
from adapters.webhooks.signature import sign
from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)
from commands.ports.signatures import InvalidSignature
from tests.support.servers.provider import (
    SECRET,
    Receiver,
    http,
    running_provider,
    running_receiver,
    server_that_answers,
)
from tests.support.servers.shared import free_port

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PAYMENT = UUID("0197f0a0-0000-7000-8000-000000000001")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[str]:
    store: Path = tmp_path_factory.mktemp("provider") / "provider.sqlite"
    with running_provider(store, receiver.url, slow_seconds=0.2) as url:
        yield url


@pytest.fixture
async def provider(server: str) -> AsyncIterator[PaymentProvider]:
    client = SimulatedProvider(server, [SECRET])
    yield client
    await client.aclose()


async def create(
    provider: PaymentProvider, method: str | None = None, payment_id: UUID | None = None
) -> Intent:
    payment_id = payment_id or uuid4()
    return await provider.create(
        payment_id, 5990, "BRL", method=method, idempotency_key=str(payment_id)
    )


async def test_an_intent_without_a_method_awaits_one(provider: PaymentProvider) -> None:
    payment_id = uuid4()
    intent = await create(provider, payment_id=payment_id)
    assert intent.ref.startswith("pi_")
    assert intent.client_secret.startswith(intent.ref)
    expected = Intent(
        intent.ref, "requires_payment_method", 5990, "BRL", payment_id, intent.client_secret
    )
    assert intent == expected
    assert await provider.get(intent.ref) == expected
    assert await provider.find(payment_id) == expected


async def test_a_good_card_succeeds_at_once_or_later(provider: PaymentProvider) -> None:
    assert (await create(provider, "pm_card_visa")).status == "succeeded"
    waiting = await create(provider)
    assert (
        await provider.confirm(waiting.ref, method="pm_card_visa", idempotency_key="c1")
    ).status == "succeeded"


async def test_a_decline_is_a_failed_intent_and_another_card_may_be_tried(
    provider: PaymentProvider,
) -> None:
    declined = await create(provider, "pm_card_chargeDeclined")
    assert (declined.status, declined.code, declined.detail) == (
        "failed",
        "card_declined",
        "The card was declined.",
    )
    assert await provider.get(declined.ref) == declined
    assert (
        await provider.confirm(declined.ref, method="pm_card_visa", idempotency_key="c2")
    ).status == "succeeded"


async def test_authentication_is_asked_for_with_a_page_to_go_to(
    provider: PaymentProvider, server: str
) -> None:
    intent = await create(provider, "pm_card_authenticationRequired")
    assert (intent.status, intent.redirect_url) == ("requires_action", f"{server}/3ds/{intent.ref}")


async def test_a_time_out_leaves_the_outcome_unknown_until_it_is_found(
    server: str, receiver: Receiver
) -> None:
    provider, payment_id = SimulatedProvider(server, [SECRET], timeout_seconds=0.2), uuid4()
    with pytest.raises(ProviderUnavailable):
        await create(provider, "pm_card_timeout", payment_id)
    found = await provider.find(payment_id)
    await provider.aclose()
    assert found is not None
    assert (found.status, found.amount_cents, found.payment_id) == ("succeeded", 5990, payment_id)
    receiver.wait_for(1, lambda webhook: webhook.intent["id"] == found.ref)


async def test_a_time_out_on_confirm_leaves_the_outcome_unknown_until_it_is_asked_for(
    server: str,
) -> None:
    provider = SimulatedProvider(server, [SECRET], timeout_seconds=0.2)
    waiting = await create(provider)
    with pytest.raises(ProviderUnavailable):
        await provider.confirm(waiting.ref, method="pm_card_timeout", idempotency_key="c3")
    assert (await provider.get(waiting.ref)).status == "succeeded"
    await provider.aclose()


async def test_a_processor_that_is_down_is_unavailable(provider: PaymentProvider) -> None:
    with pytest.raises(ProviderUnavailable, match="503"):
        await create(provider, "pm_card_processorDown")


async def test_an_unknown_method_is_refused(provider: PaymentProvider) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await create(provider, "pm_card_golden")
    assert refused.value.code == "payment_method_unknown"


@pytest.mark.parametrize("ref", ["pi_nothing", "../refunds", "pi_?x", "a/b"])
async def test_an_unknown_ref_is_refused(provider: PaymentProvider, ref: str) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await provider.get(ref)
    assert refused.value.code == "resource_missing"


async def test_nothing_is_found_for_a_payment_that_never_reached_the_provider(
    provider: PaymentProvider,
) -> None:
    assert await provider.find(uuid4()) is None


async def test_of_several_intents_of_a_payment_the_paid_one_is_found(
    provider: PaymentProvider,
) -> None:
    payment_id = uuid4()
    paid = await provider.create(
        payment_id, 100, "BRL", method="pm_card_visa", idempotency_key=f"{payment_id}-1"
    )
    await provider.create(payment_id, 100, "BRL", method=None, idempotency_key=f"{payment_id}-2")
    assert await provider.find(payment_id) == paid


async def test_the_same_key_is_the_same_intent(provider: PaymentProvider) -> None:
    payment_id = uuid4()
    assert await create(provider, "pm_card_visa", payment_id) == await create(
        provider, "pm_card_visa", payment_id
    )


async def test_an_intent_is_canceled_once_and_for_all(provider: PaymentProvider) -> None:
    intent = await create(provider)
    assert (await provider.cancel(intent.ref, idempotency_key="x1")).status == "canceled"
    with pytest.raises(ProviderRefused) as refused:
        await provider.confirm(intent.ref, method="pm_card_visa", idempotency_key="c4")
    assert refused.value.code == "payment_intent_unexpected_state"


OURS, REFUND = uuid4(), uuid4()


def give_back(provider: PaymentProvider, ref: str, amount_cents: int) -> Awaitable[ProviderRefund]:
    return provider.refund(
        ref,
        amount_cents=amount_cents,
        payment_id=OURS,
        refund_id=REFUND,
        idempotency_key=f"{ref}-{amount_cents}",
    )


async def test_money_is_refunded_up_to_what_was_paid(provider: PaymentProvider) -> None:
    intent = await create(provider, "pm_card_visa")
    refund = await give_back(provider, intent.ref, 5000)
    assert refund.ref.startswith("re_")
    assert (refund.amount_cents, refund.status) == (5000, "SUCCEEDED")
    assert (refund.payment_id, refund.refund_id, refund.intent_ref) == (OURS, REFUND, intent.ref)
    with pytest.raises(ProviderRefused) as refused:
        await give_back(provider, intent.ref, 991)
    assert refused.value.code == "amount_too_large"


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("pm_card_pendingRefund", "SUCCEEDED", ""),
        ("pm_card_refundFail", "FAILED", "expired_or_canceled_card"),
    ],
)
async def test_a_pending_refund_is_reported_later_and_can_be_queried(
    provider: PaymentProvider, receiver: Receiver, method: str, status: str, code: str
) -> None:
    intent = await create(provider, method)
    begun = await give_back(provider, intent.ref, 5000)
    assert begun.status == "PENDING"
    webhook = (
        await asyncio.to_thread(
            receiver.wait_for,
            1,
            lambda it: it.type == "refund.updated" and it.intent["id"] == begun.ref,
        )
    )[0]
    told = provider.parse_webhook(webhook.body, webhook.signature, datetime.now(UTC)).refund
    assert told == await provider.get_refund(begun.ref)
    assert told is not None
    assert (told.status, told.code, told.refund_id) == (status, code, REFUND)


async def test_a_slow_payment_is_processing_until_its_notice_comes(
    provider: PaymentProvider, receiver: Receiver
) -> None:
    intent = await create(provider, "pm_card_slow")
    assert intent.status == "processing"
    webhook = (
        await asyncio.to_thread(receiver.wait_for, 1, lambda it: it.intent["id"] == intent.ref)
    )[0]
    notice = provider.parse_webhook(webhook.body, webhook.signature, datetime.now(UTC))
    assert notice.intent is not None
    assert (notice.intent.ref, notice.intent.status) == (intent.ref, "succeeded")


# -- servers that misbehave ------------------------------------------------------------------------


@asynccontextmanager
async def server_that(*answers: bytes) -> AsyncIterator[tuple[SimulatedProvider, list[bytes]]]:
    """A client of a server that gives each connection the next answer; and the requests
    received."""
    async with server_that_answers(*answers) as (url, requests):
        provider = SimulatedProvider(url, [SECRET])
        yield provider, requests
        await provider.aclose()


def intent_json(**changes: Any) -> bytes:
    intent = {
        "id": "pi_1",
        "amount": 100,
        "currency": "brl",
        "status": "succeeded",
        "client_secret": "s",
        "metadata": {"payment_id": str(PAYMENT)},
    }
    return json.dumps(intent | changes).encode()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    provider = SimulatedProvider(f"http://127.0.0.1:{free_port()}", [SECRET])
    with pytest.raises(ProviderUnavailable):
        await provider.get("pi_1")
    await provider.aclose()


async def test_a_connection_that_breaks_is_tried_once_more_with_the_same_key() -> None:
    async with server_that(b"", http("200 OK", intent_json())) as (provider, requests):
        intent = await provider.create(PAYMENT, 100, "BRL", method=None, idempotency_key="the-key")
    assert intent.status == "succeeded"
    assert [b"Idempotency-Key: the-key" in request for request in requests] == [True, True]


async def test_a_connection_that_breaks_twice_is_unavailable() -> None:
    async with server_that() as (provider, requests):
        with pytest.raises(ProviderUnavailable):
            await provider.get("pi_1")
    # the HTTP library itself repeats a GET whose kept connection broke
    assert 2 <= len(requests) <= 4


@pytest.mark.parametrize(
    "status", ["500 Oops", "502 Bad Gateway", "429 Too Many Requests", "302 Found"]
)
async def test_an_answer_that_settles_nothing_is_unavailable_and_not_tried_again(
    status: str,
) -> None:
    async with server_that(http(status), http("200 OK", intent_json())) as (provider, requests):
        with pytest.raises(ProviderUnavailable):
            await provider.get("pi_1")
    assert len(requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        intent_json(status="odd"),
        intent_json(amount="x"),
        intent_json(id="pi_").replace(b"pi_", b"\xff"),
        intent_json() + b" " * (1 << 20),
    ],
    ids=["nothing", "a page", "empty", "an odd status", "no amount", "no UTF-8", "more than 1 MiB"],
)
async def test_an_unreadable_answer_is_unavailable(body: bytes) -> None:
    async with server_that(http("200 OK", body)) as (provider, _):
        with pytest.raises(ProviderUnavailable):
            await provider.get("pi_1")


async def test_a_refusal_without_an_error_object_is_known_by_its_status() -> None:
    async with server_that(http("404 Not Found", b"<html>")) as (provider, _):
        with pytest.raises(ProviderRefused) as refused:
            await provider.get("pi_1")
    assert refused.value.code == "http_404"


async def test_an_intent_that_names_no_payment_of_ours_is_no_payments() -> None:
    async with server_that(http("200 OK", intent_json(metadata={}))) as (provider, _):
        assert (await provider.get("pi_1")).payment_id is None


# -- notices ---------------------------------------------------------------------------------------


def notice_json(type: str = "payment_intent.succeeded", **intent: Any) -> bytes:
    event = {
        "id": "evt_1",
        "type": type,
        "created": 1_700_000_000,
        "data": {"object": json.loads(intent_json(**intent))},
    }
    return json.dumps(event).encode()


def parse(
    body: bytes, secrets: tuple[str, ...] = (SECRET,), signed_with: str = SECRET, at: datetime = NOW
) -> ProviderNotice:
    provider = SimulatedProvider("http://127.0.0.1:1", secrets)
    return provider.parse_webhook(body, sign(body, signed_with, int(at.timestamp())), NOW)


def test_a_notice_is_read() -> None:
    notice = parse(notice_json())
    assert notice == ProviderNotice(
        event_id="evt_1",
        type="payment_intent.succeeded",
        created=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        intent=Intent("pi_1", "succeeded", 100, "BRL", PAYMENT, "s"),
    )


def test_a_notice_of_a_failure_says_why() -> None:
    error = {"code": "card_declined", "message": "No."}
    notice = parse(
        notice_json(
            "payment_intent.payment_failed",
            status="requires_payment_method",
            last_payment_error=error,
        )
    )
    assert notice.intent is not None
    assert (notice.intent.status, notice.intent.code, notice.intent.detail) == (
        "failed",
        "card_declined",
        "No.",
    )


def test_a_notice_of_a_needed_action_says_where() -> None:
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/1"}}
    notice = parse(
        notice_json("payment_intent.requires_action", status="requires_action", next_action=action)
    )
    assert notice.intent is not None
    assert (notice.intent.status, notice.intent.redirect_url) == (
        "requires_action",
        "https://bank.example/1",
    )


def test_a_cancellation_is_read() -> None:
    notice = parse(notice_json("payment_intent.canceled", status="canceled"))
    assert notice.intent is not None
    assert (notice.intent.status, notice.intent.payment_id) == ("canceled", PAYMENT)


@pytest.mark.parametrize(
    ("charge", "ref", "refunded"),
    [
        ({"amount_refunded": 30}, "pi_1", 30),
        ({}, "pi_1", 100),
        ({"id": "ch_1", "payment_intent": "pi_2", "amount_refunded": 30}, "pi_2", 30),
        ({"id": "ch_1", "payment_intent": {"id": "pi_2"}, "amount_refunded": 100}, "pi_2", 100),
        ({"id": "ch_1", "payment_intent": None, "amount_refunded": 100}, "ch_1", 100),
    ],
)
def test_a_refund_says_how_much_went_back_in_all_and_of_which_intent(
    charge: dict[str, Any], ref: str, refunded: int
) -> None:
    notice = parse(notice_json("charge.refunded", **charge))
    assert notice.intent is not None
    assert (notice.intent.ref, notice.intent.refunded_cents, notice.intent.amount_cents) == (
        ref,
        refunded,
        100,
    )
    assert notice.intent.payment_id == PAYMENT


@pytest.mark.parametrize(
    "body", [b'{"id":"evt_1","type":"customer.created","created":1}', notice_json("payout.paid")]
)
def test_a_notice_of_an_unknown_type_is_fine(body: bytes) -> None:
    assert parse(body).intent is None


@pytest.mark.parametrize(
    "metadata", [None, {}, {"payment_id": "nonsense"}, {"payment_id": 7}, {"payment_id": None}]
)
def test_a_notice_of_a_payment_that_is_not_ours_has_no_intent(metadata: Any) -> None:
    assert parse(notice_json(metadata=metadata)).intent is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"id":"evt_1","type":"payment_intent.succeeded","created":1}',
        b'{"id":"evt_1","type":"payment_intent.succeeded","created":1,"data":{"object":[]}}',
        b'{"id":"evt_1","type":"x","created":99999999999999999}',
        notice_json(amount="100"),
        notice_json(amount=-1),
        notice_json(id=""),
        notice_json(currency=5),
    ],
)
def test_a_signed_body_that_is_not_a_notice_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a notice"):
        parse(body)


def test_a_notice_signed_with_the_old_secret_is_read_while_both_are_known() -> None:
    assert parse(notice_json(), secrets=("new", "old"), signed_with="old").event_id == "evt_1"


@pytest.mark.parametrize("at", [NOW - timedelta(seconds=301), NOW + timedelta(seconds=301)])
def test_a_notice_too_old_or_from_the_future_is_refused(at: datetime) -> None:
    with pytest.raises(InvalidSignature):
        parse(notice_json(), at=at)


def test_a_forged_notice_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidSignature):
        parse(b"not even json", signed_with="guess")


async def test_the_client_is_closed() -> None:
    provider = SimulatedProvider("http://127.0.0.1:1", [SECRET])
    await provider.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await provider.get("pi_1")
