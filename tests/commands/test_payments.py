"""Commands on payments, and the provider's notices."""

from unittest.mock import ANY

import msgspec
import pytest

from commands.ports.payments import Intent, IntentStatus, ProviderNotice, ProviderRefund
from commands.ports.signatures import InvalidSignature
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.identity import UserDeactivated
from domain.notices import NoticeKept, Received
from domain.orders import OrderCancelled
from domain.payments import (
    Method,
    PaymentCaptured,
    PaymentFailed,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentRefunded,
    PaymentRefundRequested,
)
from domain.wallets import FundsAdded, FundsDeducted
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, RULES, Shop
from tests.support.given_when_then import NOON, an_id
from tests.support.past import (
    ANA,
    ANA_ID,
    BEN,
    BEN_ID,
    BY_WALLET,
    CARD,
    GAME,
    ORDER,
    PAYMENT,
    WALLET,
    account,
    order,
    wallet,
)

FROM_WALLET = Method("wallet", str(WALLET))
CAPTURED = PaymentCaptured(
    order_id=ORDER,
    buyer_id=ANA_ID,
    amount_cents=1999,
    currency="EUR",
    method_type="card",
    provider="fake",
    provider_ref="pi_1",
    user_id=ANA_ID,
    game_ids=(GAME,),
    transaction_id=PAYMENT,
)


def notice(
    type: str,
    status: IntentStatus = "succeeded",
    *,
    cents: int = 1999,
    of: str = "evt_1",
    code: str = "",
) -> bytes:
    """The provider's notice of the payment's intent."""
    intent = Intent("pi_1", status, cents, "EUR", PAYMENT, code=code)
    return msgspec.json.encode(ProviderNotice(of, f"payment_intent.{type}", NOON, intent))


def heard(
    type: str = "payment_intent.succeeded", *, outcome: str = "applied"
) -> PaymentNoticeReceived:
    return PaymentNoticeReceived(provider_event_id="evt_1", type=type, outcome=outcome)  # type: ignore[arg-type]


def kept(said: bytes) -> NoticeKept:
    """The notice as evidence."""
    return NoticeKept(
        user_id=ANA_ID,
        sender="fake",
        about="payment",
        about_id=PAYMENT,
        provider_event_id="evt_1",
        body_bytes=len(said),
        received=Received(said.decode(), "signed"),
    )


# -- a method --------------------------------------------------------------------------------------


async def test_a_buyer_pays_by_card(shop: Shop) -> None:
    unpaid = shop.given(account(ANA_ID), order())
    await unpaid.when(shop.payments.attach(ANA, ORDER, CARD)).then(
        PaymentMethodAttached(method=CARD)
    )
    await shop.when(shop.payments.attach(ANA, ORDER, CARD)).then_refused(
        Conflict, "payment_started"
    )


async def test_a_buyer_pays_from_their_wallet_at_once(shop: Shop) -> None:
    unpaid = shop.given(account(ANA_ID), order(), wallet(cents=5000))
    await unpaid.when(shop.payments.attach(ANA, ORDER, BY_WALLET)).then(
        PaymentMethodAttached(method=FROM_WALLET),
        FundsDeducted(amount_cents=1999, currency="EUR", balance_cents=3001, payment_id=PAYMENT),
        msgspec.structs.replace(CAPTURED, method_type="wallet", provider=None, provider_ref=None),
    )
    await shop.when(shop.payments.attach(ANA, ORDER, CARD)).then_refused(Conflict, "order_paid")


async def test_without_a_method_it_is_only_said_which_payment_it_is(shop: Shop) -> None:
    asked = (
        await shop.given(account(ANA_ID), order())
        .when(shop.payments.attach(ANA, ORDER, None))
        .then_nothing()
    )
    assert (asked.value, asked.position) == (PAYMENT, None)


