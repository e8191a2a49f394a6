"""The provider's API in JSON: a small part of Stripe's.

A `payment_method` given on creation is confirmed at once. A decline is not an error here: the
answer is the intent, whose `last_payment_error` says why it waits for another method.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from msgspec import Struct, json
from pydantic import BaseModel, ConfigDict, Field

from adapters.direct_route import DirectRoute
from adapters.payments.simulator.cards import TestMethod
from adapters.payments.simulator.dependencies import Provider, processor_of
from adapters.payments.simulator.intents import ApiError
from adapters.payments.simulator.processor import Processor
from domain.money import LARGEST_CENTS

Amount = Annotated[int, Field(gt=0, le=LARGEST_CENTS, strict=True)]
"""In the currency's smallest unit. Stripe itself accepts eight digits, in some currencies up to
twelve."""
Text = Annotated[str, Field(max_length=500)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=40)], Text], Field(max_length=50)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)
]

Since = Annotated[int, Query(alias="created[gte]", ge=0, le=2**53)]
"""In unix seconds."""
After = Annotated[str | None, Query(max_length=500)]
"""The last of the page before."""


class Body(BaseModel):
    """A request's body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid")


class CreateIntent(Body):
    """The body of POST /v1/payment_intents."""

    amount: Amount
    currency: str = Field(pattern="^[A-Za-z]{3}$")
    metadata: Metadata = {}
    payment_method: Text | None = None


class ConfirmIntent(Body):
    """The body of POST /v1/payment_intents/{id}/confirm."""

    payment_method: Text


class CreateRefund(Body):
    """The body of POST /v1/refunds; without an amount, the whole rest."""

    payment_intent: Text
    amount: Amount | None = None
    metadata: Metadata = {}


async def _must_have_key(
    request: Request, authorization: Annotated[str, Header(max_length=500)] = ""
) -> None:
    """The API requires the key, if one is set. Payers' pages are public."""
    key: str = request.app.state.api_key
    if key and not secrets.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
        raise ApiError(401, "api_key_required", "Send the API key as Authorization: Bearer KEY.")


router = APIRouter(prefix="/v1", dependencies=[Depends(_must_have_key)])


async def create_intent(
    request: Request, body: CreateIntent, key: IdempotencyKey = None
) -> Response:
    """Create an intent; with a payment method, confirm it."""
    provider = await processor_of(request)
    return await _answer_once(
        request,
        provider,
        key,
        body,
        lambda: provider.create(body.amount, body.currency, body.metadata, body.payment_method),
        method=body.payment_method,
    )


router.add_api_route(
    "/payment_intents", create_intent, methods=["POST"], route_class_override=DirectRoute
)


@router.get("/payment_intents")
async def find_intents(
    provider: Provider,
    payment_id: Annotated[str | None, Query(max_length=500)] = None,
    created_since: Since = 0,
    starting_after: After = None,
) -> Response:
    """The intents whose metadata name this payment, newest first; or, as at Stripe, a page of all
    since a moment."""
    return _json(
        provider.find(payment_id)
        if payment_id is not None
        else provider.list_intents(created_since, starting_after)
    )


@router.get("/payment_intents/{ref}")
async def get_intent(provider: Provider, ref: str) -> Response:
    """The current intent."""
    return _json(provider.get(ref))


@router.post("/payment_intents/{ref}/confirm")
async def confirm_intent(
    request: Request, provider: Provider, ref: str, body: ConfirmIntent, key: IdempotencyKey = None
) -> Response:
    """Try a payment method."""
    method = body.payment_method
    return await _answer_once(
        request, provider, key, body, lambda: provider.confirm(ref, method), method=method
    )


@router.post("/payment_intents/{ref}/cancel")
async def cancel_intent(
    request: Request, provider: Provider, ref: str, key: IdempotencyKey = None
) -> Response:
    """Cancel an intent."""
    return await _answer_once(request, provider, key, None, lambda: provider.cancel(ref))


@router.post("/refunds")
async def create_refund(
    request: Request, provider: Provider, body: CreateRefund, key: IdempotencyKey = None
) -> Response:
    """Refund money; with some cards that takes a while, and may fail."""
    return await _answer_once(
        request,
        provider,
        key,
        body,
        lambda: provider.refund(body.payment_intent, body.amount, body.metadata),
    )


@router.get("/refunds")
async def list_refunds(
    provider: Provider, created_since: Since = 0, starting_after: After = None
) -> Response:
    """A page of all refunds since a moment, newest first."""
    return _json(provider.list_refunds(created_since, starting_after))


@router.get("/refunds/{ref}")
async def get_refund(provider: Provider, ref: str) -> Response:
    """The current refund."""
    return _json(provider.get_refund(ref))


@router.post("/test_helpers/refunds/{ref}/expire")
async def expire_refund(
    request: Request, provider: Provider, ref: str, key: IdempotencyKey = None
) -> Response:
    """Fail a pending refund now, as Stripe's helper of this name does for refunds that wait for the
    payer."""
    return await _answer_once(request, provider, key, None, lambda: provider.expire_refund(ref))


async def _answer_once(
    request: Request,
    provider: Processor,
    key: str | None,
    body: Body | None,
    operation: Callable[[], Struct],
    method: str | None = None,
) -> Response:
    asked = f"{request.url.path}\n{body.model_dump_json() if body else ''}"
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    answer = provider.once(key, fingerprint, operation)
    if method == TestMethod.TIMEOUT and answer.status == 200:
        await _hang(request)
    return Response(answer.body, answer.status, media_type="application/json")


async def _hang(request: Request) -> None:
    """Hold the answer back until the client has left, or for a very long time. A repeat hangs like
    the first try."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(request.app.state.hang_seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass


def _json(document: Struct) -> Response:
    return Response(json.encode(document), media_type="application/json")
