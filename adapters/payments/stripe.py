"""Stripe: implements the port `PaymentProvider` with Stripe's own package.

Import it only where it is used: the package takes some 0.4 seconds to load.
"""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from uuid import UUID

import stripe
from stripe.params import (
    PaymentIntentConfirmParams,
    PaymentIntentCreateParams,
    PaymentIntentListParams,
    RefundListParams,
)

from adapters.payments.stripe_shapes import (
    IntentList,
    PaymentIntent,
    Refund,
    RefundList,
    declined,
    failure,
    intent_of,
    own_intent,
    own_refund,
    read,
    read_notice,
)
from adapters.webhooks import signature as webhook_signature
from commands.ports.payments import (
    Intent,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)
from commands.ports.signatures import InvalidSignature
from kit.metrics import timed_call
from kit.tls import USUAL, Trust

_PAGE = 100
"""The most that Stripe lists at once."""

_OTHER_UNITS = frozenset({"BHD", "IQD", "ISK", "JOD", "KWD", "LYD", "MGA", "OMR", "TND", "UGX"})
"""Currencies whose smallest unit differs between Stripe and ISO 4217, or that Stripe rounds: 1500
units would not be what the buyer was shown (https://docs.stripe.com/currencies)."""


class StripeProvider:
    """Talks to Stripe with `api_key`. Close it with `aclose`.

    `webhook_secrets` are all secrets that may sign a notice; `api_base` is another address of the
    API (stripe-mock). With a `return_url`, buyers who must authenticate are sent to a page of their
    bank, and come back there; without, the client continues with Stripe.js and the client secret.
    `timeout_seconds` bounds each step of a call.
    """

    name = "stripe"

    def __init__(
        self,
        api_key: str,
        webhook_secrets: Sequence[str],
        *,
        api_base: str = "",
        return_url: str = "",
        timeout_seconds: float = 10.0,
        trust: Trust = USUAL,
    ) -> None:
        self._webhook_secrets = tuple(webhook_secrets)
        self._return_url = return_url
        self._http = _http_client(timeout_seconds, trust)
        # No retries of its own: the payment queue retries with growing pauses, under the same
        # idempotency key.
        client = stripe.StripeClient(
            api_key,
            http_client=self._http,
            max_network_retries=0,
            base_addresses={"api": api_base.rstrip("/") or stripe.DEFAULT_API_BASE},
        )
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds

    async def aclose(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create(
        self,
        payment_id: UUID,
        amount_cents: int,
        currency: str,
        *,
        method: str | None,
        idempotency_key: str,
    ) -> Intent:
        """Create the payment's intent and, with a method, confirm it. A decline is an Intent with
        status `failed`.

        Raises ProviderUnavailable, ProviderRefused.
        """
        if currency in _OTHER_UNITS:
            raise ProviderRefused("currency_unsupported", f"cards are not charged in {currency}")
        params: PaymentIntentCreateParams = {
            "amount": amount_cents,
            "currency": currency.lower(),
            "metadata": {"payment_id": str(payment_id)},
            "allowed_payment_method_types": ["card"],
        }
        if method is not None:
            params |= {"payment_method": method, "confirm": True}
            if self._return_url:
                params["return_url"] = self._return_url
        return await _intent(
            "create intent",
            self._intents.create_async(params, {"idempotency_key": idempotency_key}),
        )

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that waits for one. Raises ProviderUnavailable,
        ProviderRefused."""
        params: PaymentIntentConfirmParams = {"payment_method": method}
        if self._return_url:
            params["return_url"] = self._return_url
        return await _intent(
            "confirm intent",
            self._intents.confirm_async(ref, params, {"idempotency_key": idempotency_key}),
        )

    async def get(self, ref: str) -> Intent:
        """The current intent. Raises ProviderUnavailable, ProviderRefused."""
        return await _intent("get intent", self._intents.retrieve_async(ref))

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent created for a payment. Raises ProviderUnavailable, ProviderRefused.

        Stripe's search finds a new intent only after a minute, so the newest are listed first. One
        missed by both is found by creating it: with its idempotency key Stripe returns the existing
        one.
        """
        newest = await _answer("list intents", self._intents.list_async({"limit": _PAGE}))
        found = intent_of(payment_id, read(newest, IntentList).data)
        if found is not None:
            return found
        query = f"metadata['payment_id']:'{payment_id}'"
        older = await _answer(
            "search intents", self._intents.search_async({"query": query, "limit": _PAGE})
        )
        return intent_of(payment_id, read(older, IntentList).data)

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent:
        """Cancel the intent. Raises ProviderUnavailable; ProviderRefused when money has arrived or
        is on its way."""
        return await _intent(
            "cancel intent",
            self._intents.cancel_async(ref, options={"idempotency_key": idempotency_key}),
        )

    async def refund(
        self,
        ref: str,
        *,
        amount_cents: int,
        payment_id: UUID,
        refund_id: UUID,
        idempotency_key: str,
    ) -> ProviderRefund:
        """Request a refund. Raises ProviderUnavailable, ProviderRefused."""
        metadata = {"payment_id": str(payment_id), "refund_id": str(refund_id)}
        request = self._refunds.create_async(
            {"payment_intent": ref, "amount": amount_cents, "metadata": metadata},
            {"idempotency_key": idempotency_key},
        )
        return own_refund(read(await _answer("create refund", request), Refund))

    async def get_refund(self, ref: str) -> ProviderRefund:
        """The current refund. Raises ProviderUnavailable, ProviderRefused."""
        return own_refund(
            read(await _answer("get refund", self._refunds.retrieve_async(ref)), Refund)
        )

    async def intents_since(self, since: datetime | None, after: str | None) -> list[Intent]:
        """A page of intents, newest first. Raises ProviderUnavailable, ProviderRefused."""
        params: PaymentIntentListParams = {"limit": _PAGE}
        if since is not None:
            params["created"] = {"gte": int(since.timestamp())}
        if after is not None:
            params["starting_after"] = after
        answer = await _answer("list intents", self._intents.list_async(params))
        return [own_intent(each) for each in read(answer, IntentList).data]

    async def refunds_since(
        self, since: datetime | None, after: str | None
    ) -> list[ProviderRefund]:
        """A page of refunds, newest first. Raises ProviderUnavailable, ProviderRefused."""
        params: RefundListParams = {"limit": _PAGE}
        if since is not None:
            params["created"] = {"gte": int(since.timestamp())}
        if after is not None:
            params["starting_after"] = after
        answer = await _answer("list refunds", self._refunds.list_async(params))
        return [own_refund(each) for each in read(answer, RefundList).data]

    def pay_page(self, payment_id: UUID) -> None:
        """None: clients build the page themselves with Stripe's elements."""

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a notice. Its intent is None for an unknown type, or a payment that is
        not ours.

        Raises InvalidSignature; ValueError when the body is not a notice.
        """
        # The package uses the machine's clock, and accepts the future: check the time here, by our
        # clock.
        webhook_signature.check_time(signature, now)
        if not any(_is_signed(body, signature, secret) for secret in self._webhook_secrets):
            raise InvalidSignature("no signature matches")
        return read_notice(body)


def _is_signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body, signature, secret))
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False


def _http_client(timeout_seconds: float, trust: Trust) -> stripe.HTTPXClient:
    """Stripe's package takes the authorities from its global variable when it makes a client."""
    usual = stripe.ca_bundle_path
    stripe.ca_bundle_path = trust.completed(usual)
    try:
        return stripe.HTTPXClient(timeout=timeout_seconds)
    finally:
        stripe.ca_bundle_path = usual


async def _intent(call: str, request: Awaitable[stripe.PaymentIntent]) -> Intent:
    try:
        return own_intent(read(await _answer(call, request), PaymentIntent))
    except stripe.CardError as refused:
        intent = declined(refused.http_body or "")
        if intent is None:
            raise failure(call, refused.http_status or 402, refused.http_body or "") from refused
        return intent


async def _answer(call: str, request: Awaitable[stripe.StripeObject]) -> str:
    """The answer as Stripe sent it. Raises ProviderUnavailable, ProviderRefused; stripe.CardError
    for a decline."""
    with timed_call("stripe", ProviderRefused, stripe.CardError):
        try:
            answer = await request
        except stripe.CardError:
            raise
        except stripe.APIConnectionError as error:
            raise ProviderUnavailable(f"{call}: {error.__cause__!r}") from error
        except stripe.StripeError as error:
            raise failure(call, error.http_status or 0, error.http_body or "") from error
    assert answer.last_response is not None
    return answer.last_response.body
