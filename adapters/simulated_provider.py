"""The client of the simulated payment provider: fulfils the port `PaymentProvider` over HTTP."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from urllib.parse import quote
from uuid import UUID

import aiohttp
import msgspec
from msgspec import Meta, Struct, field
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_fixed
from yarl import URL

from adapters import webhook_signature
from commands.ports import (
    Intent,
    IntentStatus,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
)

_CONNECTION_LOST = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""The connection broke, or a kept one had died: worth one more try at once. A time-out is not."""

_STATUS_OF_EVENT: Mapping[str, IntentStatus] = {
    "payment_intent.succeeded": "succeeded",
    "payment_intent.payment_failed": "failed",
    "payment_intent.requires_action": "requires_action",
    "payment_intent.canceled": "canceled",
    "charge.refunded": "succeeded",
}
"""The events we know, and how they leave the intent. They may arrive in any order; each speaks of its own moment."""

_Id = Annotated[str, Meta(min_length=1)]
_T = TypeVar("_T")


class _Error(Struct):
    code: str = ""
    message: str = ""


class _RedirectToUrl(Struct):
    url: str


class _NextAction(Struct):
    redirect_to_url: _RedirectToUrl | None = None


class _NoticeObject(Struct, kw_only=True):
    """What a notice speaks of. Its type already says the status."""

    id: _Id
    amount: Annotated[int, Meta(ge=0)]
    currency: Annotated[str, Meta(pattern="^[A-Za-z]{3}$")]
    client_secret: str | None = None
    metadata: dict[str, object] | None = None
    last_payment_error: _Error | None = None
    next_action: _NextAction | None = None


class _PaymentIntent(_NoticeObject, kw_only=True):
    status: IntentStatus


class _IntentList(Struct):
    data: list[_PaymentIntent]


class _Refund(Struct):
    id: _Id
    amount: int


class _Refusal(Struct):
    error: _Error


class _EventData(Struct):
    object: msgspec.Raw = msgspec.Raw(b"null")  # read only where the type is one that we know


class _Event(Struct):
    id: _Id
    type: _Id
    created: int
    data: _EventData = field(default_factory=_EventData)


