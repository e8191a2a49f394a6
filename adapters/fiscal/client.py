"""The client of a fiscal operator that speaks HTTP: fulfils the port `FiscalOperator`."""

from uuid import UUID

import aiohttp
import msgspec

from commands.ports.fiscal import IssuedReceipt, OperatorRefused, OperatorUnavailable

ACCEPTED = 202
"""HTTP's "taken in, but not done yet" (RFC 9110, 15.3.3)."""


class _Receipt(msgspec.Struct):
    reference: str = ""
    url: str | None = None
    status: str = "issued"
    code: str = ""


_ISSUED = frozenset({"issued", "created", "authorized"})
_REFUSED = frozenset({"rejected", "refused", "denied", "failed", "canceled"})


class _Refusal(msgspec.Struct):
    code: str
    message: str = ""


class HttpFiscalOperator:
    """Talks to the operator at `base_url`, with its API `key`, if any; `timeout_seconds` bounds a whole call. Close it
    with `aclose`."""

    def __init__(self, base_url: str, timeout_seconds: float = 10.0, *, key: str = "") -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None  # made on first use: it belongs to the running loop

    async def aclose(self) -> None:
        """Close the connections, for good."""
        if self._session is not None:
            await self._session.close()

    async def issue(
        self,
        *,
        seller_id: UUID,
        year: int,
        number: int,
        order_id: UUID,
        amount_cents: int,
        currency: str,
        idempotency_key: str,
    ) -> IssuedReceipt:
        """Report a sale. Raises OperatorUnavailable, also while the operator has yet to decide; OperatorRefused."""
        body = {
            "seller_id": str(seller_id),
            "year": year,
            "number": number,
            "order_id": str(order_id),
            "amount_cents": amount_cents,
            "currency": currency,
        }
        status, answer = await self._post("/v1/receipts", body, idempotency_key)
        if not 200 <= status < 300:
            raise _failure(status, answer)
        try:
            receipt = msgspec.json.decode(answer, type=_Receipt)
        except (msgspec.MsgspecError, RecursionError) as error:  # as unknown as no answer at all
            raise OperatorUnavailable(f"unreadable answer: {error}") from error
        state = receipt.status.lower()
        if state in _REFUSED:
            raise OperatorRefused(receipt.code or f"receipt_{state}", "the operator did not issue the receipt")
        if status == ACCEPTED or state not in _ISSUED or not receipt.reference:
            # It was taken in, and will be decided on later: it is asked after again, under the same key.
            raise OperatorUnavailable(f"the receipt is {state} and not issued yet")
        return IssuedReceipt(receipt.reference, receipt.url)

    async def _post(self, path: str, body: dict[str, object], idempotency_key: str) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = {**self._headers, "Idempotency-Key": idempotency_key}
        try:
            async with self._session.post(
                self._base_url + path, json=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OperatorUnavailable(f"POST {path}: {error!r}") from error


def _failure(status: int, answer: bytes) -> OperatorRefused | OperatorUnavailable:
    # 408 and 429 are the two refusals that a later repeat mends.
    if not 400 <= status < 500 or status in (408, 429):
        return OperatorUnavailable(f"HTTP {status}")
    try:
        refusal = msgspec.json.decode(answer, type=_Refusal)
    except (msgspec.MsgspecError, RecursionError):
        refusal = _Refusal(f"http_{status}")
    return OperatorRefused(refusal.code, refusal.message)
