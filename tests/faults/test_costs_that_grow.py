"""The cost of an event depends on what it touches, not on the length of the history: with ten times
the history, the work is the same.

Events read, and rows and bytes written, are counted; where the cost is time, the CPU time
may be at most three times as much.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings

from commands.aggregates import (
    ALL,
    CART,
    CLAIM,
    GAME,
    LIBRARY,
    PAYMENT,
    STOCK,
    USER,
    WALLET,
    WEBHOOK_ENDPOINT,
)
from domain import inventory
from domain.cart import CartCreated, ItemRemoved
from domain.catalog import GameUpdated
from domain.claims import ClaimReleased, ClaimTaken
from domain.events import EVENTS, Event
from domain.identity import EmailVerified, LoggedIn, LoggedOut, ProfileChanged, UserRegistered
from domain.ids import stock_id
from domain.inventory import ReservationReleased, Reserved, StockCreated, StockUpdated
from domain.library import LibraryGameAdded, LibraryGameRemoved
from domain.payments import PaymentNoticeReceived
from domain.reservations import HoldName
from domain.wallets import FundsAdded, WalletCreated
from domain.webhook_endpoints import EndpointCreated, EndpointFailing, EndpointRecovered
from eventstore.aggregate import Aggregate
from eventstore.codec import _Kind, kind_of
from eventstore.decide import decide
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from eventstore.repository import SNAPSHOT_BYTES_PER_EVENT, Repository
from eventstore.snapshots import Snapshots, plain
from eventstore.unit_of_work import UnitOfWork
from kit.forgotten import FORGOTTEN
from projections.models.stock import StockItems
from projections.projection import Projection, Rows, key_of
from runtime.wiring.codec import codec
from tests.support.databases.counted_reads import CountedReads
from tests.support.events.histories import STEPS, Flow, Step
from tests.support.events.history import GAME as GAME_ID
from tests.support.events.history import (
    SELLER,
    START,
    History,
    game_created,
    payment_requested,
    some_id,
)
from tests.support.growth import ratio

FEW, MANY = 2_000, 20_000
AT_MOST = 3.0
"""The largest ratio, where time is measured."""

SHELF = stock_id(GAME_ID)
LATER = START + timedelta(minutes=15)


def held(n: int) -> Reserved:
    return Reserved(
        reservation_id=some_id(f"hold {n}"),
        cart_id=some_id(f"cart {n}"),
        buyer_id=some_id(f"buyer {n}"),
        quantity=1,
        expires_at=LATER + timedelta(seconds=n % 900),
    )


def hot(holds: int) -> list[Event]:
    """A best-seller that this many carts reserve."""
    counted = (
        StockCreated(game_id=GAME_ID, seller_id=SELLER, sku="C-1"),
        StockUpdated(total=10**6, available=10**6),
    )
    return [*counted, *(held(n) for n in range(holds))]


def state_of(events: Sequence[Event]) -> inventory.Stock:
    state = STOCK.fold(None, events)
    assert state is not None
    return state


# -- stock -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelves() -> tuple[inventory.Stock, inventory.Stock]:
    """One that few reserve, and one that many do; both have been loaded before."""
    few, many = state_of(hot(FEW)), state_of(hot(MANY))
    for stock in (few, many):
        assert inventory.expire(stock, START) == []
    return few, many


def _reserved_by_a_buyer(stock: inventory.Stock) -> None:
    """A cart's decisions on a stock item, ten times."""
    for n in range(10):
        hold, cart, buyer = some_id(f"new {n}"), some_id(f"new cart {n}"), some_id(f"new buyer {n}")
        assert inventory.free_for(stock, buyer, cart, START, 10) == 10
        for event in inventory.reserve(stock, hold, cart, 1, LATER, now=START, buyer_id=buyer):
            stock = inventory.evolve(stock, event) or stock
        inventory.check_limit(stock, buyer, cart, START, 10)
        for event in inventory.change(stock, hold, 2, LATER, now=START):
            stock = inventory.evolve(stock, event) or stock
        named = stock.holds.find(HoldName(cart_id=cart), START)
        for event in inventory.allocate(
            stock, named, some_id("order"), LATER, now=START, threshold=0
        ):
            stock = inventory.evolve(stock, event) or stock
        for event in inventory.release(stock, named, "given up"):
            stock = inventory.evolve(stock, event) or stock


