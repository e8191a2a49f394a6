"""A listener from a position on gets every change of its own things, once, in order, and nothing
else."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from domain.cart import CartAbandoned, CartCompleted, CartCreated, CheckoutInitiated, ItemRemoved
from domain.orders import (
    FulfilmentStatus,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderLine,
    OrderRefunded,
    OrderStatusChanged,
)
from domain.payments import (
    DepositFailed,
    Method,
    PaymentActionRequired,
    PaymentCaptured,
    PaymentFailed,
    PaymentIntentCancelled,
    PaymentMethodAttached,
    PaymentNoticeReceived,
    PaymentRefunded,
    PaymentRefundFailed,
    PaymentRefundRequested,
    PaymentSubmitted,
)
from domain.transactions import TransactionCreated, TransactionFailed
from queries.engine.positions import PositionUnknown
from queries.live.status_changes import StatusChange
from queries.live.subscriptions import Listener, LiveStatus, TooManyListeners
from tests.support.events.history import BUYER, DUE, GAME, SELLER, order_created, payment_requested
from tests.support.shops.projected import Shop, open_shop, projecting

ANN, BOB, CYD = uuid4(), uuid4(), uuid4()
PATIENCE = 60

Told = tuple[int, UUID, str]
"""Position, stream, status."""

Step = tuple[UUID, msgspec.Struct, str | None]
"""An event of a stream, and the status after it; None when nothing changes that is told."""


def a_purchase(owner: UUID, *, paid: bool) -> Iterator[list[Step]]:
    """A cart that becomes an order, append by append."""
    cart, order, payment = uuid4(), uuid4(), uuid4()
    yield [(cart, CartCreated(owner, "USD", DUE), "ACTIVE")]
    yield [(cart, ItemRemoved(uuid4(), DUE), None)]
    line = OrderLine(uuid4(), GAME, SELLER, "PHYSICAL", "Chess", 1, 1499, 1000)
    yield [
        (payment, payment_requested(buyer_id=owner, order_id=order), "REQUESTED"),
        (cart, CheckoutInitiated(order, payment), "CHECKOUT"),
        (
            order,
            order_created(buyer_id=owner, payment_id=payment, cart_id=cart, lines=(line,)),
            "PENDING_PAYMENT",
        ),
    ]
    yield [(payment, PaymentSubmitted("simulated", 1), "PROCESSING")]
    yield [(payment, PaymentSubmitted("simulated", 2), None)]
    if not paid:
        yield [(payment, PaymentFailed(order, owner, 1499, "USD", "card_declined", "no"), "FAILED")]
        yield [
            (order, OrderCancelled("expired"), "CANCELLED"),
            (cart, CartAbandoned("payment_failed"), "ABANDONED"),
        ]
        yield [(payment, PaymentIntentCancelled("expired"), None)]
        return
    yield [(payment, PaymentActionRequired("pi", "https://3ds.example/1", "s"), "REQUIRES_ACTION")]
    yield [(payment, PaymentNoticeReceived("evt_1", "payment_intent.succeeded", "applied"), None)]
    yield [(payment, PaymentCaptured(order, owner, 1499, "USD", "card"), "CAPTURED")]
    yield [(order, OrderConfirmed(payment), "CONFIRMED"), (cart, CartCompleted(order), "COMPLETED")]
    yield [(order, OrderRefunded(payment, 1, "USD", full=False), "PARTIALLY_REFUNDED")]
    yield [(order, OrderStatusChanged("SHIPPED", uuid4()), "SHIPPED")]
    yield [
        (order, OrderStatusChanged("DELIVERED", uuid4()), "DELIVERED"),
        (order, OrderCompleted(), None),
    ]
    refund = uuid4()
    yield [(payment, PaymentRefundRequested(refund, 500, "dented"), "CAPTURED")]
    yield [(payment, PaymentRefunded(refund, 500), "PARTIALLY_REFUNDED")]
    yield [(order, OrderRefunded(payment, 500, "USD", full=False), "PARTIALLY_REFUNDED")]
    yield [(order, OrderRefunded(payment, 1, "USD", full=False), "PARTIALLY_REFUNDED")]
    again = uuid4()
    yield [(payment, PaymentRefundRequested(again, 500, "dented"), "PARTIALLY_REFUNDED")]
    yield [(payment, PaymentRefundFailed(again, "no"), "PARTIALLY_REFUNDED")]
    yield [(payment, PaymentRefundFailed(again, "no"), None)]


def a_deposit(owner: UUID) -> Iterator[list[Step]]:
    """Money for a wallet: the payment belongs to the same person."""
    deposit, payment = uuid4(), uuid4()
    asked = payment_requested(buyer_id=owner, order_id=None, transaction_id=deposit, method=None)
    yield [
        (deposit, TransactionCreated("deposit", 1499, "USD", owner, payment_id=payment), None),
        (payment, asked, "REQUESTED"),
    ]
    yield [(payment, PaymentMethodAttached(Method("card", "pm_card_visa")), None)]
    failed = DepositFailed(deposit, owner, 1499, "USD", "card_declined", "no")
    yield [
        (payment, failed, "FAILED"),
        (deposit, TransactionFailed("charge", "card_declined", 0), None),
    ]


def an_expired_cart(owner: UUID) -> Iterator[list[Step]]:
    cart = uuid4()
    yield [(cart, CartCreated(owner, "USD", DUE), "ACTIVE")]
    yield [(cart, CartAbandoned("expired"), "EXPIRED")]


class History:
    """The appended events, and what each person should receive."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.told: dict[UUID, list[Told]] = {ANN: [], BOB: [], CYD: []}

    async def happens(self, owner: UUID, steps: list[Step]) -> int:
        """Append them at once; returns the position of the last."""
        streams: dict[UUID, list[msgspec.Struct]] = {}
        for stream_id, event, _ in steps:
            streams.setdefault(stream_id, []).append(event)
        last = await self._shop.all_happened(list(streams.items()))
        in_order = sorted(range(len(steps)), key=lambda n: list(streams).index(steps[n][0]))
        for position, n in enumerate(in_order, last - len(steps) + 1):
            stream_id, _, status = steps[n]
            if status is not None:
                self.told[owner].append((position, stream_id, status))
        return last

    async def goes_by(
        self, owner: UUID, lives: list[Iterator[list[Step]]], chance: random.Random
    ) -> None:
        """Append several batches concurrently."""
        while lives:
            life = chance.choice(lives)
            steps = next(life, None)
            if steps is None:
                lives.remove(life)
            else:
                await self.happens(owner, steps)

    def after(self, owner: UUID, position: int) -> list[Told]:
        return [told for told in self.told[owner] if told[0] > position]