async def test_nobody_spends_anothers_wallet(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), account(BEN_ID), order(), wallet(cents=5000))
    await there.when(shop.payments.attach(BEN, ORDER, CARD)).then_refused(Forbidden, "not_yours")
    await shop.when(shop.payments.attach(ADMIN, ORDER, BY_WALLET)).then_refused(
        Forbidden, "not_yours"
    )
    await shop.when(shop.payments.attach(ADMIN, ORDER, CARD)).then(
        PaymentMethodAttached(method=CARD)
    )


async def test_what_is_over_or_not_there_is_not_paid(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), order())
    await there.when(shop.payments.attach(ANA, an_id("?"), CARD)).then_refused(
        NotFound, "order_not_found"
    )
    shop.clock.advance(RULES.payment_ttl)
    await shop.when(shop.payments.attach(ANA, ORDER, CARD)).then_refused(Conflict, "order_expired")
    cancelled = shop.given({ORDER: [OrderCancelled(reason="cancelled_by_buyer")]})
    await cancelled.when(shop.payments.attach(ANA, ORDER, CARD)).then_refused(
        Conflict, "order_cancelled"
    )


async def test_a_closed_account_pays_nothing(shop: Shop) -> None:
    closed = shop.given(account(ANA_ID), order(), {ANA_ID: [UserDeactivated()]})
    await closed.when(shop.payments.attach(ANA, ORDER, CARD)).then_refused(
        Forbidden, "user_inactive"
    )


# -- refunds ---------------------------------------------------------------------------------------


async def test_an_admin_asks_for_money_to_go_back_once_a_key(shop: Shop) -> None:
    once = IdempotencyKey(an_id("refund"))
    paid = shop.given(order(paid=True))
    made = await paid.when(shop.payments.refund(ADMIN, PAYMENT, None, "damaged", once=once)).then(
        PaymentRefundRequested(refund_id=once.key, amount_cents=1999, reason="damaged")
    )
    done = await shop.log.done(once.key)
    assert done is not None
    assert done.result_ids == {"refund_id": str(made.value), "payment_id": str(PAYMENT)}
    again = await shop.when(
        shop.payments.refund(ADMIN, PAYMENT, None, "damaged", once=once)
    ).then_nothing()
    assert again.value == made.value


async def test_what_a_wallet_paid_is_back_in_it_at_once(shop: Shop) -> None:
    for streams in (account(ANA_ID), order(), wallet(cents=2000)):
        await shop.append(streams)
    await shop.payments.attach(ANA, ORDER, BY_WALLET)
    await shop.when(shop.payments.refund(ADMIN, PAYMENT, 999, "damaged")).then(
        PaymentRefundRequested(refund_id=ANY, amount_cents=999, reason="damaged"),
        PaymentRefunded(refund_id=ANY, amount_cents=999),
        FundsAdded(
            amount_cents=999,
            currency="EUR",
            balance_cents=1000,
            payment_id=PAYMENT,
            reason="refund",
        ),
    )


async def test_a_refund_is_an_admins_of_a_cent_at_least_and_of_what_came(shop: Shop) -> None:
    paid = shop.given(order(paid=True))
    await paid.when(shop.payments.refund(ADMIN, PAYMENT, 0, "x")).then_refused(
        Invalid, "invalid_amount"
    )
    await shop.when(shop.payments.refund(ADMIN, an_id("?"), 1, "x")).then_refused(
        NotFound, "payment_not_found"
    )
    with pytest.raises(Forbidden, match="role_required"):
        await shop.payments.refund(ANA, PAYMENT, None, "x")


# -- notices ---------------------------------------------------------------------------------------


async def test_the_provider_says_that_the_money_came_and_is_heard_once(shop: Shop) -> None:
    asked, said = shop.given(account(ANA_ID), order(method=CARD)), notice("succeeded")
    await asked.when(
        shop.payments.receive_notice(said, shop.fakes.payment_provider.signature)
    ).then(heard(), CAPTURED, kept(said))
    assert (
        await shop.when(
            shop.payments.receive_notice(said, shop.fakes.payment_provider.signature)
        ).then_nothing()
        is None
    )
    assert [step for step, _ in shop.fakes.payment_webhook_log.lines] == [
        "webhook applied",
        "webhook repeated",
    ]


