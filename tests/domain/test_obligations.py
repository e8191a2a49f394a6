"""The obligations that prevent an account from being forgotten."""

import pytest

from domain import fulfilment, obligations, orders, payments, transactions, wallets
from domain.events import Event
from domain.fulfilment import (
    ShipmentConfirmed,
    ShipmentCreated,
    ShipmentLine,
    ShipmentStatusUpdated,
)
from domain.obligations import Obligation
from domain.orders import OrderCancelled, OrderConfirmed, OrderCreated, OrderLine
from domain.payments import (
    DepositFailed,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentProcessed,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentRequested,
)
from domain.transactions import (
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
)
from domain.wallets import DebtRecorded, FundsAdded, FundsDeducted, WalletCreated
from tests.support.given_when_then import NOON, an_id, fold

ORDER, PAYMENT, SHIPMENT, REFUND = map(an_id, ("order", "payment", "shipment", "refund"))
ANN, SELLER, WALLET, MOVE = map(an_id, ("ann", "seller", "wallet", "transaction"))

PLACED = OrderCreated(
    buyer_id=ANN, region="US", currency="USD", total_cents=1999, provisional=True,
    payment_id=PAYMENT, expires_at=NOON,
    lines=(OrderLine(an_id("line"), an_id("game"), SELLER, "DIGITAL", "Celeste", 1, 1999, 0),),
)  # fmt: skip
ASKED = PaymentRequested(
    buyer_id=ANN, amount_cents=1999, currency="USD", expires_at=NOON, order_id=ORDER
)
SECURE = PaymentActionRequired(
    provider_ref="pi_1", redirect_url="https://bank.example", client_secret_ref="s"
)
PAID = PaymentCaptured(
    order_id=ORDER, buyer_id=ANN, amount_cents=1999, currency="USD", method_type="card"
)
BACK = PaymentRefundRequested(refund_id=REFUND, amount_cents=500, reason="asked")

PARCEL = ShipmentCreated(
    order_id=ORDER,
    seller_id=SELLER,
    lines=(ShipmentLine(an_id("line"), an_id("game"), "Chess", 1),),
)


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "SHIPPED"])
def test_a_parcel_is_one_until_it_has_arrived(status: fulfilment.Status) -> None:
    moved = [] if status == "PENDING" else [ShipmentStatusUpdated(status=status, at=NOON)]
    parcel = fold(fulfilment.evolve, PARCEL, ShipmentConfirmed(), *moved)
    assert obligations.of_shipment(SHIPMENT, parcel) == [
        Obligation(kind="shipment", id=SHIPMENT, status=status, order_id=ORDER)
    ]


@pytest.mark.parametrize("status", ["DELIVERED", "CANCELLED"])
def test_a_parcel_that_arrived_or_is_not_sent_is_none(status: fulfilment.Status) -> None:
    assert not obligations.of_shipment(
        SHIPMENT, fold(fulfilment.evolve, PARCEL, ShipmentStatusUpdated(status=status, at=NOON))
    )


@pytest.mark.parametrize("happened", [[], [SECURE], [PAID]])
def test_an_order_that_is_not_settled_is_one(happened: list[Event]) -> None:
    payment = fold(payments.evolve, ASKED, *happened)
    (found,) = obligations.of_order(ORDER, fold(orders.evolve, PLACED), payment)
    assert (found.kind, found.id, found.order_id, found.amount_cents) == (
        "payment",
        PAYMENT,
        ORDER,
        1999,
    )


@pytest.mark.parametrize(
    "happened", [[OrderConfirmed(payment_id=PAYMENT)], [OrderCancelled(reason="expired")]]
)
def test_a_settled_order_is_none(happened: list[Event]) -> None:
    order = fold(orders.evolve, PLACED, *happened)
    assert not obligations.of_order(ORDER, order, fold(payments.evolve, ASKED, PAID))


def test_money_on_its_way_back_is_one_until_it_is_there_or_refused() -> None:
    order = fold(orders.evolve, PLACED, OrderConfirmed(payment_id=PAYMENT))
    (found,) = obligations.of_order(ORDER, order, fold(payments.evolve, ASKED, PAID, BACK))
    assert (found.kind, found.id, found.payment_id, found.amount_cents) == (
        "refund",
        REFUND,
        PAYMENT,
        500,
    )
    for ended in (
        PaymentRefunded(refund_id=REFUND, amount_cents=500),
        PaymentRefundFailed(refund_id=REFUND, code="x"),
    ):
        assert not obligations.of_order(
            ORDER, order, fold(payments.evolve, ASKED, PAID, BACK, ended)
        )