def lives_of(owner: UUID) -> list[Iterator[list[Step]]]:
    return [
        a_purchase(owner, paid=True),
        a_purchase(owner, paid=False),
        a_deposit(owner),
        an_expired_cart(owner),
    ]


def told(change: StatusChange) -> Told:
    by_type = {
        "order.status": change.order_id,
        "payment.status": change.payment_id,
        "cart.status": change.cart_id,
    }
    stream_id = by_type[change.type]
    assert stream_id is not None
    return change.position, stream_id, change.status


async def heard(listener: Listener, upto: int) -> list[Told]:
    """What a person receives up to a position, at which there is a change of theirs."""
    found: list[Told] = []
    async with asyncio.timeout(PATIENCE):
        while listener.position < upto:
            found += [told(change) for change in await listener.news()]
    return found


@asynccontextmanager
async def listening(
    live: LiveStatus, owner: UUID, after: int | None = None
) -> AsyncIterator[Listener]:
    async with live.listening(owner, after, at_most=100) as listener:
        yield listener


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_comes_while_much_happens_hears_all_of_theirs_once_and_in_order(
    shop: Shop, seed: int
) -> None:
    chance, history = random.Random(seed), History(shop)
    processes = [LiveStatus(shop.log, shop.models) for _ in range(2)]
    await history.goes_by(ANN, lives_of(ANN), chance)
    appending = [
        asyncio.create_task(history.goes_by(owner, [*lives_of(owner), *lives_of(owner)], chance))
        for owner in (ANN, BOB, CYD)
    ]
    results: list[tuple[UUID, int, list[Told]]] = []
    done = asyncio.Event()

    async def visitor(owner: UUID) -> None:
        """Connects at some position, receives some changes, continues at the other process."""
        await shop.log.watcher.beyond(chance.randint(30, 120))
        head = await shop.log.head()
        after = chance.choice([None, 0, chance.randint(0, head), head])
        async with listening(processes[0], owner, after) as listener:
            start, found = listener.position, [] if after is None else await first_of(listener)
        async with listening(processes[1], owner, found[-1][0] if found else start) as listener:
            await done.wait()
            results.append(
                (owner, start, found + await heard(listener, history.told[owner][-1][0]))
            )

    async def first_of(listener: Listener) -> list[Told]:
        async with asyncio.timeout(PATIENCE):
            return [told(change) for change in await listener.news()]

    visitors = [asyncio.create_task(visitor(owner)) for owner in (ANN, BOB, CYD) * 3]
    await asyncio.gather(*appending)
    for owner in (ANN, BOB, CYD):
        # a change for latecomers
        await history.goes_by(owner, [an_expired_cart(owner)], chance)
    done.set()
    await asyncio.gather(*visitors)

    assert len(results) == 9
    for owner, start, found in results:
        assert found == history.after(owner, start)
    assert all(process._tail is None and not process._owners for process in processes)


