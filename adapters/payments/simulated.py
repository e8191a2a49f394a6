"""The client of the simulated payment provider: implements the port `PaymentProvider` over HTTP."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote
from uuid import UUID

import aiohttp
from yarl import URL

from adapters.answers import whole_body
from adapters.payments.stripe_shapes import (
    IntentList,
    PaymentIntent,
    Refund,
    RefundList,
    failure,
    intent_of,
    own_intent,
    own_refund,
    read,
    read_notice,
)
from adapters.webhooks.signature import SignatureVerifier
from commands.ports.payments import (
    Intent,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)
from kit import tracing
from kit.metrics import timed_call

_CONNECTION_LOST = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""The connection broke, or a reused one was dead: worth another try at once, unlike a time-out."""

_PAUSE_SECONDS = 0.05


class SimulatedProvider:
    """Talks to the simulated provider at `base_url`. Close it with `aclose`.

    `webhook_secrets` are all secrets that may sign a notice; `timeout_seconds` bounds each step of
    a call (connecting, sending, waiting for the answer). `public_url` is where payers reach its
    pages, if elsewhere; `key` is its API key, if it requires one.
    """

    name = "simulated"

    def __init__(
        self,
        base_url: str,
        webhook_secrets: Sequence[str],
        timeout_seconds: float = 10.0,
        *,
        public_url: str = "",
        key: str = "",
        tls: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._webhooks = SignatureVerifier(webhook_secrets)
        self._base_url = base_url.rstrip("/")
        self._public_url = public_url.rstrip("/") or self._base_url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(
            total=3 * timeout_seconds, connect=timeout_seconds, sock_read=timeout_seconds
        )
        self._tls = tls
        # made on first use: it belongs to the running loop
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def aclose(self) -> None:
        """Close the connections, for good."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the provider's client is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls),
                timeout=self._timeout,
                headers=self._headers,
            )
        return self._session

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
        body: dict[str, object] = {
            "amount": amount_cents,
            "currency": currency,
            "metadata": {"payment_id": str(payment_id)},
        }
        if method is not None:
            body["payment_method"] = method
        return await self._post_intent("/v1/payment_intents", body, idempotency_key)

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that waits for one. Raises ProviderUnavailable,
        ProviderRefused."""
        return await self._post_intent(
            f"{_path(ref)}/confirm", {"payment_method": method}, idempotency_key
        )

    async def get(self, ref: str) -> Intent:
        """The current intent. Raises ProviderUnavailable, ProviderRefused."""
        return own_intent(read(await self._request("GET", _path(ref)), PaymentIntent))

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent created for a payment. Raises ProviderUnavailable, ProviderRefused."""
        answer = await self._request(
            "GET", "/v1/payment_intents", params={"payment_id": str(payment_id)}
        )
        return intent_of(payment_id, read(answer, IntentList).data)

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent:
        """Cancel the intent. Raises ProviderUnavailable; ProviderRefused when money has arrived or
        is on its way."""
        return await self._post_intent(f"{_path(ref)}/cancel", {}, idempotency_key)

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
        body: dict[str, object] = {
            "payment_intent": ref,
            "amount": amount_cents,
            "metadata": metadata,
        }
        return own_refund(read(await self._post("/v1/refunds", body, idempotency_key), Refund))

    async def get_refund(self, ref: str) -> ProviderRefund:
        """The current refund. Raises ProviderUnavailable, ProviderRefused."""
        return own_refund(
            read(await self._request("GET", f"/v1/refunds/{quote(ref, safe='')}"), Refund)
        )

    async def intents_since(self, since: datetime | None, after: str | None) -> list[Intent]:
        """A page of intents, newest first. Raises ProviderUnavailable, ProviderRefused."""
        answer = await self._request("GET", "/v1/payment_intents", params=_page(since, after))
        return [own_intent(each) for each in read(answer, IntentList).data]

    async def refunds_since(
        self, since: datetime | None, after: str | None
    ) -> list[ProviderRefund]:
        """A page of refunds, newest first. Raises ProviderUnavailable, ProviderRefused."""
        answer = await self._request("GET", "/v1/refunds", params=_page(since, after))
        return [own_refund(each) for each in read(answer, RefundList).data]

    def pay_page(self, payment_id: UUID) -> str:
        """The provider's page to pay this payment in a browser."""
        return f"{self._public_url}/pay/{payment_id}"

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a notice. Its intent is None for an unknown type, or a payment that is
        not ours.

        Raises InvalidSignature; ValueError when the body is not a notice.
        """
        self._webhooks.check(body, signature, now)
        return read_notice(body)

    async def _post_intent(
        self, path: str, body: Mapping[str, object], idempotency_key: str
    ) -> Intent:
        return own_intent(read(await self._post(path, body, idempotency_key), PaymentIntent))

    async def _post(self, path: str, body: Mapping[str, object], idempotency_key: str) -> bytes:
        return await self._request(
            "POST", path, json=body, headers={"Idempotency-Key": idempotency_key}
        )

    async def _request(
        self,
        verb: str,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The answer's body. Raises ProviderUnavailable, ProviderRefused."""
        session = self._open_session()
        url = URL(self._base_url + path, encoded=True)

        async def once() -> tuple[int, bytes]:
            async with session.request(
                verb,
                url,
                json=json,
                params=params,
                headers={**(headers or {}), **tracing.headers()},
                allow_redirects=False,
            ) as response:
                return response.status, await whole_body(response)

        with timed_call(self.name, ProviderRefused):
            try:
                try:
                    status, body = await once()
                except _CONNECTION_LOST:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    status, body = await once()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ProviderUnavailable(f"{verb} {path}: {error!r}") from error
            if 200 <= status < 300:
                return body
            raise failure(f"{verb} {path}", status, body)


def _path(ref: str) -> str:
    return f"/v1/payment_intents/{quote(ref, safe='')}"


def _page(since: datetime | None, after: str | None) -> dict[str, str]:
    """The parameters for a page of a list."""
    begin = {} if since is None else {"created[gte]": str(int(since.timestamp()))}
    return begin if after is None else {**begin, "starting_after": after}
