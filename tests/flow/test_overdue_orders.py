"""Deadlines on a manual clock, in one process: an overdue order counts as expired, even before the
event says so."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from commands.aggregates import ORDER, PAYMENT, STOCK
from commands.caller import SYSTEM, Caller
from commands.deadlines import DeadlineRunner
from commands.order_saga import OrderIds
from commands.ports.queue import Job, JobAttempt
from domain import payments
from domain.catalog import Listing, Price
from domain.errors import Conflict
from domain.events import Event
from domain.ids import stock_id
from domain.inventory import ReservationExpired
from domain.payments import Method
from domain.reservations import HoldName
from eventstore.unit_of_work import UnitOfWork
from kit.clock import ManualClock
from kit.uuid7 import uuid7
from projections.models.deadlines import ORDER_PAYMENT
from queries.engine.read_models import ReadModels
from queries.operations.deadlines import DueTimes
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from runtime.wiring.work import deadline_commands, payment_worker
from tests.support.shops.projected import model, projecting

VISA = Method("card", "pm_card_visa")
SERVICE = Caller("user:erp", uuid7(), "ADMIN")
TTL = timedelta(minutes=30)
CART_TTL, ALLOCATION_TTL = timedelta(minutes=15), timedelta(minutes=30)
INSTANT = timedelta(microseconds=1)


class Shop:
    """The commands over one log, with no process except the projector of deadlines."""

    def __init__(self, core: Core, clock: ManualClock) -> None:
        self.core = core
        self.clock = clock

    async def buyer(self) -> Caller:
        email = f"{uuid7().hex}@example.com"
        made = await self.core.commands.accounts.register(
            SYSTEM, email=email, password=None, name="Ann"
        )
        user_id = made.value.user_id
        return Caller(f"user:{user_id}", user_id, "BUYER")

    async def game(self, cents: int = 1999) -> UUID:
        listing = Listing(
            sku=uuid7().hex, title="Celeste", kind="DIGITAL", prices=(Price("*", cents, "USD"),)
        )
        return (await self.core.commands.catalog.create(SYSTEM, listing, "ACTIVE")).value

    async def boxed(self, units: int) -> UUID:
        """A physical game with this many units in stock."""
        listing = Listing(
            sku=uuid7().hex, title="Chess", kind="PHYSICAL", prices=(Price("*", 1999, "USD"),)
        )
        game_id = (await self.core.commands.catalog.create(SYSTEM, listing, "ACTIVE")).value
        await self.core.commands.inventory.set_total(SERVICE, game_id, units)
        return game_id

    async def held(self, game_id: UUID) -> int:
        """How many units of it are reserved by carts."""
        stock = await self.core.repository.state(STOCK, stock_id(game_id))
        assert stock is not None
        return stock.reserved

    async def place(self, buyer: Caller, game_id: UUID, method: Method | None = None) -> OrderIds:
        return (await self.core.commands.orders.place(buyer, game_id, method)).value

    async def status(self, placed: OrderIds) -> str:
        order = await self.core.repository.state(ORDER, placed.order_id)
        assert order is not None
        return order.status

    async def capture(self, placed: OrderIds) -> None:
        """Record the capture, as the worker or the webhook does."""

        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.load(PAYMENT, placed.payment_id)
            assert payment is not None
            unit.emit(
                placed.payment_id,
                payments.capture(payment, "card", provider="simulated", provider_ref="pi_1"),
            )

        await self.core.handler.handle(decision, SYSTEM)

    async def fire(self) -> int:
        """Fire the due deadlines, with due times that reflect every event."""
        reads = ReadModels(self.core.log.pool).reaching(await self.core.log.head(), timeout=60)
        return await DeadlineRunner(
            DueTimes(reads), deadline_commands(self.core.commands), self.clock
        ).fire()

    async def events_after(self, position: int) -> list[str]:
        return [recorded.env.name for recorded in await self.core.log.read(position)]


@pytest.fixture
async def shop(database: str, tmp_path: Path) -> AsyncIterator[Shop]:
    settings = Settings(
        home=tmp_path, database_url=database, payment_ttl_seconds=TTL.total_seconds()
    )
    clock = ManualClock(datetime.now(UTC))
    async with open_core(settings, clock=clock) as core, projecting(database, [model("deadlines")]):
        yield Shop(core, clock)


async def test_exactly_what_is_due_is_fired_and_once(shop: Shop) -> None:
    buyer = await shop.buyer()
    first = await shop.place(buyer, await shop.game())
    shop.clock.advance(timedelta(minutes=10))
    second = await shop.place(buyer, await shop.game())

    shop.clock.advance(timedelta(minutes=20) - INSTANT)
    assert await shop.fire() == 0
    shop.clock.advance(INSTANT)
    assert await shop.fire() == 1
    assert [await shop.status(each) for each in (first, second)] == ["CANCELLED", "PENDING_PAYMENT"]

    head = await shop.core.log.head()
    assert await shop.fire() == 0
    assert await shop.core.log.head() == head
    shop.clock.advance(timedelta(minutes=10))
    assert await shop.fire() == 1
    assert await shop.status(second) == "CANCELLED"


async def test_expiry_ends_order_payment_and_claim_in_one_append(shop: Shop) -> None:
    placed = await shop.place(await shop.buyer(), await shop.game())
    shop.clock.advance(TTL)
    before = await shop.core.log.head()
    await shop.fire()
    assert await shop.events_after(before) == [
        "order.cancelled.v1",
        "payment.intent_cancelled.v2",
        "claim.released.v1",
    ]
    (first, *others) = await shop.core.log.read(before)
    assert first.env.actor == "deadline"
    assert {each.env.recorded_at for each in others} == {first.env.recorded_at}
    assert first.env.stream_id == placed.order_id


async def test_an_overdue_hold_of_another_system_is_released(shop: Shop) -> None:
    game = await shop.boxed(10)
    allocated, released, kept = [
        (await shop.core.commands.inventory.reserve(SERVICE, game, n, uuid7())).value
        for n in (1, 2, 3)
    ]
    await shop.core.commands.inventory.allocate(SERVICE, game, HoldName(allocated), uuid7())
    await shop.core.commands.inventory.release(SERVICE, game, HoldName(released), "not needed")

    async def ended() -> tuple[Event, str | None]:
        last = (await shop.core.log.read_stream(stock_id(game)))[-1]
        return last.event, last.env.actor

    shop.clock.advance(CART_TTL - INSTANT)
    assert (await shop.fire(), await shop.held(game)) == (0, 3)
    shop.clock.advance(INSTANT)
    assert (await shop.fire(), await shop.held(game)) == (1, 0)
    assert await ended() == (ReservationExpired(reservation_id=kept), "deadline")

    shop.clock.advance(ALLOCATION_TTL - CART_TTL - INSTANT)
    assert await shop.fire() == 0
    shop.clock.advance(INSTANT)
    assert await shop.fire() == 1
    assert await ended() == (ReservationExpired(reservation_id=allocated), "deadline")
    assert await shop.fire() == 0


async def test_what_a_cart_holds_has_the_carts_deadline_and_none_of_its_own(shop: Shop) -> None:
    buyer, game = await shop.buyer(), await shop.boxed(10)
    await shop.core.commands.carts.add(buyer, game, 2)
    shop.clock.advance(CART_TTL / 2)
    await shop.core.commands.carts.add(buyer, game, 1)

    shop.clock.advance(CART_TTL - INSTANT)
    assert (await shop.fire(), await shop.held(game)) == (0, 3)
    shop.clock.advance(INSTANT)
    assert (await shop.fire(), await shop.held(game)) == (1, 0)


async def test_a_deadline_that_is_fired_again_by_another_leader_changes_nothing(shop: Shop) -> None:
    placed = await shop.place(await shop.buyer(), await shop.game())
    shop.clock.advance(TTL)
    await shop.fire()
    head = await shop.core.log.head()

    class LateNews:
        """The due times of a projection that has not yet seen the cancellation."""

        async def due(self, now: datetime, limit: int) -> list["Due"]:
            return [Due(placed.order_id, ORDER_PAYMENT, 1)]

    assert (
        await DeadlineRunner(LateNews(), deadline_commands(shop.core.commands), shop.clock).fire()
        == 1
    )
    assert await shop.core.log.head() == head


class Due(msgspec.Struct, frozen=True):
    stream_id: UUID
    kind: str
    version: int


async def test_an_overdue_order_takes_no_method_though_its_deadline_has_not_fired(
    shop: Shop,
) -> None:
    buyer = await shop.buyer()
    placed = await shop.place(buyer, await shop.game())
    shop.clock.advance(TTL)
    with pytest.raises(Conflict) as refused:
        await shop.core.commands.payments.attach(buyer, placed.order_id, VISA)
    assert refused.value.code == "order_expired"


async def test_an_overdue_payment_is_not_asked_of_the_provider_though_its_job_comes_now(
    shop: Shop,
) -> None:
    placed = await shop.place(await shop.buyer(), await shop.game(), VISA)
    shop.clock.advance(TTL)
    head = await shop.core.log.head()
    worker = payment_worker(shop.core)  # no provider listens: a request to it would raise
    job = Job(uuid7(), "charge", {"payment_id": str(placed.payment_id)})
    await worker.handle(JobAttempt(job, number=1, last=True))
    assert await shop.core.log.head() == head


async def test_the_game_of_an_overdue_order_can_be_ordered_which_cancels_that_order(
    shop: Shop,
) -> None:
    buyer, game = await shop.buyer(), await shop.game()
    old = await shop.place(buyer, game)
    shop.clock.advance(TTL - INSTANT)
    with pytest.raises(Conflict):
        await shop.place(buyer, game)
    shop.clock.advance(INSTANT)
    new = await shop.place(buyer, game)
    assert [await shop.status(each) for each in (old, new)] == ["CANCELLED", "PENDING_PAYMENT"]
    assert await shop.fire() == 0


async def test_money_that_has_come_keeps_its_order_until_the_settlement_has_looked(
    shop: Shop,
) -> None:
    buyer, game = await shop.buyer(), await shop.game()
    placed = await shop.place(buyer, game, VISA)
    await shop.capture(placed)
    shop.clock.advance(TTL)
    await shop.fire()
    with pytest.raises(Conflict) as refused:
        await shop.place(buyer, game)
    assert refused.value.code == "already_owned"
    assert await shop.status(placed) == "PENDING_PAYMENT"