async def test_what_the_read_models_know_is_heard_and_what_they_do_not_know_yet_as_well(
    database: str,
) -> None:
    async with open_shop(database) as shop:
        history = History(shop)
        async with projecting(database):
            await history.goes_by(ANN, lives_of(ANN), random.Random(0))
            await shop.models.waiter.wait(
                ["carts", "orders", "transactions"], await shop.log.head(), PATIENCE
            )
        await history.goes_by(ANN, lives_of(ANN), random.Random(0))

        async with listening(LiveStatus(shop.log, shop.models), ANN, 0) as listener:
            assert await heard(listener, history.told[ANN][-1][0]) == history.told[ANN]


async def test_a_long_past_is_told_in_parts(shop: Shop) -> None:
    cart, order = uuid4(), uuid4()
    statuses: list[FulfilmentStatus] = ["PROCESSING", "SHIPPED"] * 300
    await shop.happened(cart, CartCreated(BUYER, "USD", DUE))
    last = await shop.happened(
        order, order_created(), *(OrderStatusChanged(each, uuid4()) for each in statuses)
    )

    async with listening(LiveStatus(shop.log, shop.models), BUYER, 0) as listener:
        first = await listener.news()
        assert len(first) < len(statuses)
        found = [told(change) for change in first] + await heard(listener, last)

    assert [status for _, _, status in found] == ["ACTIVE", "PENDING_PAYMENT", *statuses]


async def test_a_change_says_what_it_is_about(shop: Shop) -> None:
    history = History(shop)
    await history.goes_by(ANN, [a_purchase(ANN, paid=False)], random.Random(0))

    async with listening(LiveStatus(shop.log, shop.models), ANN, 0) as listener:
        changes: list[StatusChange] = []
        while not changes or changes[-1].position < history.told[ANN][-1][0]:
            changes += await listener.news()

    by_status = {change.status: msgspec.to_builtins(change) for change in changes}
    cancelled, failed = by_status["CANCELLED"], by_status["FAILED"]
    recorded = (await shop.log.read(cancelled["position"] - 1))[0].env
    assert cancelled == {
        "type": "order.status",
        "position": recorded.position,
        "event": "order.cancelled.v1",
        "occurred_at": cancelled["occurred_at"],
        "status": "CANCELLED",
        "version": 2,
        "order_id": str(recorded.stream_id),
        "payment_id": failed["payment_id"],
        "cart_id": by_status["ACTIVE"]["cart_id"],
        "reason": "expired",
    }
    assert abs(
        msgspec.convert(cancelled["occurred_at"], type=type(DUE)) - recorded.recorded_at
    ) < timedelta(seconds=1)
    assert (failed["order_id"], failed["code"]) == (cancelled["order_id"], "card_declined")


async def test_a_stream_that_cannot_be_folded_leaves_the_others_alone(shop: Shop) -> None:
    history, order, payment = History(shop), uuid4(), uuid4()
    await shop.happened(order, order_created(buyer_id=ANN, payment_id=payment))
    await shop.happened(payment, PaymentSubmitted("simulated", 1))  # which was never requested
    await history.goes_by(ANN, [an_expired_cart(ANN)], random.Random(0))

    async with listening(LiveStatus(shop.log, shop.models), ANN, 0) as listener:
        found = await heard(listener, history.told[ANN][-1][0])

    assert found[1:] == history.told[ANN]
    assert found[0][1:] == (order, "PENDING_PAYMENT")


async def test_a_position_that_is_not_there_is_refused_and_so_is_one_listener_too_many(
    shop: Shop,
) -> None:
    live = LiveStatus(shop.log, shop.models)
    head = await shop.happened(uuid4(), order_created())

    with pytest.raises(PositionUnknown):
        async with listening(live, BUYER, head + 1):
            pass
    async with live.listening(BUYER, None, at_most=1):
        with pytest.raises(TooManyListeners):
            async with live.listening(BUYER, None, at_most=1):
                pass
        async with live.listening(ANN, None, at_most=1):
            pass
    async with live.listening(BUYER, None, at_most=1):
        pass
