"""Commands on payments: attach a method, refund, receive the provider's notices."""

import asyncio
import logging
from uuid import UUID

from commands.accounts.open_accounts import must_be_open
from commands.aggregates import PAYMENT
from commands.caller import Caller, not_yours
from commands.handler import CommandHandler, CommandResult
from commands.kept_notices import handle_notice, keep_notice
from commands.order_saga import owned_order, request_refund
from commands.ports.payments import (
    Intent,
    PaymentProvider,
    ProviderNotice,
    ProviderRefund,
    ProviderRefused,
)
from commands.ports.signatures import InvalidSignature
from commands.ports.text_log import TextLog
from commands.sealed_secrets import SealedSecrets
from commands.wallets import pay_from_wallet, wallet_of
from domain import orders, payments
from domain.errors import Conflict, Invalid, Refused
from domain.events import Event
from domain.notices import SignedBody
from domain.payments import Method, NoticedIntent, Outcome, Payment, PaymentNoticeReceived
from domain.payments.refunds import NoticedRefund
from eventstore.log import IdempotencyKey, first_event
from eventstore.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

UNKNOWN = "unknown_payment"


class PaymentCommands:
    def __init__(
        self,
        handler: CommandHandler,
        provider: PaymentProvider,
        secrets: SealedSecrets,
        text_log: TextLog,
    ) -> None:
        self._handler = handler
        self._provider = provider
        self._secrets = secrets
        self._text_log = text_log

    def client_secret(self, payment_id: UUID, ref: str | None) -> str | None:
        """The provider's client secret behind an event's reference. Show it only to the payer."""
        return self._secrets.open(payment_id, ref)

    def pay_page(self, payment_id: UUID) -> str | None:
        """The URL of the provider's payment page, if it has one."""
        return self._provider.pay_page(payment_id)

    async def attach(
        self,
        caller: Caller,
        order_id: UUID,
        method: Method | None,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Pay an order by this method. Returns the payment's id; without a method, does nothing
        else.

        Raises NotFound, Forbidden, Conflict: order_cancelled, order_expired, order_paid,
        payment_started; Invalid. A wallet pays at once, and also raises
        NotFound("wallet_not_found"); Conflict: insufficient_funds, wallet_inactive, wallet_frozen.
        """

        async def decision(unit: UnitOfWork) -> UUID:
            order = await owned_order(unit, caller, order_id)
            await must_be_open(unit, order.buyer_id)
            payment = await unit.get(PAYMENT, order.payment_id)
            by_wallet = method is not None and method.type == "wallet"
            if by_wallet and caller.user_id != order.buyer_id:
                raise not_yours("wallet")
            orders.must_be_payable(order, paid=payment.is_captured, now=self._handler.now())
            if by_wallet:
                wallet_id = await wallet_of(unit, order.buyer_id, payment.currency)
                wallet = Method("wallet", str(wallet_id))
                unit.emit(
                    order.payment_id, payments.attach_method(payment, wallet, self._handler.now())
                )
                await pay_from_wallet(unit, order.payment_id, wallet_id)
            elif method is not None:
                unit.emit(
                    order.payment_id, payments.attach_method(payment, method, self._handler.now())
                )
            elif payment.method is not None or not payment.is_open:
                raise Conflict("payment_started", "the payment has already started, or is settled")
            unit.record_ids(order_id=order_id, payment_id=order.payment_id)
            return order.payment_id

        return await self._handler.handle(decision, caller, once)

    async def refund(
        self,
        caller: Caller,
        payment_id: UUID,
        amount_cents: int | None,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Refund money (ADMIN). Returns the refund's id."""
        return await request_refund(self._handler, caller, payment_id, amount_cents, reason, once)

    async def receive_notice(self, body: bytes, signature: str) -> int | None:
        """Apply a webhook notice, at most once. Returns its position; None when it changed nothing.

        Raises InvalidSignature; Invalid("malformed_notice").
        """
        try:
            notice = self._provider.parse_webhook(body, signature, self._handler.now())
        except InvalidSignature as error:
            self._text_log.write("webhook refused", code="invalid_signature", reason=error)
            raise
        except ValueError as error:
            self._text_log.write("webhook refused", code="malformed_notice")
            raise Invalid("malformed_notice", "the body is not a notice") from error
        payment_id = await self._payment_of(notice)
        if payment_id is None:
            ids = {"event": notice.event_id, "type": notice.type}
            self._text_log.write("webhook ignored", **ids, reason="it speaks of no payment of ours")
            return None
        came = SignedBody(body, signature)
        return (await self.apply_notice(notice, payment_id, "webhook", came))[0]

    async def apply_notice(
        self, notice: ProviderNotice, payment_id: UUID, by: str, came: SignedBody | None = None
    ) -> tuple[int | None, str]:
        """Apply the provider's news about a payment, at most once. `by` names its source in the
        text log: "webhook", "reconcile". What `came` is kept as evidence.

        Returns the position, None when nothing changed; and the code of a refusal, or an empty
        string.
        """
        ids = {"event": notice.event_id, "type": notice.type, "payment": str(payment_id)}
        if notice.intent is not None:
            ids["intent"] = notice.intent.ref
        if notice.refund is not None:
            ids["refund"] = notice.refund.ref
        try:
            result = await self._apply(notice, payment_id, came)
        except Refused as refusal:
            self._text_log.write(f"{by} refused", **ids, code=refusal.code)
            return None, refusal.code
        outcome, status, code = result.value
        # of another shop; or the log went back, and somebody has paid for nothing
        if code == UNKNOWN:
            logger.error("the provider speaks of a payment that the log does not have: %s", ids)
        self._text_log.write(
            f"{by} {outcome}", **ids, status=status, **({"code": code} if code else {})
        )
        return result.position, code

    async def _payment_of(self, notice: ProviderNotice) -> UUID | None:
        """The payment that a notice is about. A refund made by hand names only its intent: then the
        provider is asked for the intent's payment.

        Raises ProviderUnavailable: then the provider has to send the notice again.
        """
        if notice.intent is not None:
            return notice.intent.payment_id
        refund = notice.refund
        if refund is None or refund.payment_id is not None or not refund.intent_ref:
            return None if refund is None else refund.payment_id
        try:
            return (await self._provider.get(refund.intent_ref)).payment_id
        except ProviderRefused:
            return None

    async def _apply(
        self, notice: ProviderNotice, payment_id: UUID, came: SignedBody | None
    ) -> CommandResult[tuple[Outcome, str, str]]:
        """Returns the outcome, the payment's status after it, and the code of a refusal, or an
        empty string."""

        async def decision(unit: UnitOfWork, forgotten: bool) -> tuple[Outcome, str, str]:
            payment = await unit.load(PAYMENT, payment_id)
            if payment is None:
                return "ignored", "", UNKNOWN
            events, code = self._following(payment_id, payment, notice)
            unit.emit(payment_id, events)
            if events and came is not None:
                await keep_notice(
                    unit,
                    came,
                    user_id=payment.buyer_id,
                    sender=self._provider.name,
                    about="payment",
                    about_id=payment_id,
                    provider_event_id=notice.event_id,
                    forgotten=forgotten,
                )
            after = await unit.load(PAYMENT, payment_id)
            outcomes = [
                event.outcome for event in events if isinstance(event, PaymentNoticeReceived)
            ]
            return next(iter(outcomes), "repeated"), after.status if after else "", code

        # The worker has most likely just recorded the same: without its events, the append would
        # be refused.
        caller, _ = await asyncio.gather(
            self._on_behalf(payment_id), self._handler.state(PAYMENT, payment_id)
        )
        return await handle_notice(self._handler, decision, caller)

    def _following(
        self, payment_id: UUID, payment: Payment, notice: ProviderNotice
    ) -> tuple[list[Event], str]:
        """The events that follow from a notice, and the code of a refusal. A refused notice
        (another amount was captured) is recorded, and logged as an error for operators: the
        provider has money that we did not ask for.
        """
        try:
            if notice.refund is not None:
                return self._apply_refund(payment, notice, notice.refund), ""
            if notice.intent is not None:
                noticed = self._noticed(payment_id, notice.intent)
                return payments.apply_notice(payment, notice.event_id, notice.type, noticed), ""
        except Conflict as refusal:
            logger.error(
                "notice %s of payment %s refused: %s", notice.event_id, payment_id, refusal
            )
            noted = PaymentNoticeReceived(
                provider_event_id=notice.event_id, type=notice.type, outcome="ignored"
            )
            return [noted], refusal.code
        return [], ""

    def _noticed(self, payment_id: UUID, intent: Intent) -> NoticedIntent:
        return NoticedIntent(
            provider=self._provider.name,
            provider_ref=intent.ref,
            amount_cents=intent.amount_cents,
            currency=intent.currency,
            redirect_url=intent.redirect_url,
            client_secret_ref=self._secrets.seal(payment_id, intent.client_secret),
            code=intent.code,
            detail=intent.detail,
            refunded_cents=intent.refunded_cents,
        )

    def _apply_refund(
        self, payment: Payment, notice: ProviderNotice, refund: ProviderRefund
    ) -> list[Event]:
        noticed = NoticedRefund(
            provider_ref=refund.ref,
            amount_cents=refund.amount_cents,
            state=refund.status,
            code=refund.code,
            refund_id=refund.refund_id,
        )
        return payments.apply_refund_notice(
            payment,
            notice.event_id,
            notice.type,
            noticed,
            provider=self._provider.name,
            intent_ref=payment.provider_ref or refund.intent_ref,
        )

    async def _on_behalf(self, payment_id: UUID) -> Caller:
        """The provider as the caller, with the correlation of the payment's request."""
        first = await first_event(self._handler.log, payment_id)
        return Caller(
            f"provider:{self._provider.name}",
            correlation_id=first.env.correlation_id if first else None,
            traceparent=first.env.traceparent if first else None,
        )
