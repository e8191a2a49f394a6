"""Where payers go: the page to pay, and their bank's, which asks them to approve (3-D Secure)."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from adapters.payments.simulator import pages
from adapters.payments.simulator.dependencies import Provider
from adapters.payments.simulator.intents import ApiError, PaymentIntent
from adapters.payments.simulator.processor import Processor

router = APIRouter()


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
