"""Stripe's client: against stripe-mock, which checks our calls; with answers that stripe-mock never
gives; and with notices signed by Stripe's own package."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import pytest
import stripe

from adapters.payments.stripe import StripeProvider
from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
    RefundStatus,
)
from commands.ports.signatures import InvalidSignature
from deploy.services import STRIPE_TEST_KEY
from tests.support.servers.provider import http, server_that_answers
from tests.support.servers.shared import free_port

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PAYMENT = UUID("0197f0a0-0000-7000-8000-000000000001")
OLD, NEW = "whsec_old", "whsec_new"
BACK = "https://shop.example/paid"

# Stripe's package has not followed httpx there yet
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")


# -- against stripe-mock ---------------------------------------------------------------------------


@pytest.fixture
async def provider(stripe_mock_url: str) -> AsyncIterator[PaymentProvider]:
    client = StripeProvider(STRIPE_TEST_KEY, [NEW], api_base=stripe_mock_url, return_url=BACK)
    yield client
    await client.aclose()


async def test_an_intent_awaits_its_method_and_has_a_secret_for_the_client(
    provider: PaymentProvider,
) -> None:
    intent = await provider.create(uuid4(), 5990, "BRL", method=None, idempotency_key=str(uuid4()))
    assert intent.ref.startswith("pi_")
    assert "_secret_" in intent.client_secret
    assert (intent.status, intent.amount_cents, intent.currency) == (
        "requires_payment_method",
        5990,
        "BRL",
    )


async def test_stripe_understands_every_call(provider: PaymentProvider) -> None:
    made = await provider.create(
        uuid4(), 5990, "BRL", method="pm_card_visa", idempotency_key=str(uuid4())
    )
    assert (await provider.get(made.ref)).ref == made.ref
    assert [each.ref for each in await provider.intents_since(NOW, None)]
    assert [each.ref for each in await provider.refunds_since(NOW, "re_before")]
    assert (
        await provider.confirm(made.ref, method="pm_card_visa", idempotency_key="c")
    ).ref == made.ref
    assert (await provider.cancel(made.ref, idempotency_key="x")).ref == made.ref
    assert (await refund(provider, made.ref, 1000, "r")).amount_cents == 1000
    assert (await provider.get_refund("re_1")).ref.startswith("re_")
    assert await provider.find(uuid4()) is None


async def test_a_key_that_is_none_declines_no_buyer(stripe_mock_url: str) -> None:
    provider = StripeProvider("nonsense", [NEW], api_base=stripe_mock_url)
    with pytest.raises(ProviderUnavailable, match="401"):
        await provider.get("pi_1")
    await provider.aclose()


# -- answers that stripe-mock never gives ----------------------------------------------------------


@asynccontextmanager
async def stripe_that_answers(
    *answers: bytes, **settings: Any
) -> AsyncIterator[tuple[StripeProvider, list[bytes]]]:
    async with server_that_answers(*answers) as (url, requests):
        provider = StripeProvider(STRIPE_TEST_KEY, [NEW], api_base=url, **settings)
        yield provider, requests
        await provider.aclose()


def intent_json(**changes: Any) -> dict[str, Any]:
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 100,
        "currency": "brl",
        "status": "succeeded",
        "client_secret": "s",
        "metadata": {"payment_id": str(PAYMENT)},
        "last_payment_error": None,
        "next_action": None,
    }
    return intent | changes


def ok(document: object) -> bytes:
    return http("200 OK", json.dumps(document).encode())


def error(status: str, **fields: Any) -> bytes:
    return http(status, json.dumps({"error": {"type": "invalid_request_error", **fields}}).encode())


async def create(provider: StripeProvider, method: str | None = "pm_card_visa") -> Intent:
    return await provider.create(PAYMENT, 100, "BRL", method=method, idempotency_key="the-key")


def form(request: bytes) -> dict[str, list[str]]:
    return parse_qs(request.partition(b"\r\n\r\n")[2].decode())


async def test_what_is_asked_of_stripe_names_the_payment_and_carries_the_key() -> None:
    async with stripe_that_answers(ok(intent_json()), return_url=BACK) as (provider, requests):
        assert await create(provider) == Intent("pi_1", "succeeded", 100, "BRL", PAYMENT, "s")
    assert b"idempotency-key: the-key" in requests[0].lower()
    asked = {name: values[0] for name, values in form(requests[0]).items()}
    assert asked.pop("allowed_payment_method_types[0]") == "card"
    assert asked == {
        "amount": "100",
        "currency": "brl",
        "metadata[payment_id]": str(PAYMENT),
        "payment_method": "pm_card_visa",
        "confirm": "true",
        "return_url": BACK,
    }


async def test_a_decline_is_a_failed_intent_that_another_card_may_be_tried_on() -> None:
    left = intent_json(status="requires_payment_method")
    says = {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": "No.",
    }
    declined = http(
        "402 Payment Required", json.dumps({"error": {**says, "payment_intent": left}}).encode()
    )
    async with stripe_that_answers(declined, ok({**left, "last_payment_error": says})) as (
        provider,
        _,
    ):
        intent = await create(provider)
        assert (intent.status, intent.code, intent.detail) == ("failed", "card_declined", "No.")
        assert await provider.get("pi_1") == intent


@pytest.mark.parametrize(
    ("action", "url"),
    [
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example",
        "return_url": BACK}}, "https://bank.example"),
        ({"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}, ""),
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "javascript:alert(1)"}}, ""),
    ],
)  # fmt: skip
async def test_authentication_is_by_a_page_of_the_bank_or_left_to_the_client(
    action: object, url: str
) -> None:
    async with stripe_that_answers(
        ok(intent_json(status="requires_action", next_action=action))
    ) as (provider, _):
        intent = await create(provider)
    assert (intent.status, intent.redirect_url, intent.client_secret) == (
        "requires_action",
        url,
        "s",
    )


async def test_an_intent_whose_answer_was_lost_is_found_among_the_newest_or_by_search() -> None:
    others = [
        intent_json(id="pi_0", metadata={}),
        intent_json(id="pi_9", metadata={"payment_id": str(uuid4())}),
    ]
    mine = intent_json(id="pi_1", status="processing")
    async with stripe_that_answers(ok({"data": [*others, mine]})) as (provider, _):
        found = await provider.find(PAYMENT)
        assert found is not None
        assert (found.ref, found.status) == ("pi_1", "processing")
    async with stripe_that_answers(ok({"data": others}), ok({"data": [mine]})) as (
        provider,
        requests,
    ):
        found = await provider.find(PAYMENT)
        assert found is not None
        assert found.ref == "pi_1"
    assert requests[1].startswith(b"GET /v1/payment_intents/search?")
    assert str(PAYMENT).encode() in requests[1]


@pytest.mark.parametrize(
    "answer",
    [
        error("500 Oops", type="api_error"),
        http("502 Bad Gateway", b"<html>"),
        error("429 Too Many Requests", code="rate_limit"),
        error("409 Conflict", type="idempotency_error", code="idempotency_key_in_use"),
        http("200 OK", b"<html>"),
        ok({"object": "payment_intent"}),
        ok(intent_json(status="odd")),
        b"",
    ],
)
async def test_an_answer_that_settles_nothing_is_unavailable_and_left_to_the_queue_to_repeat(
    answer: bytes,
) -> None:
    async with stripe_that_answers(answer, ok(intent_json())) as (provider, requests):
        with pytest.raises(ProviderUnavailable):
            await create(provider)
    assert len(requests) == 1


async def test_a_server_that_is_not_there_or_silent_is_unavailable() -> None:
    nowhere = StripeProvider(STRIPE_TEST_KEY, [NEW], api_base=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ProviderUnavailable):
        await nowhere.get("pi_1")
    await nowhere.aclose()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client hangs up
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        silent = StripeProvider(STRIPE_TEST_KEY, [NEW], api_base=base, timeout_seconds=0.1)
        with pytest.raises(ProviderUnavailable, match="Timeout"):
            await silent.get("pi_1")
        await silent.aclose()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error("400 Bad Request", code="amount_too_small", payment_intent=intent_json()),
        "amount_too_small"),
        (error("400 Bad Request", type="idempotency_error"), "http_400"),
        (error("402 Payment Required", type="card_error", code="expired_card"), "expired_card"),
        (error("404 Not Found", code="resource_missing"), "resource_missing"),
    ],
)  # fmt: skip
async def test_a_refusal_tells_its_code(answer: bytes, code: str) -> None:
    async with stripe_that_answers(answer) as (provider, _):
        with pytest.raises(ProviderRefused) as refused:
            await create(provider)
    assert refused.value.code == code


REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 30,
    "currency": "brl",
    "payment_intent": "pi_1",
}
OURS = UUID(int=7)


def refund(
    provider: PaymentProvider, ref: str, amount_cents: int, key: str
) -> Awaitable[ProviderRefund]:
    return provider.refund(
        ref, amount_cents=amount_cents, payment_id=PAYMENT, refund_id=OURS, idempotency_key=key
    )


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"status": "succeeded"}, "SUCCEEDED", ""),
        ({"status": "pending"}, "PENDING", ""),
        ({"status": "requires_action"}, "PENDING", ""),
        ({"status": "something_new"}, "PENDING", ""),
        ({"status": None}, "PENDING", ""),
        ({}, "PENDING", ""),
        ({"status": "canceled"}, "FAILED", "refund_canceled"),
        ({"status": "failed"}, "FAILED", "refund_failed"),
        (
            {"status": "failed", "failure_reason": "lost_or_stolen_card"},
            "FAILED",
            "lost_or_stolen_card",
        ),
    ],
)
async def test_a_refund_is_as_the_provider_says_and_only_succeeded_is_gone(
    said: dict[str, Any], status: RefundStatus, code: str
) -> None:
    known = {**REFUND, **said, "metadata": {"payment_id": str(PAYMENT), "refund_id": str(OURS)}}
    seen = ProviderRefund("re_1", 30, status, code, PAYMENT, OURS, "pi_1")
    async with stripe_that_answers(ok(known), ok(known)) as (provider, requests):
        assert await refund(provider, "pi_1", 30, "r-1") == seen
        assert await provider.get_refund("re_1") == seen
    assert form(requests[0]) == {
        "payment_intent": ["pi_1"],
        "amount": ["30"],
        "metadata[payment_id]": [str(PAYMENT)],
        "metadata[refund_id]": [str(OURS)],
    }
    assert b"idempotency-key: r-1" in requests[0].lower()
    assert requests[1].startswith(b"GET /v1/refunds/re_1 ")


# -- notices, signed by the official package -------------------------------------------------------


def notice_json(type: str, document: object) -> str:
    event = {
        "id": "evt_1",
        "object": "event",
        "type": type,
        "created": 1_700_000_000,
        "data": {"object": document},
    }
    return json.dumps(event)


SUCCEEDED = notice_json("payment_intent.succeeded", intent_json())


def sign(body: str, secret: str = NEW, at: datetime = NOW) -> str:
    header: str = stripe.WebhookSignature.generate_signature_header(
        body, secret, int(at.timestamp())
    )
    return header


def parse(
    body: str | bytes, signature: str, secrets: tuple[str, ...] = (NEW, OLD)
) -> ProviderNotice:
    given = body.encode() if isinstance(body, str) else body
    return StripeProvider(STRIPE_TEST_KEY, secrets).parse_webhook(given, signature, NOW)


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_a_notice_signed_by_any_of_the_secrets_is_read(secret: str) -> None:
    assert parse(SUCCEEDED, sign(SUCCEEDED, secret)) == ProviderNotice(
        event_id="evt_1",
        type="payment_intent.succeeded",
        created=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        intent=Intent("pi_1", "succeeded", 100, "BRL", PAYMENT, "s"),
    )


def test_a_charge_that_was_refunded_names_its_intent_and_what_went_back_in_all() -> None:
    charge = {
        "id": "ch_1",
        "object": "charge",
        "amount": 100,
        "amount_captured": 100,
        "amount_refunded": 30,
        "currency": "brl",
        "metadata": {"payment_id": str(PAYMENT)},
        "payment_intent": "pi_1",
        "refunded": False,
        "status": "succeeded",
    }
    body = notice_json("charge.refunded", charge)
    intent = parse(body, sign(body)).intent
    assert intent is not None
    assert (intent.ref, intent.payment_id, intent.refunded_cents) == ("pi_1", PAYMENT, 30)


@pytest.mark.parametrize(
    "type", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"]
)
@pytest.mark.parametrize("intent", ["pi_1", {"id": "pi_1"}, None])
def test_a_notice_of_a_refund_tells_how_it_stands(type: str, intent: Any) -> None:
    ids = {"payment_id": str(PAYMENT), "refund_id": str(OURS)}
    body = notice_json(
        type, {**REFUND, "status": "pending", "payment_intent": intent, "metadata": ids}
    )
    notice = parse(body, sign(body))
    assert notice.intent is None
    status: RefundStatus = "FAILED" if type == "refund.failed" else "PENDING"
    assert notice.refund is not None
    assert (notice.refund.ref, notice.refund.amount_cents, notice.refund.status) == (
        "re_1",
        30,
        status,
    )
    assert (notice.refund.payment_id, notice.refund.refund_id) == (PAYMENT, OURS)
    assert notice.refund.intent_ref == ("pi_1" if intent else "")


def test_a_refund_made_by_hand_names_its_intent_alone() -> None:
    body = notice_json("refund.created", {**REFUND, "status": "succeeded", "metadata": {}})
    assert parse(body, sign(body)).refund == ProviderRefund(
        "re_1", 30, "SUCCEEDED", intent_ref="pi_1"
    )


@pytest.mark.parametrize(
    ("type", "status", "code"),
    [
        ("charge.dispute.funds_withdrawn", "SUCCEEDED", ""),
        ("charge.dispute.funds_reinstated", "FAILED", "dispute_won"),
    ],
)
def test_a_dispute_takes_money_back_and_may_bring_it_again(
    type: str, status: RefundStatus, code: str
) -> None:
    dispute = {
        "id": "dp_1",
        "object": "dispute",
        "amount": 100,
        "payment_intent": "pi_1",
        "status": "needs_response",
    }
    body = notice_json(type, dispute)
    assert parse(body, sign(body)).refund == ProviderRefund(
        "dp_1", 100, status, code, intent_ref="pi_1"
    )


@pytest.mark.parametrize(
    "refund", [{}, {"id": "re_1"}, {"id": "", "amount": 1}, {"id": "re_1", "amount": -1}, None]
)
def test_what_is_no_refund_is_no_notice(refund: Any) -> None:
    body = notice_json("refund.updated", refund)
    with pytest.raises(ValueError, match="not a notice"):
        parse(body, sign(body))


@pytest.mark.parametrize(
    "type", ["charge.succeeded", "customer.created", "payment_intent.amount_capturable_updated"]
)
def test_notices_of_other_kinds_are_none_of_ours(type: str) -> None:
    body = notice_json(type, {"id": "cus_1"})
    assert parse(body, sign(body)).intent is None


@pytest.mark.parametrize("seconds", [-300, 300])
def test_five_minutes_early_or_late_by_our_clock_are_tolerated(seconds: int) -> None:
    assert (
        parse(SUCCEEDED, sign(SUCCEEDED, at=NOW + timedelta(seconds=seconds))).event_id == "evt_1"
    )


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (SUCCEEDED, sign(SUCCEEDED, at=NOW - timedelta(seconds=301))),
        (SUCCEEDED, sign(SUCCEEDED, at=NOW + timedelta(seconds=301))),
        (SUCCEEDED, sign(SUCCEEDED, "whsec_another")),
        (SUCCEEDED + " ", sign(SUCCEEDED)),
        (SUCCEEDED, sign(SUCCEEDED).replace("v1=", "v0=")),
        (SUCCEEDED, f"t={int(NOW.timestamp())},v1=é"),
        (SUCCEEDED, ""),
        (b"\xff", sign(SUCCEEDED)),
    ],
)
def test_what_stripe_did_not_sign_or_not_now_is_refused(body: str | bytes, signature: str) -> None:
    with pytest.raises(InvalidSignature):
        parse(body, signature)


def test_without_a_secret_nothing_is_accepted() -> None:
    for secrets in ((), ("",)):
        with pytest.raises(InvalidSignature):
            parse(SUCCEEDED, sign(SUCCEEDED), secrets)


def test_a_signed_body_that_is_not_a_notice_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not a notice"):
        parse("[]", sign("[]"))
