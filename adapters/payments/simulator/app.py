"""The provider's HTTP server: a small part of Stripe's API in JSON, and the payers' pages.

A `payment_method` given on creation is confirmed at once. A decline is not an error here: the
answer is the intent, whose `last_payment_error` says why it waits for another method.
"""

import asyncio
import contextlib
import hashlib
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Form, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from msgspec import Struct, json
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from adapters.direct_route import DirectRoute
from adapters.notices.background import repeat
from adapters.notices.sender import NoticeSender
from adapters.payments.simulator import pages
from adapters.payments.simulator.cards import TestMethod
from adapters.payments.simulator.intents import ApiError, PaymentIntent
from adapters.payments.simulator.processor import Processor
from adapters.payments.simulator.store import ProviderStore
from adapters.traced_requests import TracedRequests
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


async def _processor(request: Request) -> Processor:
    processor: Processor = request.app.state.processor
    return processor


Provider = Annotated[Processor, Depends(_processor)]


async def _must_have_key(
    request: Request, authorization: Annotated[str, Header(max_length=500)] = ""
) -> None:
    """Payers' pages are public; the API requires the key, if one is set."""
    key: str = request.app.state.api_key
    if key and not secrets.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
        raise ApiError(401, "api_key_required", "Send the API key as Authorization: Bearer KEY.")


router = APIRouter()
api = APIRouter(prefix="/v1", dependencies=[Depends(_must_have_key)])


async def create_intent(
    request: Request, body: CreateIntent, key: IdempotencyKey = None
) -> Response:
    """Create an intent; with a payment method, confirm it."""
    provider = await _processor(request)
    return await _answer_once(
        request,
        provider,
        key,
        body,
        lambda: provider.create(body.amount, body.currency, body.metadata, body.payment_method),
        method=body.payment_method,
    )


api.add_api_route(
    "/payment_intents", create_intent, methods=["POST"], route_class_override=DirectRoute
)


@api.get("/payment_intents")
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


@api.get("/payment_intents/{ref}")
async def get_intent(provider: Provider, ref: str) -> Response:
    """The current intent."""
    return _json(provider.get(ref))


@api.post("/payment_intents/{ref}/confirm")
async def confirm_intent(
    request: Request, provider: Provider, ref: str, body: ConfirmIntent, key: IdempotencyKey = None
) -> Response:
    """Try a payment method."""
    method = body.payment_method
    return await _answer_once(
        request, provider, key, body, lambda: provider.confirm(ref, method), method=method
    )


@api.post("/payment_intents/{ref}/cancel")
async def cancel_intent(
    request: Request, provider: Provider, ref: str, key: IdempotencyKey = None
) -> Response:
    """Cancel an intent."""
    return await _answer_once(request, provider, key, None, lambda: provider.cancel(ref))


@api.post("/refunds")
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


@api.get("/refunds")
async def list_refunds(
    provider: Provider, created_since: Since = 0, starting_after: After = None
) -> Response:
    """A page of all refunds since a moment, newest first."""
    return _json(provider.list_refunds(created_since, starting_after))


@api.get("/refunds/{ref}")
async def get_refund(provider: Provider, ref: str) -> Response:
    """The current refund."""
    return _json(provider.get_refund(ref))


@api.post("/test_helpers/refunds/{ref}/expire")
async def expire_refund(
    request: Request, provider: Provider, ref: str, key: IdempotencyKey = None
) -> Response:
    """Fail a pending refund now, as Stripe's helper of this name does for refunds that wait for the
    payer."""
    return await _answer_once(request, provider, key, None, lambda: provider.expire_refund(ref))


@router.get("/pay/{payment_id}")
async def ask_for_card(request: Request, provider: Provider, payment_id: str) -> Response:
    """The page to pay a payment: the payer chooses a card, or sees the payment's state."""
    intent = _newest(provider, payment_id)
    if intent is None:
        return HTMLResponse(
            pages.problem("Not found", "No such payment is known here (yet): reload in a moment."),
            404,
        )
    if intent.status == "requires_payment_method":
        return HTMLResponse(pages.till(intent))
    return _stands(request, intent)


@router.post("/pay/{payment_id}")
async def take_card(
    request: Request,
    provider: Provider,
    payment_id: str,
    payment_method: Annotated[str, Form()] = "",
) -> Response:
    """The payer's card, one of those on the page."""
    intent = _newest(provider, payment_id)
    if intent is None:
        return HTMLResponse(pages.problem("Not found", "No such payment is known here."), 404)
    if payment_method not in pages.CARDS:
        return HTMLResponse(pages.problem("Please choose", "Choose one of the cards."), 400)
    if intent.status != "requires_payment_method":
        return _stands(request, intent)
    return _stands(request, provider.confirm(intent.id, payment_method))


def _newest(provider: Processor, payment_id: str) -> PaymentIntent | None:
    return next(iter(provider.find(payment_id).data), None)


def _stands(request: Request, intent: PaymentIntent) -> Response:
    """The payment's state, or a redirect to the payer's bank."""
    if intent.next_action is not None:
        return RedirectResponse(intent.next_action.redirect_to_url.url, 303)
    return HTMLResponse(pages.result(intent, _way_back(request, intent)))