def test_a_decision_on_a_best_seller_does_not_look_at_who_else_holds_it(
    shelves: tuple[inventory.Stock, inventory.Stock],
) -> None:
    assert ratio(_reserved_by_a_buyer, *shelves) < AT_MOST


def test_what_is_past_its_time_is_ended_in_parts_unless_more_is_needed() -> None:
    few, late = state_of(hot(0)), LATER + timedelta(hours=1)
    overdue = state_of([*hot(0), *(held(n) for n in range(3 * inventory.FREED_AT_ONCE))])
    assert inventory.expire(few, late) == []
    assert len(inventory.expire(overdue, late)) == inventory.FREED_AT_ONCE

    sold_out = msgspec.structs.replace(overdue, total=overdue.reserved)
    wanted = 2 * inventory.FREED_AT_ONCE
    *ended, reserved = inventory.reserve(
        sold_out, some_id("new"), some_id("cart"), wanted, late, now=late
    )
    assert isinstance(reserved, inventory.Reserved)
    assert (len(ended), reserved.quantity) == (wanted, wanted)


def test_a_row_of_stock_costs_what_an_event_touches() -> None:
    costs = [_costs_of_one_more(StockItems(), hot(size), held(size)) for size in (20, 200, 2_000)]
    assert costs[0] == costs[1] == costs[2]
    assert costs[0][0] == 2


def _costs_of_one_more(
    projection: Projection[Any], before: Sequence[Event], event: Event
) -> tuple[int, int]:
    """The number of rows that one more event writes, and about how many bytes they have."""
    history = History().happened(SHELF, *before)
    stored = {key_of(projection.row)(row): row for row in projection.fold(history.events).all()}
    rows: Rows[Any] = Rows(
        projection.row, lambda keys: [stored[key] for key in keys if key in stored]
    )
    projection.apply(rows, history.happened(SHELF, event).events[-1].event, history.events[-1].env)
    puts, deletes = rows.changes()
    return len(puts) + len(deletes), len(msgspec.json.encode(puts)) // 50


# -- loading ---------------------------------------------------------------------------------------


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    async with PostgresLog.open(database, codec(), pool_size=2) as log:
        yield log


async def _appended(
    log: PostgresLog, stream_id: UUID, events: Sequence[Event], version: int = 0
) -> None:
    for start in range(0, len(events), 1_000):
        part = events[start : start + 1_000]
        await log.append([StreamAppend(stream_id, version + start, part)])


async def _loaded(log: PostgresLog, aggregate, stream_id: UUID) -> tuple[object, int]:  # type: ignore[no-untyped-def]
    """The state as a newly started process loads it, and the number of events that it reads for
    that."""
    reads = CountedReads(log)
    repository = Repository(reads, Snapshots(log.pool))  # type: ignore[arg-type]
    state = await repository.state(aggregate, stream_id)
    await asyncio.gather(*repository._background)
    return state, reads.events


async def test_an_old_stream_without_a_snapshot_gets_one_when_it_is_loaded(
    log: PostgresLog,
) -> None:
    events = hot(3_000)
    await _appended(log, SHELF, events)
    first, read = await _loaded(log, STOCK, SHELF)
    again, read_again = await _loaded(log, STOCK, SHELF)

    assert first == again == state_of(events)
    assert (read, read_again) == (len(events), 0)


