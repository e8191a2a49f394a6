"""What may change about payments: attach a method, refund, take the provider's notices."""

import logging
from uuid import UUID

from commands.aggregates import PAYMENT
from commands.bus import Caller, CommandBus, Landed
from commands.client_secrets import ClientSecrets
from commands.open_accounts import must_be_open
from commands.orders import owned_order, request_refund
from commands.ports import Intent, InvalidSignature, PaymentProvider, ProviderNotice, TextLog
from commands.wallets import pay_from_wallet, wallet_of
from domain import payments
from domain.errors import Conflict, Forbidden, Invalid, Refused
from domain.events import Event
from domain.payments import Method, NoticedIntent, Outcome, Payment, PaymentNoticeReceived
from eventstore.log import Once
from eventstore.repository import Unit

log = logging.getLogger(__name__)


class Payments:
    """Commands on payments."""

    def __init__(self, bus: CommandBus, provider: PaymentProvider, secrets: ClientSecrets, text_log: TextLog) -> None:
        self._bus, self._provider, self._secrets, self._text_log = bus, provider, secrets, text_log

    def client_secret(self, payment_id: UUID, ref: str | None) -> str | None:
        """The provider's client secret behind an event's reference: for the payer alone."""
        return self._secrets.open(payment_id, ref)

    def pay_page(self, payment_id: UUID) -> str | None:
        """The provider's page on which the payer pays, if it has one."""
        return self._provider.pay_page(payment_id)

    async def attach(
        self, caller: Caller, order_id: UUID, method: Method | None, *, once: Once | None = None
    ) -> Landed[UUID]:
        """Pay an order by this method; returns the payment's id. Without one, only says which payment it is.

        Raises NotFound, Forbidden, Conflict("payment_started" | "payment_expired"), Invalid.
        From a wallet it is paid at once. Further raises NotFound("wallet_not_found"); Conflict: insufficient_funds,
        wallet_inactive.
        """

        async def decision(unit: Unit) -> UUID:
            order = await owned_order(unit, caller, order_id)
            await must_be_open(unit, order.buyer_id)
            payment = await unit.load(PAYMENT, order.payment_id)
            assert payment is not None
            if method is not None and method.type == "wallet":
                if caller.user_id != order.buyer_id:
                    raise Forbidden("not_yours", "only its owner spends a wallet's money")
                wallet_id = await wallet_of(unit, order.buyer_id, payment.currency)
                wallet = Method("wallet", str(wallet_id))
                unit.emit(order.payment_id, payments.attach_method(payment, wallet, self._bus.clock.now()))
                await pay_from_wallet(unit, order.payment_id, wallet_id)
            elif method is not None:
                unit.emit(order.payment_id, payments.attach_method(payment, method, self._bus.clock.now()))
            elif payment.method is not None or not payment.is_open:
                raise Conflict("payment_started", "the payment runs already, or is settled")
            unit.refer(order_id=order_id, payment_id=order.payment_id)
            return order.payment_id

        return await self._bus.run(decision, caller, once)

    async def refund(
        self, caller: Caller, payment_id: UUID, amount_cents: int | None, reason: str, *, once: Once | None = None
    ) -> Landed[UUID]:
        """Send money back (ADMIN). Returns the refund's id."""
        return await request_refund(self._bus, caller, payment_id, amount_cents, reason, once)

    async def receive_notice(self, body: bytes, signature: str) -> int | None:
        """Apply a webhook notice, at most once; returns its position, None when it changed nothing.

        Raises InvalidSignature; Invalid("malformed_notice").
        """
        try:
            notice = self._provider.parse_webhook(body, signature, self._bus.clock.now())
        except InvalidSignature as error:
            self._text_log.write("webhook refused", code="invalid_signature", reason=error)
            raise
        except ValueError as error:
            self._text_log.write("webhook refused", code="malformed_notice")
            raise Invalid("malformed_notice", "the body is not a notice") from error
        ids = {"event": notice.event_id, "type": notice.type}
        if notice.intent is None or notice.intent.payment_id is None:
            self._text_log.write("webhook ignored", **ids, reason="it speaks of no payment of ours")
            return None
        ids |= {"payment": str(notice.intent.payment_id), "intent": notice.intent.ref}
        try:
            landed = await self._apply(notice, notice.intent, notice.intent.payment_id)
        except Refused as refusal:
            self._text_log.write("webhook refused", **ids, code=refusal.code)
            return None
        outcome, status, code = landed.value
        self._text_log.write(f"webhook {outcome}", **ids, status=status, **({"code": code} if code else {}))
        return landed.position

    async def _apply(
        self, notice: ProviderNotice, intent: Intent, payment_id: UUID
    ) -> Landed[tuple[Outcome, str, str]]:
        """What came of it: the outcome, the payment's status after it, and why it was refused, if it was."""

        async def decision(unit: Unit) -> tuple[Outcome, str, str]:
            payment = await unit.load(PAYMENT, payment_id)
            if payment is None:
                return "ignored", "", "unknown_payment"
            noticed = NoticedIntent(
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
            events, code = _noticed(payment, notice, noticed)
            unit.emit(payment_id, events)
            after = await unit.load(PAYMENT, payment_id)
            outcomes = [event.outcome for event in events if isinstance(event, PaymentNoticeReceived)]
            return next(iter(outcomes), "repeated"), after.status if after else "", code

        return await self._bus.run(decision, await self._on_behalf(payment_id))

    async def _on_behalf(self, payment_id: UUID) -> Caller:
        """The provider as the one who acts, in what the request for the payment set in motion."""
        first = next(iter(await self._bus.repository.log.read_stream(payment_id)), None)
        return Caller(
            f"provider:{self._provider.name}",
            correlation_id=first.env.correlation_id if first else None,
            traceparent=first.env.traceparent if first else None,
        )


def _noticed(payment: Payment, notice: ProviderNotice, intent: NoticedIntent) -> tuple[list[Event], str]:
    """What follows from a notice, and the code of a refusal. One that the domain refuses (another amount was captured)
    stays on record, and is an error for operators: the provider has money that we did not ask for.
    """
    try:
        return payments.apply_notice(payment, notice.event_id, notice.type, intent), ""
    except Conflict as refusal:
        log.error("notice %s of payment intent %s refused: %s", notice.event_id, intent.provider_ref, refusal)
        noted = PaymentNoticeReceived(provider_event_id=notice.event_id, type=notice.type, outcome="ignored")
        return [noted], refusal.code
