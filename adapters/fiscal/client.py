"""The client of a fiscal operator over HTTP: implements the port `FiscalOperator`."""

import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import aiohttp
import msgspec

from adapters.answers import whole_body
from commands.ports.fiscal import IssuedReceipt, KnownReceipt, OperatorRefused, OperatorUnavailable
from kit import tracing
from kit.json_errors import JSON_ERRORS
from kit.metrics import timed_call

ACCEPTED = 202
"""HTTP's "accepted, but not completed" (RFC 9110, 15.3.3)."""

NOT_FOUND = 404
MAX_CODE_LENGTH = 100

T = TypeVar("T")

_Reference = Annotated[str, msgspec.Meta(max_length=255)]
_Url = Annotated[str, msgspec.Meta(max_length=2_000)]


class _Receipt(msgspec.Struct):
    reference: _Reference = ""
    url: _Url | None = None
    status: str = "issued"
    code: str = ""


_ISSUED = frozenset({"issued", "created", "authorized"})
_REFUSED = frozenset({"rejected", "refused", "denied", "failed", "canceled"})


class _Listed(msgspec.Struct):
    """A listed receipt, including one entered by hand at the operator (such as a negative
    correction)."""

    seller_id: UUID
    year: Annotated[int, msgspec.Meta(ge=0, le=9999)]
    number: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    order_id: UUID
    amount_cents: Annotated[int, msgspec.Meta(ge=-(10**12), le=10**12)]
    currency: Annotated[str, msgspec.Meta(max_length=10)]
    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    url: _Url | None = None


class _List(msgspec.Struct):
    receipts: list[_Listed]


class _NotFound(OperatorRefused):
    """The operator does not have what was asked for."""


class _Refusal(msgspec.Struct):
    code: str
    message: str = ""


class HttpFiscalOperator:
    """Talks to the operator at `base_url`, with its API `key`, if any. `timeout_seconds` bounds a
    whole call. Close it with `aclose`."""

    def __init__(
        self,
        base_url: str,
        timeout_seconds: float = 10.0,
        *,
        key: str = "",
        tls: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._tls = tls
        # made on first use: it belongs to the running loop
        self._session: aiohttp.ClientSession | None = None

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
        """Report a sale. Raises OperatorRefused; OperatorUnavailable, also while the operator has
        yet to decide."""
        body = {
            "seller_id": str(seller_id),
            "year": year,
            "number": number,
            "order_id": str(order_id),
            "amount_cents": amount_cents,
            "currency": currency,
        }
        status, answer = await self._call(
            "POST", "/v1/receipts", body, {"Idempotency-Key": idempotency_key}
        )
        receipt = _read(answer, _Receipt)
        state = receipt.status.lower()
        if state in _REFUSED:
            code = receipt.code[:MAX_CODE_LENGTH] or f"receipt_{state}"
            raise OperatorRefused(code, "the operator did not issue the receipt")
        if status == ACCEPTED or state not in _ISSUED or not receipt.reference:
            # The operator will decide later: the worker asks again, under the same key.
            raise OperatorUnavailable(f"the receipt is {state} and not issued yet")
        return IssuedReceipt(receipt.reference, receipt.url)

    async def receipt_of(self, seller_id: UUID, order_id: UUID) -> KnownReceipt | None:
        """The receipt that the operator has issued to a seller for an order. Raises
        OperatorUnavailable, OperatorRefused."""
        listed = await self._list(f"/v1/orders/{order_id}/receipts?seller_id={seller_id}")
        return next(
            (each for each in listed if (each.seller_id, each.order_id) == (seller_id, order_id)),
            None,
        )

    async def receipts_from(
        self, seller_id: UUID, year: int, number: int
    ) -> Sequence[KnownReceipt]:
        """The first receipts of a book from this number on. Raises OperatorUnavailable,
        OperatorRefused."""
        listed = await self._list(f"/v1/books/{seller_id}/{year}/receipts?from_number={number}")
        return [
            each
            for each in listed
            if (each.seller_id, each.year) == (seller_id, year) and each.number >= number
        ]

    async def receipts_since(
        self, issued_since: datetime | None, after: str | None
    ) -> Sequence[KnownReceipt]:
        """The next receipts of all books. Raises OperatorUnavailable, OperatorRefused."""
        params = {} if issued_since is None else {"since": str(int(issued_since.timestamp()))}
        return await self._list(
            "/v1/receipts", {**params, "after": after} if after is not None else params
        )

    async def _list(self, path: str, params: Mapping[str, str] | None = None) -> list[KnownReceipt]:
        try:
            _, answer = await self._call("GET", path, params=params)
        except _NotFound:
            return []  # the operator has no such book or order, or does not show them
        return [
            KnownReceipt(**msgspec.structs.asdict(each)) for each in _read(answer, _List).receipts
        ]

    async def _call(
        self,
        verb: Literal["GET", "POST"],
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """A successful answer: its status and body. Raises OperatorUnavailable, OperatorRefused."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls), timeout=self._timeout
            )
        with timed_call("fiscal", OperatorRefused):
            try:
                async with self._session.request(
                    verb,
                    self._base_url + path,
                    json=body,
                    params=params,
                    headers={**self._headers, **(headers or {}), **tracing.headers()},
                    allow_redirects=False,
                ) as response:
                    status, answer = response.status, await whole_body(response)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise OperatorUnavailable(f"{verb} {path}: {error!r}") from error
            if not 200 <= status < 300:
                raise _failure(status, answer)
            return status, answer


def _read(answer: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=type_)
    except JSON_ERRORS as error:
        # the outcome is as unknown as without an answer
        raise OperatorUnavailable(f"unreadable answer: {error}") from error


def _failure(status: int, answer: bytes) -> OperatorRefused | OperatorUnavailable:
    # 408 and 429 are the two refusals that a retry may overcome.
    if not 400 <= status < 500 or status in (408, 429):
        return OperatorUnavailable(f"HTTP {status}")
    try:
        refusal = msgspec.json.decode(answer, type=_Refusal)
    except JSON_ERRORS:
        refusal = _Refusal(f"http_{status}")
    kind = _NotFound if status == NOT_FOUND else OperatorRefused
    return kind(refusal.code[:MAX_CODE_LENGTH], refusal.message)