def _way_back(request: Request, intent: PaymentIntent) -> str:
    """Where the payer came from; empty if that is not known."""
    shop, payment_id = request.app.state.return_url, intent.metadata.get("payment_id")
    if not shop or payment_id is None:
        return ""
    return f"{shop}{'&' if '?' in shop else '?'}{urlencode({'payment_id': payment_id})}"


@router.get("/3ds/{ref}")
async def ask_payer(provider: Provider, ref: str) -> HTMLResponse:
    """The page to approve or decline; afterwards, the result."""
    try:
        intent = provider.get(ref)
    except ApiError as error:
        return HTMLResponse(pages.problem("Not found", error.message), error.status)
    return HTMLResponse(
        pages.question(intent) if intent.status == "requires_action" else pages.result(intent)
    )


@router.post("/3ds/{ref}")
async def hear_payer(
    request: Request, provider: Provider, ref: str, decision: Annotated[str, Form()] = ""
) -> HTMLResponse:
    """The payer's decision, `approve` or `decline`. The first one counts: a later one gets 409 and
    the result."""
    if decision not in ("approve", "decline"):
        return HTMLResponse(
            pages.problem("Please decide", "The decision must be approve or decline."), 400
        )
    try:
        decided = provider.authenticate(ref, approved=decision == "approve")
        return HTMLResponse(pages.result(decided, _way_back(request, decided)))
    except ApiError as error:
        if error.status == 404:
            return HTMLResponse(pages.problem("Not found", error.message), 404)
        decided = provider.get(ref)
        return HTMLResponse(pages.result(decided, _way_back(request, decided)), 409)


@router.get("/health")
async def health(request: Request) -> dict[str, str | int]:
    """Whether the server works, and how many webhooks wait for delivery."""
    store: ProviderStore = request.app.state.store
    return {"status": "ok", "pending_webhooks": store.pending_webhooks()}


def create_app(
    store_path: Path,
    webhook_url: str,
    webhook_secret: str,
    public_url: str,
    *,
    slow_seconds: float = 3.0,
    hang_seconds: float = 60.0,
    webhook_delay_seconds: float = 0.0,
    webhook_timeout_seconds: float = 10.0,
    webhook_retry_seconds: float = 1.0,
    webhook_give_up_seconds: float = 3 * 86400.0,
    webhook_concurrency: int = 64,
    api_key: str = "",
    return_url: str = "",
    webhook_tls: Callable[[], ssl.SSLContext] | None = None,
) -> FastAPI:
    """The provider's server, to be run by uvicorn in one process.

    `store_path` is its SQLite file, which no other process may have open; `public_url` is where
    payers reach its pages; `api_key` is required of API callers, if set. `return_url` is where
    payers are sent once they have decided, with `payment_id` added, if set. `slow_seconds` is how
    long `pm_card_slow` stays processing and a slow refund pending; `hang_seconds` is how long the
    answer to `pm_card_timeout` is held back (longer than any client waits). A webhook is sent after
    `webhook_delay_seconds`. It is retried `webhook_retry_seconds` after its first failure, then
    with doubled pauses of up to an hour, until `webhook_give_up_seconds` have passed. `webhook_tls`
    gives the context of each sending, to say whose certificate is trusted.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(ProviderStore(store_path)) as store:
            processor = Processor(
                store,
                public_url,
                slow_seconds=slow_seconds,
                webhook_delay_seconds=webhook_delay_seconds,
            )
            sender = NoticeSender(
                store,
                processor.webhook_queued,
                "Stripe-Signature",
                webhook_secret,
                lambda _: webhook_url,
                timeout_seconds=webhook_timeout_seconds,
                retry_seconds=webhook_retry_seconds,
                give_up_seconds=webhook_give_up_seconds,
                concurrency=webhook_concurrency,
                tls=webhook_tls,
            )
            store.make_webhooks_due(time.time())
            app.state.store = store
            app.state.processor = processor
            async with _running(processor, sender):
                yield

    app = FastAPI(title="Simulated payment provider", lifespan=lifespan)
    app.add_middleware(TracedRequests)
    app.state.hang_seconds = hang_seconds
    app.state.api_key = api_key
    app.state.return_url = return_url
    app.include_router(router)
    app.include_router(api)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(HTTPException, _refuse_http)
    return app


@contextlib.asynccontextmanager
async def _running(processor: Processor, sender: NoticeSender) -> AsyncIterator[None]:
    steps = [asyncio.create_task(repeat(step)) for step in (processor.settle_due, sender.send_due)]
    try:
        yield
    finally:
        for task in steps:
            task.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        await sender.aclose()


# -- answers ---------------------------------------------------------------------------------------


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


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.document, error.status)


async def _refuse_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    codes = {
        "missing": "parameter_missing",
        "extra_forbidden": "parameter_unknown",
        "json_invalid": "json_invalid",
    }
    refusal = ApiError(
        400, codes.get(first["type"], "parameter_invalid"), f"{where}: {first['msg']}"
    )
    return JSONResponse(refusal.document, refusal.status)


async def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "resource_missing", 405: "method_not_allowed"}.get(
        error.status_code, "invalid_request"
    )
    return JSONResponse(
        ApiError(error.status_code, code, error.detail).document, error.status_code, error.headers
    )