async def test_a_large_snapshot_is_kept_the_more_seldom_and_bounds_what_is_read(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Besides two thousand lasting reservations, others are made and released at once."""
    saved, save = [], Snapshots.save

    async def noted(self: Snapshots, *args: object, **said: object) -> int:
        saved.append(await save(self, *args, **said))  # type: ignore[arg-type]
        return saved[-1]

    monkeypatch.setattr(Snapshots, "save", noted)
    await _appended(log, SHELF, hot(2_000))
    repository = Repository(log, Snapshots(log.pool))

    async def come_and_go(unit: UnitOfWork) -> None:
        await unit.load(STOCK, SHELF)
        for _ in range(25):
            taken = msgspec.structs.replace(held(0), reservation_id=uuid4())
            unit.emit(
                SHELF, [taken, ReservationReleased(reservation_id=taken.reservation_id, reason="x")]
            )

    for _ in range(60):
        await decide(repository, come_and_go)
    await asyncio.gather(*repository._background)

    largest = max(saved)
    assert 3 <= len(saved) <= 1 + 60 * 50 * SNAPSHOT_BYTES_PER_EVENT // largest + 1
    _, read = await _loaded(log, STOCK, SHELF)
    assert read <= largest // SNAPSHOT_BYTES_PER_EVENT + 50


# -- accounts --------------------------------------------------------------------------------------


def registered(user_id: UUID, **said: object) -> UserRegistered:
    usual = {
        "account_type": "BUYER",
        "region": "FR",
        "email": "ann@example.com",
        "name": "Ann",
        "email_digest": "d",
    }
    return UserRegistered(user_id=user_id, password_hash="secret", **{**usual, **said})  # type: ignore[arg-type]


def logins(many: int) -> list[Event]:
    sessions = [uuid4() for _ in range(many)]
    return [
        each
        for session in sessions
        for each in (LoggedIn(session_id=session), LoggedOut(session_id=session))
    ]


async def test_an_account_is_loaded_without_its_logins(log: PostgresLog) -> None:
    """A log from before there were snapshots of accounts: of the sessions' events only the last is
    read, for the version."""
    ann = uuid4()
    await log.keys.create([ann])
    begun, changed = [registered(ann), EmailVerified()], [ProfileChanged(name="Anna")]
    await _appended(log, ann, [*begun, *logins(1_500), *changed, *logins(1_000)])

    repository = Repository(reads := CountedReads(log), Snapshots(log.pool))  # type: ignore[arg-type]
    version, user, _ = await repository.load(USER, ann)
    assert (version, reads.events) == (5_003, len(begun) + len(changed) + 1)
    assert user is not None
    assert user == USER.fold(None, [*begun, *changed])

    await log.append([StreamAppend(ann, version, [ProfileChanged(region="BR"), *logins(1)])])
    assert await repository.load(USER, ann) == (
        5_006,
        msgspec.structs.replace(user, region="BR"),
        False,
    )


@pytest.mark.parametrize("ignored", USER.ignores)
def test_what_is_not_read_of_an_account_changes_nothing_in_it(ignored: type[Event]) -> None:
    user = USER.fold(None, [registered(uuid4())])
    assert USER.evolve(user, ignored(session_id=uuid4())) is user


async def test_an_account_that_was_changed_often_is_loaded_from_a_snapshot_that_only_its_key_opens(
    log: PostgresLog,
) -> None:
    ann = uuid4()
    await log.keys.create([ann])
    changes = [ProfileChanged(name=f"Ann {n}") for n in range(2_000)]
    await _appended(log, ann, [registered(ann), *changes])
    first, read = await _loaded(log, USER, ann)
    again, read_again = await _loaded(log, USER, ann)

    assert first == again == USER.fold(None, [registered(ann), changes[-1]])
    assert (read, read_again) == (2_001, 0)
    async with log.pool.connection() as conn:
        ((kept,),) = await (await conn.execute("SELECT state FROM log.snapshots")).fetchall()
    assert b"Ann" not in kept

    await log.keys.destroy(ann)
    forgotten, read = await _loaded(log, USER, ann)
    assert (forgotten.email, forgotten.name, read) == (FORGOTTEN, FORGOTTEN, 2_001)  # type: ignore[attr-defined]


@pytest.mark.parametrize("aggregate", ALL, ids=lambda aggregate: aggregate.kind)
def test_a_snapshot_of_what_is_personal_is_sealed(aggregate: Aggregate[object]) -> None:
    """A personal field of any of its events may be in the state; only fields of the stream's own
    person are sealed."""
    kinds = [_Kind(event) for event in EVENTS.values() if kind_of(event) == aggregate.kind]
    persons = {kind.person for kind in kinds if kind.personal}
    if persons:
        assert aggregate.snapshot_every == 0 or (aggregate.sealed and persons == {""})


# -- other long streams ----------------------------------------------------------------------------

BOUGHT = LibraryGameAdded(
    user_id=uuid4(), game_id=uuid4(), order_id=uuid4(), title="T", purchase_date=START
)
NOTICED = PaymentNoticeReceived(
    provider_event_id="", type="payment_intent.created", outcome="ignored"
)


def library_of(many: int) -> list[Event]:
    return [msgspec.structs.replace(BOUGHT, game_id=some_id(f"game {n}")) for n in range(many)]


def noticed(many: int) -> list[Event]:
    notices = [msgspec.structs.replace(NOTICED, provider_event_id=f"evt_{n}") for n in range(many)]
    return [payment_requested(), *notices]


LONG: dict[str, tuple[Aggregate[Any], list[Event]]] = {
    "a library": (LIBRARY, library_of(1_500)),
    "a payment of which the provider tells much": (PAYMENT, noticed(1_500)),
    "a wallet": (
        WALLET,
        [
            WalletCreated(user_id=uuid4(), currency="USD"),
            *(FundsAdded(amount_cents=1, currency="USD", balance_cents=n) for n in range(1, 1_500)),
        ],
    ),
    "a cart that is changed all the time": (
        CART,
        [
            CartCreated(buyer_id=uuid4(), currency="USD", expires_at=LATER),
            *(ItemRemoved(item_id=uuid4(), expires_at=LATER) for _ in range(1_500)),
        ],
    ),
    "a game": (GAME, [game_created(), *(GameUpdated(title=f"Title {n}") for n in range(1_500))]),
    "a claim": (
        CLAIM,
        [
            each
            for _ in range(750)
            for each in (ClaimTaken(kind="cart", holder_id=uuid4()), ClaimReleased(reason="x"))
        ],
    ),
    "an endpoint that fails every other time": (
        WEBHOOK_ENDPOINT,
        [
            EndpointCreated(
                seller_id=uuid4(), url="https://shop.example", events=("*",), secret_ref="s"
            ),
            *(
                each
                for _ in range(750)
                for each in (EndpointFailing(failures=1), EndpointRecovered())
            ),
        ],
    ),
}


@pytest.mark.parametrize("what", LONG)
async def test_a_long_stream_is_loaded_from_its_snapshot(log: PostgresLog, what: str) -> None:
    aggregate, events = LONG[what]
    stream_id = uuid4()
    await _appended(log, stream_id, events)
    first, read = await _loaded(log, aggregate, stream_id)
    again, read_again = await _loaded(log, aggregate, stream_id)

    assert first == again == aggregate.fold(None, events)
    assert (read, read_again) == (len(events), 0)


def _bought_and_refunded(library: object) -> None:
    for n in range(100):
        library = LIBRARY.evolve(
            library, msgspec.structs.replace(BOUGHT, game_id=some_id(f"another {n}"))
        )
    for n in range(100):
        gone = LibraryGameRemoved(
            game_id=some_id(f"another {n}"), order_id=BOUGHT.order_id, reason="x"
        )
        library = LIBRARY.evolve(library, gone)


def _told_of(payment: object) -> None:
    for n in range(100):
        payment = PAYMENT.evolve(
            payment, msgspec.structs.replace(NOTICED, provider_event_id=f"another {n}")
        )


@pytest.mark.parametrize(
    ("work", "aggregate", "history"),
    [(_bought_and_refunded, LIBRARY, library_of), (_told_of, PAYMENT, noticed)],
)
def test_one_more_event_costs_the_same_in_a_long_history(
    work: Callable[[object], None], aggregate: Aggregate[Any], history: Callable[[int], list[Event]]
) -> None:
    few, many = (aggregate.fold(None, history(size)) for size in (FEW, MANY))
    assert ratio(work, few, many) < AT_MOST


# -- snapshots of every kind -----------------------------------------------------------------------

BY_KIND = {aggregate.kind: aggregate for aggregate in ALL}


@given(STEPS)
@settings(max_examples=100)
def test_a_state_goes_on_from_its_snapshot_as_from_its_first_event(steps: list[Step]) -> None:
    whole: dict[UUID, object] = {}
    kept: dict[UUID, object] = {}
    for batch in Flow().steps(steps):
        for stream_id, events in filter(itemgetter(1), batch):
            aggregate = BY_KIND[kind_of(type(events[0]))]
            whole[stream_id] = aggregate.fold(whole.get(stream_id), events)
            state = aggregate.fold(kept.get(stream_id), events)
            # for instance when a ledger account was opened: nothing decides on that
            if state is not None:
                kept[stream_id] = msgspec.json.decode(
                    msgspec.json.encode(state, enc_hook=plain), type=aggregate.state
                )
            assert kept.get(stream_id) == state == whole[stream_id]
