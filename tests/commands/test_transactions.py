"""Commands on transactions: deposits, transfers, payments from a wallet."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest

from commands.caller import SYSTEM
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Refused
from domain.identity import UserDeactivated
from domain.payments import (
    DepositFailed,
    Method,
    PaymentCaptured,
    PaymentMethodAttached,
    PaymentRequested,
)
from domain.transactions import (
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
)
from domain.wallets import MAX_BALANCE_CENTS, FundsAdded, FundsDeducted, WalletDeactivated
from eventstore.log import Appended, IdempotencyKey, StreamAppend, VersionConflict
from tests.support.commands import RULES, Shop, Streams
from tests.support.given_when_then import NOON, an_id
from tests.support.past import (
    ANA,
    ANA_ID,
    BEN,
    BEN_ID,
    BENS_WALLET,
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

PEOPLE: list[Streams] = [
    account(ANA_ID),
    account(BEN_ID),
    wallet(cents=1000),
    wallet(BEN_ID, BENS_WALLET),
]
TRANSFER = TransactionCreated(
    type="transfer",
    amount_cents=300,
    currency="EUR",
    user_id=ANA_ID,
    from_wallet_id=WALLET,
    to_wallet_id=BENS_WALLET,
)
TAKEN = FundsDeducted(amount_cents=300, currency="EUR", balance_cents=700, transaction_id=ANY)
CLOSED = UserDeactivated()


# -- deposits --------------------------------------------------------------------------------------


async def test_a_deposit_asks_for_its_money_by_card(shop: Shop) -> None:
    made = (
        await shop.given(*PEOPLE)
        .when(shop.transactions.deposit(ANA, WALLET, 500, "EUR", CARD))
        .then(
            TransactionCreated(
                type="deposit",
                amount_cents=500,
                currency="EUR",
                user_id=ANA_ID,
                to_wallet_id=WALLET,
                payment_id=ANY,
            ),
            PaymentRequested(
                buyer_id=ANA_ID,
                amount_cents=500,
                currency="EUR",
                expires_at=NOON + RULES.payment_ttl,
                transaction_id=ANY,
                method=CARD,
            ),
        )
    )
    found = await shop.transactions.when_ready(made.value, 0)
    assert (found.transaction.status, found.ready_to_answer) == ("PENDING", False)


@pytest.mark.parametrize(
    ("wallet_id", "cents", "currency", "method", "kind", "code"),
    [
        (WALLET, 500, "EUR", BY_WALLET, Invalid, "payment_method_unavailable"),
        (WALLET, 0, "EUR", CARD, Invalid, "invalid_amount"),
        (WALLET, 500, "XXX", CARD, Invalid, "invalid_currency"),
        (WALLET, 500, "USD", CARD, Conflict, "currency_mismatch"),
        (BENS_WALLET, 500, "EUR", CARD, Forbidden, "not_yours"),
        (an_id("?"), 500, "EUR", CARD, NotFound, "wallet_not_found"),
    ],
    ids=["method", "amount", "no currency", "other currency", "not yours", "unknown"],
)
async def test_a_deposit_is_refused(
    shop: Shop,
    wallet_id: UUID,
    cents: int,
    currency: str,
    method: Method,
    kind: type[Refused],
    code: str,
) -> None:
    wanted = shop.given(*PEOPLE).when(
        shop.transactions.deposit(ANA, wallet_id, cents, currency, method)
    )
    await wanted.then_refused(kind, code)


async def test_nothing_is_deposited_into_what_is_deactivated(shop: Shop) -> None:
    there = shop.given(*PEOPLE, {WALLET: [WalletDeactivated(reason="lost phone")]})
    await there.when(shop.transactions.deposit(ANA, WALLET, 500, "EUR", CARD)).then_refused(
        Conflict, "wallet_inactive"
    )


async def test_a_deposit_that_nobody_pays_fails_by_its_deadline(shop: Shop) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    made = await shop.transactions.deposit(ANA, WALLET, 500, "EUR", None)
    found = await shop.transactions.when_ready(made.value, 0)
    payment_id = found.transaction.payment_id
    assert payment_id is not None
    await shop.when(shop.transactions.expire_deposit(SYSTEM, payment_id)).then_nothing()
    shop.clock.advance(RULES.payment_ttl)
    await shop.when(shop.transactions.expire_deposit(SYSTEM, payment_id)).then(
        DepositFailed(
            transaction_id=made.value,
            buyer_id=ANA_ID,
            amount_cents=500,
            currency="EUR",
            code="expired",
            detail="the time to pay is over",
        )
    )


# -- transfers -------------------------------------------------------------------------------------


async def test_a_transfer_takes_from_one_wallet_and_gives_to_the_other(shop: Shop) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    made = await shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR")
    found = await shop.transactions.when_ready(made.value, 60)
    assert (found.transaction.status, found.version) == ("COMPLETED", 3)
    steps = [
        TRANSFER,
        TransactionProcessing(),
        TransactionCompleted(amount_cents=300, currency="EUR"),
    ]
    assert [recorded.event for recorded in await shop.log.read_stream(made.value)] == steps
    given = FundsAdded(
        amount_cents=300, currency="EUR", balance_cents=300, transaction_id=made.value
    )
    assert [recorded.event for recorded in await shop.log.read_stream(WALLET, 2)] == [TAKEN]
    assert [recorded.event for recorded in await shop.log.read_stream(BENS_WALLET, 1)] == [given]


async def test_a_transfer_is_one_append(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    append, appended = shop.log.append, []

    async def counted_append(*arguments: Any, **named: Any) -> Appended:
        appended.append(await append(*arguments, **named))
        return appended[-1]

    monkeypatch.setattr(shop.log, "append", counted_append)
    given = FundsAdded(amount_cents=300, currency="EUR", balance_cents=300, transaction_id=ANY)
    made = await shop.when(shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR")).then(
        TRANSFER,
        TransactionProcessing(),
        TransactionCompleted(amount_cents=300, currency="EUR"),
        TAKEN,
        given,
    )
    [whole] = appended
    assert len(whole.event_ids) == 5
    assert made.position == whole.position == await shop.log.head()
    found = await shop.transactions.when_ready(made.value, 0)
    assert (found.transaction.status, found.version) == ("COMPLETED", 3)


async def test_an_ended_transfer_is_reported_from_memory(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    made = await shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR")
    monkeypatch.delattr(type(shop.log), "read_first_events")
    found = await shop.transactions.when_ready(made.value, 60)
    assert found.transaction.status == "COMPLETED"


REFUSED_TARGETS: dict[str, Streams] = {
    "wallet_inactive": {BENS_WALLET: [WalletDeactivated(reason="lost phone")]},
    "balance_too_large": {
        BENS_WALLET: [
            FundsAdded(
                amount_cents=MAX_BALANCE_CENTS, currency="EUR", balance_cents=MAX_BALANCE_CENTS
            )
        ]
    },
}


@pytest.mark.parametrize("code", REFUSED_TARGETS)
async def test_a_target_that_takes_nothing_shows_each_step(shop: Shop, code: str) -> None:
    """First the deduction is appended, then the return of the money."""
    for streams in (*PEOPLE, REFUSED_TARGETS[code]):
        await shop.append(streams)
    head = await shop.log.head()
    made = await shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR")
    assert made.position == head + 1
    await shop.transactions.when_ready(made.value, 60)
    back = FundsAdded(
        amount_cents=300,
        currency="EUR",
        balance_cents=1000,
        transaction_id=made.value,
        reason="transfer_failed",
    )
    assert [recorded.event for recorded in await shop.log.read(head)] == [
        TRANSFER,
        TransactionProcessing(),
        TAKEN,
        TransactionFailed(step="credit", code=code, refunded_cents=300),
        back,
    ]


async def test_a_transfer_whose_wallets_others_keep_changing_is_taken_step_by_step(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    append = shop.log.append

    async def contended_append(
        streams: Sequence[StreamAppend], *arguments: Any, **named: Any
    ) -> Appended:
        if len(streams) > 2:  # with more than one wallet's change
            raise VersionConflict([stream.stream_id for stream in streams])
        return await append(streams, *arguments, **named)

    monkeypatch.setattr(shop.log, "append", contended_append)
    once = IdempotencyKey(an_id("key"))
    made = await shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR", once=once)
    found = await shop.transactions.when_ready(made.value, 60)
    assert (found.transaction.status, found.version) == ("COMPLETED", 3)
    given = FundsAdded(
        amount_cents=300, currency="EUR", balance_cents=300, transaction_id=made.value
    )
    assert [recorded.event for recorded in await shop.log.read_stream(WALLET, 2)] == [TAKEN]
    assert [recorded.event for recorded in await shop.log.read_stream(BENS_WALLET, 1)] == [given]
    again = shop.when(shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR", once=once))
    assert (await again.then_known()).result_ids == {"transaction_id": str(made.value)}


async def test_a_transfer_is_made_once_a_key(shop: Shop) -> None:
    for streams in PEOPLE:
        await shop.append(streams)
    once = IdempotencyKey(an_id("key"))
    made = await shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR", once=once)
    await shop.transactions.when_ready(made.value, 60)
    again = shop.when(shop.transactions.transfer(ANA, WALLET, BENS_WALLET, 300, "EUR", once=once))
    assert (await again.then_known()).result_ids == {"transaction_id": str(made.value)}


async def test_what_is_taken_of_a_transfer_comes_back_where_its_target_takes_nothing(
    shop: Shop,
) -> None:
    transfer_id = an_id("transfer")
    begun: Streams = {transfer_id: [TRANSFER]}
    inactive: Streams = {BENS_WALLET: [WalletDeactivated(reason="lost phone")]}
    back = FundsAdded(
        amount_cents=300,
        currency="EUR",
        balance_cents=1000,
        transaction_id=transfer_id,
        reason="transfer_failed",
    )
    await (
        shop.given(*PEOPLE, begun, inactive)
        .when(shop.transactions.resume(SYSTEM, transfer_id))
        .then(
            TAKEN,
            TransactionProcessing(),
            back,
            TransactionFailed(step="credit", code="wallet_inactive", refunded_cents=300),
        )
    )
    await shop.when(shop.transactions.resume(SYSTEM, transfer_id)).then_nothing()


async def test_a_transfer_whose_source_was_emptied_meanwhile_fails_and_takes_nothing(
    shop: Shop,
) -> None:
    transfer_id = an_id("transfer")
    emptied = FundsDeducted(amount_cents=1000, currency="EUR", balance_cents=0)
    await (
        shop.given(*PEOPLE, {transfer_id: [TRANSFER]}, {WALLET: [emptied]})
        .when(shop.transactions.resume(SYSTEM, transfer_id))
        .then(TransactionFailed(step="deduct", code="insufficient_funds", refunded_cents=0))
    )


async def test_a_transfer_that_stopped_half_way_goes_on_from_there(shop: Shop) -> None:
    transfer_id = an_id("transfer")
    half: Streams = {transfer_id: [TRANSFER, TransactionProcessing()]}
    await (
        shop.given(*PEOPLE, half)
        .when(shop.transactions.resume(SYSTEM, transfer_id))
        .then(
            FundsAdded(
                amount_cents=300, currency="EUR", balance_cents=300, transaction_id=transfer_id
            ),
            TransactionCompleted(amount_cents=300, currency="EUR"),
        )
    )


async def test_a_transfer_is_refused_before_it_begins(shop: Shop) -> None:
    transfer = shop.transactions.transfer
    there = shop.given(*PEOPLE)
    await there.when(transfer(ANA, WALLET, BENS_WALLET, 1001, "EUR")).then_refused(
        Conflict, "insufficient_funds"
    )
    await shop.when(transfer(ANA, WALLET, WALLET, 1, "EUR")).then_refused(Invalid, "same_wallet")
    await shop.when(transfer(BEN, WALLET, BENS_WALLET, 1, "EUR")).then_refused(
        Forbidden, "not_yours"
    )
    await shop.when(transfer(ANA, WALLET, an_id("?"), 1, "EUR")).then_refused(
        NotFound, "wallet_not_found"
    )
    await shop.when(transfer(ANA, WALLET, BENS_WALLET, 1, "USD")).then_refused(
        Conflict, "currency_mismatch"
    )
    closed = shop.given({BEN_ID: [CLOSED]})
    await closed.when(transfer(ANA, WALLET, BENS_WALLET, 1, "EUR")).then_refused(
        Conflict, "recipient_closed"
    )
    mine = shop.given({ANA_ID: [CLOSED]})
    await mine.when(transfer(ANA, WALLET, BENS_WALLET, 1, "EUR")).then_refused(
        Forbidden, "user_inactive"
    )


# -- paying an order -------------------------------------------------------------------------------


async def test_an_order_is_paid_from_a_wallet_in_one_append(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), wallet(cents=2000), order())
    made = await there.when(shop.transactions.pay(ANA, WALLET, ORDER, 1999, "EUR")).then(
        PaymentMethodAttached(method=Method("wallet", str(WALLET))),
        PaymentCaptured(
            order_id=ORDER,
            buyer_id=ANA_ID,
            amount_cents=1999,
            currency="EUR",
            method_type="wallet",
            user_id=ANA_ID,
            game_ids=(GAME,),
            transaction_id=PAYMENT,
        ),
        FundsDeducted(
            amount_cents=1999,
            currency="EUR",
            balance_cents=1,
            transaction_id=ANY,
            payment_id=PAYMENT,
        ),
        TransactionCreated(
            type="payment",
            amount_cents=1999,
            currency="EUR",
            user_id=ANA_ID,
            from_wallet_id=WALLET,
            order_id=ORDER,
            payment_id=PAYMENT,
        ),
        TransactionProcessing(),
        TransactionCompleted(amount_cents=1999, currency="EUR"),
    )
    assert (await shop.transactions.when_ready(made.value, 60)).ready_to_answer


async def test_an_order_is_paid_by_what_it_costs_and_once(shop: Shop) -> None:
    there = shop.given(
        account(ANA_ID), account(BEN_ID), wallet(cents=3000), wallet(BEN_ID, BENS_WALLET), order()
    )
    pay = shop.transactions.pay
    await there.when(pay(ANA, WALLET, ORDER, 1998, "EUR")).then_refused(
        Conflict, "amount_mismatch", amount_cents=1999
    )
    await shop.when(pay(BEN, BENS_WALLET, ORDER, 1999, "EUR")).then_refused(Forbidden, "not_yours")
    await shop.when(pay(ANA, WALLET, an_id("?"), 1999, "EUR")).then_refused(
        NotFound, "order_not_found"
    )
    await pay(ANA, WALLET, ORDER, 1999, "EUR")
    await shop.when(pay(ANA, WALLET, ORDER, 1999, "EUR")).then_refused(Conflict, "order_paid")
