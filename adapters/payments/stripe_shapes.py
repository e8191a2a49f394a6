"""Stripe's objects, as far as they are used here, and their translation to the terms of
`commands.ports`.

Both providers use them, Stripe itself and the simulated one: answers, refusals and webhook notices.
Stripe's reference: https://docs.stripe.com/api/payment_intents/object, …/charges/object,
…/events/object, …/errors.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from commands.ports.payments import (
    Intent,
    IntentStatus,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
    RefundStatus,
)
from kit.json_errors import JSON_ERRORS

_STATUS_OF_EVENT: Mapping[str, IntentStatus] = {
    "payment_intent.succeeded": "succeeded",
    "payment_intent.payment_failed": "failed",
    "payment_intent.requires_action": "requires_action",
    "payment_intent.processing": "processing",
    "payment_intent.canceled": "canceled",
    "charge.refunded": "succeeded",
}
"""The known events of intents, and the status after each. They may arrive in any order; each
reports its own moment."""

_REFUND_EVENTS = frozenset(
    {"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"}
)
"""The events about a refund."""

_DISPUTE_EVENTS: Mapping[str, RefundStatus] = {
    "charge.dispute.funds_withdrawn": "SUCCEEDED",
    "charge.dispute.funds_reinstated": "FAILED",
}
"""The events by which a buyer's bank takes money back, or returns it: a refund that nobody
requested here."""

_REFUND_STATUS: Mapping[str, RefundStatus] = {
    "pending": "PENDING",
    "requires_action": "PENDING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "canceled": "FAILED",
}

_Status = Literal[
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "succeeded",
    "canceled",
]
_STATUS: Mapping[_Status, IntentStatus] = {
    "requires_payment_method": "requires_payment_method",
    "requires_confirmation": "requires_payment_method",
    "requires_action": "requires_action",
    "processing": "processing",
    "requires_capture": "processing",
    "succeeded": "succeeded",
    "canceled": "canceled",
}

_MENDED_BY_A_REPEAT = frozenset({401, 403, 408, 409, 429})
"""Refusals that a retry may overcome: our key is wrong (operators fix that; no buyer is declined
for it), too slow, another call with this idempotency key is running, too many calls."""

_Id = Annotated[str, Meta(min_length=1)]
_Cents = Annotated[int, Meta(ge=0)]
_T = TypeVar("_T")


class Error(Struct):
    """Why a call, or an attempt to pay, failed. A decline has the intent that it leaves."""

    type: str = ""
    code: str | None = None
    message: str | None = None
    payment_intent: "PaymentIntent | None" = None


class _RedirectToUrl(Struct):
    url: str | None = None


class _NextAction(Struct):
    redirect_to_url: _RedirectToUrl | None = None


class _Reference(Struct):
    id: _Id


class _NoticeObject(Struct, kw_only=True):
    """What a notice is about: an intent, or a charge, which names its intent. The notice's type
    already gives the status."""

    id: _Id
    amount: _Cents
    currency: Annotated[str, Meta(pattern="^[A-Za-z]{3}$")]
    client_secret: str | None = None
    metadata: dict[str, object] | None = None
    last_payment_error: Error | None = None
    next_action: _NextAction | None = None
    payment_intent: _Id | _Reference | None = None
    amount_refunded: _Cents | None = None


class PaymentIntent(_NoticeObject, kw_only=True):
    """An intent in an answer."""

    status: _Status


class IntentList(Struct):
    """A page of intents."""

    data: list[PaymentIntent]


class Refund(Struct):
    """A refund; `status` is pending, requires_action, succeeded, failed or canceled. A dispute has
    other statuses; its events say more."""

    id: _Id
    amount: _Cents
    status: str | None = None
    failure_reason: str | None = None
    payment_intent: _Id | _Reference | None = None
    metadata: dict[str, object] | None = None


class RefundList(Struct):
    """A page of refunds."""

    data: list[Refund]


class _Refusal(Struct):
    error: Error


class _EventData(Struct):
    object: msgspec.Raw = msgspec.Raw(b"null")  # decoded only for known types


class _Event(Struct):
    id: _Id
    type: _Id
    created: int
    data: _EventData = field(default_factory=_EventData)


# -- answers ---------------------------------------------------------------------------------------


def read(body: bytes | str, shape: type[_T]) -> _T:
    """Decode an answer. Raises ProviderUnavailable: an unreadable one leaves the outcome as unknown
    as none at all."""
    try:
        return msgspec.json.decode(body, type=shape)
    except JSON_ERRORS as error:
        raise ProviderUnavailable(f"unreadable answer: {error}") from error


def own_intent(found: PaymentIntent) -> Intent:
    """An intent in our terms."""
    error = found.last_payment_error
    # Without a code a call failed, not a card (an "idempotency_error").
    failed = found.status == "requires_payment_method" and error is not None and bool(error.code)
    return _intent(found, "failed" if failed else _STATUS[found.status])


def intent_of(payment_id: UUID, found: Iterable[PaymentIntent]) -> Intent | None:
    """The payment's own intent among these, newest first: the paid one if there is one, else the
    newest."""
    intents = [intent for intent in map(own_intent, found) if intent.payment_id == payment_id]
    return next(
        (intent for intent in intents if intent.status == "succeeded"), next(iter(intents), None)
    )


def own_refund(found: Refund, status: RefundStatus | None = None) -> ProviderRefund:
    """A refund in our terms. One with an unknown status counts as pending."""
    status = status or _REFUND_STATUS.get(found.status or "", "PENDING")
    intent = found.payment_intent
    return ProviderRefund(
        ref=found.id,
        amount_cents=found.amount,
        status=status,
        code=(found.failure_reason or f"refund_{found.status or 'failed'}")
        if status == "FAILED"
        else "",
        payment_id=_uuid(found.metadata, "payment_id"),
        refund_id=_uuid(found.metadata, "refund_id"),
        intent_ref=intent.id if isinstance(intent, _Reference) else intent or "",
    )


def declined(body: bytes | str) -> Intent | None:
    """The intent of a refusal that reports a declined card; None for any other refusal."""
    error = _error(body)
    if error.type != "card_error" or error.payment_intent is None:
        return None
    return own_intent(replace(error.payment_intent, last_payment_error=error))


def failure(call: str, status: int, body: bytes | str) -> ProviderRefused | ProviderUnavailable:
    """The meaning of an answer with an HTTP status other than 2xx."""
    if not 400 <= status < 500 or status in _MENDED_BY_A_REPEAT:
        return ProviderUnavailable(f"{call}: HTTP {status}")
    error = _error(body)
    # Messages about anything but a card are for operators, and may contain our key: hide them from
    # buyers.
    detail = error.message if error.type == "card_error" else None
    return ProviderRefused(
        error.code or f"http_{status}", detail or "the payment provider refused the request"
    )


def _error(body: bytes | str) -> Error:
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except JSON_ERRORS:
        return Error()


# -- notices ---------------------------------------------------------------------------------------


def read_notice(body: bytes) -> ProviderNotice:
    """Read the body of a webhook; its intent and refund are None for a type that we do not know,
    and its intent for a payment not ours.

    Raises ValueError when the body is not a notice.
    """
    try:
        event = msgspec.json.decode(body, type=_Event)
        created = datetime.fromtimestamp(event.created, UTC)
        intent = _noticed(event) if event.type in _STATUS_OF_EVENT else None
        refund = _noticed_refund(event)
    except (*JSON_ERRORS, OverflowError, OSError) as error:
        raise ValueError(f"not a notice: {error}") from error
    ours = intent is not None and intent.payment_id is not None
    return ProviderNotice(event.id, event.type, created, intent if ours else None, refund)


def _noticed_refund(event: _Event) -> ProviderRefund | None:
    if event.type not in _REFUND_EVENTS and event.type not in _DISPUTE_EVENTS:
        return None
    found = msgspec.json.decode(event.data.object, type=Refund)
    if event.type in _DISPUTE_EVENTS:
        dispute = own_refund(found, _DISPUTE_EVENTS[event.type])
        return replace(dispute, code="dispute_won" if dispute.status == "FAILED" else "")
    return own_refund(found, "FAILED" if event.type == "refund.failed" else None)


def _noticed(event: _Event) -> Intent:
    found = msgspec.json.decode(event.data.object, type=_NoticeObject)
    intent = _intent(found, _STATUS_OF_EVENT[event.type])
    if event.type != "charge.refunded":
        return intent
    refunded = found.amount if found.amount_refunded is None else found.amount_refunded
    return replace(intent, refunded_cents=refunded)


def _web_address(url: str | None) -> str:
    """Where a buyer may be sent: a browser would run another scheme."""
    return url if url and url.startswith(("https://", "http://")) else ""


def _intent(found: _NoticeObject, status: IntentStatus) -> Intent:
    of_charge = found.payment_intent
    redirect = found.next_action.redirect_to_url if found.next_action else None
    error = found.last_payment_error or Error()
    return Intent(
        ref=of_charge.id if isinstance(of_charge, _Reference) else of_charge or found.id,
        status=status,
        amount_cents=found.amount,
        currency=found.currency.upper(),
        payment_id=_uuid(found.metadata, "payment_id"),
        client_secret=found.client_secret or "",
        redirect_url=_web_address(redirect.url) if redirect else "",
        code=error.code or "",
        detail=error.message or "",
    )


def _uuid(metadata: Mapping[str, object] | None, name: str) -> UUID | None:
    try:
        return UUID(str((metadata or {}).get(name)))
    except ValueError:
        return None