def test_money_that_should_have_gone_back_is_one_though_the_provider_refused() -> None:
    """The money came for a cancelled order: somebody has to refund it by hand."""
    whole = PaymentRefundRequested(refund_id=REFUND, amount_cents=1999, reason="order_cancelled")
    refused = fold(
        payments.evolve, ASKED, PAID, whole, PaymentRefundFailed(refund_id=REFUND, code="card_gone")
    )
    called_off = fold(orders.evolve, PLACED, OrderCancelled(reason="account_closed"))
    (found,) = obligations.of_order(ORDER, called_off, refused)
    assert (found.kind, found.id, found.status) == ("refund", REFUND, "FAILED")


DEPOSIT = TransactionCreated(
    type="deposit",
    amount_cents=700,
    currency="USD",
    user_id=ANN,
    to_wallet_id=WALLET,
    payment_id=PAYMENT,
)
DEPOSIT_ASKED = PaymentRequested(
    buyer_id=ANN, amount_cents=700, currency="USD", expires_at=NOON, transaction_id=MOVE
)
CAME = PaymentProcessed(transaction_id=MOVE, amount_cents=700, currency="USD", provider_ref="pi_1")
CAME_NOT = DepositFailed(
    transaction_id=MOVE,
    buyer_id=ANN,
    amount_cents=700,
    currency="USD",
    code="account_closed",
    detail="",
)


@pytest.mark.parametrize("happened", [[], [SECURE], [CAME]])
def test_a_deposit_is_one_until_the_wallet_has_it(happened: list[Event]) -> None:
    payment = fold(payments.evolve, DEPOSIT_ASKED, *happened)
    (found,) = obligations.of_deposit(MOVE, fold(transactions.evolve, DEPOSIT), payment)
    assert (found.kind, found.id, found.payment_id, found.amount_cents) == (
        "deposit",
        MOVE,
        PAYMENT,
        700,
    )


def test_a_deposit_that_ended_is_none() -> None:
    done = fold(
        transactions.evolve, DEPOSIT, TransactionCompleted(amount_cents=700, currency="USD")
    )
    assert not obligations.of_deposit(MOVE, done, fold(payments.evolve, DEPOSIT_ASKED, CAME))
    called_off = fold(payments.evolve, DEPOSIT_ASKED, CAME_NOT)
    assert not obligations.of_deposit(MOVE, fold(transactions.evolve, DEPOSIT), called_off)


def test_money_in_a_wallet_is_one() -> None:
    filled = FundsAdded(amount_cents=300, currency="USD", balance_cents=300)
    wallet = fold(wallets.evolve, WalletCreated(user_id=ANN, currency="USD"), filled)
    (found,) = obligations.of_wallet(WALLET, wallet)
    assert (found.kind, found.id, found.amount_cents, found.currency) == (
        "wallet",
        WALLET,
        300,
        "USD",
    )
    owed = DebtRecorded(
        amount_cents=80, currency="USD", owed_cents=80, transaction_id=MOVE, payment_id=PAYMENT
    )
    (debt,) = obligations.of_wallet(
        WALLET, fold(wallets.evolve, WalletCreated(user_id=ANN, currency="USD"), owed)
    )
    assert (debt.status, debt.amount_cents) == ("FROZEN", 80)
    emptied = wallets.evolve(
        wallet, FundsDeducted(amount_cents=300, currency="USD", balance_cents=0)
    )
    assert emptied is not None
    assert not obligations.of_wallet(WALLET, emptied)


def test_money_on_its_way_out_of_a_wallet_is_one_as_it_may_come_back() -> None:
    asked = TransactionCreated(
        type="transfer",
        amount_cents=300,
        currency="USD",
        user_id=ANN,
        from_wallet_id=WALLET,
        to_wallet_id=an_id("b"),
    )
    (found,) = obligations.of_transfer(
        MOVE, fold(transactions.evolve, asked, TransactionProcessing())
    )
    assert (found.kind, found.id, found.transaction_id, found.amount_cents) == (
        "wallet",
        WALLET,
        MOVE,
        300,
    )
    for end in (
        TransactionCompleted(amount_cents=300, currency="USD"),
        TransactionFailed(step="credit", code="x", refunded_cents=300),
    ):
        assert not obligations.of_transfer(MOVE, fold(transactions.evolve, asked, end))


def test_a_refusal_names_each_with_what_is_known_of_it() -> None:
    refused = obligations.refusal(
        [Obligation(kind="wallet", id=WALLET, amount_cents=300, currency="USD")]
    )
    assert refused.code == "account_has_obligations"
    assert refused.extra == {
        "obligations": [{"kind": "wallet", "id": WALLET, "amount_cents": 300, "currency": "USD"}]
    }
