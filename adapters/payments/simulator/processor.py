"""The provider's operations: each changes an intent, stores it, and queues the webhook that reports
it."""

import secrets
import time
from collections.abc import Callable

from msgspec import Struct, json

from adapters.notices.background import Alarm
from adapters.payments.simulator import intents
from adapters.payments.simulator.cards import TestMethod
from adapters.payments.simulator.intents import (
    ApiError,
    IntentList,
    PaymentIntent,
    Refund,
    RefundList,
)
from adapters.payments.simulator.store import Answer, ProviderStore
from kit import tracing

_EVENT_OF_STATUS: dict[intents.Status, str] = {
    "succeeded": "payment_intent.succeeded",
    "requires_payment_method": "payment_intent.payment_failed",
    "requires_action": "payment_intent.requires_action",
    "canceled": "payment_intent.canceled",
}


class EventData(Struct, frozen=True):
    """The intent or the refund as it was right after the event."""

    object: PaymentIntent | Refund


class Event(Struct, frozen=True):
    """A webhook's body; `created` is in unix seconds."""

    id: str
    type: str
    created: int
    data: EventData
    object: str = "event"


class Processor:
    """The operations of the API. None of them awaits, so each completes before the next begins."""

    def __init__(
        self,
        store: ProviderStore,
        public_url: str,
        *,
        slow_seconds: float,
        webhook_delay_seconds: float,
    ) -> None:
        self._store = store
        self._public_url = public_url.rstrip("/")
        self._slow_seconds = slow_seconds
        self._webhook_delay = webhook_delay_seconds
        self.webhook_queued = Alarm()
        self.settlement_planned = Alarm()

    def once(
        self, idempotency_key: str | None, fingerprint: str, operation: Callable[[], Struct]
    ) -> Answer:
        """Run the operation and answer with its result; for a known key, repeat the first answer.

        The answer is stored in the operation's transaction. Refusals are stored like results,
        outages are not.
        """
        with self._store.transaction():
            if idempotency_key and (known := self._store.answer(idempotency_key)):
                if known[0] != fingerprint:
                    raise ApiError(
                        400, "idempotency_key_reused", "This key was used for another request."
                    )
                return known[1]
            try:
                answer = Answer(200, json.encode(operation()))
            except ApiError as error:
                if error.status >= 500:
                    raise
                answer = Answer(error.status, json.encode(error.document))
            if idempotency_key:
                self._store.keep_answer(idempotency_key, fingerprint, answer)
            return answer

    def create(
        self, amount: int, currency: str, metadata: dict[str, str], method: str | None
    ) -> PaymentIntent:
        """Create an intent; with a method it is confirmed at once, and not created if that is
        refused."""
        ref = _new_id("pi")
        client_secret = f"{ref}_secret_{secrets.token_hex(12)}"
        intent = PaymentIntent(
            ref, amount, currency.lower(), client_secret, int(time.time()), metadata
        )
        if method is not None:
            return self._confirm(intent, method)
        self._store.save(intent)
        return intent

    def get(self, ref: str) -> PaymentIntent:
        intent = self._store.intent(ref)
        if intent is None:
            raise ApiError(404, "resource_missing", f"There is no payment intent {ref!r}.")
        return intent

    def find(self, payment_id: str) -> IntentList:
        return IntentList(self._store.intents_of(payment_id))

    def list_intents(self, since: int, after: str | None) -> IntentList:
        if after is not None:
            self.get(after)
        return IntentList(self._store.intents_since(since, after))

    def list_refunds(self, since: int, after: str | None) -> RefundList:
        if after is not None:
            self.get_refund(after)
        return RefundList(self._store.refunds_since(since, after))

    def confirm(self, ref: str, method: str) -> PaymentIntent:
        return self._confirm(self.get(ref), method)

    def cancel(self, ref: str) -> PaymentIntent:
        return self._changed(intents.cancel(self.get(ref)))

    def authenticate(self, ref: str, *, approved: bool) -> PaymentIntent:
        """The payer's decision on the 3-D Secure page."""
        with self._store.transaction():
            return self._changed(intents.authenticate(self.get(ref), approved=approved))

    def refund(self, ref: str, amount: int | None, metadata: dict[str, str]) -> Refund:
        """Refund money: of a captured payment at most the captured amount, of an open intent any
        amount. With some cards a refund takes a while, and may fail. Unknown intents are refused.

        Whoever has the webhook's secret may report a capture to the shop by hand that never
        happened (tests and demonstrations do), and that money must be refundable, too. No webhook
        reports it.
        """
        before, now = self.get(ref), time.time()
        if before.status != "succeeded":
            if amount is None:
                raise ApiError(
                    400,
                    "parameter_missing",
                    f"{ref} was not captured here: say how much to give back.",
                )
            given = Refund(_new_id("re"), amount, before.currency, ref, int(now), metadata)
            self._store.save_refund(given)
            return given
        after = intents.refund(before, amount)
        given = Refund(
            _new_id("re"),
            after.amount_refunded - before.amount_refunded,
            after.currency,
            after.id,
            int(now),
            metadata,
            status=intents.first_status(after),
        )
        self._store.save(after)
        self._store.save_refund(
            given, now + self._slow_seconds if given.status == "pending" else None
        )
        self.settlement_planned.ring()
        self._tell("refund.created", given)
        self._tell("charge.refunded", after)
        return given

    def get_refund(self, ref: str) -> Refund:
        refund = self._store.refund(ref)
        if refund is None:
            raise ApiError(404, "resource_missing", f"There is no refund {ref!r}.")
        return refund

    async def settle_due(self) -> None:
        """Settle the slow payments and refunds that are due, then wait for the next (a background
        step)."""
        now = time.time()
        with self._store.transaction():
            for intent in self._store.intents_to_settle(now):
                self._changed(intents.settle(intent))
            for pending in self._store.refunds_to_end(now):
                intent = self.get(pending.payment_intent)
                self._end(intent, pending, fails=intent.payment_method == TestMethod.REFUND_FAIL)
        await self.settlement_planned.wait(self._store.next_settlement_at())

    def expire_refund(self, ref: str) -> Refund:
        """Fail a pending refund now, whatever the card."""
        refund = self.get_refund(ref)
        if refund.status != "pending":
            raise ApiError(400, "refund_not_pending", f"{ref} is {refund.status}.")
        return self._end(self.get(refund.payment_intent), refund, fails=True)

    def _end(self, intent: PaymentIntent, pending: Refund, *, fails: bool) -> Refund:
        after, ended = intents.end_refund(intent, pending, fails=fails)
        self._store.save(after)
        self._store.save_refund(ended)
        if fails:
            self._tell("refund.failed", ended)
        self._tell("refund.updated", ended)
        return ended

    def _confirm(self, intent: PaymentIntent, method: str) -> PaymentIntent:
        return self._changed(intents.confirm(intent, method, f"{self._public_url}/3ds/{intent.id}"))

    def _changed(self, intent: PaymentIntent) -> PaymentIntent:
        if intent.status == "processing":
            self._store.save(intent, settles_at=time.time() + self._slow_seconds)
            self.settlement_planned.ring()
        else:
            self._store.save(intent)
            self._tell(_EVENT_OF_STATUS[intent.status], intent)
        return intent

    def _tell(self, event_type: str, about: PaymentIntent | Refund) -> None:
        now = time.time()
        event = Event(_new_id("evt"), event_type, int(now), EventData(about))
        self._store.add_webhook(
            event.id, json.encode(event), now, now + self._webhook_delay, tracing.traceparent()
        )
        self.webhook_queued.ring()


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
