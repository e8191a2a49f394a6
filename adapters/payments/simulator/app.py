"""The provider's HTTP server: its API, the pages for payers, and the webhooks that it sends."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from adapters.notices.background import repeat
from adapters.notices.sender import NoticeSender
from adapters.own_pages import OwnPages
from adapters.payments.simulator import api, payer_routes
from adapters.payments.simulator.intents import ApiError
from adapters.payments.simulator.processor import Processor
from adapters.payments.simulator.store import ProviderStore
from adapters.traced_requests import TracedRequests


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
    app.add_middleware(OwnPages)
    app.add_middleware(TracedRequests)
    app.state.hang_seconds = hang_seconds
    app.state.api_key = api_key
    app.state.return_url = return_url
    app.include_router(api.router)
    app.include_router(payer_routes.router)
    app.add_api_route("/health", _health)
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


async def _health(request: Request) -> dict[str, str | int]:
    """Whether the server works, and how many webhooks wait for delivery."""
    store: ProviderStore = request.app.state.store
    return {"status": "ok", "pending_webhooks": store.pending_webhooks()}


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