async def test_the_provider_acts_in_what_the_request_began(shop: Shop) -> None:
    await shop.append(order(method=CARD))
    position = await shop.payments.receive_notice(
        notice("succeeded"), shop.fakes.payment_provider.signature
    )
    assert position is not None
    (recorded,) = await shop.log.read(position - 1)
    assert recorded.env.actor == "provider:fake"


async def test_the_provider_says_that_a_try_failed(shop: Shop) -> None:
    said = notice("payment_failed", "requires_payment_method", code="card_declined")
    failing = shop.given(account(ANA_ID), order(method=CARD)).when(
        shop.payments.receive_notice(said, shop.fakes.payment_provider.signature)
    )
    await failing.then(
        heard("payment_intent.payment_failed"),
        PaymentFailed(
            order_id=ORDER,
            buyer_id=ANA_ID,
            amount_cents=1999,
            currency="EUR",
            code="card_declined",
            detail="",
            user_id=ANA_ID,
            game_ids=(GAME,),
            transaction_id=PAYMENT,
        ),
        kept(said),
    )


async def test_another_amount_than_was_asked_for_is_noted_and_nothing_captured(shop: Shop) -> None:
    said = notice("succeeded", cents=1)
    odd = shop.given(account(ANA_ID), order(method=CARD)).when(
        shop.payments.receive_notice(said, shop.fakes.payment_provider.signature)
    )
    await odd.then(heard(outcome="ignored"), kept(said))
    assert shop.fakes.payment_webhook_log.lines[-1][1]["code"] == "amount_mismatch"


async def test_money_that_went_back_by_hand_is_found_by_its_intent(shop: Shop) -> None:
    for streams in (account(ANA_ID), order(paid=True)):
        await shop.append(streams)
    shop.fakes.payment_provider.intents["pi_1"] = Intent("pi_1", "succeeded", 1999, "EUR", PAYMENT)
    refund = ProviderRefund("re_1", 500, intent_ref="pi_1")
    said = msgspec.json.encode(ProviderNotice("evt_1", "refund.updated", NOON, None, refund))
    await shop.when(shop.payments.receive_notice(said, shop.fakes.payment_provider.signature)).then(
        heard("refund.updated"),
        PaymentRefundRequested(refund_id=ANY, amount_cents=500, reason="refunded_at_provider"),
        PaymentRefunded(refund_id=ANY, amount_cents=500, provider_ref="re_1"),
        kept(said),
    )


async def test_what_is_noticed_of_who_was_forgotten_counts_and_its_text_is_not_kept(
    shop: Shop,
) -> None:
    for streams in (account(ANA_ID), order(method=CARD)):
        await shop.append(streams)
    await shop.log.keys.destroy(ANA_ID)
    said = notice("succeeded")
    told = shop.when(shop.payments.receive_notice(said, shop.fakes.payment_provider.signature))
    withheld = msgspec.structs.replace(kept(said), received=None, withheld="forgotten")
    await told.then(heard(), CAPTURED, withheld)


async def test_a_notice_of_a_payment_that_is_not_ours_changes_nothing(shop: Shop) -> None:
    assert (
        await shop.when(shop.payments.receive_notice(notice("succeeded"), "signed")).then_nothing()
        is None
    )
    assert shop.fakes.payment_webhook_log.lines[-1][1]["code"] == "unknown_payment"


async def test_what_is_not_signed_or_no_notice_is_refused(shop: Shop) -> None:
    await shop.when(shop.payments.receive_notice(notice("succeeded"), "forged")).then_raises(
        InvalidSignature
    )
    await shop.when(shop.payments.receive_notice(b"{}", "signed")).then_refused(
        Invalid, "malformed_notice"
    )
    codes = [ids["code"] for _, ids in shop.fakes.payment_webhook_log.lines]
    assert codes == ["invalid_signature", "malformed_notice"]