class SimulatedProvider:
    """Talks to the simulated provider at `base_url`. Close it with `aclose`.

    `webhook_secrets` are all that a notice may be signed with; `timeout_seconds` bounds each step of a call
    (connecting, sending, waiting for the answer).
    """

    name = "simulated"

    def __init__(self, base_url: str, webhook_secrets: Sequence[str], timeout_seconds: float = 10.0) -> None:
        self._webhook_secrets = tuple(webhook_secrets)
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=None, connect=timeout_seconds, sock_read=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None  # made on first use: it belongs to the running loop
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
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self._session

    async def create(
        self, payment_id: UUID, amount_cents: int, currency: str, *, method: str | None, idempotency_key: str
    ) -> Intent:
        """Create the payment's intent and, with a method, confirm it. A decline is an Intent with status `failed`.

        Raises ProviderUnavailable, ProviderRefused.
        """
        body: dict[str, object] = {
            "amount": amount_cents,
            "currency": currency,
            "metadata": {"payment_id": str(payment_id)},
        }
        if method is not None:
            body["payment_method"] = method
        return _own_intent(await self._post("/v1/payment_intents", body, idempotency_key, _PaymentIntent))

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that awaits one. Raises ProviderUnavailable, ProviderRefused."""
        path, body = f"{_path(ref)}/confirm", {"payment_method": method}
        return _own_intent(await self._post(path, body, idempotency_key, _PaymentIntent))

    async def get(self, ref: str) -> Intent:
        """The intent as it stands. Raises ProviderUnavailable, ProviderRefused."""
        return _own_intent(_decode(await self._request("GET", _path(ref)), _PaymentIntent))

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent made for a payment: of several, the one that was paid, or else the newest.

        Raises ProviderUnavailable, ProviderRefused.
        """
        response = await self._request("GET", "/v1/payment_intents", params={"payment_id": str(payment_id)})
        intents = [_own_intent(found) for found in _decode(response, _IntentList).data]
        return next((intent for intent in intents if intent.status == "succeeded"), next(iter(intents), None))

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent:
        """Give the intent up. Raises ProviderUnavailable; ProviderRefused when money has come or is on its way."""
        return _own_intent(await self._post(f"{_path(ref)}/cancel", {}, idempotency_key, _PaymentIntent))

    async def refund(self, ref: str, *, amount_cents: int, idempotency_key: str) -> ProviderRefund:
        """Give money back. Raises ProviderUnavailable, ProviderRefused."""
        body: dict[str, object] = {"payment_intent": ref, "amount": amount_cents}
        refund = await self._post("/v1/refunds", body, idempotency_key, _Refund)
        return ProviderRefund(ref=refund.id, amount_cents=refund.amount)

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a notice; its intent is None for a type that we do not know, or a payment not ours.

        Raises InvalidSignature; ValueError when the body is not a notice.
        """
        webhook_signature.verify(body, signature, self._webhook_secrets, now)
        try:
            event = msgspec.json.decode(body, type=_Event)
            created = datetime.fromtimestamp(event.created, UTC)
            intent = _intent_of_event(event)
        except (msgspec.MsgspecError, OverflowError, OSError) as error:
            raise ValueError(f"not a notice: {error}") from error
        return ProviderNotice(event_id=event.id, type=event.type, created=created, intent=intent)

    async def _post(self, path: str, body: Mapping[str, object], idempotency_key: str, answer: type[_T]) -> _T:
        return _decode(
            await self._request("POST", path, json=body, headers={"Idempotency-Key": idempotency_key}), answer
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

        status, reason, body = 0, "", b""
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_CONNECTION_LOST),
                stop=stop_after_attempt(2),
                wait=wait_fixed(0.05),
                reraise=True,
            ):
                with attempt:
                    async with session.request(
                        verb, url, json=json, params=params, headers=headers, allow_redirects=False
                    ) as response:
                        status, reason, body = response.status, response.reason or "", await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProviderUnavailable(f"{verb} {path}: {error!r}") from error
        if 200 <= status < 300:
            return body
        raise _failure(f"{verb} {path}", status, reason, body)


def _path(ref: str) -> str:
    return f"/v1/payment_intents/{quote(ref, safe='')}"


def _failure(call: str, status: int, reason: str, body: bytes) -> ProviderRefused | ProviderUnavailable:
    # 408 and 429 are the two refusals that a later repeat mends.
    if not 400 <= status < 500 or status in (408, 429):
        return ProviderUnavailable(f"{call}: HTTP {status}")
    try:
        error = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.MsgspecError:
        error = _Error()
    return ProviderRefused(error.code or f"http_{status}", error.message or reason)


def _decode(body: bytes, answer: type[_T]) -> _T:
    """Read an answer. One that makes no sense leaves the outcome as unknown as none at all."""
    try:
        return msgspec.json.decode(body, type=answer)
    except msgspec.MsgspecError as error:
        raise ProviderUnavailable(f"unreadable answer: {error}") from error


def _own_intent(found: _PaymentIntent) -> Intent:
    status: IntentStatus = found.status
    if status == "requires_payment_method" and found.last_payment_error:
        status = "failed"
    intent = _intent(found, status)
    if intent is None:
        raise ProviderRefused("foreign_intent", f"{found.id} belongs to no payment of ours")
    return intent


def _intent_of_event(event: _Event) -> Intent | None:
    if event.type not in _STATUS_OF_EVENT:
        return None
    return _intent(msgspec.json.decode(event.data.object, type=_NoticeObject), _STATUS_OF_EVENT[event.type])


def _intent(found: _NoticeObject, status: IntentStatus) -> Intent | None:
    """The intent in our terms, or None when its metadata name no payment of ours."""
    try:
        payment_id = UUID(str((found.metadata or {}).get("payment_id")))
    except ValueError:
        return None
    redirect = found.next_action.redirect_to_url if found.next_action else None
    error = found.last_payment_error or _Error()
    return Intent(
        ref=found.id,
        status=status,
        amount_cents=found.amount,
        currency=found.currency.upper(),
        payment_id=payment_id,
        client_secret=found.client_secret or "",
        redirect_url=redirect.url if redirect else "",
        code=error.code,
        detail=error.message,
    )
